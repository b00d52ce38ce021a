package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	api "github.com/osrg/gobgp/v3/api"
)

// retract withdraws from single peers what they were told and shall not be told any longer.
//
// GoBGP has no way to say so: it withdraws a route from one peer only when a change of the route makes the policy turn it
// down that had taken the route as it was. So such a change is made: the route gets a mark, which the policy turns down
// for these peers, and takes off for all others, who hear the same route once more. This does not work for a peer that is
// told several paths of a prefix; its session is marked to start anew.
func (i *instance) retract(ctx context.Context, s *Speaker, c *Config, reset map[netip.Addr]bool) error {
	learned := s.rib.list()
	var all []parting
	gone, tellers := map[netip.Prefix]bool{}, map[netip.Addr]bool{}
	for _, g := range i.alike(c) {
		var x parting
		for k := range i.have.Announce {
			a := &i.have.Announce[k]
			if g.loses(&route{prefix: a.Prefix.Masked(), local: true, device: a.Interface, communities: a.Communities}) {
				x.prefixes = append(x.prefixes, a.Prefix.Masked())
			}
		}
		for k := range learned {
			l := &learned[k]
			if g.passed(l) && g.loses(&route{prefix: l.Prefix, communities: l.Communities, asPath: l.ASPath}) {
				x.prefixes = append(x.prefixes, l.Prefix)
				tellers[l.Peer] = true
			}
		}
		if len(x.prefixes) == 0 {
			continue
		}
		for _, p := range g.peers {
			x.peers = append(x.peers, p.Address)
			if p.AddPaths {
				reset[p.Address] = true
				s.rib.hold(p.Address, time.Now().Add(time.Duration(seconds(p.RestartTime, c.RestartTime))*time.Second))
			}
		}
		all = append(all, x)
		for _, prefix := range x.prefixes {
			gone[prefix] = true
		}
	}
	if len(all) == 0 {
		return nil
	}
	if err := i.srv.SetPolicies(ctx, leave(i.have, all).request()); err != nil {
		return fmt.Errorf("set routing policy: %w", err)
	}
	for _, a := range i.have.Announce {
		prefix := a.Prefix.Masked()
		if !gone[prefix] {
			continue
		}
		path, err := apiPath(&a, leaving)
		if err != nil {
			continue
		}
		if _, err := i.srv.AddPath(ctx, &api.AddPathRequest{Path: path}); err != nil {
			return fmt.Errorf("withdraw %s: %w", prefix, err)
		}
		i.announced[prefix] = "" // announced once more, without the mark
	}
	return i.reread(ctx, tellers)
}

// parting is what some peers shall not be told any longer.
type parting struct {
	peers    []netip.Addr
	prefixes []netip.Prefix
}

// likes are peers that are told alike, both as it was and as it shall be.
type likes struct {
	was, is       *Config
	wasOwn, isOwn []netip.Prefix // what was and is announced
	clients       map[netip.Addr]bool
	peers         []*Peer // as they are
	before        *Peer   // one of them as it was
}

// alike returns the peers that stay and may be told less than before.
func (i *instance) alike(c *Config) (out []*likes) {
	have, by := map[netip.Addr]*Peer{}, map[string]*likes{}
	clients := map[netip.Addr]bool{}
	for _, p := range pointers(i.have.Peers) {
		have[p.Address], clients[p.Address] = p, p.Client
	}
	wasOwn, isOwn := i.have.own(), c.own()
	ranges := !slices.Equal(i.have.Withhold, c.Withhold) || !slices.Equal(i.have.Transit, c.Transit)
	own := !slices.Equal(wasOwn, isOwn)
	for _, p := range pointers(c.Peers) {
		old := have[p.Address]
		if old == nil {
			continue
		}
		was, is, external := chains(i.have, old), chains(c, p), old.external(i.have)
		if was == is && !ranges && (!own || !external) {
			continue
		}
		v4, v6 := old.families()
		key := fmt.Sprint(was, is, external, old.Client, v4, v6)
		if by[key] == nil {
			by[key] = &likes{was: i.have, is: c, wasOwn: wasOwn, isOwn: isOwn, clients: clients, before: old}
			out = append(out, by[key])
		}
		by[key].peers = append(by[key].peers, p)
	}
	return out
}

// passed says whether a learned path was for these peers, if no policy held it back (RFC 4271, 4456).
func (g *likes) passed(l *Path) bool {
	return g.before.external(g.was) || l.External || g.before.Client || g.clients[l.Peer]
}

// loses says whether the peers were told a route, and shall not be.
func (g *likes) loses(x *route) bool {
	return g.before.carries(x.prefix) && g.was.exports(g.before, x, g.wasOwn) && !g.is.exports(g.peers[0], x, g.isOwn)
}

// reread has the policy look once more at what some peers have told, if they still are peers.
func (i *instance) reread(ctx context.Context, tellers map[netip.Addr]bool) error {
	for _, p := range i.have.Peers {
		if !tellers[p.Address] {
			continue
		}
		if err := i.srv.ResetPeer(ctx, &api.ResetPeerRequest{Address: p.Address.String(), Soft: true, Direction: api.ResetPeerRequest_IN}); err != nil {
			return fmt.Errorf("reread routes of %s: %w", p.Address, err)
		}
		i.unread[p.Address] = true
	}
	return nil
}

// chains is all of a peer's filters that is about what it is told.
func chains(c *Config, p *Peer) string {
	return digest([]any{c.chain(p.Filters, true, false), c.chain(p.Filters, true, true)})
}

// leave is the policy of c, and turns down marked routes for the peers that they leave.
func leave(c *Config, all []parting) *policies {
	p := compile(c, pointers(c.Peers))
	var first, marking []*api.Statement
	for n, x := range all {
		peers := p.neighbors(fmt.Sprintf("leaving-%d-peers", n), x.peers)
		for _, v6 := range []bool{false, true} {
			var list []*api.Prefix
			for _, prefix := range x.prefixes {
				if bits := uint32(prefix.Bits()); prefix.Addr().Is6() == v6 {
					list = append(list, &api.Prefix{IpPrefix: prefix.String(), MaskLengthMin: bits, MaskLengthMax: bits})
				}
			}
			if len(list) == 0 {
				continue
			}
			name := fmt.Sprintf("leaving-%d-%t", n, v6)
			prefixes := p.set(&api.DefinedSet{DefinedType: api.DefinedType_PREFIX, Name: name, Prefixes: list})
			first = append(first, &api.Statement{Name: name, Actions: &api.Actions{RouteAction: api.RouteAction_REJECT},
				Conditions: &api.Conditions{NeighborSet: peers, LargeCommunitySet: p.marked(leaving), PrefixSet: prefixes}})
			marking = append(marking, &api.Statement{Name: "marking-" + name, Conditions: &api.Conditions{PrefixSet: prefixes},
				Actions: &api.Actions{LargeCommunity: &api.CommunityAction{Type: api.CommunityAction_ADD, Communities: []string{leaving}}}})
		}
	}
	strip := &api.Statement{Name: "unmark", Conditions: &api.Conditions{LargeCommunitySet: p.marked(leaving)},
		Actions: &api.Actions{LargeCommunity: &api.CommunityAction{Type: api.CommunityAction_REMOVE, Communities: []string{leaving}}}}
	p.exports = append(append(first, strip), p.exports...)
	p.imports = append(marking, p.imports...)
	return p
}
