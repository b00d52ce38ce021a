package peering

import (
	"net/netip"
	"slices"
	"strings"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/bgp"
)

// announce fills in what peers are told.
func (b *builder) announce() {
	var all []bgp.Announcement
	for _, prefix := range b.prefixes() {
		all = append(all, bgp.Announcement{Prefix: prefix})
	}
	all = append(all, b.in.Services...)
	slices.SortStableFunc(all, func(x, y bgp.Announcement) int { return x.Prefix.Compare(y.Prefix) })
	all = slices.CompactFunc(all, func(x, y bgp.Announcement) bool { return x.Prefix == y.Prefix })
	for i := range all {
		if all[i].Preference == 0 {
			priority := *b.conf.IPv4NormalRoutePriority
			if all[i].Prefix.Addr().Is6() {
				priority = *b.conf.IPv6NormalRoutePriority
			}
			all[i].Preference = bgp.Preference(priority)
		}
	}
	b.out.Announce = all
	for _, p := range b.in.Pools {
		if p.DisableBGPExport {
			b.out.Withhold = append(b.out.Withhold, p.CIDR)
		} else {
			b.out.Transit = append(b.out.Transit, p.CIDR)
		}
	}
	if b.self >= 0 && b.nodes[b.self].cluster.IsValid() {
		b.out.Transit = append(b.out.Transit, b.in.Ranges...)
	}
	for _, list := range []*[]netip.Prefix{&b.out.Withhold, &b.out.Transit} {
		slices.SortFunc(*list, netip.Prefix.Compare)
		*list = slices.Compact(*list)
	}
	b.tags()
}

// prefixes are the node's blocks, and the addresses that it has of others'.
func (b *builder) prefixes() (out []netip.Prefix) {
	for _, block := range b.in.Blocks {
		if block.CIDR.IsSingleIP() && block.Loans != "" {
			block.Node = "" // all of it is lent
		}
		if block.Node == b.in.Self {
			out = append(out, block.CIDR.Masked())
			continue
		}
		if !strings.Contains(string(block.Loans), " "+b.in.Self+" ") {
			continue
		}
		for _, l := range block.Loans.List() {
			if l.Node == b.in.Self {
				out = append(out, netip.PrefixFrom(l.Addr, l.Addr.BitLen()))
			}
		}
	}
	return out
}

// tags fills in the communities of prefixAdvertisements.
func (b *builder) tags() {
	name := b.owner(func(c *v3.BGPConfigurationSpec) bool { return len(c.PrefixAdvertisements) > 0 })
	for i, p := range b.conf.PrefixAdvertisements {
		cidr, err := netip.ParsePrefix(p.CIDR)
		if err != nil {
			b.fault("BGPConfiguration", name, "spec.prefixAdvertisements[%d].cidr %q is no network: write it such as 172.20.0.0/16", i, p.CIDR)
			continue
		}
		tag := bgp.Tag{Within: cidr.Masked()}
		for _, text := range p.Communities {
			if !strings.Contains(text, ":") {
				k := slices.IndexFunc(b.conf.Communities, func(c v3.Community) bool { return c.Name == text })
				if k < 0 {
					b.fault("BGPConfiguration", name, "spec.prefixAdvertisements[%d].communities: there is no %q in spec.communities: add it there, or write a value such as 64512:100", i, text)
					continue
				}
				text = string(b.conf.Communities[k].Value)
			}
			if err := checkCommunity(bgp.Community(text)); err != nil {
				b.fault("BGPConfiguration", name, "spec.prefixAdvertisements[%d].communities: %v", i, err)
				continue
			}
			tag.Communities = append(tag.Communities, bgp.Community(text))
		}
		if len(tag.Communities) > 0 {
			slices.Sort(tag.Communities)
			tag.Communities = slices.Compact(tag.Communities)
			b.out.Tags = append(b.out.Tags, tag)
		}
	}
}

func checkCommunity(c bgp.Community) error {
	return (&bgp.Rule{Action: bgp.Accept, AddCommunities: []bgp.Community{c}}).Check(false)
}
