package agent

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/margay-net/margay/pkg/bgp"
	"github.com/margay-net/margay/pkg/status"
)

// sessions tells people what the BGP speaker does. It asks it each time: GoBGP answers from memory.
type sessions struct {
	speaker *bgp.Speaker

	mu      sync.Mutex
	seen    bgp.Config // but for what is announced
	changed time.Time  // when it was another one last
}

// newSessions returns what tells of a speaker that an agent has since it was born.
func newSessions(s *bgp.Speaker, born time.Time) *sessions {
	return &sessions{speaker: s, changed: born}
}

// passive is BIRD's word for the state in which a passive session waits.
const passive = "Passive"

var peerTypes = map[bgp.Kind]status.PeerType{bgp.Mesh: status.PeerMesh, bgp.Node: status.PeerNode, bgp.Global: status.PeerGlobal}

// config returns how the speaker is configured, and since when, as far as somebody has looked.
func (s *sessions) config() (c bgp.Config, since time.Time, ok bool) {
	c, ok = s.speaker.Config()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := c
	now.Announce = nil
	if ok && !reflect.DeepEqual(now, s.seen) {
		if s.seen.AS != 0 {
			s.changed = time.Now()
		}
		s.seen = now
	}
	return c, s.changed, ok
}

// Peers returns all sessions.
func (s *sessions) Peers(ctx context.Context) []status.Peer {
	c, _, _ := s.config()
	waits := map[netip.Addr]bool{}
	for _, p := range c.Peers {
		waits[p.Address] = p.Passive
	}
	var out []status.Peer
	for _, p := range s.speaker.Peers(ctx) {
		out = append(out, peerOf(p, waits[p.Address]))
	}
	return out
}

// peerOf puts a session in BIRD's words.
func peerOf(p bgp.PeerState, waits bool) status.Peer {
	out := status.Peer{
		Addr: p.Address, Type: peerTypes[p.Kind], AS: p.AS, Up: p.State == bgp.Established, Since: p.Since, State: string(p.State),
		Reason: p.Reason, At: p.At, Restarting: p.Restarting, Received: p.Received, Sessions: p.Sessions, UpdatesIn: p.UpdatesIn, UpdatesOut: p.UpdatesOut,
	}
	if p.State == bgp.Refused {
		// The table has the address already.
		out.Reason = strings.TrimPrefix(strings.TrimPrefix(p.Reason, "peer "+p.Address.String()), ":")
		out.Reason = strings.TrimSpace(out.Reason)
	}
	if waits && (p.State == bgp.Active || p.State == bgp.Idle) {
		out.State = passive
	}
	if !out.Up {
		out.Info = status.InfoOf(out.Reason)
	}
	return out
}

// Paths returns what is used of what peers have told, those of one prefix next to each other.
func (s *sessions) Paths() []status.Path {
	c, _, _ := s.config()
	peers := byAddr(c)
	var out []status.Path
	for _, p := range s.speaker.Paths() {
		out = append(out, pathOf(bgp.Known{Path: p, Used: true}, peers))
	}
	return out
}

// all returns what peers have told, used or not.
func (s *sessions) all(ctx context.Context) []status.Path {
	c, _, _ := s.config()
	peers := byAddr(c)
	var out []status.Path
	for _, p := range s.speaker.Table(ctx) {
		out = append(out, pathOf(p, peers))
	}
	return out
}

func byAddr(c bgp.Config) map[netip.Addr]bgp.Peer {
	out := map[netip.Addr]bgp.Peer{}
	for _, p := range c.Peers {
		out[p.Address] = p
	}
	return out
}

// count returns to how many prefixes the used paths lead.
func (s *sessions) count() (v4, v6 int) { return s.speaker.Prefixes() }

func pathOf(p bgp.Known, peers map[netip.Addr]bgp.Peer) status.Path {
	out := status.Path{
		Prefix: p.Prefix, NextHop: p.NextHop, Peer: p.Peer, ASPath: p.ASPath, Preference: p.Preference, MED: p.MED,
		Stale: p.Stale, Used: p.Used, Refused: p.Refused,
	}
	for _, x := range p.Communities {
		out.Communities = append(out.Communities, string(x))
	}
	out.Type, out.AS = peerTypes[peers[p.Peer].Kind], peers[p.Peer].AS
	return out
}

// Find returns what peers have told of the prefixes around a network, and what they are told of them, the most specific
// first.
func (s *sessions) Find(ctx context.Context, to netip.Prefix) (paths []status.Path, announced []status.Announced) {
	c, _, _ := s.config()
	peers := byAddr(c)
	for _, p := range s.speaker.Known(ctx, to) {
		paths = append(paths, pathOf(p, peers))
	}
	slices.SortStableFunc(paths, func(a, b status.Path) int { return b.Prefix.Bits() - a.Prefix.Bits() })
	told := s.speaker.Told(ctx, to)
	for _, a := range c.Announce {
		if p := a.Prefix.Masked(); p.Bits() <= to.Bits() && p.Contains(to.Addr()) {
			announced = append(announced, status.Announced{Prefix: p, Own: true, To: told[p]})
			delete(told, p)
		}
	}
	for p, who := range told {
		announced = append(announced, status.Announced{Prefix: p, To: who})
	}
	slices.SortFunc(announced, func(a, b status.Announced) int { return b.Prefix.Bits() - a.Prefix.Bits() })
	return paths, announced
}
