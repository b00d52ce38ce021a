package topology

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/margay-net/margay/pkg/model"
)

// learned returns the routes of the family that BGP has told of, sorted by destination. blocks are sorted by CIDR, each
// there once.
func (f *family) learned(blocks []model.Block) (out []model.Route) {
	if !f.in.BGP {
		return nil
	}
	needed := f.onLink()
	for _, l := range f.in.Learned {
		l.Dst = l.Dst.Masked()
		if !l.Dst.IsValid() || l.Dst.Addr().Is6() != f.six || odd(l.Dst) || f.takesAway(l.Dst, needed) || f.own(l.Dst, blocks) {
			continue
		}
		pool, inside := f.pool(l.Dst)
		if inside && (encapsulates(pool) || f.in.ClusterRoutes) {
			continue // the datastore has it
		}
		if !inside {
			pool = model.Pool{}
		}
		if r, ok := f.hops(l, pool); ok {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b model.Route) int { return a.Dst.Compare(b.Dst) })
	return slices.CompactFunc(out, func(a, b model.Route) bool { return a.Dst == b.Dst })
}

// hops makes the route for a learned prefix; not ok when none of its next hops can be reached. The zero pool stands for none.
func (f *family) hops(l Learned, pool model.Pool) (model.Route, bool) {
	var hops []model.Hop
	for _, via := range l.Vias {
		if h, ok := f.hop(via.WithZone(""), pool); ok {
			hops = append(hops, h)
		}
	}
	if len(hops) == 0 {
		return model.Route{}, false
	}
	slices.SortFunc(hops, func(a, b model.Hop) int { return cmp.Or(a.Via.Compare(b.Via), cmp.Compare(a.Dev, b.Dev)) })
	hops = slices.Compact(hops) // two next hops may lie behind one router
	return model.Route{
		Dst: l.Dst, Dev: hops[0].Dev, Via: hops[0].Via, OnLink: hops[0].OnLink, Proto: model.ProtoBIRD,
		Others: model.MakeHops(hops[1:]),
	}, true
}

// hop says how a learned next hop is reached for a destination in a pool.
func (f *family) hop(via netip.Addr, pool model.Pool) (model.Hop, bool) {
	near := f.self.addr.IsValid() && f.self.addr.Masked().Contains(via)
	both := near && (f.at[via] == nil || f.at[via].near) // what a node says of its subnet counts, too
	switch {
	case via.Is6() != f.six, via.IsUnspecified(), via == f.self.addr.Addr():
		return model.Hop{}, false
	case f.in.PodPeers[via] != "":
		return model.Hop{Dev: f.in.PodPeers[via], Via: via, OnLink: true}, true
	case f.wraps(pool) && (pool.IPIP == model.EncapAlways || !both):
		return model.Hop{Dev: IPIP4, Via: via, OnLink: true}, f.ipip.IsValid()
	case near || via.IsLinkLocalUnicast():
		return model.Hop{Dev: f.under.Parent, Via: via}, f.under.Parent != ""
	case f.in.Resolve == nil:
		return model.Hop{}, false
	}
	return f.in.Resolve(via)
}

// odd says whether a prefix is none that a router may tell of.
func odd(p netip.Prefix) bool {
	a := p.Addr()
	return a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast()
}

// onLink returns the addresses in the node's subnet that routes need to be on the link: nodes' and next hops.
func (f *family) onLink() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	if !f.self.addr.IsValid() {
		return out
	}
	add := func(a netip.Addr) {
		if f.self.addr.Masked().Contains(a) {
			out[a] = true
		}
	}
	add(f.self.addr.Addr())
	for a := range f.at {
		add(a)
	}
	for _, l := range f.in.Learned {
		for _, via := range l.Vias {
			if h, ok := f.hop(via, model.Pool{}); ok {
				add(h.Via)
			}
		}
	}
	return out
}

// takesAway says whether a route would take the node's own subnet, or addresses in it that are needed there, off the link.
func (f *family) takesAway(dst netip.Prefix, needed map[netip.Addr]bool) bool {
	if !f.self.addr.IsValid() || dst.Bits() < f.self.addr.Bits() || !f.self.addr.Masked().Contains(dst.Addr()) {
		return false
	}
	for a := range needed {
		if dst.Contains(a) {
			return true
		}
	}
	return false
}

// own says whether a prefix is one of this node's blocks.
func (f *family) own(dst netip.Prefix, blocks []model.Block) bool {
	i, ok := slices.BinarySearchFunc(blocks, dst, func(b model.Block, dst netip.Prefix) int { return b.CIDR.Compare(dst) })
	return ok && blocks[i].Node == f.in.Self
}
