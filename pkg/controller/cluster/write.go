package cluster

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// writeTries bounds how often a write is tried again after somebody else's.
const writeTries = 8

// ChangeBlock changes a block by compare-and-swap, from what the API server says it is; f reports whether there is anything
// to write, and may be called again. A damaged block is an error; one that is being deleted is left alone. It returns what
// was written, nil when nothing was.
func (c *Cluster) ChangeBlock(ctx context.Context, name string, f func(*v3.IPAMBlock) bool) (*v3.IPAMBlock, error) {
	for try := 0; ; try++ {
		b, err := c.client.GetBlock(ctx, name)
		if err != nil {
			return nil, err
		}
		if err := block.Check(b); err != nil {
			return nil, err
		}
		b = b.DeepCopy()
		b.Spec.SequenceNumber++
		if b.Spec.Deleted || !f(b) {
			return nil, nil
		}
		if b, err = c.client.UpdateBlock(ctx, b); err == nil {
			c.Wrote(b)
			return b, nil
		}
		if !apierrors.IsConflict(err) || try == writeTries {
			return nil, err
		}
	}
}

// DeleteHandle marks a handle deleted, and deletes it: who takes an address under it between the two writes over the mark.
func (c *Cluster) DeleteHandle(ctx context.Context, h *v3.IPAMHandle) error {
	if !h.Spec.Deleted {
		h.Spec.Deleted = true
		if h.Spec.Block == nil {
			h.Spec.Block = map[string]int{}
		}
		var err error
		if h, err = c.client.UpdateHandle(ctx, h); err != nil {
			return err
		}
	}
	return c.client.DeleteHandle(ctx, h)
}
