package lab

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// Packet is one IP packet that a Capture saw, and the one inside it when it is VXLAN (RFC 7348).
type Packet struct {
	Src, Dst           netip.Addr
	Proto              uint8  // IANA's number of what is in it
	Port               uint16 // UDP destination
	VNI                uint32
	InnerSrc, InnerDst netip.Addr
	InnerProto         uint8
}

// Capture sees every packet that crosses the fabric's bridges.
type Capture struct {
	fd   int
	done chan struct{}

	mu  sync.Mutex
	got []Packet
}

// Capture begins to listen.
func (l *Lab) Capture() *Capture {
	l.t.Helper()
	c := &Capture{done: make(chan struct{})}
	err := l.Fabric.Do(func() (err error) {
		c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
		return err
	})
	if err == nil {
		err = unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000})
	}
	if err != nil {
		l.t.Fatalf("capture: %v", err)
	}
	stop := make(chan struct{})
	go c.run(stop)
	end := sync.OnceFunc(func() { close(stop); <-c.done; unix.Close(c.fd) })
	l.t.Cleanup(end)
	return c
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

func (c *Capture) run(stop chan struct{}) {
	defer close(c.done)
	b := make([]byte, 1<<16)
	for {
		select {
		case <-stop:
			return
		default:
		}
		n, _, err := unix.Recvfrom(c.fd, b, 0)
		if err != nil {
			continue // the timeout, mostly
		}
		if p, ok := parsePacket(b[:n]); ok {
			c.mu.Lock()
			c.got = append(c.got, p)
			c.mu.Unlock()
		}
	}
}

// Packets returns what has been seen.
func (c *Capture) Packets() []Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Packet(nil), c.got...)
}

// parseIP reads an IPv4 or IPv6 header without extensions.
func parseIP(b []byte) (src, dst netip.Addr, proto uint8, rest []byte, ok bool) {
	if len(b) < 20 {
		return src, dst, 0, nil, false
	}
	switch b[0] >> 4 {
	case 4:
		head := int(b[0]&15) * 4
		if len(b) < head {
			return src, dst, 0, nil, false
		}
		return netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[9], b[head:], true
	case 6:
		if len(b) < 40 {
			return src, dst, 0, nil, false
		}
		return netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[6], b[40:], true
	}
	return src, dst, 0, nil, false
}

func parsePacket(b []byte) (p Packet, ok bool) {
	var rest []byte
	if p.Src, p.Dst, p.Proto, rest, ok = parseIP(b); !ok || p.Proto != unix.IPPROTO_UDP || len(rest) < 8 {
		return p, ok
	}
	p.Port = binary.BigEndian.Uint16(rest[2:])
	if p.Port == 4789 && len(rest) > 8+8+14 {
		p.VNI = binary.BigEndian.Uint32(rest[12:]) >> 8
		p.InnerSrc, p.InnerDst, p.InnerProto, _, _ = parseIP(rest[8+8+14:])
	}
	return p, true
}
