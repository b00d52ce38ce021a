package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Pinger sends numbered echo requests (RFC 792, RFC 4443) from a pod and counts which are answered. The kernel of the
// other side answers: no program there can be late.
type Pinger struct {
	From  string
	To    netip.Addr
	conn  net.PacketConn
	size  int // of a request without the IP header, bytes
	every time.Duration
	id    uint32
	stop  context.CancelFunc
	done  sync.WaitGroup

	start time.Time
	sent  atomic.Uint64

	mu   sync.Mutex
	got  map[uint64]struct{}
	errs map[string]int // of sending
}

// Loss is what a Pinger saw.
type Loss struct {
	Name    string
	Sent    int
	Lost    int
	Every   time.Duration // between two requests: what the counting resolves
	Longest time.Duration // without an answer, by the times of sending
	At      []time.Duration
	Errs    map[string]int
}

func (l Loss) String() string {
	s := fmt.Sprintf("%s: %d of %d lost (one each %s)", l.Name, l.Lost, l.Sent, l.Every)
	if l.Lost > 0 {
		s += fmt.Sprintf(", longest gap %s, first after %s, last after %s, errors %v", l.Longest, l.At[0], l.At[len(l.At)-1], l.Errs)
	}
	return s
}

// Ping begins to ping an address from a pod.
func (p *Pod) Ping(to netip.Addr, every time.Duration) *Pinger {
	p.Node.lab.t.Helper()
	g, err := ping(p.NS, to, every, smallest)
	if err != nil {
		p.Node.lab.t.Fatalf("ping %s from pod %s: %v", to, p.Name, err)
	}
	g.From = p.Name
	p.Node.lab.t.Cleanup(func() { g.close() })
	return g
}

// smallest is the size of a request with nothing in it but our data.
const smallest = 8 + 12

func ping(ns *NS, to netip.Addr, every time.Duration, size int) (*Pinger, error) {
	network := "ip4:icmp"
	if to.Is6() {
		network = "ip6:ipv6-icmp"
	}
	g := &Pinger{To: to, every: every, size: size, id: uint32(time.Now().UnixNano()), got: map[uint64]struct{}{}, errs: map[string]int{}, start: time.Now()}
	err := ns.Do(func() (err error) {
		g.conn, err = (&net.ListenConfig{Control: g.prepare}).ListenPacket(context.Background(), network, "")
		return err
	})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	g.done.Go(func() { g.send(ctx) })
	g.done.Go(g.receive)
	return g, nil
}

// prepare forbids to cut the socket's packets into fragments, and makes room for answers that nobody reads for some seconds:
// a pause of this program shall not look like a loss.
func (g *Pinger) prepare(_, _ string, c syscall.RawConn) (err error) {
	level, option := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
	if g.To.Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
	}
	if cerr := c.Control(func(fd uintptr) {
		err = errors.Join(unix.SetsockoptInt(int(fd), level, option, unix.IP_PMTUDISC_PROBE),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20))
	}); cerr != nil {
		return cerr
	}
	return err
}

// Echo sends one request and waits for its answer; it is sent again when that takes a second.
func (p *Pod) Echo(to netip.Addr, within time.Duration) error { return p.echo(to, within, smallest) }

// EchoFull is Echo with a packet, header included, of mtu bytes, which nobody may cut into fragments.
func (p *Pod) EchoFull(to netip.Addr, within time.Duration, mtu int) error {
	if to.Is6() {
		return p.echo(to, within, mtu-40)
	}
	return p.echo(to, within, mtu-20)
}

func (p *Pod) echo(to netip.Addr, within time.Duration, size int) error {
	g, err := ping(p.NS, to, time.Second, size)
	if err != nil {
		return err
	}
	defer g.close()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if g.answered() > 0 {
			return nil
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return fmt.Errorf("no answer from %s to pod %s within %s, errors %v", to, p.Name, within, g.errs)
}

func (g *Pinger) answered() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.got)
}

// Sent is how many requests were sent so far.
func (g *Pinger) Sent() int { return int(g.sent.Load()) }

func (g *Pinger) close() {
	g.stop()
	g.conn.Close()
	g.done.Wait()
}

// Stop ends the sending of some pingers, waits for late answers and returns what was lost.
func Stop(pingers ...*Pinger) []Loss {
	out := make([]Loss, len(pingers))
	var all sync.WaitGroup
	for i, g := range pingers {
		all.Go(func() { out[i] = g.Stop() })
	}
	all.Wait()
	return out
}

// Stop ends the sending, waits for late answers and returns what was lost.
func (g *Pinger) Stop() Loss {
	g.stop()
	for range 50 {
		time.Sleep(20 * time.Millisecond)
		if uint64(g.answered()) == g.sent.Load() {
			break
		}
	}
	g.close()
	l := Loss{Name: g.From + " to " + g.To.String(), Sent: int(g.sent.Load()), Every: g.every, Errs: g.errs}
	gap := 0
	for i := range g.sent.Load() {
		if _, ok := g.got[i]; ok {
			gap = 0
			continue
		}
		gap++
		l.Lost++
		l.At = append(l.At, time.Duration(i)*g.every)
		l.Longest = max(l.Longest, time.Duration(gap)*g.every)
	}
	return l
}

// request is an echo request: type, code, checksum, identifier and sequence number, then our data: who, and the number.
func (g *Pinger) request(n uint64) []byte {
	b := make([]byte, g.size)
	b[0] = 8
	if g.To.Is6() {
		b[0] = 128
	}
	binary.BigEndian.PutUint16(b[4:], uint16(g.id))
	binary.BigEndian.PutUint16(b[6:], uint16(n))
	binary.BigEndian.PutUint32(b[8:], g.id)
	binary.BigEndian.PutUint64(b[12:], n)
	if g.To.Is4() { // for IPv6 the kernel does it
		sum := uint32(0)
		for i := 0; i < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		sum = sum>>16 + sum&0xffff
		binary.BigEndian.PutUint16(b[2:], ^uint16(sum+sum>>16))
	}
	return b
}

func (g *Pinger) send(ctx context.Context) {
	to := &net.IPAddr{IP: g.To.AsSlice()}
	t := time.NewTicker(g.every)
	defer t.Stop()
	for {
		n := g.sent.Load()
		if _, err := g.conn.WriteTo(g.request(n), to); err != nil && ctx.Err() == nil {
			g.mu.Lock()
			g.errs[err.Error()]++
			g.mu.Unlock()
		}
		g.sent.Add(1)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (g *Pinger) receive() {
	b := make([]byte, 1<<16)
	for {
		n, _, err := g.conn.ReadFrom(b)
		if err != nil {
			return
		}
		if n < 20 || b[0] != 0 && b[0] != 129 || binary.BigEndian.Uint32(b[8:]) != g.id {
			continue
		}
		g.mu.Lock()
		g.got[binary.BigEndian.Uint64(b[12:])] = struct{}{}
		g.mu.Unlock()
	}
}
