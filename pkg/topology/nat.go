package topology

import (
	"net/netip"
	"slices"

	"github.com/margay-net/margay/pkg/model"
)

// nat says what is masqueraded: what pods of pools with natOutgoing send to anything but pools. Disabled pools count, too:
// their pods live on, and a disabled pool is how people spare a network outside of the cluster.
func (f *family) nat() *model.NAT {
	if !f.self.addr.IsValid() {
		return nil // the node has not this family
	}
	o := f.in.NAT
	out := &model.NAT{Ports: o.Ports, Interface: o.Interface}
	if o.Address.IsValid() && o.Address.Is6() == f.six {
		out.Address = o.Address
	}
	for _, p := range f.pools {
		out.Spared = append(out.Spared, p.CIDR)
		if p.NATOutgoing {
			out.Sources = append(out.Sources, p.CIDR)
		}
	}
	if o.SpareNodes {
		for _, n := range f.in.Nodes {
			if a := f.side(n).addr; a.IsValid() {
				out.Spared = append(out.Spared, netip.PrefixFrom(a.Addr(), a.Addr().BitLen()))
			}
		}
	}
	if f.ipip.IsValid() {
		out.Tunnels = append(out.Tunnels, IPIP4)
	}
	if f.tunnel {
		out.Tunnels = append(out.Tunnels, f.dev)
	}
	for _, a := range o.Floating {
		if a.External.Is6() == f.six {
			out.Floating = append(out.Floating, a)
		}
	}
	if len(out.Sources) == 0 && len(out.Tunnels) == 0 && len(out.Floating) == 0 {
		return nil
	}
	slices.SortFunc(out.Sources, netip.Prefix.Compare)
	slices.SortFunc(out.Spared, netip.Prefix.Compare)
	out.Spared = slices.Compact(out.Spared)
	return out
}
