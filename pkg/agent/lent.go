package agent

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
)

// lentPatience is how long a plan waits for the kernel to have the routes to addresses that other nodes borrowed.
const lentPatience = 500 * time.Millisecond

// lent is what of own blocks is on loan, and the routes by which the borrowers are reached.
type lent struct {
	blocks []model.Block
	routes []model.Route
}

func (l lent) same(o lent) bool {
	return slices.Equal(l.blocks, o.blocks) && slices.Equal(l.routes, o.routes)
}

// confirmLent tells IPAM, once the kernel has them, that the routes to borrowed addresses stand: ADDs on other nodes wait for
// that. It asks the kernel only when something of that kind has changed.
func (a *Agent) confirmLent(ctx context.Context, blocks []model.Block, routes []model.Route) {
	now := lentOf(a.config.Node, blocks, routes)
	if a.lastLent.same(now) {
		a.ipam.Routed(now.blocks) // its view of a block may be younger than the last plan's
		return
	}
	end := time.Now().Add(lentPatience)
	if a.lateLent.same(now) {
		end = time.Now() // it was in vain the last time: the plans to come must not wait for it
	}
	for !a.plane.hasRoutes(now.routes) {
		if time.Now().After(end) || !sleep(ctx, 2*time.Millisecond) {
			a.lateLent = now
			time.AfterFunc(2*lentPatience, a.store.Touch)
			return
		}
	}
	a.lastLent = now
	a.ipam.Routed(now.blocks)
}

// lentOf picks what a node has lent.
func lentOf(node string, blocks []model.Block, routes []model.Route) (out lent) {
	to := map[netip.Addr]bool{}
	for _, b := range blocks {
		if b.Node != node || b.Loans == "" {
			continue
		}
		out.blocks = append(out.blocks, b)
		for _, l := range b.Loans.List() {
			to[l.Addr] = true
		}
	}
	if len(to) == 0 {
		return out
	}
	for _, r := range routes {
		if r.Dst.IsSingleIP() && to[r.Dst.Addr()] {
			out.routes = append(out.routes, r)
		}
	}
	slices.SortFunc(out.blocks, func(x, y model.Block) int { return x.CIDR.Compare(y.CIDR) })
	return out
}

// hasRoutes says whether the kernel has these routes between nodes. One by tunnel was written after the entries it needs.
func (p *plane) hasRoutes(want []model.Route) bool {
	if len(want) == 0 {
		return true
	}
	have := map[netip.Prefix]netip.Addr{}
	for _, family := range netlink.Families {
		routes, err := p.look.Routes(family, model.ProtoMargay)
		if err != nil {
			return false
		}
		for _, r := range routes {
			have[r.Dst] = r.Gw
		}
	}
	for _, r := range want {
		if have[r.Dst] != r.Via {
			return false
		}
	}
	return true
}
