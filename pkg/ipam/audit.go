package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/model"
)

// suspicion is a first look at an allocation or an endpoint that nobody seems to use.
type suspicion struct {
	since time.Time
	seq   uint64 // the allocation's sequence number: a later allocation is another one
}

// closing is a block that is being given back, or was. The entry stays, so that a late event does not bring it back.
type closing struct {
	uid  types.UID
	done bool
}

// Audit looks for addresses that leaked and blocks that are empty, and gives them back at the second look, a grace
// period after the first. hasLink says whether this node has an interface of that name. It returns the endpoints that it
// ended: their data plane is to be taken down. Call it once a minute, and when there is something Orphaned.
func (a *Allocator) Audit(ctx context.Context, hasLink func(name string) bool) ([]model.Endpoint, error) {
	if err := a.begin(ctx); err != nil {
		return nil, err
	}
	defer a.end()
	leaked, ended := a.look(hasLink)
	var errs []error
	for _, cidr := range a.halfClosed() {
		if _, err := a.claimBlock(ctx, cidr); err != nil {
			errs = append(errs, fmt.Errorf("keep block %s, which could not be given back: %w", cidr, err))
		}
	}
	// A claim that a former agent had sent may have come to pass after Sync: the second audit, a minute after the start, looks.
	if a.audits < 2 {
		if a.audits++; a.audits == 2 {
			if err := a.lateClaims(ctx); err != nil {
				a.audits--
				errs = append(errs, err)
			}
		}
	}
	for _, cidr := range a.halfClaimed() {
		if err := a.endClaim(ctx, cidr); err != nil {
			errs = append(errs, fmt.Errorf("end the claim on block %s, which was cut short: %w", cidr, err))
		}
	}
	for handle, addrs := range leaked {
		a.log.Warn("released addresses whose pod is gone", "handle", handle, "addrs", fmt.Sprint(addrs))
		if err := a.releaseLeaked(ctx, handle, addrs); err != nil {
			errs = append(errs, fmt.Errorf("release leaked addresses of handle %s: %w", handle, err))
		}
	}
	for _, cidr := range a.idleBlocks() {
		if err := a.giveBack(ctx, cidr); err != nil {
			errs = append(errs, fmt.Errorf("give back block %s: %w", cidr, err))
		}
	}
	return ended, errors.Join(errs...)
}

// halfClosed returns the blocks whose giving back failed, and whose keeping failed too.
func (a *Allocator) halfClosed() (out []netip.Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for cidr, c := range a.closing {
		if !c.done {
			out = append(out, cidr)
		}
	}
	return out
}

// halfClaimed returns the blocks whose claim was cut short, and that are not being given back.
func (a *Allocator) halfClaimed() (out []netip.Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for cidr := range a.halfway {
		if c, ok := a.closing[cidr]; !ok || c.done {
			out = append(out, cidr)
		}
	}
	return out
}

// look compares datastore, journal and kernel. It returns what is to be released, addresses by handle, and the endpoints
// that ended.
func (a *Allocator) look(hasLink func(string) bool) (map[string][]netip.Addr, []model.Endpoint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := map[string]suspicion{}
	a.dropRoutes(hasLink)
	ended := a.dropGone(hasLink, seen)
	leaked := a.leaked(hasLink, seen)
	a.suspect = seen
	return leaked, ended
}

// again says whether what, in its present form seq, was seen a grace period ago already.
func (a *Allocator) again(seen map[string]suspicion, what string, seq uint64) bool {
	s, ok := a.suspect[what]
	if !ok || s.seq != seq {
		s = suspicion{since: a.now(), seq: seq}
	}
	seen[what] = s
	return ok && a.now().Sub(s.since) >= grace
}

// dropGone releases endpoints whose interface no longer exists: their DEL was lost, with a damaged journal or on a full
// disk. The caller holds mu.
func (a *Allocator) dropGone(hasLink func(string) bool, seen map[string]suspicion) (ended []model.Endpoint) {
	for key, as := range a.live {
		if as.Tunnel != "" || !as.Active || as.Released || hasLink(as.HostVeth) || !a.again(seen, key, uint64(as.Since.UnixNano())) {
			continue
		}
		a.log.Warn("interface of an endpoint is gone; its addresses are released", "endpoint", key, "pod", as.Namespace+"/"+as.Pod)
		if err := a.journal.append(entry{Op: opRelease, Key: key}); err != nil {
			a.log.Error("release is not in the journal; after a crash it is found again", "endpoint", key, "err", err)
		}
		as.Released, as.ended = true, a.now()
		ended = append(ended, as.Endpoint)
		a.wake()
	}
	return ended
}

// dropRoutes ends the use of addresses that only a route named, when its interface is gone. The caller holds mu.
func (a *Allocator) dropRoutes(hasLink func(string) bool) {
	for addr, user := range a.inUse {
		if strings.HasPrefix(user, "cali") && !strings.Contains(user, "/") && !hasLink(user) {
			delete(a.inUse, addr)
		}
	}
}

// leaked returns what blocks hold for this node's pods though neither journal nor kernel know of them, by handle.
// An allocation whose interface lives is adopted: the journal was lost.
// The caller holds mu.
func (a *Allocator) leaked(hasLink func(string) bool, seen map[string]suspicion) map[string][]netip.Addr {
	known, taken := map[string]bool{}, map[string]bool{}
	for _, as := range a.live {
		known[as.Handle] = true
		taken[as.HostVeth] = taken[as.HostVeth] || !as.Released
	}
	out := map[string][]netip.Addr{}
	for _, h := range a.holdings() {
		if h.secondary[block.AttrPod] == "" || known[h.handle] {
			continue
		}
		// The interface of a pod that lives in another sandbox now says nothing of the old one.
		veth := model.HostVeth(h.secondary[block.AttrNamespace], h.secondary[block.AttrPod])
		if hasLink(veth) && !taken[veth] {
			a.adopt(h.handle, h.secondary, h.addr)
			continue
		}
		if a.again(seen, h.addr.String()+" "+h.handle, h.seq) {
			out[h.handle] = append(out[h.handle], h.addr)
		}
	}
	return out
}

// adopt makes an assignment of what the datastore and the kernel say of a living pod. The caller holds mu.
func (a *Allocator) adopt(handle string, secondary map[string]string, addr netip.Addr) {
	dot := strings.LastIndexByte(handle, '.') // a network's name may have dots, a container's ID has none
	if dot < 0 {
		return
	}
	network, container := handle[:dot], handle[dot+1:]
	ep := model.Endpoint{Network: network, ContainerID: container, IfName: "eth0", Namespace: secondary[block.AttrNamespace], Pod: secondary[block.AttrPod]}
	ep.HostVeth = model.HostVeth(ep.Namespace, ep.Pod)
	as := a.live[ep.Key()]
	if as == nil {
		as = &Assignment{Endpoint: ep, Handle: handle, Since: a.now(), Active: true}
		a.live[ep.Key()] = as
	}
	as.Addrs = append(as.Addrs, addr)
	a.inUse[addr] = ep.Key()
	if err := a.journal.append(entry{Op: opAssign, Assign: as}); err != nil {
		a.log.Error("adopted pod is not in the journal; it is adopted again after a restart", "endpoint", ep.Key(), "err", err)
	}
	a.log.Info("adopted a living pod's address", "addr", addr.String(), "pod", ep.Namespace+"/"+ep.Pod)
}

// releaseLeaked gives back all addresses of a handle, which is dropped before them.
func (a *Allocator) releaseLeaked(ctx context.Context, handle string, addrs []netip.Addr) error {
	if err := a.dropHandle(ctx, handle, nil); err != nil {
		return err
	}
	cooldown := a.cluster.Config().Cooldown
	for _, addr := range addrs {
		a.mu.Lock()
		cidr, ok := a.blockOf(addr)
		a.mu.Unlock()
		if !ok {
			continue
		}
		err := a.writeBlock(ctx, cidr, func(b *v3.IPAMBlock) error {
			block.Retire(b, block.OrdinalOf(cidr, addr), handle, false, cooldown, a.now())
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// idleBlocks returns the blocks to give back now: empty for a grace period, not the family's last, and not needed for
// the room that is kept ahead. One whose pool is gone need not wait, since nobody gets an address of it any more.
func (a *Allocator) idleBlocks() (out []netip.Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	count, free, pools := map[bool]int{}, map[bool]int{}, a.cluster.Pools()
	gives := func(b *owned) bool { // to pods
		return slices.ContainsFunc(pools, func(p Pool) bool { return usable(p, b.cidr.Addr().Is6()) && p.CIDR.Contains(b.cidr.Addr()) })
	}
	for _, b := range a.blocks {
		if gives(b) {
			count[b.cidr.Addr().Is6()]++
			free[b.cidr.Addr().Is6()] += a.free(b)
		}
	}
	for _, b := range a.ownBlocks() {
		family6, size := b.cidr.Addr().Is6(), a.free(b)
		switch {
		case !a.unused(b):
			b.idle = time.Time{}
		case orphaned(b, pools):
			out = append(out, b.cidr)
		case b.idle.IsZero():
			b.idle = a.now()
		case a.now().Sub(b.idle) < grace:
		case !gives(b):
			out = append(out, b.cidr)
		case count[family6] > 1 && free[family6]-size >= lowWater:
			count[family6]--
			free[family6] -= size
			out = append(out, b.cidr)
		}
	}
	return out
}

// Orphaned says whether there is a block that nobody uses and whose pool is gone: the next Audit gives it back.
func (a *Allocator) Orphaned() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	pools := a.cluster.Pools()
	return slices.ContainsFunc(a.ownBlocks(), func(b *owned) bool { return orphaned(b, pools) && a.unused(b) })
}

func orphaned(b *owned, pools []Pool) bool {
	return !slices.ContainsFunc(pools, func(p Pool) bool { return p.CIDR.Contains(b.cidr.Addr()) })
}

// unused says whether nobody has an address of a block. The caller holds mu.
func (a *Allocator) unused(b *owned) bool { return block.Empty(b.obj) && !a.anyInUse(b.cidr) }

func (a *Allocator) anyInUse(cidr netip.Prefix) bool {
	for addr := range a.inUse {
		if cidr.Contains(addr) {
			return true
		}
	}
	return false
}

// giveBack deletes an empty block and this node's claim on it. Nothing is handed out of it from the first step on; when
// somebody has taken an address of it meanwhile the delete fails and the block stays.
func (a *Allocator) giveBack(ctx context.Context, cidr netip.Prefix) error {
	a.mu.Lock()
	b := a.blocks[cidr]
	if b == nil || a.anyInUse(cidr) {
		a.mu.Unlock()
		return nil
	}
	a.closing[cidr] = closing{uid: b.obj.UID}
	delete(a.blocks, cidr)
	a.order = nil
	a.mu.Unlock()
	aff, err := a.ds.GetAffinity(ctx, block.AffinityName(a.node, cidr))
	if err == nil && aff.Spec.State != v3.AffinityPendingDeletion {
		aff = aff.DeepCopy()
		aff.Spec.State = v3.AffinityPendingDeletion
		aff, err = a.ds.UpdateAffinity(ctx, aff)
	}
	if err == nil || apierrors.IsNotFound(err) {
		if err = a.ds.DeleteBlock(ctx, b.obj); apierrors.IsNotFound(err) {
			err = nil
		}
	}
	if err == nil && aff != nil && aff.Name != "" {
		if err = a.ds.DeleteAffinity(ctx, aff); apierrors.IsNotFound(err) {
			err = nil
		}
	}
	if err == nil {
		a.mu.Lock()
		a.closing[cidr] = closing{uid: b.obj.UID, done: true}
		a.mu.Unlock()
		a.log.Info("gave back an empty block", "block", cidr.String())
		return nil
	}
	if _, cerr := a.claimBlock(ctx, cidr); cerr != nil {
		return errors.Join(err, cerr)
	}
	if apierrors.IsConflict(err) {
		return nil // somebody took an address of it
	}
	return err
}
