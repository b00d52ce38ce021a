package bgp

import (
	"net/netip"
	"slices"
	"strconv"

	api "github.com/osrg/gobgp/v3/api"
)

// Names of GoBGP's two policies that everything is in, and of the sets that several statements use.
const (
	importPolicy = "import"
	exportPolicy = "export"
	setWithhold  = "withhold"
	setTransit   = "transit"
	setOwn       = "own"
	setExternal  = "external"
)

// scratch marks routes within a policy, since GoBGP prepends one AS number per statement; nothing with it leaves.
// leaving marks announcements that some peers shall not be told any longer, see Speaker.retract.
const (
	scratch = "4294967295:0:1"
	leaving = "4294967295:0:2"
)

// policies is one state of GoBGP's routing policy.
type policies struct {
	sets    []*api.DefinedSet
	names   map[string]bool // of sets
	imports []*api.Statement
	exports []*api.Statement
}

func (p *policies) request() *api.SetPoliciesRequest {
	return &api.SetPoliciesRequest{DefinedSets: p.sets, Policies: []*api.Policy{
		{Name: importPolicy, Statements: p.imports}, {Name: exportPolicy, Statements: p.exports},
	}}
}

// compile turns the configuration into GoBGP's policy. Peers are those that have a session. The order of what is told is
// that of Calico's BIRD configuration: next hop; filters; withheld networks; communities; what we announce; what was
// learned within our own prefixes, of which other ASes have the whole; networks that are passed on; nothing else.
func compile(c *Config, peers []*Peer) *policies {
	p := &policies{names: map[string]bool{}}
	p.nextHops(c, peers)
	var external []netip.Addr
	for _, peer := range peers {
		if peer.external(c) {
			external = append(external, peer.Address)
		}
	}
	if len(external) > 0 { // a router that hears of a block from all nodes sends to its owner
		p.exports = append(p.exports, &api.Statement{Name: "passed-on",
			Conditions: &api.Conditions{NeighborSet: p.neighbors(setExternal, external), RouteType: api.Conditions_ROUTE_TYPE_INTERNAL},
			Actions:    &api.Actions{Med: &api.MedAction{Type: api.MedAction_REPLACE, Value: 1}}})
	}
	for _, g := range groups(c, peers) {
		set := p.neighbors("filtered-"+strconv.Itoa(len(p.sets)), g.addrs)
		for _, v6 := range []bool{false, true} {
			for _, r := range c.chain(g.filters, false, v6) {
				p.imports = append(p.imports, p.rule(c, &g, &r, set, false, v6)...)
			}
			for _, r := range c.chain(g.filters, true, v6) {
				p.exports = append(p.exports, p.rule(c, &g, &r, set, true, v6)...)
			}
		}
	}
	p.within(setWithhold, c.Withhold, nil, &api.Actions{RouteAction: api.RouteAction_REJECT})
	for i, t := range c.Tags {
		a := &api.Actions{}
		addCommunities(a, t.Communities)
		p.within("tag-"+strconv.Itoa(i), []netip.Prefix{t.Within}, nil, a)
	}
	accept := &api.Actions{RouteAction: api.RouteAction_ACCEPT}
	p.exports = append(p.exports, &api.Statement{Name: "announced", Actions: accept,
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL}})
	if len(external) > 0 {
		p.within(setOwn, c.own(), p.neighbors(setExternal, external), &api.Actions{RouteAction: api.RouteAction_REJECT})
	}
	p.within(setTransit, c.Transit, nil, accept)
	return p
}

// nextHops adds what Self and Keep do.
func (p *policies) nextHops(c *Config, peers []*Peer) {
	by := map[NextHopMode][]netip.Addr{}
	for _, peer := range peers {
		by[peer.NextHop] = append(by[peer.NextHop], peer.Address)
	}
	actions := map[NextHopMode]*api.NexthopAction{NextHopSelf: {Self: true}, NextHopKeep: {Unchanged: true}}
	for _, mode := range []NextHopMode{NextHopSelf, NextHopKeep} {
		if len(by[mode]) > 0 {
			p.exports = append(p.exports, &api.Statement{Name: "next-hop-" + string(mode),
				Conditions: &api.Conditions{NeighborSet: p.neighbors("next-hop-"+string(mode), by[mode])},
				Actions:    &api.Actions{Nexthop: actions[mode]}})
		}
	}
}

// group is a number of peers that rules treat alike.
type group struct {
	filters  []string
	external bool
	localAS  uint32
	addrs    []netip.Addr
}

func groups(c *Config, peers []*Peer) (out []group) {
	for _, p := range peers {
		if len(p.Filters) == 0 {
			continue
		}
		i := slices.IndexFunc(out, func(g group) bool {
			return slices.Equal(g.filters, p.Filters) && g.external == p.external(c) && g.localAS == p.localAS(c)
		})
		if i < 0 {
			i = len(out)
			out = append(out, group{filters: p.Filters, external: p.external(c), localAS: p.localAS(c)})
		}
		out[i].addrs = append(out[i].addrs, p.Address)
	}
	return out
}

// neighbors defines a set of peers.
func (p *policies) neighbors(name string, addrs []netip.Addr) *api.MatchSet {
	list := make([]string, 0, len(addrs))
	for _, a := range addrs {
		list = append(list, netip.PrefixFrom(a, a.BitLen()).String())
	}
	return p.set(&api.DefinedSet{DefinedType: api.DefinedType_NEIGHBOR, Name: name, List: list})
}

func (p *policies) set(s *api.DefinedSet) *api.MatchSet {
	if !p.names[s.Name] {
		p.names[s.Name] = true
		p.sets = append(p.sets, s)
	}
	return &api.MatchSet{Name: s.Name}
}

// within adds a statement per family on the routes that are inside some networks.
func (p *policies) within(name string, nets []netip.Prefix, peers *api.MatchSet, actions *api.Actions) {
	for _, suffix := range []string{"4", "6"} {
		var list []*api.Prefix
		for _, n := range nets {
			if n.Addr().Is6() == (suffix == "6") {
				list = append(list, &api.Prefix{IpPrefix: n.String(), MaskLengthMin: uint32(n.Bits()), MaskLengthMax: uint32(n.Addr().BitLen())})
			}
		}
		if len(list) > 0 {
			set := p.set(&api.DefinedSet{DefinedType: api.DefinedType_PREFIX, Name: name + suffix, Prefixes: list})
			p.exports = append(p.exports, &api.Statement{Name: name + suffix, Actions: actions,
				Conditions: &api.Conditions{PrefixSet: set, NeighborSet: peers}})
		}
	}
}
