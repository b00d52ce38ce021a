package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
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
	gone := map[netip.Prefix][]netip.Addr{}
	tellers := map[netip.Addr]bool{}
	learned := s.rib.list()
	for _, p := range pointers(i.have.Peers) {
		k := slices.IndexFunc(c.Peers, func(q Peer) bool { return q.Address == p.Address })
		if k < 0 || chains(i.have, p) == chains(c, &c.Peers[k]) {
			continue
		}
		told := false
		stops := func(x *route) bool {
			yes := p.carries(x.prefix) && i.have.exports(p, x) && !c.exports(&c.Peers[k], x)
			told = told || yes
			return yes
		}
		for _, a := range i.have.Announce {
			if stops(&route{prefix: a.Prefix.Masked(), local: true, device: a.Interface, communities: a.Communities}) {
				gone[a.Prefix.Masked()] = append(gone[a.Prefix.Masked()], p.Address)
			}
		}
		for _, l := range learned {
			if l.Peer != p.Address && stops(&route{prefix: l.Prefix, communities: l.Communities, asPath: l.ASPath}) {
				gone[l.Prefix] = append(gone[l.Prefix], p.Address)
				tellers[l.Peer] = true
			}
		}
		if p.AddPaths && told {
			reset[p.Address] = true
			s.rib.hold(p.Address, time.Now().Add(time.Duration(seconds(p.RestartTime, c.RestartTime))*time.Second))
		}
	}
	if len(gone) == 0 {
		return nil
	}
	if err := i.srv.SetPolicies(ctx, leave(i.have, gone).request()); err != nil {
		return fmt.Errorf("set routing policy: %w", err)
	}
	for _, a := range i.have.Announce {
		prefix := a.Prefix.Masked()
		if gone[prefix] == nil {
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

// reread has the policy look once more at what some peers have told.
func (i *instance) reread(ctx context.Context, tellers map[netip.Addr]bool) error {
	for peer := range tellers {
		if err := i.srv.ResetPeer(ctx, &api.ResetPeerRequest{Address: peer.String(), Soft: true, Direction: api.ResetPeerRequest_IN}); err != nil {
			return fmt.Errorf("reread routes of %s: %w", peer, err)
		}
		i.unread[peer] = true
	}
	return nil
}

// chains is all of a peer's filters that is about what it is told.
func chains(c *Config, p *Peer) string {
	return digest([]any{c.chain(p.Filters, true, false), c.chain(p.Filters, true, true)})
}

// leave is the policy of c, and turns down marked routes for the peers that they leave.
func leave(c *Config, gone map[netip.Prefix][]netip.Addr) *policies {
	p := compile(c, pointers(c.Peers))
	var first []*api.Statement
	for prefix, peers := range gone {
		name := "leaving-" + strconv.Itoa(len(first))
		n := uint32(prefix.Bits())
		first = append(first, &api.Statement{Name: name, Actions: &api.Actions{RouteAction: api.RouteAction_REJECT},
			Conditions: &api.Conditions{NeighborSet: p.neighbors(name+"-peers", peers), LargeCommunitySet: p.marked(leaving),
				PrefixSet: p.set(&api.DefinedSet{DefinedType: api.DefinedType_PREFIX, Name: name, Prefixes: []*api.Prefix{{IpPrefix: prefix.String(), MaskLengthMin: n, MaskLengthMax: n}}})}})
	}
	strip := &api.Statement{Name: "unmark", Conditions: &api.Conditions{LargeCommunitySet: p.marked(leaving)},
		Actions: &api.Actions{LargeCommunity: &api.CommunityAction{Type: api.CommunityAction_REMOVE, Communities: []string{leaving}}}}
	p.exports = append(append(first, strip), p.exports...)
	for k, x := range first {
		p.imports = append([]*api.Statement{{Name: "marking-" + strconv.Itoa(k), Conditions: &api.Conditions{PrefixSet: x.Conditions.PrefixSet},
			Actions: &api.Actions{LargeCommunity: &api.CommunityAction{Type: api.CommunityAction_ADD, Communities: []string{leaving}}}}}, p.imports...)
	}
	return p
}
