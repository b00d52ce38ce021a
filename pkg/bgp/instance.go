package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"
)

// instance is a running GoBGP server and what it was told. But for srv, mu, deaf, notes, external and told it is
// Apply's alone.
type instance struct {
	srv     *server.BgpServer
	cancel  context.CancelFunc // ends the watch, but not what it has under way
	mu      sync.Mutex         // held while an event is taken in
	deaf    bool               // no more events are taken in
	notes   *logger
	gate    *gate // nil when the restart is over
	ended   bool  // the gate has told its End-of-RIB
	started time.Time

	have      *Config // as it was applied last; Peers: those with a session
	announced map[netip.Prefix]string
	policy    string
	unread    map[netip.Addr]bool // peers whose routes have a mark that the policy in force takes no more notice of
	external  sync.Map            // peers of other ASes, netip.Addr
	told      sync.Map            // of what has come since the start, end
}

func (i *instance) isExternal(peer netip.Addr) bool {
	_, yes := i.external.Load(peer)
	return yes
}

// start starts a server without peers.
func start(ctx context.Context, s *Speaker, c *Config) (*instance, error) {
	notes := &logger{log: s.log, last: map[netip.Addr]note{}}
	srv := server.NewBgpServer(server.LoggerOption(notes))
	go srv.Serve() // has no end; a stopped server only waits
	listen := make([]string, 0, len(c.Listen))
	for _, a := range c.Listen {
		listen = append(listen, a.String())
	}
	if len(listen) == 0 {
		listen = everywhere()
	}
	watch, cancel := context.WithCancel(ctx)
	i := &instance{srv: srv, cancel: cancel, notes: notes, started: time.Now(), announced: map[netip.Prefix]string{}, unread: map[netip.Addr]bool{}}
	i.have = &Config{AS: c.AS, RouterID: c.RouterID, Listen: c.Listen, Port: c.Port}
	plain := plainTCP()
	err := srv.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{Asn: c.AS, RouterId: c.RouterID.String(), ListenPort: int32(c.Port),
		ListenAddresses: listen, UseMultiplePaths: true}})
	plain()
	if err != nil {
		i.close(ctx)
		return nil, fmt.Errorf("listen on port %d: %w", c.Port, err)
	}
	if err := i.assign(ctx); err != nil {
		i.close(ctx)
		return nil, err
	}
	if err := srv.WatchEvent(watch, events, s.event(ctx, i)); err != nil {
		i.close(ctx)
		return nil, fmt.Errorf("watch GoBGP: %w", err)
	}
	if s.fresh {
		i.ended, s.fresh = true, false
		return i, nil
	}
	if i.gate, err = openGate(ctx, srv, c); err != nil {
		s.log.Warn("restarting without a gate: peers may drop routes for a moment", "err", err)
	}
	i.started = time.Now()
	return i, nil
}

// assign puts our two policies in force, still empty: nothing is told, everything is taken.
func (i *instance) assign(ctx context.Context) error {
	for dir, d := range map[api.PolicyDirection]struct {
		name   string
		action api.RouteAction
	}{api.PolicyDirection_IMPORT: {importPolicy, api.RouteAction_ACCEPT}, api.PolicyDirection_EXPORT: {exportPolicy, api.RouteAction_REJECT}} {
		p := &api.Policy{Name: d.name}
		if err := i.srv.AddPolicy(ctx, &api.AddPolicyRequest{Policy: p}); err != nil {
			return fmt.Errorf("make policy %s: %w", d.name, err)
		}
		a := &api.PolicyAssignment{Name: "global", Direction: dir, Policies: []*api.Policy{p}, DefaultAction: d.action}
		if err := i.srv.AddPolicyAssignment(ctx, &api.AddPolicyAssignmentRequest{Assignment: a}); err != nil {
			return fmt.Errorf("assign policy %s: %w", d.name, err)
		}
	}
	return nil
}

// stop ends the watch: no event is taken in afterwards.
func (i *instance) stop() {
	i.cancel()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.deaf = true
}

// pause ends all sessions by an administrative reset, on which peers that know RFC 8538 keep our routes until we are back;
// close alone would have them forgotten. The others forget them.
func (i *instance) pause(ctx context.Context) {
	_ = i.srv.ResetPeer(ctx, &api.ResetPeerRequest{Communication: "restarting"})
	for range 100 {
		up := false
		_ = i.srv.ListPeer(ctx, &api.ListPeerRequest{}, func(p *api.Peer) {
			up = up || p.State.SessionState == api.PeerState_ESTABLISHED
		})
		if !up || ctx.Err() != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// close ends all sessions with a notification and stops listening.
func (i *instance) close(ctx context.Context) {
	i.stop()
	if i.gate != nil {
		i.gate.close(ctx, i.srv)
	}
	_ = i.srv.StopBgp(ctx, &api.StopBgpRequest{})
}
