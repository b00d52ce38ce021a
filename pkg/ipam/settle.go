package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

const (
	lowWater     = 8           // fewer ready addresses than this: settle at once, claim ahead
	settleDelay  = time.Second // how long changes gather before they are written
	maxBackoff   = 5 * time.Second
	writeTries   = 8
	handleWrites = 4 // at once
)

// Run settles what gathers, until ctx ends. A failure is logged once and tried again.
func (a *Allocator) Run(ctx context.Context) error {
	backoff, failed := time.Duration(0), false
	var cooled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.urgent:
		case <-cooled:
		case <-a.kick:
			a.pause(ctx, settleDelay)
		}
		err := errors.Join(a.Settle(ctx), a.claimAhead(ctx))
		cooled = a.nextCooled()
		switch {
		case err == nil && failed:
			a.log.Info("datastore knows all assignments again")
			backoff, failed = 0, false
		case err != nil && ctx.Err() == nil:
			if !failed {
				a.log.Error("settle assignments with the datastore failed; pods go on, it is tried again", "err", err)
			}
			failed = true
			backoff = min(max(2*backoff, time.Second), maxBackoff)
			a.pause(ctx, backoff)
			a.mu.Lock()
			a.wake()
			a.mu.Unlock()
		}
	}
}

// pause waits, less long when somebody waits for a settled state.
func (a *Allocator) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-a.urgent:
	}
}

// nextCooled returns a channel that fires when the next released address may be used again; nil when none waits.
func (a *Allocator) nextCooled() <-chan time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	cooldown, now := a.cluster.Config().Cooldown, a.now()
	var next time.Time
	for _, b := range a.blocks {
		if t := block.Reap(b.obj.DeepCopy(), cooldown, now); !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if next.IsZero() {
		return nil
	}
	return time.After(max(next.Sub(now), 0) + time.Second)
}

// batch is what one settle writes.
type batch struct {
	take []*Assignment
	give []released
	cidr map[netip.Prefix]struct{} // blocks with anything to write
}

// released is an assignment to give back. unseen: the datastore has never heard of it. unsure: it may yet, by an update that
// was sent and not confirmed; another update sees to it that it comes to nothing.
type released struct {
	*Assignment
	unseen, unsure bool
}

// Settle writes all that the datastore does not know yet. One failing block or handle does not stop the others.
func (a *Allocator) Settle(ctx context.Context) error {
	if err := a.begin(ctx); err != nil {
		return err
	}
	defer a.end()
	return a.settle(ctx)
}

// The block is the truth: a handle is made after its addresses are in their blocks and deleted before they leave them. So
// whatever a crash cuts off and the journal forgets, an allocation is left, which the audit finds, never a handle alone.
func (a *Allocator) settle(ctx context.Context) error {
	work := a.gather()
	errs := a.dropHandles(ctx, &work)
	// The first to go is the first to be given again.
	slices.SortFunc(work.give, func(x, y released) int { return x.ended.Compare(y.ended) })
	var failed []netip.Prefix
	for cidr := range work.cidr {
		if err := a.settleBlock(ctx, cidr, work); err != nil {
			failed = append(failed, cidr)
			errs = append(errs, fmt.Errorf("settle block %s: %w", cidr, err))
		}
	}
	errs = append(errs, a.makeHandles(ctx, work.take)...)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range work.give {
		if !slices.ContainsFunc(failed, func(c netip.Prefix) bool { return len(within(c, r.Addrs)) > 0 }) {
			a.forget(r.Assignment)
		}
	}
	return errors.Join(append(errs, a.journal.compact(a.live))...)
}

// gather collects what is to be written.
func (a *Allocator) gather() batch {
	a.mu.Lock()
	defer a.mu.Unlock()
	work := batch{cidr: map[netip.Prefix]struct{}{}}
	for _, as := range a.live {
		switch {
		case as.taking && !as.Released:
			continue
		case as.Released:
			work.give = append(work.give, released{as, as.unseen, !as.unseen && !as.Settled})
		case !as.Settled:
			as.unseen = false
			work.take = append(work.take, as)
		default:
			continue
		}
		for _, addr := range as.Addrs {
			if cidr, ok := a.blockOf(addr); ok {
				work.cidr[cidr] = struct{}{}
			}
		}
	}
	cooldown, now := a.cluster.Config().Cooldown, a.now()
	for cidr, b := range a.blocks {
		if cooledAny(b.obj, cooldown, now) || a.owes(b) {
			work.cidr[cidr] = struct{}{}
		}
	}
	return work
}

// cooledAny says whether a released address of b may be used again.
func cooledAny(b *v3.IPAMBlock, cooldown time.Duration, now time.Time) bool {
	for i := range b.Spec.Attributes {
		if at := b.Spec.Attributes[i].ReleasedAt; at != nil && !at.Add(cooldown).After(now) {
			return true
		}
	}
	return false
}

// blockOf returns the block that an address belongs to: an own one, one that this node borrows of, or the one that its
// pool's block size makes. The caller holds mu.
func (a *Allocator) blockOf(addr netip.Addr) (netip.Prefix, bool) {
	for cidr := range a.blocks {
		if cidr.Contains(addr) {
			return cidr, true
		}
	}
	for cidr := range a.held {
		if cidr.Contains(addr) {
			return cidr, true
		}
	}
	for _, p := range a.cluster.Pools() {
		if p.CIDR.Contains(addr) {
			return netip.PrefixFrom(addr, p.BlockBits).Masked(), true
		}
	}
	return netip.Prefix{}, false
}

// settleBlock writes one block's part of work.
func (a *Allocator) settleBlock(ctx context.Context, cidr netip.Prefix, work batch) error {
	cooldown := a.cluster.Config().Cooldown
	var taken, lost []netip.Addr
	write := func() error {
		return a.mustWriteBlock(ctx, cidr, func(b *v3.IPAMBlock) (must bool, err error) {
			taken, lost = taken[:0], lost[:0]
			block.Reap(b, cooldown, a.now())
			for _, as := range work.give {
				for _, addr := range within(cidr, as.Addrs) {
					must = must || as.unsure && block.Handle(b, block.OrdinalOf(cidr, addr)) != as.Handle
					block.Retire(b, block.OrdinalOf(cidr, addr), as.Handle, as.unseen, cooldown, a.now())
				}
			}
			for _, as := range work.take {
				for _, addr := range within(cidr, as.Addrs) {
					if o := block.OrdinalOf(cidr, addr); !a.mayRetake(b, o, as.Handle) {
						lost = append(lost, addr) // the head is its owner's
					} else if block.Take(b, o, as.Handle, as.secondary(a.node)) != nil {
						taken = append(taken, addr)
					}
				}
			}
			return a.lend(cidr, b) || must, nil
		})
	}
	err := write()
	if apierrors.IsNotFound(err) {
		if len(within(cidr, addrsOf(work.take))) == 0 {
			return nil // nothing to give back to
		}
		if a.cluster.BlockExists(cidr) && a.cluster.BlockOwner(cidr) == "" {
			return fmt.Errorf("pods of this node live in it, and there is a block of another size instead; delete these pods: %v", within(cidr, addrsOf(work.take)))
		}
		if _, err = a.claimBlock(ctx, cidr); err == nil {
			err = write() // also when another node has it: that says what is to be done
		}
	}
	for _, addr := range taken {
		a.conflict(addr)
	}
	if err == nil && len(lost) > 0 {
		return fmt.Errorf("it belongs to node %q now, but pods of this node live in it; delete these pods: %v", a.cluster.BlockOwner(cidr), lost)
	}
	return err
}

// mayRetake says whether an address that a living pod of this node has may be written into a block: it is in it already, or
// the block is this node's, or what can be borrowed.
func (a *Allocator) mayRetake(b *v3.IPAMBlock, ordinal int, handle string) bool {
	at := slices.Index(b.Spec.Unallocated, ordinal)
	return block.Owner(b) == a.node || block.Handle(b, ordinal) == handle || block.Lends(b) && at >= block.KeptOf(b)
}

func addrsOf(list []*Assignment) (out []netip.Addr) {
	for _, as := range list {
		out = append(out, as.Addrs...)
	}
	return out
}

func within(cidr netip.Prefix, addrs []netip.Addr) (out []netip.Addr) {
	for _, addr := range addrs {
		if cidr.Contains(addr) {
			out = append(out, addr)
		}
	}
	return out
}

// conflict reports an address that the datastore gives to somebody else. It can only come about when another writer
// breaks the rule of the head (see Kept); the pod keeps the address, and the operator must decide.
func (a *Allocator) conflict(addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, said := a.clash[addr]; said {
		return
	}
	a.clash[addr] = struct{}{}
	a.log.Error("address of a pod of this node is allocated to another handle; delete one of the two pods", "addr", addr.String(), "endpoint", a.inUse[addr])
}

// holds says whether the last known blocks give all of an assignment's addresses to it. The caller holds mu.
func (a *Allocator) holds(as *Assignment) bool {
	return !slices.ContainsFunc(as.Addrs, func(addr netip.Addr) bool { return a.handleOf(addr) != as.Handle })
}

// forget drops an assignment that the datastore no longer has. The caller holds mu.
func (a *Allocator) forget(as *Assignment) {
	key := as.Key()
	if err := a.journal.append(entry{Op: opDone, Key: key}); err != nil {
		a.log.Error("journal cannot forget a released endpoint; it is released once more after a restart", "endpoint", key, "err", err)
	}
	delete(a.live, key)
	for _, addr := range as.Addrs {
		delete(a.clash, addr)
		if a.inUse[addr] == key {
			delete(a.inUse, addr)
		}
		if cidr, ok := a.blockOf(addr); ok && a.blocks[cidr] != nil {
			a.install(cidr, a.blocks[cidr].obj)
		}
	}
}
