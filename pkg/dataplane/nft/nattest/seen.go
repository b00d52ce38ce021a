package nattest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// Port is where hosts answer: over UDP and TCP with a line that says who asked, over TCP then with what they get.
const Port = 7000

const patience = time.Second

func (h *Host) serve(tb testing.TB) {
	tb.Helper()
	if err := h.conn.Do(func() error {
		tcp, err := net.Listen("tcp", fmt.Sprintf(":%d", Port))
		if err != nil {
			return err
		}
		tb.Cleanup(func() { tcp.Close() })
		go serveTCP(tcp)
		return errors.Join(h.serveUDP(tb, "udp4", unix.SOL_IP, unix.IP_PKTINFO), h.serveUDP(tb, "udp6", unix.SOL_IPV6, unix.IPV6_RECVPKTINFO))
	}); err != nil {
		tb.Fatal(err)
	}
}

func serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if _, err := io.WriteString(c, c.RemoteAddr().String()+"\n"); err == nil {
				_, _ = io.Copy(c, c)
			}
		}()
	}
}

// serveUDP answers from the address that was asked, which the kernel tells with each packet by this option.
func (h *Host) serveUDP(tb testing.TB, network string, level, option int) error {
	c, err := net.ListenUDP(network, &net.UDPAddr{Port: Port})
	if err != nil {
		return err
	}
	tb.Cleanup(func() { c.Close() })
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	if ctl := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) }); err != nil || ctl != nil {
		return errors.Join(err, ctl)
	}
	go func() {
		b, asked := make([]byte, 100), make([]byte, 100)
		for {
			_, n, _, from, err := c.ReadMsgUDPAddrPort(b, asked)
			if err != nil {
				return
			}
			_, _, _ = c.WriteMsgUDPAddrPort([]byte(from.String()+"\n"), asked[:n], from)
		}
	}()
	return nil
}

// Ask connects over "tcp" or "udp" from a host to an address's Port and returns who was seen there.
func (h *Host) Ask(network, to string) (netip.AddrPort, error) {
	seen, c, err := h.AskFrom(network, "", to)
	if err == nil {
		c.Close()
	}
	return seen, err
}

// Reach waits until an address answers: the kernel takes up to a second to use a new device.
func (h *Host) Reach(tb testing.TB, to string) {
	tb.Helper()
	nstest.Within(tb, 2*time.Second, to+" answers", func() bool {
		_, err := h.Ask("tcp", to)
		return err == nil
	})
}

// AskFrom is Ask from a chosen local address, or "". The connection stays open.
func (h *Host) AskFrom(network, from, to string) (seen netip.AddrPort, c net.Conn, err error) {
	d := net.Dialer{Timeout: patience}
	if from != "" {
		a, err := netip.ParseAddr(from)
		if err != nil {
			return seen, nil, err
		}
		local := netip.AddrPortFrom(a, 0)
		d.LocalAddr = net.TCPAddrFromAddrPort(local)
		if network == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(local)
		}
	}
	if err := h.conn.Do(func() (err error) {
		c, err = d.Dial(network, net.JoinHostPort(to, strconv.Itoa(Port)))
		return err
	}); err != nil {
		return seen, nil, err
	}
	seen, err = first(c, network)
	if err != nil {
		c.Close()
	}
	return seen, c, err
}

// first reads the line that a server begins with.
func first(c net.Conn, network string) (netip.AddrPort, error) {
	if network == "udp" {
		if _, err := c.Write([]byte{1}); err != nil {
			return netip.AddrPort{}, err
		}
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return netip.AddrPort{}, err
	}
	var line []byte
	for b := make([]byte, 100); len(line) == 0 || line[len(line)-1] != '\n'; {
		n, err := c.Read(b)
		if err != nil {
			return netip.AddrPort{}, err
		}
		line = append(line, b[:n]...)
	}
	return netip.ParseAddrPort(string(line[:len(line)-1]))
}

// Pinged pings an address of h from another host and returns who was seen at h.
func (h *Host) Pinged(tb testing.TB, from *Host, to string) (netip.Addr, error) {
	tb.Helper()
	network, request := "ip4:icmp", byte(8)
	if netip.MustParseAddr(to).Is6() {
		network, request = "ip6:ipv6-icmp", 128
	}
	var c net.PacketConn
	if err := h.conn.Do(func() (err error) {
		c, err = net.ListenPacket(network, "")
		return err
	}); err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	if out, err := from.Try("ping -n -c 1 -W 1 " + to); err != nil {
		return netip.Addr{}, fmt.Errorf("%w: %s", err, out)
	}
	for b := make([]byte, 1500); ; {
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			tb.Fatal(err)
		}
		n, addr, err := c.ReadFrom(b)
		if err != nil {
			return netip.Addr{}, err
		}
		if n > 0 && b[0] == request {
			return netip.ParseAddr(addr.String())
		}
	}
}

// Stream is a TCP connection in use.
type Stream struct {
	Seen   netip.AddrPort // the client, as the server sees it
	rounds atomic.Int64
	stop   func() error
}

// Stream opens a connection and plays ping-pong on it until Stop.
func (h *Host) Stream(tb testing.TB, to string) *Stream {
	tb.Helper()
	seen, c, err := h.AskFrom("tcp", "", to)
	if err != nil {
		tb.Fatalf("connect to %s: %v", to, err)
	}
	s := &Stream{Seen: seen}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.play(ctx, c) }()
	s.stop = func() error {
		cancel()
		err := <-done
		c.Close()
		return err
	}
	tb.Cleanup(cancel)
	return s
}

func (s *Stream) play(ctx context.Context, c net.Conn) error {
	b := make([]byte, 64)
	for ctx.Err() == nil {
		if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		if _, err := c.Write(b); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
		s.rounds.Add(1)
		time.Sleep(time.Millisecond)
	}
	return s.lost(c.(*net.TCPConn))
}

// lost asks TCP whether it had to send anything twice.
func (s *Stream) lost(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var info *unix.TCPInfo
	if ctl := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO) }); err != nil || ctl != nil {
		return errors.Join(err, ctl)
	}
	if info.Total_retrans > 0 {
		return fmt.Errorf("%d packets were sent again", info.Total_retrans)
	}
	return nil
}

// Stop ends the stream. It fails the test when a packet was lost.
func (s *Stream) Stop(tb testing.TB) {
	tb.Helper()
	if err := s.stop(); err != nil {
		tb.Errorf("stream of %s after %d rounds: %v", s.Seen, s.rounds.Load(), err)
		return
	}
	tb.Logf("stream of %s: %d rounds, none lost", s.Seen, s.rounds.Load())
}

// Storm opens new connections over UDP until the returned function is called, which fails the test if outside saw any that
// was not masqueraded.
func (l *Lab) Storm(t *testing.T) (calm func()) {
	var asked int
	var wrong []string
	stop := nstest.Go(t, func(ctx context.Context) error {
		for ctx.Err() == nil {
			for i := range Families {
				seen, err := l.Pod.Ask("udp", OutsideAddr[i])
				asked++
				if err != nil || seen.Addr().String() != NodeAddr[i] {
					wrong = append(wrong, fmt.Sprint(seen, err))
				}
			}
		}
		return nil
	})
	return func() {
		stop()
		t.Logf("%d new connections, %d not masqueraded", asked, len(wrong))
		if len(wrong) > 0 {
			t.Errorf("seen as: %v", wrong)
		}
	}
}
