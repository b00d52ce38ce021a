package ipam

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// other is what this node remembers of a block that it does not own: little, since a cluster has thousands.
type other struct {
	owner  string // node; "" when nobody owns it
	lends  bool
	seq    uint64 // of the revision that the rest is of
	spare  int    // addresses that may be taken, or soon: behind the kept head and not reserved, or cooling down
	kept   int    // addresses that the owner keeps and that are not reserved
	asked  bool   // somebody has asked the owner to keep less, and it has not answered yet
	routed uint64
	mine   []holding // what this node has of it

	askedAt time.Time // when this node heard of it
}

// holding is an allocation that the datastore has for this node.
type holding struct {
	cidr      netip.Prefix
	addr      netip.Addr
	handle    string
	secondary map[string]string
	seq       uint64
}

// learn takes in a block as it was read, written or reported. What is older than what is known is passed over. The caller
// holds mu.
func (a *Allocator) learn(cidr netip.Prefix, obj *v3.IPAMBlock, gone bool) {
	old := a.others[cidr]
	if old != nil && obj.Spec.SequenceNumber < old.seq {
		return
	}
	close(a.news)
	a.news = make(chan struct{})
	if gone || obj.Spec.Deleted || block.Owner(obj) == a.node || block.Check(obj) != nil {
		delete(a.others, cidr)
		delete(a.held, cidr)
	} else {
		o := a.summary(cidr, obj)
		o.askedAt = a.now()
		if old != nil && o.routed > old.routed {
			delete(a.mute, o.owner)
		}
		if old != nil && old.asked && o.asked {
			o.askedAt = old.askedAt
		}
		a.others[cidr] = o
		delete(a.held, cidr)
		if len(o.mine) > 0 {
			a.held[cidr] = true
		}
	}
	if old != nil && len(old.mine) > 0 {
		a.recheck(cidr)
	}
}

// summary reads a block that this node does not own.
func (a *Allocator) summary(cidr netip.Prefix, obj *v3.IPAMBlock) *other {
	asked, _ := block.Wanted(obj)
	o := &other{owner: block.Owner(obj), lends: block.Lends(obj), seq: obj.Spec.SequenceNumber, asked: asked != "", routed: block.Routed(obj)}
	reserved, kept := a.cluster.Reserved(), block.KeptOf(obj)
	for i, ordinal := range obj.Spec.Unallocated {
		switch {
		case len(reserved) > 0 && covers(reserved, block.AddrAt(cidr, ordinal)):
		case i < kept:
			o.kept++
		default:
			o.spare++
		}
	}
	for _, at := range obj.Spec.Attributes {
		if at.ReleasedAt != nil {
			o.spare++
		}
	}
	o.mine = a.mine(cidr, obj)
	return o
}

// mine returns what a block holds for this node.
func (a *Allocator) mine(cidr netip.Prefix, obj *v3.IPAMBlock) (out []holding) {
	for o := range obj.Spec.Allocations {
		at := block.Attr(obj, o)
		if at != nil && at.HandleID != nil && at.Secondary[block.AttrNode] == a.node {
			out = append(out, holding{cidr, block.AddrAt(cidr, o), *at.HandleID, maps.Clone(at.Secondary), block.Seq(obj, o)})
		}
	}
	return out
}

// holdings returns all that the known blocks hold for this node, own blocks first. The caller holds mu.
func (a *Allocator) holdings() (out []holding) {
	for _, b := range a.ownBlocks() {
		out = append(out, a.mine(b.cidr, b.obj)...)
	}
	for cidr := range a.held {
		out = append(out, a.others[cidr].mine...)
	}
	return out
}

// recheck finds living pods whose borrowed addresses somebody released. The caller holds mu.
func (a *Allocator) recheck(cidr netip.Prefix) {
	if a.blocks[cidr] != nil {
		return
	}
	for _, as := range a.live {
		if as.Settled && !as.Released && len(within(cidr, as.Addrs)) > 0 && !a.holds(as) {
			a.log.Warn("borrowed address of a living pod was released by somebody else; taking it again", "addrs", as.Addrs, "pod", as.Namespace+"/"+as.Pod)
			as.Settled = false
			a.wake()
		}
	}
}

// handleOf returns the handle that has an address, as far as blocks are known. The caller holds mu.
func (a *Allocator) handleOf(addr netip.Addr) string {
	cidr, _ := a.blockOf(addr)
	if b := a.blocks[cidr]; b != nil {
		return block.Handle(b.obj, block.OrdinalOf(cidr, addr))
	}
	if o := a.others[cidr]; o != nil {
		if i := slices.IndexFunc(o.mine, func(h holding) bool { return h.addr == addr }); i >= 0 {
			return o.mine[i].handle
		}
	}
	return ""
}
