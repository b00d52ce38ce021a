package advertise

import (
	"net/netip"
	"slices"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// Announcements returns the prefixes that this node announces of Services, sorted, each once, and a line for each bad
// value of the configuration, which is passed over. It depends on nothing but what is known and in.
func (d *Directory) Announcements(in Input) (out []netip.Prefix, faults []string) {
	r, faults := in.ranges()
	if in.NodeLabels[excluded] == "true" {
		return nil, faults
	}
	aggregation := in.Config.ServiceLoadBalancerAggregation
	cluster, external := list{networks: r.cluster}, list{networks: r.external}
	balancer := list{networks: r.balancer, split: aggregation != nil && *aggregation == v3.Disabled}
	out = slices.Concat(cluster.whole(), external.whole(), balancer.whole())
	d.mu.Lock()
	defer d.mu.Unlock()
	ready := d.ready()
	for k, s := range d.services {
		out = cluster.announce(out, &s, s.Cluster, s.Inside || s.Outside, ready[k])
		out = external.announce(out, &s, s.External, s.Outside, ready[k])
		out = balancer.announce(out, &s, s.Balancer, s.Outside, ready[k])
	}
	return sorted(out), faults
}

// ends says of a Service where its endpoints are ready, of each family: on this node, or anywhere.
type ends struct{ here, any [2]bool }

func family(six bool) int {
	if six {
		return 1
	}
	return 0
}

// ready returns the endpoints of Services that have any. The caller holds mu.
func (d *Directory) ready() map[Key]ends {
	out := make(map[Key]ends, len(d.services))
	for k, s := range d.slices {
		k.Name = s.Service
		e, f := out[k], family(s.Family6)
		e.any[f] = true
		e.here[f] = e.here[f] || s.Here
		out[k] = e
	}
	return out
}

// list is the networks for one kind of Services' addresses. split: they are announced address by address.
type list struct {
	networks []netip.Prefix
	split    bool
}

// whole returns the networks that are announced as they are. An address alone is not, so that policy Local can hold.
func (l *list) whole() (out []netip.Prefix) {
	for _, p := range l.networks {
		if !l.split && !p.IsSingleIP() {
			out = append(out, p)
		}
	}
	return out
}

// announce appends those of a Service's addresses that this node announces.
func (l *list) announce(out []netip.Prefix, s *Service, addrs []netip.Addr, local bool, ready ends) []netip.Prefix {
	for _, a := range addrs {
		within := slices.ContainsFunc(l.networks, func(p netip.Prefix) bool { return p.Contains(a) })
		if !within || !s.serves(a) {
			continue
		}
		self := netip.PrefixFrom(a, a.BitLen())
		f := family(a.Is6())
		alone := slices.Contains(l.networks, self)
		if local && ready.here[f] || !local && (alone || l.split && ready.any[f]) {
			out = append(out, self)
		}
	}
	return out
}

// serves says whether kube-proxy serves an address: it takes a Service for one of the families of its cluster addresses.
func (s *Service) serves(a netip.Addr) bool {
	return slices.ContainsFunc(s.Cluster, func(c netip.Addr) bool { return c.Is6() == a.Is6() })
}
