package ipam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

const (
	borrowPatience = 3 * time.Second // how long an ADD waits for owners to keep less
	askAtOnce      = 4               // owners; when they are silent so many more after each askPause
	askPause       = time.Second
	maxAsks        = 8 // of one block, by one ADD

	muteFor        = time.Minute            // after routedPatience was in vain nobody waits long for that owner
	mutePatience   = 200 * time.Millisecond // but so long
	routedPatience = 2 * time.Second        // how long an ADD waits for the owner's route; one that is gone forwards for nobody
)

// taken is an address that a compare-and-swap took for an ADD that is under way.
type taken struct {
	addr  netip.Addr
	cidr  netip.Prefix
	owner string // "" when nobody owns the block
	seq   uint64 // of the allocation
}

// errNoRoom: a block has nothing to take just now.
var errNoRoom = errors.New("no room behind the kept head")

// refill makes room in a family's own heads: by settling, which moves the heads on, else by claiming a block. Should neither
// help it takes an address, by compare-and-swap: from behind the head of an own block, or of somebody else's.
func (a *Allocator) refill(ctx context.Context, as *Assignment, pools []Pool, family6 bool) (taken, error) {
	if err := a.begin(ctx); err != nil {
		return taken{}, err
	}
	if a.room(pools, family6) {
		a.end()
		return taken{}, nil // somebody before us did it
	}
	settleErr := a.settle(ctx)
	if a.room(pools, family6) {
		a.end()
		return taken{}, nil
	}
	err := a.claim(ctx, ofFamily(pools, family6))
	a.end()
	switch {
	case err == nil && a.room(pools, family6):
		return taken{}, nil
	case err == nil:
		err = fmt.Errorf("%w: all that this node keeps of its blocks is reserved", ErrFull)
	case !errors.Is(err, ErrFull):
		return taken{}, errors.Join(err, settleErr)
	}
	t, berr := a.borrow(ctx, as, pools, family6)
	if errors.Is(berr, errNoRoom) {
		return taken{}, errors.Join(err, settleErr)
	}
	return t, berr
}

func (a *Allocator) room(pools []Pool, family6 bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, _ := a.withRoom(pools, family6)
	return b != nil
}

func ofFamily(pools []Pool, family6 bool) []Pool {
	return slices.DeleteFunc(slices.Clone(pools), func(p Pool) bool { return p.CIDR.Addr().Is6() != family6 })
}

// borrow takes an address by compare-and-swap. When no block has room behind its head it asks owners to keep less, and
// waits a while. It returns nothing, without an error, when an own head has room meanwhile; errNoRoom when nobody has.
func (a *Allocator) borrow(ctx context.Context, as *Assignment, pools []Pool, family6 bool) (taken, error) {
	pools = ofFamily(pools, family6)
	patience := time.NewTimer(borrowPatience)
	defer patience.Stop()
	tries, atOnce := map[netip.Prefix]int{}, askAtOnce
	for {
		a.mu.Lock()
		news := a.news
		a.mu.Unlock()
		t, err := a.takeAny(ctx, as, pools)
		if !errors.Is(err, errNoRoom) || a.room(pools, family6) {
			return t, ignore(err, errNoRoom)
		}
		waiting, err := a.askOwners(ctx, pools, tries, atOnce)
		if err != nil {
			return taken{}, err
		}
		select {
		case <-patience.C:
			return taken{}, errNoRoom
		case <-news: // since takeAny looked
			continue
		default:
		}
		if !waiting {
			return taken{}, errNoRoom
		}
		select {
		case <-news:
		case <-time.After(askPause):
			atOnce += askAtOnce
		case <-patience.C:
			return taken{}, errNoRoom
		case <-ctx.Done():
			return taken{}, errNoRoom
		}
	}
}

func ignore(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}

// candidate is a block that an address may be taken of.
type candidate struct {
	cidr              netip.Prefix
	own               bool
	owner             string
	pool, spare, kept int
	asked, silent     bool   // somebody asked the owner to keep less, a good while ago
	spread            uint32 // so that borrowers seldom meet
}

// candidates lists the blocks of the pools: by the pools' order, own ones, nobody's, then those with the most to spare.
func (a *Allocator) candidates(pools []Pool) (out []candidate) {
	strict, reserved := a.cluster.Config().StrictAffinity, a.cluster.Reserved()
	a.mu.Lock()
	defer a.mu.Unlock()
	add := func(c candidate) {
		c.pool = slices.IndexFunc(pools, func(p Pool) bool { return p.CIDR.Bits() <= c.cidr.Bits() && p.CIDR.Contains(c.cidr.Addr()) })
		if c.pool < 0 {
			return
		}
		h := fnv.New32a()
		h.Write([]byte(a.node + c.cidr.String()))
		c.spread = h.Sum32()
		out = append(out, c)
	}
	for cidr, b := range a.blocks {
		if a.spareOrdinal(cidr, b.obj, reserved) >= 0 {
			add(candidate{cidr: cidr, own: true, owner: a.node, spare: 1})
		}
	}
	for cidr, o := range a.others {
		if !strict && o.lends && o.spare+o.kept > 0 {
			add(candidate{cidr: cidr, owner: o.owner, spare: o.spare, kept: o.kept, asked: o.asked,
				silent: a.now().Sub(o.askedAt) > 2*borrowPatience})
		}
	}
	rank := func(c candidate) int {
		switch {
		case c.own:
			return 0
		case c.owner == "":
			return 1
		}
		return 2
	}
	slices.SortFunc(out, func(x, y candidate) int {
		return cmp.Or(cmp.Compare(x.pool, y.pool), cmp.Compare(rank(x), rank(y)), cmp.Compare(y.spare, x.spare),
			cmp.Compare(y.kept, x.kept), cmp.Compare(x.spread, y.spread))
	})
	return out
}

// spareOrdinal returns the first ordinal behind b's kept head that is neither reserved nor in use here, -1 when there is none.
// The caller holds mu.
func (a *Allocator) spareOrdinal(cidr netip.Prefix, b *v3.IPAMBlock, reserved []netip.Prefix) int {
	free := b.Spec.Unallocated
	for _, o := range free[min(block.KeptOf(b), len(free)):] {
		if addr := block.AddrAt(cidr, o); a.inUse[addr] == "" && !covers(reserved, addr) {
			return o
		}
	}
	return -1
}

// takeAny takes an address of the first block that has one to spare; errNoRoom when none has.
func (a *Allocator) takeAny(ctx context.Context, as *Assignment, pools []Pool) (taken, error) {
	if err := a.begin(ctx); err != nil {
		return taken{}, err
	}
	defer a.end()
	for _, c := range a.candidates(pools) {
		if c.spare == 0 {
			continue
		}
		t, err := a.takeOf(ctx, as, c.cidr)
		if err == nil {
			if t.owner != a.node {
				a.log.Info("borrowed an address", "addr", t.addr.String(), "block", t.cidr.String(), "owner", t.owner)
			}
			return t, nil
		}
		if !errors.Is(err, errNoRoom) && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return taken{}, fmt.Errorf("take an address of block %s: %w", c.cidr, err)
		}
	}
	return taken{}, errNoRoom
}

// takeOf takes an address from behind the kept head of one block. The caller holds settling.
func (a *Allocator) takeOf(ctx context.Context, as *Assignment, cidr netip.Prefix) (taken, error) {
	reserved, cooldown := a.cluster.Reserved(), a.cluster.Config().Cooldown
	t := taken{cidr: cidr}
	drop := func() {
		if t.addr.IsValid() && a.inUse[t.addr] == as.Key() {
			delete(a.inUse, t.addr)
		}
		t.addr = netip.Addr{}
	}
	err := a.writeBlock(ctx, cidr, func(b *v3.IPAMBlock) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		drop()
		block.Reap(b, cooldown, a.now())
		t.owner, t.seq = block.Owner(b), b.Spec.SequenceNumber
		o := a.spareOrdinal(cidr, b, reserved)
		if o < 0 || !block.Lends(b) || t.owner != a.node && a.cluster.Config().StrictAffinity {
			return errNoRoom
		}
		t.addr = block.AddrAt(cidr, o)
		a.inUse[t.addr] = as.Key() // nobody here hands it out, or takes it for a leak, while the write is under way
		return block.Take(b, o, as.Handle, as.secondary(a.node))
	})
	if err != nil {
		a.mu.Lock()
		drop()
		a.mu.Unlock()
		return taken{}, err
	}
	return t, nil
}

// askOwners asks the owners of a few blocks to keep less, so that atOnce of those asked here have not answered yet. It says
// whether somebody may answer.
func (a *Allocator) askOwners(ctx context.Context, pools []Pool, tries map[netip.Prefix]int, atOnce int) (waiting bool, err error) {
	open, list := 0, a.candidates(pools)
	for _, c := range list {
		if c.asked && tries[c.cidr] > 0 {
			open++
		}
	}
	for _, c := range list {
		switch {
		case c.own || c.kept == 0 || c.owner == "":
		case c.asked:
			waiting = waiting || !c.silent
		case open < atOnce && tries[c.cidr] < maxAsks:
			tries[c.cidr]++
			open, waiting = open+1, true
			if err := a.ask(ctx, c.cidr, netip.Addr{}); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				return false, fmt.Errorf("ask the owner of block %s for an address: %w", c.cidr, err)
			}
		}
	}
	return waiting, nil
}

// ask asks the owner of a block for an address, any or just this one, unless somebody has asked for one already.
func (a *Allocator) ask(ctx context.Context, cidr netip.Prefix, addr netip.Addr) error {
	return a.writeBlock(ctx, cidr, func(b *v3.IPAMBlock) error {
		asked, which := block.Wanted(b)
		if owner := block.Owner(b); owner != "" && owner != a.node && (asked == "" || addr.IsValid() && asked == a.node && which != addr) {
			block.Ask(b, a.node, addr)
		}
		return nil
	})
}

// awaitRouted waits until the owner of a borrowed address routes it to this node: nodes that have not heard of the loan yet
// send to the owner, whose blackhole would drop it.
func (a *Allocator) awaitRouted(ctx context.Context, t taken) {
	if t.owner == "" || t.owner == a.node {
		return
	}
	a.mu.Lock()
	wait, since := routedPatience, a.mute[t.owner]
	if a.now().Sub(since) < muteFor {
		wait = mutePatience
	}
	a.mu.Unlock()
	patience := time.NewTimer(wait)
	defer patience.Stop()
	for {
		a.mu.Lock()
		o, news := a.others[t.cidr], a.news
		a.mu.Unlock()
		if o == nil || o.owner != t.owner || o.routed >= t.seq {
			return
		}
		select {
		case <-news:
			continue
		case <-patience.C:
			a.mu.Lock()
			a.mute[t.owner] = a.now()
			a.mu.Unlock()
		case <-ctx.Done(): // no fault of the owner's
		}
		a.log.Warn("owner of a borrowed address does not say that it routes it; nodes that have not heard of it yet may not reach it", "addr", t.addr.String(), "block", t.cidr.String(), "owner", t.owner)
		return
	}
}
