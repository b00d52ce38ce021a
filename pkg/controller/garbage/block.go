package garbage

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/ipam/collect"
)

// reap frees addresses that have cooled down.
func (w *work) reap(ctx context.Context, names []string) error {
	return each(w, names, func(name string) error {
		_, err := w.cluster.ChangeBlock(ctx, name, func(b *v3.IPAMBlock) bool {
			before := len(b.Spec.Unallocated)
			block.Reap(b, w.cooldown, w.now())
			return len(b.Spec.Unallocated) != before
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("free cooled addresses of block %s: %w", name, err)
		}
		return nil
	})
}

// empty gives back empty blocks.
func (w *work) empty(ctx context.Context, list []collect.Empty) error {
	return each(w, list, func(e collect.Empty) error {
		err := w.giveBack(ctx, e)
		if apierrors.IsConflict(err) {
			err = nil // somebody took an address of it
		}
		if err != nil {
			w.cluster.State(func(s *collect.State) { s.Touch(e.Node) })
			return fmt.Errorf("give back block %s: %w", e.Block.CIDR, err)
		}
		return nil
	})
}

// giveBack deletes an empty block and the claim on it.
func (w *work) giveBack(ctx context.Context, e collect.Empty) error {
	owner, hosts := e.Node, e.Node != "" && e.Node != collect.LoadBalancer
	if e.Node == collect.LoadBalancer {
		_, owner, _ = strings.Cut(e.Node, ":")
	}
	if hosts {
		if n, err := w.node(ctx, e.Node); err != nil || n != nil {
			return err // it exists: its agent's, again
		}
	}
	b, err := w.client.GetBlock(ctx, e.Block.Name)
	switch {
	case apierrors.IsNotFound(err) && owner == "":
		return nil
	case apierrors.IsNotFound(err):
		return w.dropAffinity(ctx, owner, e.Block.CIDR)
	case err != nil:
		return err
	}
	if string(b.UID) != e.Block.UID || affinity(b) != e.Block.Affinity && !b.Spec.Deleted || !free(b) {
		return nil // it is another one by now
	}
	if owner != "" {
		if err := w.affinityState(ctx, owner, e.Block.CIDR, v3.AffinityPendingDeletion); err != nil {
			return err
		}
	}
	if err := w.deleteBlock(ctx, b.DeepCopy()); err != nil {
		if owner != "" && !hosts { // a host's claim is looked at again; nobody else mends this one
			err = errors.Join(err, w.affinityState(ctx, owner, e.Block.CIDR, v3.AffinityConfirmed))
		}
		return err
	}
	w.cluster.State(func(s *collect.State) { s.DeleteBlock(e.Block.Name) })
	w.log.Info("gave back an empty block", "block", e.Block.CIDR.String(), "owner", e.Node)
	if owner == "" {
		return nil
	}
	return w.dropAffinity(ctx, owner, e.Block.CIDR)
}

// affinity is a block's affinity, "" when it has none.
func affinity(b *v3.IPAMBlock) string {
	if b.Spec.Affinity == nil {
		return ""
	}
	return *b.Spec.Affinity
}

// free says whether nothing of a block is in use, or cooling down: what Windows keeps of it goes with it.
func free(b *v3.IPAMBlock) bool {
	small, err := collect.ReadBlock(b)
	if err != nil {
		return false
	}
	for i := range small.Allocs {
		if small.Allocs[i].Kind != collect.Reserved {
			return false
		}
	}
	return true
}

// deleteBlock marks a block deleted, and deletes it.
func (w *work) deleteBlock(ctx context.Context, b *v3.IPAMBlock) error {
	if !b.Spec.Deleted {
		b.Spec.Deleted = true
		b.Spec.SequenceNumber++
		var err error
		if b, err = w.client.UpdateBlock(ctx, b); err != nil {
			return err
		}
	}
	err := w.client.DeleteBlock(ctx, b)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// affinityState sets the state of a claim; one that is not there needs none.
func (w *work) affinityState(ctx context.Context, owner string, cidr netip.Prefix, state v3.AffinityState) error {
	a, err := w.client.GetAffinity(ctx, block.AffinityName(owner, cidr))
	if apierrors.IsNotFound(err) || err == nil && a.Spec.State == state {
		return nil
	}
	if err != nil {
		return err
	}
	a = a.DeepCopy()
	a.Spec.State = state
	_, err = w.client.UpdateAffinity(ctx, a)
	return err
}

func (w *work) dropAffinity(ctx context.Context, owner string, cidr netip.Prefix) error {
	return w.deleteAffinity(ctx, block.AffinityName(owner, cidr))
}

// deleteAffinity marks a claim deleted, and deletes it.
func (w *work) deleteAffinity(ctx context.Context, name string) error {
	a, err := w.client.GetAffinity(ctx, name)
	if err == nil && !a.Spec.Deleted {
		a = a.DeepCopy()
		a.Spec.State, a.Spec.Deleted = v3.AffinityPendingDeletion, true
		a, err = w.client.UpdateAffinity(ctx, a)
	}
	if err == nil {
		err = w.client.DeleteAffinity(ctx, a)
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// affinities deletes claims of nodes that do not exist on blocks that are not theirs.
func (w *work) affinities(ctx context.Context, list []collect.Affinity) error {
	return each(w, list, func(a collect.Affinity) error {
		err := w.dropStale(ctx, a)
		if err != nil && !apierrors.IsConflict(err) {
			w.cluster.State(func(s *collect.State) { s.Touch(a.Node) })
			return fmt.Errorf("delete block affinity %s: %w", a.Name, err)
		}
		return nil
	})
}

func (w *work) dropStale(ctx context.Context, a collect.Affinity) error {
	n, err := w.node(ctx, a.Node)
	if err != nil || n != nil {
		return err
	}
	if a.CIDR.IsValid() {
		b, err := w.client.GetBlock(ctx, block.Name(a.CIDR))
		if err == nil && block.Owner(b) == a.Node {
			return nil // the watch is behind: the block is next
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	if err := w.deleteAffinity(ctx, a.Name); err != nil {
		return err
	}
	w.log.Info("deleted the claim of a node that does not exist", "node", a.Node, "block", a.CIDR.String())
	return nil
}
