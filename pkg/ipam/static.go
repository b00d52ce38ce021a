package ipam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/model"
)

// errKept: an address is among those that the owner of its block keeps.
var errKept = errors.New("the block's owner keeps it")

// assignStatic gives r's endpoint just the addresses that it asks for, reserved ones too, each by compare-and-swap on the
// block that has it. It is in the journal before the first of them is taken.
func (a *Allocator) assignStatic(ctx context.Context, r Request) (none model.Endpoint, err error) {
	if err := oneOfEach(r.Addrs); err != nil {
		return none, err
	}
	for _, addr := range r.Addrs {
		if _, err := a.staticPool(addr); err != nil {
			return none, err
		}
	}
	if err := a.occupy(r.Key()); err != nil {
		return none, err
	}
	defer a.vacate(r.Key())
	as := a.newAssignment(r.Endpoint)
	as.unseen, as.taking = false, true
	as.Addrs = slices.SortedFunc(slices.Values(r.Addrs), netip.Addr.Compare)
	if err := a.noteStatic(as); errors.Is(err, errReleasing) {
		if err := a.Settle(ctx); err != nil {
			return none, err
		}
		if err := a.noteStatic(as); err != nil {
			return none, err
		}
	} else if err != nil {
		return none, err
	}
	var got []taken
	for _, addr := range as.Addrs {
		t, err := a.takeStatic(ctx, as, addr)
		if err != nil {
			a.dropStatic(as)
			return none, err
		}
		got = append(got, t)
	}
	a.mu.Lock()
	as.taking = false
	released := as.Released
	a.hurry() // its handle
	a.mu.Unlock()
	if released {
		return none, ErrUnknown
	}
	for _, t := range got {
		a.awaitRouted(ctx, t)
	}
	return as.Endpoint, nil
}

func oneOfEach(addrs []netip.Addr) error {
	seen := map[bool]netip.Addr{}
	for _, addr := range addrs {
		if !addr.IsValid() || addr.Zone() != "" {
			return fmt.Errorf("assign static addresses: %q is no address", addr)
		}
		if other, twice := seen[addr.Is6()]; twice {
			return fmt.Errorf("assign static addresses: %s and %s are of one family: ask for one of each at most", other, addr)
		}
		seen[addr.Is6()] = addr
	}
	return nil
}

// staticPool returns the pool that an address may be taken from by who asks for it.
func (a *Allocator) staticPool(addr netip.Addr) (Pool, error) {
	pools := a.cluster.Pools()
	for _, p := range pools {
		if p.Workload && (!p.Disabled || p.Elsewhere) && p.CIDR.Contains(addr) {
			return p, nil
		}
	}
	fits := func(p Pool) bool { return p.Workload && !p.Disabled && p.CIDR.Addr().Is6() == addr.Is6() }
	return Pool{}, fmt.Errorf("%w: %s; choose one of %s", ErrNoSuchPool, addr, poolNames(pools, fits))
}

// noteStatic writes down that as is about to take its addresses: from now on nobody else of this node gets them.
func (a *Allocator) noteStatic(as *Assignment) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := as.Key()
	if err := a.usableNow(key, true); err != nil {
		return err
	}
	for _, addr := range as.Addrs {
		user := a.inUse[addr]
		switch other := a.live[user]; {
		case user == "":
		case other != nil && other.Released:
			return errReleasing
		case other != nil:
			return fmt.Errorf("%w: pod %s/%s of this node has %s", ErrInUse, other.Namespace, other.Pod, addr)
		default:
			return fmt.Errorf("%w: this node has %s (%s)", ErrInUse, addr, user)
		}
	}
	if err := a.journal.append(entry{Op: opAssign, Assign: as}); err != nil {
		return err
	}
	a.live[key] = as
	for _, addr := range as.Addrs {
		a.inUse[addr] = key
		if cidr, _ := a.blockOf(addr); a.blocks[cidr] != nil {
			a.install(cidr, a.blocks[cidr].obj)
		}
	}
	return nil
}

// dropStatic gives back what as has taken of its addresses.
func (a *Allocator) dropStatic(as *Assignment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.live[as.Key()] != as {
		return // a DEL came meanwhile
	}
	if err := a.journal.append(entry{Op: opRelease, Key: as.Key()}); err != nil {
		a.log.Error("release is not in the journal; a restart finds it without", "endpoint", as.Key(), "err", err)
	}
	as.taking, as.Released, as.ended = false, true, a.now()
	a.hurry()
}

// takeStatic takes one static address, waiting a while for an owner that keeps it.
func (a *Allocator) takeStatic(ctx context.Context, as *Assignment, addr netip.Addr) (taken, error) {
	patience := time.NewTimer(borrowPatience)
	defer patience.Stop()
	for {
		a.mu.Lock()
		news := a.news
		a.mu.Unlock()
		t, err := a.tryStatic(ctx, as, addr)
		if !errors.Is(err, errKept) {
			return t, err
		}
		if err := a.ask(ctx, t.cidr, addr); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return t, fmt.Errorf("ask node %s for %s: %w", t.owner, addr, err)
		}
		select {
		case <-news:
		case <-time.After(askPause):
		case <-patience.C:
			return t, fmt.Errorf("take static address %s: node %s keeps it for its own pods and does not answer: start its agent, or delete that node", addr, t.owner)
		case <-ctx.Done():
			return t, fmt.Errorf("take static address %s: %w", addr, ctx.Err())
		}
	}
}

// tryStatic takes one static address, and claims its block first when there is none. (Calico does so whatever
// maxBlocksPerHost says, and so does this.)
func (a *Allocator) tryStatic(ctx context.Context, as *Assignment, addr netip.Addr) (taken, error) {
	if err := a.begin(ctx); err != nil {
		return taken{}, err
	}
	defer a.end()
	a.mu.Lock()
	cidr, ok := a.blockOf(addr)
	a.mu.Unlock()
	if !ok {
		_, err := a.staticPool(addr)
		return taken{}, err
	}
	t := taken{cidr: cidr, addr: addr}
	write := func() error {
		return a.writeBlock(ctx, cidr, func(b *v3.IPAMBlock) error {
			a.mu.Lock()
			ended := a.live[as.Key()] != as || as.Released
			a.mu.Unlock()
			if ended {
				return ErrUnknown // a DEL came meanwhile
			}
			t.owner = block.Owner(b)
			o := block.OrdinalOf(cidr, addr)
			if err := a.mayTake(b, o, addr, as.Handle); err != nil {
				return err
			}
			err := block.Take(b, o, as.Handle, as.secondary(a.node))
			t.seq = block.Seq(b, o)
			return err
		})
	}
	err := write()
	for try := 0; apierrors.IsNotFound(err) && try < writeTries; try++ {
		if a.cluster.BlockExists(cidr) && a.cluster.BlockOwner(cidr) == "" {
			return t, fmt.Errorf("take static address %s: a block of another size than its pool's has it", addr)
		}
		if _, err = a.claimBlock(ctx, cidr); err == nil {
			err = write()
		}
	}
	if err != nil && !errors.Is(err, errKept) {
		err = fmt.Errorf("take static address %s: %w", addr, err)
	}
	return t, err
}

// mayTake says why ordinal o of b, which is addr, cannot be taken by a handle that asks for it; nil when it can.
func (a *Allocator) mayTake(b *v3.IPAMBlock, o int, addr netip.Addr, handle string) error {
	at, owner := block.Attr(b, o), block.Owner(b)
	switch {
	case at != nil && block.Handle(b, o) == handle:
		return nil
	case at != nil && at.ReleasedAt != nil:
		return fmt.Errorf("%w: %s was released a moment ago; ipCooldownSeconds of IPAMConfiguration default must pass", ErrInUse, addr)
	case at != nil && at.Secondary[block.AttrPod] != "":
		return fmt.Errorf("%w: pod %s/%s on node %s has %s", ErrInUse, at.Secondary[block.AttrNamespace], at.Secondary[block.AttrPod], at.Secondary[block.AttrNode], addr)
	case at != nil:
		return fmt.Errorf("%w: %s %s has %s", ErrInUse, cmp.Or(at.Secondary[block.AttrType], "handle"), block.Handle(b, o), addr)
	case owner == a.node:
		return nil
	case !block.Lends(b):
		return fmt.Errorf("%s is in block %s, which is for Services: choose another", addr, b.Spec.CIDR)
	case a.cluster.Config().StrictAffinity:
		return fmt.Errorf("%s is in block %s of node %q, and IPAMConfiguration default has strictAffinity true: choose an address of this node's blocks, or set it to false", addr, b.Spec.CIDR, owner)
	case slices.Index(b.Spec.Unallocated, o) < block.KeptOf(b):
		return errKept
	}
	return nil
}
