package ipam

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"crypto/sha3"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// affinityName is the object name of a node's claim on a block; long ones are cut and made unique by a hash.
func affinityName(node string, cidr netip.Prefix) string {
	name := node + "-" + BlockName(cidr)
	if len(name) < 253 {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	suffix := hex.EncodeToString(sum[:])[:11]
	return name[:252-len(suffix)-1] + "-" + suffix
}

// affinityLabels are what host-scoped lookups select by (Calico's names).
func affinityLabels(node string, family6 bool) map[string]string {
	sum := sha3.Sum256([]byte(node))
	version := "4"
	if family6 {
		version = "6"
	}
	return map[string]string{
		"projectcalico.org/hostname-hash": base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]),
		"projectcalico.org/affinity-type": "host",
		"projectcalico.org/ip-version":    version,
	}
}

// refill makes room in a family's own heads: by settling, which moves the heads on, else by claiming a block.
func (a *Allocator) refill(ctx context.Context, family6 bool) error {
	a.settling.Lock()
	defer a.settling.Unlock()
	if a.room(family6) {
		return nil // somebody before us did it
	}
	settleErr := a.settle(ctx)
	if a.room(family6) {
		return nil
	}
	err := a.claim(ctx, family6)
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
	a.settling.Lock()
	defer a.settling.Unlock()
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
		if err := a.claim(ctx, family6); err != nil && !errors.Is(err, ErrFull) {
			return err
		}
	}
	return nil
}

// claim takes a new block of the first usable pool that has one left. The caller holds settling.
func (a *Allocator) claim(ctx context.Context, family6 bool) error {
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
		if !usable(p, family6) {
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
	return fmt.Errorf("%w and no free block in IP pools %s: add an IPPool, or delete pods", ErrFull, poolNames(pools, family6))
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
		cidr := nthBlock(p.CIDR, p.BlockBits, (start+i)%n)
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

// nthBlock returns the nth block of bits prefix length in pool.
func nthBlock(pool netip.Prefix, bits int, n uint64) netip.Prefix {
	b := pool.Masked().Addr().AsSlice()
	shift := pool.Addr().BitLen() - bits
	for i := len(b) - 1; i >= 0 && n > 0; i-- {
		// Bits of this byte that belong to the block number begin at position shift.
		if shift >= 8 {
			shift -= 8
			continue
		}
		v := uint64(b[i]) | (n<<shift)&0xff
		b[i] = byte(v)
		n >>= 8 - shift
		shift = 0
	}
	addr, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(addr, bits)
}

// claimBlock claims one block: affinity pending, block created, affinity confirmed. It reports false, and leaves nothing
// behind, when another node has the block. Repeating it after a crash in between carries on.
func (a *Allocator) claimBlock(ctx context.Context, cidr netip.Prefix) (bool, error) {
	aff, err := a.wantAffinity(ctx, cidr)
	if err != nil {
		return false, err
	}
	b, err := a.ds.CreateBlock(ctx, NewBlock(cidr, a.node, a.now()))
	if apierrors.IsAlreadyExists(err) {
		if b, err = a.ds.GetBlock(ctx, BlockName(cidr)); apierrors.IsNotFound(err) {
			return false, a.ds.DeleteAffinity(ctx, aff) // it went in this moment: another time
		}
	}
	if err != nil {
		return false, err
	}
	if Owner(b) != a.node {
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
		ObjectMeta: metav1.ObjectMeta{Name: affinityName(a.node, cidr), Labels: affinityLabels(a.node, cidr.Addr().Is6())},
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
	a.settling.Lock()
	defer a.settling.Unlock()
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
		if !as.Active && !as.Released {
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
	b, err := a.ds.GetBlock(ctx, BlockName(cidr))
	switch {
	case err == nil && Owner(b) == a.node && aff.Spec.State == v3.AffinityConfirmed:
		a.keep(cidr, b)
		return nil
	case err != nil && !apierrors.IsNotFound(err):
		return err
	case err != nil && aff.Spec.State == v3.AffinityPendingDeletion:
		return a.ds.DeleteAffinity(ctx, aff)
	}
	_, err = a.claimBlock(ctx, cidr)
	return err
}

// TunnelAddr returns the node's tunnel address under handle, taken now if it has none: the head of an own block, from a
// pool that allows tunnels. It is written before it is returned, and stays the node's for life.
func (a *Allocator) TunnelAddr(ctx context.Context, handle, kind string, family6 bool) (netip.Addr, error) {
	a.settling.Lock()
	defer a.settling.Unlock()
	for try := 0; ; try++ {
		cidr, ordinal, found := a.findTunnel(handle, family6)
		if found {
			_, err := a.makeHandle(ctx, handle, map[string]int{cidr.String(): 1})
			return AddrAt(cidr, ordinal), err
		}
		if !cidr.IsValid() {
			if try == writeTries {
				return netip.Addr{}, fmt.Errorf("take tunnel address: %w", ErrFull)
			}
			if err := a.claim(ctx, family6); err != nil {
				return netip.Addr{}, fmt.Errorf("take tunnel address: %w", err)
			}
			continue
		}
		addr := AddrAt(cidr, ordinal)
		secondary := map[string]string{AttrNode: a.node, AttrType: kind, AttrTimestamp: a.now().UTC().Format(timestampFormat)}
		err := a.writeBlock(ctx, cidr, func(b *v3.IPAMBlock) error { return take(b, ordinal, handle, secondary) })
		if err == nil {
			_, err = a.makeHandle(ctx, handle, map[string]int{cidr.String(): 1})
		}
		a.mu.Lock()
		delete(a.inUse, addr)
		if b := a.blocks[cidr]; b != nil {
			a.install(cidr, b.obj)
		}
		a.mu.Unlock()
		if err != nil {
			return netip.Addr{}, fmt.Errorf("take tunnel address %s: %w", addr, err)
		}
		a.log.Info("took tunnel address", "addr", addr.String(), "handle", handle)
		return addr, nil
	}
}

// findTunnel returns where handle has its address, or else an ordinal that it may take, held in memory meanwhile.
func (a *Allocator) findTunnel(handle string, family6 bool) (cidr netip.Prefix, ordinal int, found bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, b := range a.ownBlocks() {
		for o := range b.obj.Spec.Allocations {
			if b.cidr.Addr().Is6() == family6 && handleOf(b.obj, o) == handle {
				return b.cidr, o, true
			}
		}
	}
	for _, p := range a.cluster.Pools() {
		for _, b := range a.ownBlocks() {
			if p.Tunnel && !p.Disabled && p.CIDR.Addr().Is6() == family6 && p.CIDR.Contains(b.cidr.Addr()) && len(b.ready) > 0 {
				o := b.ready[0]
				b.ready = b.ready[1:]
				a.inUse[AddrAt(b.cidr, o)] = handle
				return b.cidr, o, false
			}
		}
	}
	return netip.Prefix{}, 0, false
}

// grace is how long the audit waits between its two looks.
const grace = time.Minute

// AffinitySelector selects a node's claims by their labels.
func AffinitySelector(node string) string {
	const key = "projectcalico.org/hostname-hash"
	return key + "=" + affinityLabels(node, false)[key]
}
