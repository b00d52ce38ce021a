package status

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/margay-net/margay/pkg/model"
)

// Cluster is what routes follow from.
type Cluster struct {
	Self      string
	Nodes     map[string]model.Node
	Pools     []model.Pool
	Blocks    []model.Block
	Endpoints []model.Endpoint
}

// Explain says of each route between nodes why it is wanted, and adds the routes of the endpoints. The result is sorted.
func Explain(c Cluster, routes []model.Route) []Route {
	owners := map[netip.Prefix]string{}
	for _, b := range c.Blocks {
		owners[b.CIDR] = b.Node
	}
	var out []Route
	for _, r := range routes {
		out = append(out, Route{
			Dst: r.Dst, Via: r.Via, Dev: r.Dev, Blackhole: r.Kind == model.RouteBlackhole, Proto: uint8(r.Proto), Why: c.why(r, owners),
		})
	}
	for _, ep := range c.Endpoints {
		for _, a := range ep.Addrs {
			out = append(out, Route{
				Dst: netip.PrefixFrom(a, a.BitLen()), Dev: ep.HostVeth, Proto: uint8(model.ProtoBoot),
				Why: fmt.Sprintf("pod %s/%s, %s%s", ep.Namespace, ep.Pod, ep.IfName, c.borrowed(a)),
			})
		}
	}
	slices.SortFunc(out, func(x, y Route) int { return cmp.Or(x.Dst.Compare(y.Dst), cmp.Compare(x.Dev, y.Dev)) })
	return out
}

// why tells a route's reason: whose block, of which pool, and what the pool's mode makes of it.
func (c Cluster) why(r model.Route, owners map[netip.Prefix]string) string {
	owner, isBlock := owners[r.Dst]
	pool := c.pool(r.Dst)
	switch {
	case r.Kind == model.RouteBlackhole:
		return "own block: addresses without a pod go nowhere" + pool
	case isBlock:
		return fmt.Sprintf("block of %s%s, %s", owner, pool, c.hop(r))
	case r.Dst.IsSingleIP():
		return fmt.Sprintf("address that another node than its block's owner has%s, %s", pool, c.hop(r))
	}
	return "route between nodes" + pool
}

// hop says which node a route goes to, and how.
func (c Cluster) hop(r model.Route) string {
	for _, n := range c.Nodes {
		switch r.Via {
		case n.VXLANAddr4, n.VXLANAddr6:
			return "by the tunnel to " + n.Name
		case n.Addr4.Addr(), n.Addr6.Addr():
			return "unencapsulated to " + n.Name
		}
	}
	return "by " + r.Via.String()
}

func (c Cluster) pool(p netip.Prefix) string {
	for _, pool := range c.Pools {
		if pool.CIDR.Overlaps(p) {
			return fmt.Sprintf(", pool %s (%s)", pool.Name, mode(pool))
		}
	}
	return ", no pool"
}

func mode(p model.Pool) string {
	switch {
	case p.VXLAN != model.EncapNever && p.VXLAN != "":
		return "VXLAN " + string(p.VXLAN)
	case p.IPIP != model.EncapNever && p.IPIP != "":
		return "IPIP " + string(p.IPIP)
	}
	return "not encapsulated"
}

// borrowed says of whose block a pod's address is, when it is not this node's.
func (c Cluster) borrowed(a netip.Addr) string {
	for _, b := range c.Blocks {
		if b.CIDR.Contains(a) && b.Node != c.Self {
			return fmt.Sprintf(", borrowed of block %s of %s", b.CIDR, cmp.Or(b.Node, "nobody"))
		}
	}
	return ""
}
