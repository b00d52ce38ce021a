package topology

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/margay-net/margay/pkg/model"
)

// Floating works out which floating addresses lead to which of the pods that live on this node. asked has what pods ask
// for, by namespace and name. Those of a family that the pod has not are passed over. The translations are sorted; with each
// comes a route to the pod's device, so that the node takes the packets. Of two pods that ask for the same address the one
// with the lower address has it, whoever came first; conflicts has a line for each such case.
func Floating(asked map[[2]string][]netip.Addr, endpoints []model.Endpoint) (out []model.Floating, routes []model.Route, conflicts []string) {
	devs := map[netip.Addr]string{} // of a pod's own address
	for _, ep := range endpoints {
		for _, external := range asked[[2]string{ep.Namespace, ep.Pod}] {
			for _, own := range ep.Addrs {
				if own.Is4() == external.Is4() {
					out = append(out, model.Floating{External: external, Internal: own})
					devs[own] = ep.HostVeth
				}
			}
		}
	}
	slices.SortFunc(out, func(x, y model.Floating) int {
		return cmp.Or(x.External.Compare(y.External), x.Internal.Compare(y.Internal))
	})
	all := out
	out = nil
	for i, f := range all {
		if i > 0 && f.External == out[len(out)-1].External {
			if kept := out[len(out)-1]; kept != f {
				conflicts = append(conflicts, fmt.Sprintf("floating address %s is asked for by the pods at %s and %s: %[2]s has it", f.External, kept.Internal, f.Internal))
			}
			continue
		}
		out = append(out, f)
		routes = append(routes, model.Route{Dst: netip.PrefixFrom(f.External, f.External.BitLen()), Dev: devs[f.Internal], Proto: model.ProtoMargay})
	}
	return out, routes, conflicts
}
