package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/model"
)

// Assign gives r's endpoint its static addresses, or an address of each family that has a pool. It makes no API request
// while the node's own heads have room; else it settles, claims, borrows, in that order, within ctx. The caller must
// Activate or Release the endpoint.
func (a *Allocator) Assign(ctx context.Context, r Request) (model.Endpoint, error) {
	if len(r.Addrs) > 0 {
		return a.assignStatic(ctx, r)
	}
	as := a.newAssignment(r.Endpoint)
	_, err := a.assignReady(as, a.poolsFor(r), nil, false)
	if errors.Is(err, ErrFull) || errors.Is(err, errReleasing) {
		err = a.assignSlow(ctx, r, as)
	}
	if err != nil {
		return model.Endpoint{}, err
	}
	return as.Endpoint, nil
}

func (a *Allocator) newAssignment(ep model.Endpoint) *Assignment {
	as := &Assignment{Endpoint: ep, Handle: handleID(ep.Network, ep.ContainerID), Since: a.now(), unseen: true}
	as.Addrs = nil
	return as
}

// assignSlow is Assign with requests to the API. What it takes by compare-and-swap on the way is given back when it fails.
func (a *Allocator) assignSlow(ctx context.Context, r Request, as *Assignment) (err error) {
	if err := a.occupy(r.Key()); err != nil {
		return err
	}
	defer a.vacate(r.Key())
	got := map[bool]taken{}
	defer func() {
		if err != nil {
			a.abandon(as, got)
		}
	}()
	pools := a.poolsFor(r)
	const attempts = 4
	for try := 1; ; try++ {
		family6, err := a.assignReady(as, pools, got, true)
		switch {
		case err == nil:
			for _, t := range got {
				a.awaitRouted(ctx, t)
			}
			return nil
		case errors.Is(err, errReleasing):
			err = a.Settle(ctx)
		case errors.Is(err, ErrFull):
			var t taken
			if t, err = a.refill(ctx, as, pools, family6); t.addr.IsValid() {
				got[family6] = t
			}
		}
		if err != nil {
			return err
		}
		if try == attempts {
			return fmt.Errorf("%w: others took what was claimed, %d times", ErrFull, try)
		}
	}
}

// occupy makes other ADDs of an endpoint wait while one waits for the datastore.
func (a *Allocator) occupy(key string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy[key] {
		return ErrBusy
	}
	a.busy[key] = true
	return nil
}

func (a *Allocator) vacate(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.busy, key)
}

// abandon gives back what an ADD that failed took by compare-and-swap.
func (a *Allocator) abandon(as *Assignment, got map[bool]taken) {
	if len(got) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.live[as.Key()] != nil {
		return // it did not fail by itself: another has the endpoint, and what it holds of this handle
	}
	as.Addrs, as.Released, as.unseen, as.ended = nil, true, false, a.now()
	for _, t := range got {
		as.Addrs = append(as.Addrs, t.addr)
		a.inUse[t.addr] = as.Key()
	}
	if err := a.journal.append(entry{Op: opAssign, Assign: as}); err != nil {
		a.log.Error("given-up address is not in the journal; after a crash the audit has to find it", "endpoint", as.Key(), "err", err)
	}
	a.live[as.Key()] = as
	a.wake()
}

// errReleasing: an endpoint of the same name has been released, and the datastore does not know yet.
var errReleasing = errors.New("release under way")

// usableNow says why an endpoint cannot be assigned now; nil when it can. mine: by the ADD that has occupied it. The caller
// holds mu.
func (a *Allocator) usableNow(key string, mine bool) error {
	as := a.live[key]
	switch {
	case !a.synced:
		return ErrNotReady
	case as != nil && as.Released:
		return errReleasing
	case as != nil && as.Active:
		return ErrExists
	case as != nil, a.busy[key] && !mine:
		return ErrBusy
	}
	return nil
}

// assignReady gives as its addresses: got's, and the others from memory. With ErrFull it tells which family lacks one.
func (a *Allocator) assignReady(as *Assignment, pools []Pool, got map[bool]taken, mine bool) (family6 bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := as.Key()
	if err := a.usableNow(key, mine); err != nil {
		return false, err
	}
	as.Addrs = nil
	var undo []func()
	fail := func() {
		for _, u := range slices.Backward(undo) {
			u()
		}
	}
	for _, six := range []bool{false, true} {
		if t, ok := got[six]; ok {
			as.Addrs, as.unseen = append(as.Addrs, t.addr), false
			continue
		}
		if !hasPool(pools, six) {
			continue
		}
		b, i := a.withRoom(pools, six)
		if b == nil {
			fail()
			return six, ErrFull
		}
		was := b.ready
		undo = append(undo, func() { b.ready = was })
		as.Addrs = append(as.Addrs, block.AddrAt(b.cidr, was[i]))
		b.ready = slices.Concat(was[:i], was[i+1:])
	}
	if len(as.Addrs) == 0 {
		return false, ErrNoPool
	}
	if err := a.journal.append(entry{Op: opAssign, Assign: as}); err != nil {
		fail()
		return false, err
	}
	a.live[key] = as
	for _, addr := range as.Addrs {
		a.inUse[addr] = key
	}
	a.wake()
	return false, nil
}

// handleID is the handle of a container's addresses (Calico's form).
func handleID(network, container string) string { return network + "." + container }

// poolsFor returns the pools that r may take addresses of, in order.
func (a *Allocator) poolsFor(r Request) []Pool {
	if r.Pools == nil {
		return slices.DeleteFunc(a.cluster.Pools(), func(p Pool) bool { return !usable(p, p.CIDR.Addr().Is6()) })
	}
	return slices.DeleteFunc(slices.Clone(r.Pools), func(p Pool) bool { return !p.Workload || p.Disabled })
}

// hasPool says whether one of the pools is of a family.
func hasPool(pools []Pool, family6 bool) bool {
	return slices.ContainsFunc(pools, func(p Pool) bool { return p.CIDR.Addr().Is6() == family6 })
}

// usable says whether pods get addresses of p without asking for it.
func usable(p Pool, family6 bool) bool {
	everyone := p.NamespaceSelector == "" || p.NamespaceSelector == "all()"
	return p.CIDR.Addr().Is6() == family6 && p.Workload && !p.Disabled && !p.Manual && everyone
}

// withRoom returns an own block with a ready ordinal that is not reserved, and where in its list that is, of the first pool
// in order that has one.
func (a *Allocator) withRoom(pools []Pool, family6 bool) (*owned, int) {
	reserved := a.cluster.Reserved()
	for _, p := range pools {
		if p.CIDR.Addr().Is6() != family6 {
			continue
		}
		for _, b := range a.ownBlocks() {
			if len(b.ready) == 0 || !p.CIDR.Contains(b.cidr.Addr()) {
				continue
			}
			i := 0
			if len(reserved) > 0 {
				i = slices.IndexFunc(b.ready, func(o int) bool { return !covers(reserved, block.AddrAt(b.cidr, o)) })
			}
			if i >= 0 {
				return b, i
			}
		}
	}
	return nil, 0
}

// covers says whether an address lies in one of the networks.
func covers(list []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(addr) })
}
