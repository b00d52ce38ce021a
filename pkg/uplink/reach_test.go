package uplink

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// nameserver is a name server on the loopback device that knows one name. It answers every question about another one
// with "no such name", and with no addresses at all it does not answer.
type nameserver struct {
	conn *net.UDPConn
	name string

	mu    sync.Mutex
	addrs []netip.Addr
	asked int
}

func newNameserver(t *testing.T, name string) *nameserver {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &nameserver{conn: conn, name: name}
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if out := s.answer(buf[:n]); out != nil {
				conn.WriteToUDPAddrPort(out, from)
			}
		}
	}()
	return s
}

func (s *nameserver) set(addrs ...netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs = addrs
}

func (s *nameserver) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// answer is a reply by RFC 1035, section 4.
func (s *nameserver) answer(q []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if len(s.addrs) == 0 {
		return nil
	}
	end, name := 12, ""
	for ; q[end] != 0; end += int(q[end]) + 1 {
		name += string(q[end+1:end+1+int(q[end])]) + "."
	}
	typ := binary.BigEndian.Uint16(q[end+1:])
	out := append([]byte(nil), q[:end+5]...)
	out[2], out[3] = 0x84, 0 // a reply, with authority
	copy(out[6:12], make([]byte, 6))
	if name != s.name {
		out[3] = 3
		return out
	}
	for _, a := range s.addrs {
		if a.Is4() == (typ == 1) {
			out[7]++
			out = append(out, 0xc0, 12, byte(typ>>8), byte(typ), 0, 1, 0, 0, 0, 1, 0, byte(a.BitLen()/8))
			out = append(out, a.AsSlice()...)
		}
	}
	return out
}

func (s *nameserver) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp4", s.conn.LocalAddr().String())
	}}
}

// can-reach follows the route, whatever else appears.
func TestWatchCanReach(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		n.add(t, "eth0 @A/S")
		n.add(t, "eth1 @B/S")
		n.ip(t, "route add default via @GB")
		w := n.watch(t, n.options(t, n.setting(t, "", "can-reach=@FAR"), netip.Addr{}))
		w.want(t, "eth1 @B/S 1500")
		n.ip(t, "route add @FAR via @GA")
		w.want(t, "eth0 @A/S 1500")
		n.ip(t, "route del default via @GB")
		w.still(t)
		n.ip(t, "route del @FAR")
		w.want(t, "eth0 @A/S 1500")
		if text := w.state().Odd; text != n.say("look up route to @FAR: network is unreachable; staying with eth0 @A/S") {
			t.Error(text)
		}
		n.ip(t, "route add default via @GB")
		w.want(t, "eth1 @B/S 1500")
		n.Exec(t, "ip link set eth1 down")
		w.want(t, "lost eth1 @B/S 1500")
		n.ip(t, "route add default via @GA")
		w.want(t, "eth0 @A/S 1500")
	})
}

// can-reach asks for a name now and then, not each time, and goes on with what it was told when nobody answers.
func TestWatchCanReachName(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		dns := newNameserver(t, "gateway.example.")
		dns.set(append(n.internal("@FAR"), netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9"))...)
		n.add(t, "eth0 @A/S")
		n.add(t, "eth1 @B/S")
		n.ip(t, "route add @FAR via @GB")
		o := n.options(t, n.setting(t, "", "can-reach=gateway.example"), netip.Addr{})
		o.Resolver = dns.resolver()
		w := n.watch(t, o)
		w.want(t, "eth1 @B/S 1500") // one of the name's addresses can't be reached
		asked := dns.questions()
		n.ip(t, "route replace @FAR via @GA")
		w.want(t, "eth0 @A/S 1500")
		if now := dns.questions(); now != asked {
			t.Errorf("asked %d times more", now-asked)
		}
		w.stop()

		f := newFinder(o.Conn, n.setting(t, "", "can-reach=gateway.example"), netip.Addr{}, o.Resolver)
		see := func(after time.Duration) State {
			f.target.ask = time.Now().Add(-after)
			if _, err := f.look(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			return f.state
		}
		if s := see(0); s.Uplink.String() != n.say("eth0 @A/S") {
			t.Fatalf("%+v", s)
		}
		dns.set()
		if s := see(0); s.Lost != "" || s.Odd != n.say("look up gateway.example: the name server does not answer; using eth0 @A/S") {
			t.Errorf("%+v", s)
		}
		dns.set(n.internal("@FAR")...)
		if s := see(0); s.Odd != "" || s.Lost != "" {
			t.Errorf("%+v", s)
		}
	})
}

func TestCanReachUnknownName(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		dns := newNameserver(t, "gateway.example.")
		dns.set(n.internal("@FAR")...)
		n.add(t, "eth0 @A/S")
		f := newFinder(n.Conn(t), n.setting(t, "", "can-reach=nowhere.example"), netip.Addr{}, dns.resolver())
		again, err := f.look(t.Context(), nil)
		if err != nil || again != failureAge || !strings.Contains(f.state.Lost, "can-reach=nowhere.example: look up nowhere.example: there is no such name") {
			t.Errorf("%v, again after %s, %+v", err, again, f.state)
		}
		// An end while a name server does not answer is not waited for.
		dns.set()
		o := n.options(t, f.setting, netip.Addr{})
		o.Resolver = dns.resolver()
		w := n.watch(t, o)
		time.Sleep(50 * time.Millisecond)
		start := time.Now()
		if w.stop(); time.Since(start) > answerLimit/2 {
			t.Errorf("stopped after %s", time.Since(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Find(ctx, o.Conn, f.setting, nil, netip.Addr{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
