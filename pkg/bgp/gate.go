package bgp

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/osrg/gobgp/v3/pkg/server"
)

// gate is a session of the speaker with itself, over loopback, that is the first one up after a start and tells its
// End-of-RIB last.
//
// GoBGP ends its own restart as soon as all peers that are up at that moment have told theirs, mostly after the first
// one: from then on it no longer says in its OPENs that it has restarted and kept forwarding, so that later peers drop
// our routes, and a route reflector ends the restart of its clients before it has heard of all of them. With the gate,
// that is for the speaker to decide.
type gate struct {
	addr netip.Addr
	conn net.Conn
}

// The gate's own addresses; a mesh of test speakers on loopback uses others.
var gate4, gate6 = netip.AddrFrom4([4]byte{127, 0, 0, 179}), netip.IPv6Loopback()

const (
	gateHold  = 3600                 // longer than any restart takes, so that the gate needs no keepalives
	gateWait  = 8 * time.Second      // for the session; after one that broke GoBGP rests for five
	gateRetry = 2 * time.Millisecond // until then peers are sent away, and forget our routes
)

// openGate adds the gate's session to a server without peers, and waits until it is up.
func openGate(ctx context.Context, srv *server.BgpServer, c *Config) (*gate, error) {
	g := &gate{addr: gate4}
	to := netip.MustParseAddr("127.0.0.1")
	for _, a := range c.Listen {
		if to = a; a.Is4() {
			break
		}
	}
	if to.Is6() {
		g.addr = gate6
	}
	p := apiPeer(c, &Peer{Address: g.addr, AS: c.AS, Passive: true, IPv4: true, IPv6: true}, true)
	p.Timers.Config.HoldTime = gateHold
	if err := srv.AddPeer(ctx, &api.AddPeerRequest{Peer: p}); err != nil {
		return nil, fmt.Errorf("open gate: %w", err)
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: g.addr.AsSlice()}, Timeout: time.Second}
	// GoBGP may not have left Idle yet, where it closes what comes in.
	var err error
	for start := time.Now(); time.Since(start) < gateWait; {
		if g.conn, err = d.DialContext(ctx, "tcp", net.JoinHostPort(to.String(), strconv.Itoa(int(c.Port)))); err == nil {
			if err = g.handshake(c); err == nil {
				go func() { _, _ = io.Copy(io.Discard, g.conn) }()
				return g, nil
			}
			g.conn.Close()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(gateRetry):
		}
	}
	_ = srv.DeletePeer(ctx, &api.DeletePeerRequest{Address: g.addr.String()})
	return nil, fmt.Errorf("open gate: %w", err)
}

// handshake exchanges OPEN and KEEPALIVE, after which GoBGP's side is established.
func (g *gate) handshake(c *Config) error {
	_ = g.conn.SetDeadline(time.Now().Add(gateWait))
	defer func() { _ = g.conn.SetDeadline(time.Time{}) }()
	families := []bgp.RouteFamily{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC}
	caps := []bgp.ParameterCapabilityInterface{bgp.NewCapFourOctetASNumber(c.AS)}
	var tuples []*bgp.CapGracefulRestartTuple
	for _, f := range families {
		caps = append(caps, bgp.NewCapMultiProtocol(f))
		tuples = append(tuples, bgp.NewCapGracefulRestartTuple(f, false))
	}
	caps = append(caps, bgp.NewCapGracefulRestart(false, false, 1, tuples))
	as := uint16(bgp.AS_TRANS)
	if c.AS < 1<<16 {
		as = uint16(c.AS)
	}
	open := bgp.NewBGPOpenMessage(as, gateHold, gate4.String(), []bgp.OptionParameterInterface{bgp.NewOptionParameterCapability(caps)})
	if err := g.send(open); err != nil {
		return err
	}
	if err := g.expect(bgp.BGP_MSG_OPEN); err != nil {
		return err
	}
	if err := g.send(bgp.NewBGPKeepAliveMessage()); err != nil {
		return err
	}
	return g.expect(bgp.BGP_MSG_KEEPALIVE)
}

func (g *gate) send(m *bgp.BGPMessage) error {
	b, err := m.Serialize()
	if err != nil {
		return err
	}
	_, err = g.conn.Write(b)
	return err
}

// expect reads one message, which must be of a type.
func (g *gate) expect(typ uint8) error {
	header := make([]byte, bgp.BGP_HEADER_LENGTH)
	if _, err := io.ReadFull(g.conn, header); err != nil {
		return err
	}
	body := make([]byte, int(binary.BigEndian.Uint16(header[16:18]))-bgp.BGP_HEADER_LENGTH)
	if _, err := io.ReadFull(g.conn, body); err != nil {
		return err
	}
	if header[18] != typ {
		return fmt.Errorf("expected a message of type %d, got %d", typ, header[18])
	}
	return nil
}

// open tells End-of-RIB, with which GoBGP's restart is over.
func (g *gate) open() error {
	for _, f := range []bgp.RouteFamily{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC} {
		if err := g.send(bgp.NewEndOfRib(f)); err != nil {
			return fmt.Errorf("end restart: %w", err)
		}
	}
	return nil
}

// close removes the gate's session.
func (g *gate) close(ctx context.Context, srv *server.BgpServer) {
	_ = srv.DeletePeer(ctx, &api.DeletePeerRequest{Address: g.addr.String()})
	g.conn.Close()
}
