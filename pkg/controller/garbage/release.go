package garbage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/ipam/collect"
	"github.com/margay-net/margay/pkg/reconcile"
)

// component is the name under which events are written.
const component = "margay-controller"

// errLocked is what is not begun once somebody has locked the datastore.
var errLocked = errors.New("the datastore is locked")

// each calls f for all of list, a few at once, and joins the errors. When the datastore is locked it calls f no more.
func each[T any](w *work, list []T, f func(T) error) error {
	errs := make([]error, len(list))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, v := range list {
		g.Go(func() error {
			if errs[i] = errLocked; !w.cluster.Locked() {
				errs[i] = f(v)
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors
	var failed reconcile.Failures
	for _, err := range errs {
		failed.Add(err)
	}
	return failed.Err()
}

// releases gives back what is left over, node by node. A node of which something failed is looked at again.
func (w *work) releases(ctx context.Context, plan map[string][]collect.Release) error {
	return each(w, slices.Sorted(maps.Keys(plan)), func(node string) error {
		err := w.releaseNode(ctx, node, plan[node])
		if err != nil {
			w.cluster.State(func(s *collect.State) { s.Touch(node) })
			return fmt.Errorf("release addresses of node %q: %w", node, err)
		}
		return nil
	})
}

func (w *work) releaseNode(ctx context.Context, node string, list []collect.Release) error {
	l, err := w.look(ctx, node, list)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(r collect.Release) bool {
		alive := !l.still(&r)
		if alive {
			w.log.Info("addresses are in use after all; the API server knows more than the watch does", "node", node, "handle", r.Handle)
		}
		return alive
	})
	dropped := make([]bool, len(list))
	index := make([]int, len(list))
	for i := range index {
		index[i] = i
	}
	err = each(w, index, func(i int) error {
		ok, err := w.dropHandle(ctx, &list[i])
		dropped[i] = ok
		return err
	})
	byBlock := map[string][]collect.Held{}
	for i, r := range list {
		for _, h := range r.Held {
			if dropped[i] {
				byBlock[h.Block] = append(byBlock[h.Block], h)
			}
		}
	}
	freed := map[string][]collect.Held{}
	for _, name := range slices.Sorted(maps.Keys(byBlock)) {
		got, berr := w.retire(ctx, name, byBlock[name])
		if berr != nil {
			err = errors.Join(err, fmt.Errorf("block %s: %w", name, berr))
		}
		for _, h := range got {
			freed[h.Alloc.Handle] = append(freed[h.Alloc.Handle], h)
		}
	}
	w.tell(ctx, node, l.node, list, freed)
	return err
}

// dropHandle makes the handle forget the addresses that are about to be released, and deletes it when it has no others.
// It reports false when the handle has addresses of which this pass knew nothing: it is not released then.
func (w *work) dropHandle(ctx context.Context, r *collect.Release) (bool, error) {
	name := strings.ToLower(r.Handle)
	moved := r.Held[0].Why == collect.TunnelMoved
	for try := 0; ; try++ {
		h, err := w.client.GetHandle(ctx, name)
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("get handle %s: %w", name, err)
		}
		rest := 0
		h = h.DeepCopy()
		for _, held := range r.Held {
			cidr := held.CIDR.String()
			if h.Spec.Block[cidr]--; h.Spec.Block[cidr] <= 0 {
				delete(h.Spec.Block, cidr)
			}
		}
		for _, n := range h.Spec.Block {
			rest += n
		}
		switch {
		case rest > 0 && moved:
			_, err = w.client.UpdateHandle(ctx, h)
		case rest > 0:
			w.log.Info("handle has more addresses than are left over; it is kept whole", "handle", r.Handle, "others", rest)
			return false, nil
		default:
			err = w.cluster.DeleteHandle(ctx, h)
		}
		if err == nil || apierrors.IsNotFound(err) {
			return true, nil
		}
		if !apierrors.IsConflict(err) || try == writeTries {
			return false, fmt.Errorf("drop handle %s: %w", name, err)
		}
	}
}

// retire releases addresses of a block, those that are still just these allocations, and returns them.
func (w *work) retire(ctx context.Context, name string, held []collect.Held) (freed []collect.Held, err error) {
	b, err := w.cluster.ChangeBlock(ctx, name, func(b *v3.IPAMBlock) bool {
		freed = freed[:0]
		for _, h := range held {
			o := int(h.Ordinal)
			if o >= len(b.Spec.Allocations) || block.Handle(b, o) != h.Alloc.Handle || b.Spec.SequenceNumberForAllocation[strconv.Itoa(o)] != h.Seq {
				continue
			}
			block.Retire(b, o, h.Alloc.Handle, false, w.cooldown, w.now())
			freed = append(freed, h)
		}
		return len(freed) > 0
	})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	w.cluster.State(func(*collect.State) {
		for _, h := range freed {
			w.collector.Collected(h.Alloc.Handle, w.now())
		}
	})
	if b != nil && len(freed) > 0 {
		if small, err := collect.ReadBlock(b); err == nil {
			w.counted(small, freed[0].Alloc.Node.Value(), len(freed))
		}
	}
	return freed, nil
}

// tell logs what was collected of a node, and says so on the Node where there is one.
func (w *work) tell(ctx context.Context, name string, node *collect.Node, list []collect.Release, freed map[string][]collect.Held) {
	total, told := 0, 0
	var addrs []netip.Addr
	for _, r := range list {
		got := freed[r.Handle]
		if len(got) == 0 {
			continue
		}
		total += len(got)
		for _, h := range got {
			addrs = append(addrs, h.Addr)
		}
		if told++; told > 10 {
			continue
		}
		a := &got[0].Alloc
		w.log.Info("collected addresses", "node", name, "handle", r.Handle, "pod", a.Namespace.Value()+"/"+a.Name,
			"addrs", fmt.Sprint(addrsOf(got)), "why", string(got[0].Why), "since", r.Since.UTC().Format("2006-01-02T15:04:05Z"))
	}
	if told > 10 {
		w.log.Info("collected more addresses of this node", "node", name, "handles", told-10)
	}
	if total == 0 || node == nil {
		return
	}
	message := fmt.Sprintf("%d addresses of pods that are gone were given back: %v", total, addrs[:min(len(addrs), 10)])
	on := corev1.ObjectReference{Kind: "Node", Name: name, UID: types.UID(name)} // kubelet's way: kubectl looks for the name there
	if err := w.client.Tell(ctx, on, corev1.EventTypeNormal, component, "AddressesCollected", message); err != nil {
		w.log.Debug("cannot write an event", "err", err)
	}
}

func addrsOf(held []collect.Held) (out []netip.Addr) {
	for _, h := range held {
		out = append(out, h.Addr)
	}
	return out
}
