package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Filter is a BGPFilter: rules for what is learned from a peer and what it is told, tried in order until one matches.
// Where none does, what is learned is accepted, and what is told is decided as without a filter.
type Filter struct {
	Import4, Import6, Export4, Export6 []Rule `json:",omitempty"`
}

// Operator says how a route's prefix is compared with a rule's.
type Operator string

// Values of Operator, as in BGPFilter.
const (
	Equal    Operator = "Equal"
	NotEqual Operator = "NotEqual"
	In       Operator = "In"
	NotIn    Operator = "NotIn"
)

// Action is what becomes of a route.
type Action string

// Values of Action, as in BGPFilter; pass: the rule does not match.
const (
	Accept Action = "Accept"
	Reject Action = "Reject"
	pass   Action = ""
)

// PeerType limits a rule to sessions within an AS or between two.
type PeerType string

// Values of PeerType, as in BGPFilter.
const (
	EBGP PeerType = "eBGP"
	IBGP PeerType = "iBGP"
)

// Lengths is a range of prefix lengths, both ends included; the zero value means no limit beside that of CIDR itself.
type Lengths struct{ Min, Max int }

// Rule is one rule of a BGPFilter. A condition that is not set matches every route.
type Rule struct {
	CIDR     netip.Prefix `json:",omitzero"`
	Operator Operator     `json:",omitempty"` // with CIDR
	Lengths  Lengths      `json:",omitzero"`  // with In and NotIn
	// RemotePeers: only routes that were learned from a peer; without a meaning on import.
	RemotePeers bool `json:",omitempty"`
	// Interface is the outgoing device, * stands for any rest. Only prefixes that we announce have one that BGP knows.
	Interface    string    `json:",omitempty"`
	Community    Community `json:",omitempty"`
	ASPathPrefix []uint32  `json:",omitempty"`
	PeerType     PeerType  `json:",omitempty"`

	Action Action
	// What is changed of a route that Action accepts.
	AddCommunities []Community `json:",omitempty"`
	Prepend        []uint32    `json:",omitempty"` // the path begins with these, in this order
	SetPreference  uint32      `json:",omitempty"` // LOCAL_PREF, see Preference; 0: as it is
}

// Community is a community in Calico's form: aa:nn (RFC 1997) or aa:nn:mm (RFC 8092).
type Community string

// parse returns the parts of a community, two of 16 bits or three of 32.
func (c Community) parse() ([]uint32, error) {
	parts := strings.Split(string(c), ":")
	bits := map[int]int{2: 16, 3: 32}[len(parts)]
	if bits == 0 {
		return nil, fmt.Errorf("parse community %q: want aa:nn or aa:nn:mm", c)
	}
	out := make([]uint32, len(parts))
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, bits)
		if err != nil {
			return nil, fmt.Errorf("parse community %q: %q is no number of %d bits", c, p, bits)
		}
		out[i] = uint32(n)
	}
	return out, nil
}

func (c Community) large() bool { return strings.Count(string(c), ":") == 2 }

// splitCommunities tells the two kinds apart, which BGP carries in two attributes; broken ones are left out.
func splitCommunities(all []Community) (standard, large []string) {
	for _, c := range all {
		if _, err := c.parse(); err != nil {
			continue
		}
		if c.large() {
			large = append(large, string(c))
		} else {
			standard = append(standard, string(c))
		}
	}
	return standard, large
}

// Check says what is wrong with a filter.
func (f *Filter) Check() error {
	for name, rules := range map[string][]Rule{"importV4": f.Import4, "exportV4": f.Export4, "importV6": f.Import6, "exportV6": f.Export6} {
		for i := range rules {
			if err := rules[i].Check(strings.HasSuffix(name, "6")); err != nil {
				return fmt.Errorf("%s[%d]: %w", name, i, err)
			}
		}
	}
	return nil
}

// Check says what is wrong with a rule of one family.
func (r *Rule) Check(v6 bool) error {
	if r.CIDR.IsValid() && r.CIDR.Addr().Is6() != v6 {
		return fmt.Errorf("cidr %s is of the other family", r.CIDR)
	}
	if r.CIDR.IsValid() != slices.Contains([]Operator{Equal, NotEqual, In, NotIn}, r.Operator) {
		return fmt.Errorf("cidr %q with matchOperator %q: want both or none, and Equal, NotEqual, In or NotIn", r.CIDR, r.Operator)
	}
	if r.Action != Accept && r.Action != Reject {
		return fmt.Errorf("action %q: want Accept or Reject", r.Action)
	}
	if r.Action == Reject && (len(r.AddCommunities) > 0 || len(r.Prepend) > 0 || r.SetPreference != 0) {
		return fmt.Errorf("operations need action Accept")
	}
	if r.PeerType != "" && r.PeerType != EBGP && r.PeerType != IBGP {
		return fmt.Errorf("peerType %q: want eBGP or iBGP", r.PeerType)
	}
	all := r.AddCommunities
	if r.Community != "" {
		all = append([]Community{r.Community}, all...)
	}
	for _, c := range all {
		if _, err := c.parse(); err != nil {
			return fmt.Errorf("%w", err)
		}
	}
	return nil
}

// lengths are the prefix lengths that the rule's CIDR stands for.
func (r *Rule) lengths() (low, high int) {
	bits := r.CIDR.Bits()
	if r.Operator == Equal || r.Operator == NotEqual {
		return bits, bits
	}
	low, high = max(bits, r.Lengths.Min), r.CIDR.Addr().BitLen()
	if r.Lengths.Max > 0 {
		high = min(high, r.Lengths.Max)
	}
	return low, high
}

// matchesPrefix evaluates the rule's condition on the prefix.
func (r *Rule) matchesPrefix(p netip.Prefix) bool {
	if !r.CIDR.IsValid() {
		return true
	}
	low, high := r.lengths()
	within := r.CIDR.Bits() <= p.Bits() && r.CIDR.Contains(p.Addr()) && low <= p.Bits() && p.Bits() <= high
	return within == (r.Operator == Equal || r.Operator == In)
}

func (r *Rule) matchesInterface(name string) bool {
	if r.Interface == "" {
		return true
	}
	if start, any := strings.CutSuffix(r.Interface, "*"); any {
		return name != "" && strings.HasPrefix(name, start)
	}
	return name == r.Interface
}

// route is what rules look at.
type route struct {
	prefix      netip.Prefix
	local       bool   // we announce it
	device      string // with local
	communities []Community
	asPath      []uint32
}

// matches evaluates all conditions of a rule.
func (r *Rule) matches(x *route, external, export bool) bool {
	switch {
	case r.PeerType != "" && (r.PeerType == EBGP) != external:
		return false
	case export && r.RemotePeers && x.local:
		return false
	case r.Community != "" && !slices.Contains(x.communities, r.Community):
		return false
	case len(r.ASPathPrefix) > len(x.asPath) || !slices.Equal(r.ASPathPrefix, x.asPath[:len(r.ASPathPrefix)]):
		return false
	}
	return r.matchesPrefix(x.prefix) && r.matchesInterface(x.device)
}

// decide returns what the first rule that matches says, and that rule; pass when none does.
func decide(rules []Rule, x *route, external, export bool) (Action, *Rule) {
	for i := range rules {
		if rules[i].matches(x, external, export) {
			return rules[i].Action, &rules[i]
		}
	}
	return pass, nil
}

// chain returns a peer's rules of one direction and family, those of its filters one after the other.
func (c *Config) chain(filters []string, export, v6 bool) (rules []Rule) {
	for _, name := range filters {
		f := c.Filters[name]
		switch {
		case export && v6:
			rules = append(rules, f.Export6...)
		case export:
			rules = append(rules, f.Export4...)
		case v6:
			rules = append(rules, f.Import6...)
		default:
			rules = append(rules, f.Import4...)
		}
	}
	return rules
}

// exports says whether a peer is told a route; own is what c.own returns.
func (c *Config) exports(p *Peer, x *route, own []netip.Prefix) bool {
	within := func(all []netip.Prefix) bool {
		return slices.ContainsFunc(all, func(n netip.Prefix) bool { return n.Bits() <= x.prefix.Bits() && n.Contains(x.prefix.Addr()) })
	}
	external := p.external(c)
	if a, _ := decide(c.chain(p.Filters, true, x.prefix.Addr().Is6()), x, external, true); a != pass {
		return a == Accept
	}
	switch {
	case within(c.Withhold):
		return false
	case x.local:
		return true
	case external && within(own):
		return false
	}
	return within(c.Transit)
}

// own returns the prefixes that we announce.
func (c *Config) own() []netip.Prefix {
	var out []netip.Prefix
	for _, a := range c.Announce {
		out = append(out, a.Prefix)
	}
	return sortedPrefixes(out)
}
