package ipam

import (
	"net/netip"
	"slices"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/model"
)

// owes says whether an own block needs a write besides what pods come and go for: somebody asked for addresses, there is
// plenty again, what others borrowed is routed, or an earlier write of the kind was not confirmed. The caller holds mu.
func (a *Allocator) owes(b *owned) bool {
	asked, _ := block.Wanted(b.obj)
	return asked != "" || b.limit < block.KeptOf(b.obj) || plenty(b.obj) || a.routedUpTo(b.cidr, b.obj) > block.Routed(b.obj)
}

// plenty says whether the owner, who keeps less than half, may keep half again.
func plenty(b *v3.IPAMBlock) bool {
	size, half := len(b.Spec.Allocations), block.Kept(len(b.Spec.Allocations))
	return block.KeptOf(b) < half && len(b.Spec.Unallocated) > half+(size-half)/2
}

// lend is the owner's part in a write of an own block b that is about to be sent: it answers who asked, keeps half again
// when there is plenty, and notes what is routed. It reports whether b must be written even if it looks the same.
func (a *Allocator) lend(cidr netip.Prefix, b *v3.IPAMBlock) (must bool) {
	strict := a.cluster.Config().StrictAffinity
	a.mu.Lock()
	defer a.mu.Unlock()
	o := a.blocks[cidr]
	if o == nil || block.Owner(b) != a.node {
		return false
	}
	must = o.limit < block.KeptOf(b)
	if asked, addr := block.Wanted(b); asked != "" {
		block.Answered(b)
		if !strict {
			a.keepLess(o, b, addr)
		}
	} else if plenty(b) {
		block.SetKept(b, block.Kept(len(b.Spec.Allocations)))
	}
	if seq := a.routedUpTo(cidr, b); seq > block.Routed(b) {
		block.SetRouted(b, seq)
	}
	return must
}

// keepLess makes b leave addresses to others: about half of those that this node keeps, or just addr.
//
// The order makes it safe. All that is handed out is in b, or comes into it here; what is handed out from now on, whether
// b is written or not, is both in the old head and in the new one.
// The caller holds mu, which handing out needs too.
func (a *Allocator) keepLess(o *owned, b *v3.IPAMBlock, addr netip.Addr) {
	for _, as := range a.live {
		for _, in := range within(o.cidr, as.Addrs) {
			if !as.Released && block.Take(b, block.OrdinalOf(o.cidr, in), as.Handle, as.secondary(a.node)) == nil {
				as.unseen = false
			}
		}
	}
	kept := min(block.KeptOf(b), len(b.Spec.Unallocated))
	if addr.IsValid() && o.cidr.Contains(addr) {
		ordinal := block.OrdinalOf(o.cidr, addr)
		at := slices.Index(b.Spec.Unallocated, ordinal)
		if at < 0 || at >= kept || a.inUse[addr] != "" {
			return
		}
		if o.barred == nil {
			o.barred = map[int]bool{}
		}
		o.barred[ordinal] = true
		b.Spec.Unallocated = append(slices.Delete(b.Spec.Unallocated, at, at+1), ordinal)
		kept = min(kept, len(b.Spec.Unallocated)-1)
	} else {
		kept = a.lessKept(o, b, kept)
	}
	if kept < block.KeptOf(b) {
		block.SetKept(b, kept)
	}
	o.limit = min(o.limit, kept)
	head := b.Spec.Unallocated[:kept]
	o.ready = slices.DeleteFunc(slices.Clone(o.ready), func(r int) bool { return !slices.Contains(head, r) })
}

// lessKept returns how many ordinals of b's FIFO to keep so that others find room, kept as of now. What only a route in the
// kernel says is in use is not given away.
func (a *Allocator) lessKept(o *owned, b *v3.IPAMBlock, kept int) int {
	reserved := a.cluster.Reserved()
	var give []int // positions in the FIFO
	least := 0
	for i, ordinal := range b.Spec.Unallocated {
		addr := block.AddrAt(o.cidr, ordinal)
		user := a.inUse[addr]
		switch {
		case user != "" && a.live[user] == nil:
			least = i + 1
		case covers(reserved, addr):
		case i >= kept:
			return kept // there is room already
		default:
			give = append(give, i)
		}
	}
	if len(give) == 0 {
		return kept
	}
	return min(max(give[len(give)/2], least), kept)
}

// Routed says that this node's kernel has the routes that were computed from these blocks: whoever borrowed addresses of
// own blocks is told so by a note in the block, since its ADD waits for that.
func (a *Allocator) Routed(blocks []model.Block) {
	a.mu.Lock()
	defer a.mu.Unlock()
	routed := map[netip.Addr]model.Loan{}
	for _, b := range blocks {
		if b.Node == a.node && b.Loans != "" {
			for _, l := range b.Loans.List() {
				routed[l.Addr] = l
			}
		}
	}
	a.routed = routed
	for _, b := range a.blocks {
		if a.owes(b) {
			a.hurry()
		}
	}
}

// routedUpTo returns the sequence number up to which all of a block's loans are routed. The caller holds mu.
func (a *Allocator) routedUpTo(cidr netip.Prefix, b *v3.IPAMBlock) (upTo uint64) {
	loans := block.Loans(b)
	slices.SortFunc(loans, func(x, y block.Loan) int {
		if x.Seq < y.Seq {
			return -1
		}
		return 1
	})
	for _, l := range loans {
		if addr := block.AddrAt(cidr, l.Ordinal); a.routed[addr] != (model.Loan{Addr: addr, Node: l.Node, Seq: l.Seq}) {
			if l.Seq <= upTo && l.Seq > 0 {
				upTo = l.Seq - 1 // allocated in the same write as another that is routed
			}
			return upTo
		}
		upTo = l.Seq
	}
	return upTo
}
