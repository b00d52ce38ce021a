package garbage

import (
	"context"
	"fmt"
	"maps"
	"net/netip"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/ipam/collect"
)

// handles has handles say what their blocks say.
func (w *work) handles(ctx context.Context, list []collect.Fix) error {
	return each(w, list, func(f collect.Fix) error {
		err := w.fix(ctx, f)
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("mend handle %s: %w", f.Name, err)
		}
		return nil // whoever wrote it meanwhile knows better; else it is asked for again
	})
}

// fix counts anew, after the handle has been read: whoever takes an address under it from then on writes the handle, too,
// and the write here fails.
func (w *work) fix(ctx context.Context, f collect.Fix) error {
	h, err := w.client.GetHandle(ctx, f.Name)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return err
	}
	if missing {
		h = &v3.IPAMHandle{
			TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "IPAMHandle"},
			ObjectMeta: metav1.ObjectMeta{Name: f.Name}, Spec: v3.IPAMHandleSpec{HandleID: f.ID},
		}
	}
	h = h.DeepCopy()
	cidrs := map[netip.Prefix]struct{}{}
	for _, c := range f.Listed {
		cidrs[c] = struct{}{}
	}
	for c := range f.Blocks {
		cidrs[c] = struct{}{}
	}
	for text := range h.Spec.Block {
		if c, err := netip.ParsePrefix(text); err == nil {
			cidrs[c] = struct{}{}
		}
	}
	counts, err := w.count(ctx, h.Spec.HandleID, cidrs)
	if err != nil {
		return err
	}
	switch {
	case len(counts) == 0 && missing, maps.Equal(counts, h.Spec.Block) && !h.Spec.Deleted && !missing:
		return nil
	case len(counts) == 0:
		h.Spec.Block = map[string]int{}
		err = w.cluster.DeleteHandle(ctx, h)
	case missing:
		h.Spec.Block = counts
		_, err = w.client.CreateHandle(ctx, h)
	default:
		h.Spec.Block, h.Spec.Deleted = counts, false
		_, err = w.client.UpdateHandle(ctx, h)
	}
	if err == nil {
		w.log.Info("mended a handle that did not fit its addresses", "handle", h.Spec.HandleID, "addresses", fmt.Sprint(counts))
	}
	return err
}

// count says how many addresses of which blocks a handle has.
func (w *work) count(ctx context.Context, handle string, cidrs map[netip.Prefix]struct{}) (map[string]int, error) {
	counts := map[string]int{}
	for c := range cidrs {
		if !c.IsValid() {
			continue
		}
		b, err := w.client.GetBlock(ctx, block.Name(c))
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if block.Check(b) != nil {
			return nil, fmt.Errorf("block %s is damaged", c)
		}
		for o := range b.Spec.Allocations {
			if block.Handle(b, o) == handle && !b.Spec.Deleted {
				counts[c.String()]++
			}
		}
	}
	return counts, nil
}
