package ipam

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// each calls f for all of list, a few at once, and returns the errors.
func each[T any](list []T, f func(T) error) (errs []error) {
	results := make([]error, len(list))
	var g errgroup.Group
	g.SetLimit(handleWrites)
	for i, v := range list {
		g.Go(func() error {
			results[i] = f(v)
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors
	for _, err := range results {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// makeHandles makes the handles of assignments that their blocks now hold: these are settled.
func (a *Allocator) makeHandles(ctx context.Context, list []*Assignment) []error {
	return each(list, func(as *Assignment) error {
		a.mu.Lock()
		all := a.holds(as)
		counts := a.counts(as.Handle)
		a.mu.Unlock()
		if !all {
			return nil // its block's error is reported already
		}
		made, err := a.makeHandle(ctx, as.Handle, counts)
		if err != nil {
			return fmt.Errorf("make handle %s: %w", as.Handle, err)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		as.Settled, as.handle = true, made
		// Should the journal lack it, the handle is looked at once more after a restart.
		_ = a.journal.append(entry{Op: opSettled, Key: as.Key()})
		return nil
	})
}

// dropHandles deletes the handles of what is given back. What fails is left out of work until another time.
func (a *Allocator) dropHandles(ctx context.Context, work *batch) []error {
	dropped := make([]released, 0, len(work.give))
	var mu sync.Mutex
	errs := each(work.give, func(r released) error {
		a.mu.Lock()
		rest := a.counts(r.Handle)
		a.mu.Unlock()
		var err error
		switch {
		case r.unseen:
		case len(rest) > 0:
			_, err = a.makeHandle(ctx, r.Handle, rest)
		default:
			err = a.dropHandle(ctx, r.Handle, r.handle)
		}
		if err != nil {
			return fmt.Errorf("delete handle %s: %w", r.Handle, err)
		}
		mu.Lock()
		dropped = append(dropped, r)
		mu.Unlock()
		return nil
	})
	work.give = dropped
	return errs
}

// counts says how many addresses of which blocks all living assignments of a handle have: a container may have several
// interfaces. The caller holds mu.
func (a *Allocator) counts(handle string) map[string]int {
	n := map[string]int{}
	for _, as := range a.live {
		for _, addr := range as.Addrs {
			if cidr, ok := a.blockOf(addr); ok && as.Handle == handle && !as.Released {
				n[cidr.String()]++
			}
		}
	}
	return n
}

// makeHandle makes the handle hold just these counts, and returns it.
func (a *Allocator) makeHandle(ctx context.Context, id string, counts map[string]int) (*v3.IPAMHandle, error) {
	h := &v3.IPAMHandle{
		TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "IPAMHandle"},
		ObjectMeta: metav1.ObjectMeta{Name: strings.ToLower(id)},
		Spec:       v3.IPAMHandleSpec{HandleID: id, Block: counts},
	}
	made, err := a.ds.CreateHandle(ctx, h)
	for try := 0; apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err); try++ {
		if try == writeTries {
			return nil, err
		}
		if made, err = a.ds.GetHandle(ctx, h.Name); err != nil {
			return nil, err
		}
		if maps.Equal(made.Spec.Block, counts) && !made.Spec.Deleted {
			return made, nil
		}
		made = made.DeepCopy()
		made.Spec.Block, made.Spec.Deleted = counts, false
		made, err = a.ds.UpdateHandle(ctx, made)
	}
	return made, err
}

// dropHandle deletes a handle whose addresses are given back; h is what this process knows of it, nil when nothing.
func (a *Allocator) dropHandle(ctx context.Context, id string, h *v3.IPAMHandle) error {
	for try := 0; ; try++ {
		var err error
		if h == nil {
			h, err = a.ds.GetHandle(ctx, strings.ToLower(id))
		}
		if err == nil {
			err = a.ds.DeleteHandle(ctx, h)
		}
		if err == nil || apierrors.IsNotFound(err) {
			return nil
		}
		if !apierrors.IsConflict(err) || try == writeTries {
			return err
		}
		h = nil
	}
}
