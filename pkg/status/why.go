package status

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/topology"
)

// Cluster is what routes follow from.
type Cluster struct {
	Self      string
	Nodes     map[string]model.Node
	Pools     []model.Pool
	Blocks    []model.Block
	Endpoints []model.Endpoint
	Paths     []Path // the used ones that BGP peers have told, those of one prefix next to each other
}

// Explain says of each route between nodes why it is wanted, and adds the routes of the endpoints. The result is sorted.
func Explain(c Cluster, routes []model.Route) []Route {
	owners := map[netip.Prefix]string{}
	for _, b := range c.Blocks {
		owners[b.CIDR] = b.Node
	}
	told := map[netip.Prefix][]Path{}
	for _, p := range c.Paths {
		told[p.Prefix] = append(told[p.Prefix], p)
	}
	var out []Route
	for _, r := range routes {
		out = append(out, Route{
			Dst: r.Dst, Via: r.Via, Dev: r.Dev, Others: r.Others, Blackhole: r.Kind == model.RouteBlackhole, Proto: uint8(r.Proto),
			Why: c.why(r, owners, told[r.Dst]),
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

// Around returns the routes to networks around one and to itself, the most specific first, and how many lead to parts of it.
func Around(routes []Route, to netip.Prefix) (around []Route, inside int) {
	for _, r := range routes {
		switch {
		case r.Dst.Bits() <= to.Bits() && r.Dst.Contains(to.Addr()):
			around = append(around, r)
		case to.Contains(r.Dst.Addr()):
			inside++
		}
	}
	slices.SortStableFunc(around, func(x, y Route) int { return y.Dst.Bits() - x.Dst.Bits() })
	return around, inside
}

// why tells a route's reason: whose block, of which pool, and what the pool's mode makes of it.
func (c Cluster) why(r model.Route, owners map[netip.Prefix]string, told []Path) string {
	owner, isBlock := owners[r.Dst]
	pool := c.pool(r.Dst)
	switch {
	case r.Proto == model.ProtoBIRD:
		what := ""
		if isBlock && owner != "" {
			what = "block of " + owner
		}
		return learned(told) + "; " + strings.TrimPrefix(what+pool, ", ")
	case r.Kind == model.RouteBlackhole:
		return "own block: addresses without a pod go nowhere" + pool
	case isBlock:
		return fmt.Sprintf("block of %s%s, %s", owner, pool, c.hop(r))
	case r.Dst.IsSingleIP():
		return fmt.Sprintf("address that another node than its block's owner has%s, %s", pool, c.hop(r))
	}
	return "route between nodes" + pool
}

// learned says which peers have told of a route, by next hop.
func learned(told []Path) string {
	var hops []netip.Addr
	peers := map[netip.Addr][]string{}
	for _, p := range told {
		if !slices.Contains(hops, p.NextHop) {
			hops = append(hops, p.NextHop)
		}
		who := fmt.Sprintf("peer %s (%s)", p.Peer, p.Type.Words())
		if p.Stale {
			who += ", which is gone and waited for,"
		}
		peers[p.NextHop] = append(peers[p.NextHop], who)
	}
	var out []string
	for _, hop := range hops {
		out = append(out, fmt.Sprintf("learned from %s, next hop %s", strings.TrimSuffix(strings.Join(peers[hop], " and "), ","), hop))
	}
	if len(out) == 0 {
		return "learned by BGP"
	}
	return strings.Join(out, "; ")
}

// hop says which node a route goes to, and how.
func (c Cluster) hop(r model.Route) string {
	for _, n := range c.Nodes {
		if r.Dev == topology.IPIP4 && r.Via == n.Addr4.Addr() {
			return "by the IPIP tunnel to " + n.Name
		}
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
		if pool.CIDR.Bits() <= p.Bits() && pool.CIDR.Contains(p.Addr()) {
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
