package ipam

import (
	"context"
	"maps"
	"net/netip"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// writeBlock changes a block by compare-and-swap. When change leaves it as it was nothing is written.
func (a *Allocator) writeBlock(ctx context.Context, cidr netip.Prefix, change func(*v3.IPAMBlock) error) error {
	return a.mustWriteBlock(ctx, cidr, func(b *v3.IPAMBlock) (bool, error) { return false, change(b) })
}

// mustWriteBlock is writeBlock, but what change says must be written is, even if it is as it was.
func (a *Allocator) mustWriteBlock(ctx context.Context, cidr netip.Prefix, change func(*v3.IPAMBlock) (must bool, err error)) error {
	a.mu.Lock()
	var obj *v3.IPAMBlock
	if b := a.blocks[cidr]; b != nil {
		obj = b.obj
	}
	a.mu.Unlock()
	for try := 0; ; try++ {
		if obj == nil {
			var err error
			if obj, err = a.ds.GetBlock(ctx, block.Name(cidr)); err != nil {
				a.missing(cidr, err)
				return err
			}
			if err := block.Check(obj); err != nil {
				return err
			}
		}
		b := obj.DeepCopy()
		b.Spec.SequenceNumber++
		must, err := change(b)
		if err != nil || !must && same(obj, b) {
			a.keep(cidr, obj, false)
			return err
		}
		b, err = a.ds.UpdateBlock(ctx, b)
		if err == nil {
			a.keep(cidr, b, true)
			return nil
		}
		if !apierrors.IsConflict(err) || try == writeTries {
			a.missing(cidr, err)
			return err
		}
		obj = nil
	}
}

// missing ends the use of an own block that a request did not find.
func (a *Allocator) missing(cidr netip.Prefix, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := a.blocks[cidr]; b != nil && apierrors.IsNotFound(err) {
		a.lose(b, "")
	}
}

// keep installs a block as read or written if it is ours, and ends its use if it no longer is. One that this node has just
// written ends all doubt about what it wrote before.
func (a *Allocator) keep(cidr netip.Prefix, obj *v3.IPAMBlock, wrote bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := a.blocks[cidr]; b != nil && wrote {
		b.limit, b.barred = block.KeptOf(obj), nil
	}
	a.learn(cidr, obj, false)
	_, closing := a.closing[cidr]
	switch b := a.blocks[cidr]; {
	case b != nil && b.obj.UID == obj.UID && b.obj.Spec.SequenceNumber > obj.Spec.SequenceNumber:
		// Somebody else has written since, and the watch was faster. What he wants must not be forgotten.
		a.install(cidr, b.obj)
	case block.Owner(obj) == a.node && !closing:
		a.install(cidr, obj)
	case block.Owner(obj) != a.node && b != nil:
		a.lose(b, block.Owner(obj))
	}
}

// same compares what IPAM changes in a block.
func same(x, y *v3.IPAMBlock) bool {
	if !block.Same(x, y) || len(x.Spec.Attributes) != len(y.Spec.Attributes) || len(x.Spec.Unallocated) != len(y.Spec.Unallocated) {
		return false
	}
	for i := range x.Spec.Unallocated {
		if x.Spec.Unallocated[i] != y.Spec.Unallocated[i] {
			return false
		}
	}
	for o := range x.Spec.Allocations {
		p, q := block.Attr(x, o), block.Attr(y, o)
		if (p == nil) != (q == nil) {
			return false
		}
		if p != nil && (block.Handle(x, o) != block.Handle(y, o) || !p.ReleasedAt.Equal(q.ReleasedAt) || !maps.Equal(p.Secondary, q.Secondary)) {
			return false
		}
	}
	return true
}
