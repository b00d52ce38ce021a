package bgp

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	api "github.com/osrg/gobgp/v3/api"
)

// State is a session's state (RFC 4271, 8.2.2).
type State string

// Values of State. Refused: the configuration can't be, see Reason.
const (
	Idle        State = "Idle"
	Active      State = "Active"
	OpenSent    State = "OpenSent"
	OpenConfirm State = "OpenConfirm"
	Established State = "Established"
	Refused     State = "Refused"
)

var states = map[api.PeerState_SessionState]State{
	api.PeerState_ACTIVE: Active, api.PeerState_CONNECT: Active, api.PeerState_OPENSENT: OpenSent,
	api.PeerState_OPENCONFIRM: OpenConfirm, api.PeerState_ESTABLISHED: Established,
}

// PeerState is what a session does.
type PeerState struct {
	Kind    Kind
	Address netip.Addr
	AS      uint32
	State   State
	Since   time.Time // of being up, or not up
	// Reason is what went wrong last, At when; empty when nothing has. It stays when the session comes up again.
	Reason string
	At     time.Time
	// Restarting: the peer is gone without a word, and its routes are kept for now.
	Restarting bool
	Received   int    // paths, also those that filters turn down
	Sessions   uint64 // OPEN messages received
	// UPDATE messages.
	UpdatesIn, UpdatesOut uint64
}

// Peers returns the state of all configured peers by address.
func (s *Speaker) Peers(ctx context.Context) []PeerState {
	s.mu.Lock()
	inst := s.inst
	var out []PeerState
	known := map[netip.Addr]Peer{}
	if s.want != nil {
		for _, p := range s.want.Peers {
			known[p.Address] = p
			if err := s.wrong[p.Address]; err != nil {
				out = append(out, PeerState{Kind: p.Kind, Address: p.Address, AS: p.AS, State: Refused, Reason: err.Error()})
			}
		}
	}
	s.mu.Unlock()
	if inst == nil {
		return out
	}
	_ = inst.srv.ListPeer(ctx, &api.ListPeerRequest{}, func(p *api.Peer) {
		addr, err := netip.ParseAddr(p.Conf.NeighborAddress)
		if cfg, ok := known[addr]; err == nil && ok {
			out = append(out, inst.state(addr, &cfg, p))
		}
	})
	slices.SortFunc(out, func(a, b PeerState) int { return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.State, b.State)) })
	return slices.CompactFunc(out, func(a, b PeerState) bool { return a.Address == b.Address })
}

func (i *instance) state(addr netip.Addr, cfg *Peer, p *api.Peer) PeerState {
	note := i.notes.note(addr)
	out := PeerState{Kind: cfg.Kind, Address: addr, AS: cfg.AS, State: Idle, Reason: note.text, At: note.at, Restarting: p.GracefulRestart.PeerRestarting,
		Sessions: p.State.Messages.Received.Open, UpdatesIn: p.State.Messages.Received.Update, UpdatesOut: p.State.Messages.Sent.Update}
	if st, ok := states[p.State.SessionState]; ok {
		out.State = st
	}
	since := p.Timers.State.Downtime
	if out.State == Established {
		since = p.Timers.State.Uptime
	}
	if since != nil {
		out.Since = since.AsTime()
	}
	for _, f := range p.AfiSafis {
		if f.State != nil {
			out.Received += int(f.State.Received)
		}
	}
	if cfg.Password != "" && strings.Contains(out.Reason, "timeout") {
		out.Reason += " (a wrong password looks the same)"
	}
	return out
}

// events are what GoBGP reports, in one order: sessions, best paths, End-of-RIB.
var events = &api.WatchEventRequest{Peer: &api.WatchEventRequest_Peer{}, Table: &api.WatchEventRequest_Table{Filters: []*api.WatchEventRequest_Table_Filter{
	{Type: api.WatchEventRequest_Table_Filter_BEST}, {Type: api.WatchEventRequest_Table_Filter_EOR},
}}}

// event returns what takes in the events of an instance.
func (s *Speaker) event(ctx context.Context, i *instance) func(*api.WatchEventResponse) {
	up := map[netip.Addr]bool{}
	return func(e *api.WatchEventResponse) {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.deaf {
			return
		}
		if peer := e.GetPeer().GetPeer(); peer != nil {
			if addr, err := netip.ParseAddr(peer.State.GetNeighborAddress()); err == nil {
				s.session(ctx, i, up, addr, peer.State.SessionState == api.PeerState_ESTABLISHED)
			}
		}
		paths := e.GetTable().GetPaths()
		switch {
		case len(paths) == 0:
			return
		case paths[0].Nlri == nil:
			if addr, err := netip.ParseAddr(paths[0].NeighborIp); err == nil {
				v6 := paths[0].Family.Afi == api.Family_AFI_IP6
				s.rib.told(addr, v6)
				i.told.Store(end{addr, v6}, true)
			}
		default:
			if err := s.rib.update(paths, i.isExternal); err != nil {
				s.log.Error("bgp path not understood", "err", err)
			}
		}
		s.tellChanged()
	}
}

// session takes in that a session is up or not. A person sees it once per change.
func (s *Speaker) session(ctx context.Context, i *instance, up map[netip.Addr]bool, addr netip.Addr, now bool) {
	if up[addr] && !now {
		// GoBGP keeps them as well, but it drops them early when a connection to the peer breaks before the session is up.
		if d := i.keeps(ctx, addr); d > 0 {
			s.rib.hold(addr, time.Now().Add(d))
			s.loop.Kick() // which sees to their end
		}
	}
	s.rib.state(addr, now)
	if up[addr] == now || addr.IsLoopback() && i.ours(addr) {
		return
	}
	up[addr] = now
	if now {
		i.notes.down.Add(-1)
		s.log.Info("peer is up", "peer", addr)
	} else {
		i.notes.down.Add(1)
		s.log.Info("peer is down", "peer", addr, "reason", i.notes.note(addr).text)
	}
	s.tellChanged()
}

// keeps is how long a peer whose session has ended wants its routes kept; 0: not at all.
func (i *instance) keeps(ctx context.Context, peer netip.Addr) (d time.Duration) {
	_ = i.srv.ListPeer(ctx, &api.ListPeerRequest{Address: peer.String()}, func(p *api.Peer) {
		if p.GracefulRestart.PeerRestarting {
			d = time.Duration(p.GracefulRestart.PeerRestartTime) * time.Second
		}
	})
	return d
}

func (i *instance) ours(addr netip.Addr) bool {
	return addr == gate4 || addr == gate6
}

// settle ends the restart when it is time, forgets what was held long enough, and sees to the next look at both.
func (s *Speaker) settle(ctx context.Context) {
	s.release(s.inst.have.Peers)
	if s.Synced() {
		return
	}
	if s.sync(ctx) {
		s.tellChanged()
	}
	s.pace.Reset(max(100*time.Millisecond, time.Since(s.inst.started)/20)) // a peer may be away for long
}

// release forgets what was held long enough, or of a peer that is none any more.
func (s *Speaker) release(peers []Peer) {
	wanted := func(a netip.Addr) bool {
		return slices.ContainsFunc(peers, func(p Peer) bool { return p.Address == a })
	}
	next, changed := s.rib.release(time.Now(), wanted)
	if !next.IsZero() {
		s.pace.Reset(time.Until(next) + time.Millisecond)
	}
	if changed {
		s.tellChanged()
	}
}

// sync ends our restart when all is learned or has had its time, first GoBGP's, then ours.
func (s *Speaker) sync(ctx context.Context) (done bool) {
	i := s.inst
	if !i.ended {
		if !i.complete(ctx) {
			return false
		}
		if i.gate != nil {
			if err := i.gate.open(); err != nil {
				s.log.Warn("restart ends late", "err", err)
			}
		}
		i.ended = true
	}
	if i.gate != nil {
		if i.restarting(ctx) && time.Since(i.started) < 2*i.have.SyncWait {
			return false
		}
		i.gate.close(ctx, i.srv)
		i.gate = nil
	}
	if !i.heard(ctx) {
		return false
	}
	s.mu.Lock()
	s.synced = true
	s.mu.Unlock()
	s.log.Info("learned all routes", "took", time.Since(i.started).Round(time.Millisecond))
	return true
}

// complete says whether all peers are up, or have had the time for it, and those that are have told all they have. One
// that restarts, too, counts as if it had: it waits for us (RFC 4724, 4.1).
func (i *instance) complete(ctx context.Context) bool {
	late := time.Since(i.started) >= i.have.SyncWait
	all := true
	_ = i.srv.ListPeer(ctx, &api.ListPeerRequest{}, func(p *api.Peer) {
		if addr, err := netip.ParseAddr(p.Conf.NeighborAddress); err != nil || i.ours(addr) && i.gate != nil {
			return
		}
		if p.State.SessionState != api.PeerState_ESTABLISHED {
			all = all && late
			return
		}
		for _, f := range p.AfiSafis {
			// A peer that knows no graceful restart marks no end; a moment must do.
			if st := f.MpGracefulRestart.State; st.Received && !st.EndOfRibReceived {
				all = all && time.Since(i.started) >= 2*i.have.SyncWait
			}
		}
	})
	return all
}

// end is a peer's End-of-RIB of a family.
type end struct {
	peer netip.Addr
	v6   bool
}

// heard says whether all peers have told all they have since our start: also those that restart, which do so when their
// own restart ends, and those that are not up. It waits for them no longer than they would keep our routes.
func (i *instance) heard(ctx context.Context) bool {
	since := time.Since(i.started)
	if since >= max(i.have.RestartTime, 2*i.have.SyncWait) {
		return true
	}
	all := true
	_ = i.srv.ListPeer(ctx, &api.ListPeerRequest{}, func(p *api.Peer) {
		addr, err := netip.ParseAddr(p.Conf.NeighborAddress)
		if err != nil || i.ours(addr) && i.gate != nil {
			return
		}
		marks := false // a peer that knows graceful restart marks the end; for others a moment must do
		for _, f := range p.AfiSafis {
			if f.MpGracefulRestart.State.Received {
				marks = true
				_, told := i.told.Load(end{addr, f.Config.Family.Afi == api.Family_AFI_IP6})
				all = all && told
			}
		}
		if !marks {
			all = all && p.State.SessionState == api.PeerState_ESTABLISHED && since >= 2*i.have.SyncWait
		}
	})
	return all
}

// restarting says whether GoBGP has yet to end its restart.
func (i *instance) restarting(ctx context.Context) (yes bool) {
	_ = i.srv.ListPeer(ctx, &api.ListPeerRequest{}, func(p *api.Peer) { yes = yes || p.GracefulRestart.LocalRestarting })
	return yes
}
