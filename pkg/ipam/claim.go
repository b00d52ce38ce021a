package ipam

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/model"
)

// refill makes room in a family's own heads: by settling, which moves the heads on, else by claiming a block.
func (a *Allocator) refill(ctx context.Context, family6 bool) error {
	if err := a.begin(ctx); err != nil {
		return err
	}
	defer a.end()
	if a.room(family6) {
		return nil // somebody before us did it
	}
	settleErr := a.settle(ctx)
	if a.room(family6) {
		return nil
	}
	err := a.claim(ctx, func(p Pool) bool { return usable(p, family6) })
	if err != nil {
		return errors.Join(err, settleErr)
	}
	return nil
}

func (a *Allocator) room(family6 bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.withRoom(a.cluster.Pools(), family6) != nil
}

// claimAhead claims a block when a family's own blocks have little room left, so that ADD need not wait for it, and so
// that the node can go on for a while without the API.
func (a *Allocator) claimAhead(ctx context.Context) error {
	if err := a.begin(ctx); err != nil {
		return err
	}
	defer a.end()
	for _, family6 := range []bool{false, true} {
		pools := a.cluster.Pools()
		a.mu.Lock()
		free, synced := 0, a.synced
		for cidr, b := range a.blocks {
			for _, p := range pools {
				if usable(p, family6) && p.CIDR.Contains(cidr.Addr()) {
					free += len(b.obj.Spec.Unallocated)
				}
			}
		}
		a.mu.Unlock()
		if !synced || !hasPool(pools, family6) || free >= lowWater {
			continue
		}
		if err := a.claim(ctx, func(p Pool) bool { return usable(p, family6) }); err != nil && !errors.Is(err, ErrFull) {
			return err
		}
	}
	return nil
}

// claim takes a new block of the first pool that fits and has one left. The caller holds settling.
func (a *Allocator) claim(ctx context.Context, fits func(Pool) bool) error {
	pools, config := a.cluster.Pools(), a.cluster.Config()
	a.mu.Lock()
	owned := len(a.blocks)
	a.mu.Unlock()
	if !config.AutoAllocateBlocks {
		return fmt.Errorf("%w in this node's blocks, and IPAMConfiguration default has autoAllocateBlocks false", ErrFull)
	}
	if config.MaxBlocksPerHost > 0 && owned >= config.MaxBlocksPerHost {
		return fmt.Errorf("%w in this node's %d blocks, and IPAMConfiguration default allows maxBlocksPerHost %d", ErrFull, owned, config.MaxBlocksPerHost)
	}
	for _, p := range pools {
		if !fits(p) {
			continue
		}
		ok, err := a.claimIn(ctx, p)
		if err != nil {
			return fmt.Errorf("claim a block of IP pool %s: %w", p.Name, err)
		}
		if ok {
			return nil
		}
	}
	return fmt.Errorf("%w and no free block in IP pools %s: add an IPPool, or delete pods", ErrFull, poolNames(pools, fits))
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
	for i := range n {
		cidr := block.Nth(p.CIDR, p.BlockBits, (start+i)%n)
		if a.cluster.BlockExists(cidr) {
			continue
		}
		ok, err := a.claimBlock(ctx, cidr)
		if ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// claimBlock claims one block: affinity pending, block created, affinity confirmed. It reports false, and leaves nothing
// behind, when another node has the block. Repeating it after a crash in between carries on.
func (a *Allocator) claimBlock(ctx context.Context, cidr netip.Prefix) (bool, error) {
	aff, err := a.wantAffinity(ctx, cidr)
	if err != nil {
		return false, err
	}
	b, err := a.ds.CreateBlock(ctx, block.New(cidr, block.HostAffinity(a.node), a.now()))
	if apierrors.IsAlreadyExists(err) {
		if b, err = a.ds.GetBlock(ctx, block.Name(cidr)); apierrors.IsNotFound(err) {
			return false, a.ds.DeleteAffinity(ctx, aff) // it went in this moment: another time
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
	a.install(cidr, b)
	a.mu.Unlock()
	a.log.Info("claimed a block", "block", cidr.String())
	return true, nil
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
	a.synced = true
	a.wake()
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
		a.keep(cidr, b)
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

// TunnelAddr returns the node's tunnel address under handle: the one that it has, in memory or in an own block, else the
// head of an own block of a pool that allows tunnels. It is an assignment like a pod's and is settled like one; it stays
// the node's as long as its pool allows tunnels and no other node has its block.
func (a *Allocator) TunnelAddr(ctx context.Context, handle, kind string, family6 bool) (netip.Addr, error) {
	fits := func(p Pool) bool { return p.Tunnel && !p.Disabled && p.CIDR.Addr().Is6() == family6 }
	for claimed := false; ; claimed = true {
		addr, err := a.tunnel(handle, kind, family6, fits)
		if addr.IsValid() || err != nil {
			return addr, err
		}
		if claimed {
			return addr, fmt.Errorf("take tunnel address: %w", ErrFull)
		}
		if err = a.begin(ctx); err == nil {
			err = a.claim(ctx, fits)
			a.end()
		}
		if err != nil {
			return addr, fmt.Errorf("take tunnel address of a pool with spec.allowedUses Tunnel: %w", err)
		}
	}
}

// HasTunnelAddr returns the tunnel address that the node has under handle, not valid when it has none. It takes none: a node
// keeps its address for life, also while no pool needs tunnels, and goes on saying so.
func (a *Allocator) HasTunnelAddr(handle, kind string, family6 bool) (netip.Addr, error) {
	return a.tunnel(handle, kind, family6, func(Pool) bool { return false })
}

// tunnel is TunnelAddr from memory; it returns no address when no own block has room.
func (a *Allocator) tunnel(handle, kind string, family6 bool, fits func(Pool) bool) (none netip.Addr, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.synced {
		return none, ErrNotReady
	}
	as := &Assignment{Endpoint: model.Endpoint{ContainerID: handle, IfName: kind}, Tunnel: kind, Handle: handle, Since: a.now(), Active: true}
	if old := a.live[as.Key()]; old != nil && !old.Released {
		if a.keepsTunnel(old.Addrs[0]) {
			return old.Addrs[0], nil
		}
		a.log.Warn("tunnel address is given up: its pool allows no tunnels any more, or another node has its block", "addr", old.Addrs[0].String())
		a.retireTunnel(old)
	}
	for _, b := range a.ownBlocks() {
		for o := range b.obj.Spec.Allocations {
			if addr := block.AddrAt(b.cidr, o); b.cidr.Addr().Is6() == family6 && block.Handle(b.obj, o) == handle && a.inUse[addr] == "" && a.keepsTunnel(addr) {
				as.Addrs = []netip.Addr{addr}
			}
		}
	}
	for _, p := range a.cluster.Pools() {
		for _, b := range a.ownBlocks() {
			if len(as.Addrs) == 0 && fits(p) && p.CIDR.Contains(b.cidr.Addr()) && len(b.ready) > 0 {
				as.Addrs, as.unseen = []netip.Addr{block.AddrAt(b.cidr, b.ready[0])}, true
				b.ready = b.ready[1:]
			}
		}
	}
	if len(as.Addrs) == 0 {
		return none, nil
	}
	if err := a.journal.append(entry{Op: opAssign, Assign: as}); err != nil {
		a.log.Error("tunnel address is not in the journal; after a crash it is found in its block", "err", err)
	}
	a.live[as.Key()] = as
	a.inUse[as.Addrs[0]] = as.Key()
	a.wake()
	a.log.Info("tunnel address", "addr", as.Addrs[0].String(), "handle", handle)
	return as.Addrs[0], nil
}

// retireTunnel ends the use of a tunnel address, which is given back like a pod's. It makes room for the next one under the
// same handle: its key is another from now on. The caller holds mu.
func (a *Allocator) retireTunnel(old *Assignment) {
	a.forget(old)
	gone := &Assignment{Endpoint: old.Endpoint, Tunnel: old.Tunnel, Handle: old.Handle, Since: old.Since, Active: true, Released: true, unseen: old.unseen}
	gone.IfName += "-" + old.Addrs[0].String()
	if err := a.journal.append(entry{Op: opAssign, Assign: gone}); err != nil {
		a.log.Error("given-up tunnel address is not in the journal; after a crash it stays allocated", "addr", old.Addrs[0].String(), "err", err)
	}
	a.live[gone.Key()] = gone
	a.inUse[gone.Addrs[0]] = gone.Key()
	a.wake()
}

// keepsTunnel says whether a tunnel address may stay in use. The caller holds mu.
func (a *Allocator) keepsTunnel(addr netip.Addr) bool {
	cidr, _ := a.blockOf(addr)
	owner := a.cluster.BlockOwner(cidr)
	return (a.blocks[cidr] != nil || owner == "" || owner == a.node) &&
		slices.ContainsFunc(a.cluster.Pools(), func(p Pool) bool { return p.Tunnel && p.CIDR.Contains(addr) })
}

// grace is how long the audit waits between its two looks.
const grace = time.Minute
