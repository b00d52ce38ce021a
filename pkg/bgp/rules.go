package bgp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	api "github.com/osrg/gobgp/v3/api"
)

// rule turns one rule into statements; none when it can't match.
func (p *policies) rule(c *Config, g *group, r *Rule, peers *api.MatchSet, export, v6 bool) []*api.Statement {
	if r.PeerType != "" && (r.PeerType == EBGP) != g.external {
		return nil
	}
	name := fmt.Sprintf("rule-%d-%d", len(p.imports), len(p.exports))
	family := &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	if v6 {
		family.Afi = api.Family_AFI_IP6
	}
	cond := &api.Conditions{NeighborSet: peers, AfiSafiIn: []*api.Family{family}}
	types := []api.Conditions_RouteType{api.Conditions_ROUTE_TYPE_NONE}
	switch {
	case r.Interface != "":
		if !p.onInterface(c, r, cond, name, export, v6) {
			return nil
		}
		types[0] = api.Conditions_ROUTE_TYPE_LOCAL
	case r.CIDR.IsValid():
		low, high := r.lengths()
		cond.PrefixSet = p.set(&api.DefinedSet{DefinedType: api.DefinedType_PREFIX, Name: name, Prefixes: []*api.Prefix{
			{IpPrefix: r.CIDR.Masked().String(), MaskLengthMin: uint32(low), MaskLengthMax: uint32(high)}}})
		if r.Operator == NotEqual || r.Operator == NotIn {
			cond.PrefixSet.Type = api.MatchSet_INVERT
		}
	}
	if export && r.RemotePeers {
		if r.Interface != "" {
			return nil // what was learned has no interface that we know
		}
		types = []api.Conditions_RouteType{api.Conditions_ROUTE_TYPE_INTERNAL, api.Conditions_ROUTE_TYPE_EXTERNAL}
	}
	p.onPath(g, r, cond, name, export)
	var out []*api.Statement
	for _, t := range types {
		x := &api.Conditions{NeighborSet: cond.NeighborSet, AfiSafiIn: cond.AfiSafiIn, PrefixSet: cond.PrefixSet, RouteType: t,
			CommunitySet: cond.CommunitySet, LargeCommunitySet: cond.LargeCommunitySet, AsPathSet: cond.AsPathSet}
		out = append(out, p.act(g, r, x, name+"-"+strconv.Itoa(int(t)), export)...)
	}
	return out
}

// marked defines the set of routes with one of our marks.
func (p *policies) marked(mark string) *api.MatchSet {
	return p.set(&api.DefinedSet{DefinedType: api.DefinedType_LARGE_COMMUNITY, Name: "mark-" + mark, List: exactly([]string{mark})})
}

// onInterface limits a rule to what we announce by its interface; false when that is nothing.
func (p *policies) onInterface(c *Config, r *Rule, cond *api.Conditions, name string, export, v6 bool) bool {
	var list []*api.Prefix
	for _, a := range c.Announce {
		if export && a.Prefix.Addr().Is6() == v6 && r.matchesInterface(a.Interface) && r.matchesPrefix(a.Prefix) {
			n := uint32(a.Prefix.Bits())
			list = append(list, &api.Prefix{IpPrefix: a.Prefix.Masked().String(), MaskLengthMin: n, MaskLengthMax: n})
		}
	}
	if len(list) > 0 {
		cond.PrefixSet = p.set(&api.DefinedSet{DefinedType: api.DefinedType_PREFIX, Name: name, Prefixes: list})
	}
	return len(list) > 0
}

// onPath adds the conditions on communities and the AS path.
func (p *policies) onPath(g *group, r *Rule, cond *api.Conditions, name string, export bool) {
	if standard, large := splitCommunities([]Community{r.Community}); len(standard) > 0 {
		cond.CommunitySet = p.set(&api.DefinedSet{DefinedType: api.DefinedType_COMMUNITY, Name: name, List: exactly(standard)})
	} else if len(large) > 0 {
		cond.LargeCommunitySet = p.set(&api.DefinedSet{DefinedType: api.DefinedType_LARGE_COMMUNITY, Name: name, List: exactly(large)})
	}
	if len(r.ASPathPrefix) > 0 {
		path := r.ASPathPrefix
		if export && g.external {
			path = append([]uint32{g.localAS}, path...) // GoBGP has put it there already
		}
		text := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(path)), "_"), "[]")
		cond.AsPathSet = p.set(&api.DefinedSet{DefinedType: api.DefinedType_AS_PATH, Name: name, List: []string{"^" + text + "_"}})
	}
}

func exactly(list []string) []string { return []string{"^" + list[0] + "$"} }

// act turns a rule's action and operations into statements on a condition.
func (p *policies) act(g *group, r *Rule, cond *api.Conditions, name string, export bool) []*api.Statement {
	if r.Action == Reject {
		return []*api.Statement{{Name: name, Conditions: cond, Actions: &api.Actions{RouteAction: api.RouteAction_REJECT}}}
	}
	last := &api.Actions{RouteAction: api.RouteAction_ACCEPT}
	addCommunities(last, r.AddCommunities)
	if r.SetPreference != 0 {
		last.LocalPref = &api.LocalPrefAction{Value: r.SetPreference}
	}
	steps := prepends(g, r, export)
	if len(steps) <= 1 {
		if len(steps) == 1 {
			last.AsPrepend = steps[0]
		}
		return []*api.Statement{{Name: name, Conditions: cond, Actions: last}}
	}
	marked := &api.Conditions{LargeCommunitySet: p.marked(scratch)}
	mark := func(t api.CommunityAction_Type) *api.Actions {
		return &api.Actions{LargeCommunity: &api.CommunityAction{Type: t, Communities: []string{scratch}}}
	}
	out := []*api.Statement{{Name: name + "-mark", Conditions: cond, Actions: mark(api.CommunityAction_ADD)}}
	for i, step := range steps {
		out = append(out, &api.Statement{Name: fmt.Sprintf("%s-prepend-%d", name, i), Conditions: marked, Actions: &api.Actions{AsPrepend: step}})
	}
	// What is added comes before the mark goes: one statement either adds or removes.
	add := &api.Actions{Community: last.Community, LargeCommunity: last.LargeCommunity, LocalPref: last.LocalPref}
	end := mark(api.CommunityAction_REMOVE)
	end.RouteAction = api.RouteAction_ACCEPT
	return append(out, &api.Statement{Name: name + "-add", Conditions: marked, Actions: add}, &api.Statement{Name: name, Conditions: marked, Actions: end})
}

// prepends returns a rule's prepending in steps of one AS number each, the last of the path first. Towards another AS
// GoBGP has prepended our own number by then, which must stay in front: it is put there once more, unless all are ours.
func prepends(g *group, r *Rule, export bool) (out []*api.AsPrependAction) {
	path := slices.Clone(r.Prepend)
	if export && g.external && slices.ContainsFunc(path, func(as uint32) bool { return as != g.localAS }) {
		path = append([]uint32{g.localAS}, path...)
	}
	slices.Reverse(path)
	for _, as := range path {
		if n := len(out); n > 0 && out[n-1].Asn == as {
			out[n-1].Repeat++
		} else {
			out = append(out, &api.AsPrependAction{Asn: as, Repeat: 1})
		}
	}
	return out
}

func addCommunities(a *api.Actions, all []Community) {
	standard, large := splitCommunities(all)
	if len(standard) > 0 {
		a.Community = &api.CommunityAction{Type: api.CommunityAction_ADD, Communities: standard}
	}
	if len(large) > 0 {
		a.LargeCommunity = &api.CommunityAction{Type: api.CommunityAction_ADD, Communities: large}
	}
}
