package ipam

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// claimAhead claims a block when a family's own blocks have little room left, so that ADD need not wait for it, and so
// that the node can go on for a while without the API.
func (a *Allocator) claimAhead(ctx context.Context) error {
	if err := a.begin(ctx); err != nil {
		return err
	}
	defer a.end()
	for _, family6 := range []bool{false, true} {
		pools := ofFamily(a.poolsFor(Request{}), family6)
		a.mu.Lock()
		free, synced := 0, a.synced
		for cidr, b := range a.blocks {
			for _, p := range pools {
				if p.CIDR.Contains(cidr.Addr()) {
					free += a.free(b)
				}
			}
		}
		a.mu.Unlock()
		if !synced || len(pools) == 0 || free >= lowWater {
			continue
		}
		if err := a.claim(ctx, pools); err != nil && !errors.Is(err, ErrFull) {
			return err
		}
	}
	return nil
}

// free counts a block's free addresses that are not reserved. The caller holds mu.
func (a *Allocator) free(b *owned) int {
	reserved := a.cluster.Reserved()
	if len(reserved) == 0 {
		return len(b.obj.Spec.Unallocated)
	}
	n := 0
	for _, o := range b.obj.Spec.Unallocated {
		if !covers(reserved, block.AddrAt(b.cidr, o)) {
			n++
		}
	}
	return n
}

// claim takes a new block of the first of the pools, all of one family, that has one left. The caller holds settling.
func (a *Allocator) claim(ctx context.Context, pools []Pool) error {
	config := a.cluster.Config()
	owned := 0
	a.mu.Lock()
	for cidr := range a.blocks { // as with Calico each family has the limit for itself
		if len(pools) > 0 && cidr.Addr().Is6() == pools[0].CIDR.Addr().Is6() {
			owned++
		}
	}
	a.mu.Unlock()
	if !config.AutoAllocateBlocks {
		return fmt.Errorf("%w in this node's blocks, and IPAMConfiguration default has autoAllocateBlocks false", ErrFull)
	}
	if config.MaxBlocksPerHost > 0 && owned >= config.MaxBlocksPerHost {
		strict := ""
		if config.StrictAffinity {
			strict = " and has strictAffinity true, which forbids to borrow of other nodes"
		}
		return fmt.Errorf("%w in this node's %d blocks, and IPAMConfiguration default allows maxBlocksPerHost %d%s", ErrFull, owned, config.MaxBlocksPerHost, strict)
	}
	for _, p := range pools {
		ok, err := a.claimIn(ctx, p)
		if err != nil {
			return fmt.Errorf("claim a block of IP pool %s: %w", p.Name, err)
		}
		if ok {
			return nil
		}
	}
	return fmt.Errorf("%w and no free block in IP pools %s: add an IPPool, or delete pods", ErrFull, poolNames(pools, func(Pool) bool { return true }))
}

// claimIn walks the blocks of a pool, from a place that depends on the node's name so that nodes seldom meet.
func (a *Allocator) claimIn(ctx context.Context, p Pool) (bool, error) {
	bits := p.BlockBits - p.CIDR.Bits()
	if bits < 0 {
		return false, fmt.Errorf("spec.blockSize %d does not fit spec.cidr %s", p.BlockBits, p.CIDR)
	}
	n := uint64(1) << min(bits, 62) // of an IPv6 pool of /48 no more are needed
	h := fnv.New64a()
	h.Write([]byte(a.node))
	start := h.Sum64() % n
	reserved := a.cluster.Reserved()
	for i := uint64(0); i < n && ctx.Err() == nil; i++ {
		at := (start + i) % n
		cidr := block.Nth(p.CIDR, p.BlockBits, at)
		if r, ok := whollyReserved(reserved, cidr); ok { // go on behind it: of an IPv6 pool it may be half
			size := uint64(1) << min(p.BlockBits-max(r.Bits(), p.CIDR.Bits()), 62)
			i += size - at%size - 1
			continue
		}
		if a.cluster.BlockExists(cidr) {
			continue
		}
		ok, err := a.claimBlock(ctx, cidr)
		if ok || err != nil {
			return ok, err
		}
	}
	return false, ctx.Err()
}

// whollyReserved returns a single reservation that covers all of a block, if there is one.
func whollyReserved(reserved []netip.Prefix, cidr netip.Prefix) (netip.Prefix, bool) {
	i := slices.IndexFunc(reserved, func(p netip.Prefix) bool { return p.Bits() <= cidr.Bits() && p.Contains(cidr.Addr()) })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return reserved[i], true
}

// claimBlock claims one block: affinity pending, block created, affinity confirmed. It reports false, and leaves nothing
// behind, when another node has the block. Repeating it after a crash in between carries on.
//
// What an error cuts short the audit ends, since nobody may ask for that block again.
func (a *Allocator) claimBlock(ctx context.Context, cidr netip.Prefix) (bool, error) {
	ok, err := a.tryClaimBlock(ctx, cidr)
	a.mu.Lock()
	defer a.mu.Unlock()
	if delete(a.halfway, cidr); err != nil {
		a.halfway[cidr] = true
	}
	return ok, err
}

// A new block is made with all that already lives in it, so that nobody else can take that first. One that is there
// already is written once more: a delete of it that was sent before, and is late, then finds another state than it asks for.
func (a *Allocator) tryClaimBlock(ctx context.Context, cidr netip.Prefix) (bool, error) {
	aff, err := a.wantAffinity(ctx, cidr)
	if err != nil {
		return false, err
	}
	b, err := a.ds.CreateBlock(ctx, a.blockWithLiving(cidr))
	for try := 0; (apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err)) && try < writeTries; try++ {
		if b, err = a.ds.GetBlock(ctx, block.Name(cidr)); apierrors.IsNotFound(err) {
			return false, a.ds.DeleteAffinity(ctx, aff) // it went in this moment: another time
		}
		if err == nil && block.Owner(b) == a.node {
			b = b.DeepCopy()
			b.Spec.SequenceNumber++
			b, err = a.ds.UpdateBlock(ctx, b)
		}
	}
	if err != nil {
		return false, err
	}
	if block.Owner(b) != a.node {
		a.mu.Lock()
		delete(a.closing, cidr)
		a.mu.Unlock()
		return false, a.ds.DeleteAffinity(ctx, aff)
	}
	if aff.Spec.State != v3.AffinityConfirmed {
		aff = aff.DeepCopy()
		aff.Spec.State = v3.AffinityConfirmed
		if _, err := a.ds.UpdateAffinity(ctx, aff); err != nil {
			return false, err
		}
	}
	a.mu.Lock()
	delete(a.closing, cidr)
	a.learn(cidr, b, false)
	a.install(cidr, b)
	a.mu.Unlock()
	a.log.Info("claimed a block", "block", cidr.String())
	return true, nil
}

// blockWithLiving returns a new block that holds what of it this node's endpoints and tunnels have.
func (a *Allocator) blockWithLiving(cidr netip.Prefix) *v3.IPAMBlock {
	b := block.New(cidr, block.HostAffinity(a.node), a.now())
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, as := range a.live {
		for _, addr := range within(cidr, as.Addrs) {
			if !as.Released && block.Take(b, block.OrdinalOf(cidr, addr), as.Handle, as.secondary(a.node)) == nil {
				as.unseen = false
			}
		}
	}
	return b
}

// wantAffinity returns this node's claim on a block, made now if there is none.
func (a *Allocator) wantAffinity(ctx context.Context, cidr netip.Prefix) (*v3.BlockAffinity, error) {
	want := &v3.BlockAffinity{
		TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "BlockAffinity"},
		ObjectMeta: metav1.ObjectMeta{Name: block.AffinityName(a.node, cidr), Labels: block.AffinityLabels(block.HostAffinity(a.node), cidr.Addr().Is6())},
		Spec:       v3.BlockAffinitySpec{State: v3.AffinityPending, Node: a.node, Type: "host", CIDR: cidr.String()},
	}
	aff, err := a.ds.CreateAffinity(ctx, want)
	if !apierrors.IsAlreadyExists(err) {
		return aff, err
	}
	if aff, err = a.ds.GetAffinity(ctx, want.Name); err != nil {
		return nil, err
	}
	if aff.Spec.State == v3.AffinityPendingDeletion || aff.Spec.Deleted {
		aff = aff.DeepCopy()
		aff.Spec.State, aff.Spec.Deleted = v3.AffinityPending, false
		return a.ds.UpdateAffinity(ctx, aff)
	}
	return aff, nil
}

// Sync ends the start: it reads the node's own blocks, and finishes claims that a crash cut short. From then on addresses
// are given out. routes are the kernel's: addresses that lead to a pod's interface, with its name; they count as in use
// whatever else says.
//
// The blocks are read one by one, not taken from the watch: an API server's cache may lag behind this node's own last
// write before the crash, and the head of so old a block is no longer the node's alone.
func (a *Allocator) Sync(ctx context.Context, routes map[netip.Addr]string) error {
	if err := a.begin(ctx); err != nil {
		return err
	}
	defer a.end()
	affinities, err := a.ds.NodeAffinities(ctx, a.node)
	if err != nil {
		return fmt.Errorf("list block affinities: %w", err)
	}
	for _, aff := range affinities {
		if err := a.syncAffinity(ctx, &aff); err != nil {
			return fmt.Errorf("read block %s: %w", aff.Spec.CIDR, err)
		}
	}
	if err := a.syncUnclaimed(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for addr, dev := range routes {
		if _, known := a.inUse[addr]; !known {
			a.inUse[addr] = dev
		}
	}
	for cidr, b := range a.blocks {
		a.install(cidr, b.obj)
	}
	for _, as := range a.live {
		if !as.Active && !as.Released && as.Tunnel == "" {
			// Its ADD died with the agent before the pod could use it, unless the route says that only the line is lost.
			as.Active = slices.ContainsFunc(as.Addrs, func(addr netip.Addr) bool { return routes[addr] == as.HostVeth })
			as.Released = !as.Active
		}
		as.Settled = as.Settled && !as.Released && a.holds(as)
	}
	a.synced, a.unread = true, nil
	a.wake()
	return nil
}

// syncUnclaimed claims the own blocks whose affinity somebody deleted.
func (a *Allocator) syncUnclaimed(ctx context.Context) error {
	a.mu.Lock()
	unread := maps.Clone(a.unread)
	maps.DeleteFunc(unread, func(cidr netip.Prefix, _ bool) bool { return a.blocks[cidr] != nil })
	a.mu.Unlock()
	for cidr := range unread {
		b, err := a.ds.GetBlock(ctx, block.Name(cidr))
		if err == nil && block.Owner(b) == a.node && !b.Spec.Deleted {
			_, err = a.claimBlock(ctx, cidr)
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("claim block %s, which is this node's, again: %w", cidr, err)
		}
	}
	return nil
}

// endClaim ends a claim that was cut short: its block is taken over, or the claim goes.
func (a *Allocator) endClaim(ctx context.Context, cidr netip.Prefix) error {
	aff, err := a.ds.GetAffinity(ctx, block.AffinityName(a.node, cidr))
	if err == nil {
		err = a.syncAffinity(ctx, aff)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.halfway, cidr)
	return nil
}

// lateClaims finds claims of this node that nobody has ended.
func (a *Allocator) lateClaims(ctx context.Context) error {
	affinities, err := a.ds.NodeAffinities(ctx, a.node)
	if err != nil {
		return fmt.Errorf("list block affinities: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, aff := range affinities {
		if cidr, err := netip.ParsePrefix(aff.Spec.CIDR); err == nil && aff.Spec.State != v3.AffinityConfirmed {
			a.halfway[cidr] = true
		}
	}
	return nil
}

// syncAffinity takes over the block of one of this node's claims.
func (a *Allocator) syncAffinity(ctx context.Context, aff *v3.BlockAffinity) error {
	cidr, err := netip.ParsePrefix(aff.Spec.CIDR)
	if err != nil {
		a.log.Error("block affinity is not used: spec.cidr is no CIDR", "affinity", aff.Name, "cidr", aff.Spec.CIDR)
		return nil
	}
	b, err := a.ds.GetBlock(ctx, block.Name(cidr))
	switch {
	case err == nil && block.Owner(b) == a.node && aff.Spec.State == v3.AffinityConfirmed:
		a.keep(cidr, b, false)
		return nil
	case err != nil && !apierrors.IsNotFound(err):
		return err
	case err != nil && (aff.Spec.State == v3.AffinityPendingDeletion || a.cluster.BlockExists(cidr)):
		// Given back half, or left over from a pool whose blocks had another size.
		return a.ds.DeleteAffinity(ctx, aff)
	}
	_, err = a.claimBlock(ctx, cidr)
	return err
}

// grace is how long the audit waits between its two looks.
const grace = time.Minute
