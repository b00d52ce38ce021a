package peering

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/bgp"
)

// useFilters gives a session its filters. One that is not there, or can't be carried out, counts as it was last; if it never
// was anything, it is named all the same: the speaker then refuses the session, which would take and tell too much without.
func (b *builder) useFilters(out *bgp.Peer, p *peering) {
	out.Filters = p.spec.Filters
	for i, name := range p.spec.Filters {
		f, known := b.filter(name)
		if b.filters[name] == nil {
			without := "there is no session until then"
			if known {
				without = lastRules
			}
			b.fault("BGPPeer", p.name, "spec.filters[%d]: there is no BGPFilter %s: create it, or take the name out; %s", i, name, without)
		}
		if !known {
			continue
		}
		if b.out.Filters == nil {
			b.out.Filters = map[string]bgp.Filter{}
		}
		b.out.Filters[name] = f
	}
}

const lastRules = "its last rules stay in force until the agent restarts"

// filter reads a BGPFilter, once for all sessions; else it returns what it was last, false if it never was anything.
func (b *builder) filter(name string) (f bgp.Filter, known bool) {
	f, known = b.lastFilters[name]
	spec := b.filters[name]
	if spec == nil {
		return f, known
	}
	if done, ok := b.out.Filters[name]; ok {
		return done, true
	}
	r := filterReader{}
	now := r.read(spec)
	for _, note := range r.notes {
		b.fault("BGPFilter", name, "spec.%s", note)
	}
	switch {
	case len(r.errs) == 0:
		b.lastFilters[name] = now
		return now, true
	case known:
		b.fault("BGPFilter", name, "spec.%s; %s", r.errs[0], lastRules)
	default:
		b.fault("BGPFilter", name, "spec.%s; peers that name it have no session until then", r.errs[0])
	}
	return f, known
}

// filterReader reads a filter.
type filterReader struct {
	errs  []string // why the filter can't be carried out
	notes []string // what has no effect
}

func (r *filterReader) read(s *v3.BGPFilterSpec) bgp.Filter {
	v4 := func(name string, rules []v3.BGPFilterRuleV4) (out []bgp.Rule) {
		for i, rule := range rules {
			l := lengths{}
			if p := rule.PrefixLength; p != nil {
				l = lengths{p.Min, p.Max}
			}
			out = r.add(out, fmt.Sprintf("%s[%d].", name, i), &rule.BGPFilterRule, rule.CIDR, l)
		}
		return out
	}
	v6 := func(name string, rules []v3.BGPFilterRuleV6) (out []bgp.Rule) {
		for i, rule := range rules {
			l := lengths{}
			if p := rule.PrefixLength; p != nil {
				l = lengths{p.Min, p.Max}
			}
			out = r.add(out, fmt.Sprintf("%s[%d].", name, i), &rule.BGPFilterRule, rule.CIDR, l)
		}
		return out
	}
	return bgp.Filter{
		Import4: v4("importV4", s.ImportV4), Import6: v6("importV6", s.ImportV6),
		Export4: v4("exportV4", s.ExportV4), Export6: v6("exportV6", s.ExportV6),
	}
}

// add reads a rule and adds it, unless it matches nothing.
func (r *filterReader) add(to []bgp.Rule, field string, rule *v3.BGPFilterRule, cidr string, l lengths) []bgp.Rule {
	bad := func(format string, args ...any) { r.errs = append(r.errs, field+fmt.Sprintf(format, args...)) }
	out := bgp.Rule{
		Operator: bgp.Operator(rule.MatchOperator), RemotePeers: rule.Source == v3.FromRemotePeers, Interface: rule.Interface,
		PeerType: bgp.PeerType(rule.PeerType), Action: bgp.Action(rule.Action),
	}
	if rule.Priority != nil {
		bad("priority is not supported as a condition: take it out, and tell routes apart by cidr or communities")
	}
	if rule.Source != "" && rule.Source != v3.FromRemotePeers {
		bad("source %q: want RemotePeers, or nothing", rule.Source)
	}
	if rule.Interface != "" && strings.HasPrefix(field, "import") {
		bad("interface is not supported on import: take it out, and tell routes apart by cidr or by peer")
	} else if rule.Interface != "" && out.Action == bgp.Accept {
		r.notes = append(r.notes, field+"interface: no route that a node tells of leaves by an interface, so the rule matches nothing: use cidr, or delete the rule")
	}
	if cidr != "" {
		var err error
		if out.CIDR, err = netip.ParsePrefix(cidr); err != nil {
			bad("cidr %q is no network: write it such as 172.20.0.0/16 or fd00::/48", cidr)
		} else if l.limit(&out) {
			return to
		}
	}
	if c := rule.Communities; c != nil && len(c.Values) != 1 {
		bad("communities.values has %d values: want one", len(c.Values))
	} else if c != nil {
		out.Community = bgp.Community(c.Values[0])
	}
	for _, as := range rule.ASPathPrefix {
		out.ASPathPrefix = append(out.ASPathPrefix, uint32(as))
	}
	if i := readOperations(rule.Operations, &out); i >= 0 {
		bad("operations[%d] is none of addCommunity, prependASPath, setPriority: set one of them", i)
	}
	if err := out.Check(strings.Contains(field, "V6[")); err != nil && len(r.errs) == 0 {
		r.errs = append(r.errs, strings.TrimSuffix(field, ".")+": "+err.Error())
	}
	return append(to, out)
}

// lengths is a range of prefix lengths.
type lengths struct{ min, max *int32 }

// limit puts in the range of prefix lengths. A rule that matches nothing is told of; a condition that excludes nothing is left out.
func (l lengths) limit(out *bgp.Rule) (never bool) {
	if l.min != nil {
		out.Lengths.Min = int(*l.min)
	}
	if l.max == nil || out.Operator != bgp.In && out.Operator != bgp.NotIn {
		return false
	}
	out.Lengths.Max = int(*l.max)
	switch {
	case out.Lengths.Max < max(out.CIDR.Bits(), out.Lengths.Min): // none is within it
		if out.Operator == bgp.In {
			return true
		}
		out.CIDR, out.Operator, out.Lengths = netip.Prefix{}, "", bgp.Lengths{}
	case out.Lengths.Max == 0: // the default route alone; the speaker takes 0 for no limit
		out.Operator = map[bgp.Operator]bgp.Operator{bgp.In: bgp.Equal, bgp.NotIn: bgp.NotEqual}[out.Operator]
		out.Lengths = bgp.Lengths{}
	}
	return false
}

// readOperations reads what a rule changes, and returns the index of the first one that is none, or -1. Each puts its AS
// numbers before those of the one before.
func readOperations(all []v3.FilterOperation, out *bgp.Rule) int {
	for i, o := range all {
		switch {
		case o.AddCommunity != nil && o.AddCommunity.Value != nil:
			out.AddCommunities = append(out.AddCommunities, bgp.Community(*o.AddCommunity.Value))
		case o.PrependASPath != nil && len(o.PrependASPath.Prefix) > 0:
			var path []uint32
			for _, as := range o.PrependASPath.Prefix {
				path = append(path, uint32(as))
			}
			out.Prepend = slices.Concat(path, out.Prepend)
		case o.SetPriority != nil && o.SetPriority.Value != nil:
			out.SetPreference = bgp.Preference(*o.SetPriority.Value)
		default:
			return i
		}
	}
	return -1
}
