package ipam

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/model"
)

// Allocator gives addresses to the endpoints of one node. Its methods may be called from several goroutines.
type Allocator struct {
	node    string
	ds      Datastore
	cluster Cluster
	log     *slog.Logger
	now     func() time.Time

	kick   chan struct{} // something to settle
	urgent chan struct{} // … and somebody may soon wait for it

	settling chan struct{} // holds one token while a settle, claim or give-back is under way: see begin

	mu      sync.Mutex
	journal *journal
	live    map[string]*Assignment    // by Key; a released one stays until the datastore knows
	inUse   map[netip.Addr]string     // address → Key of who has it, or the device that routes to it
	blocks  map[netip.Prefix]*owned   // owned
	order   []*owned                  // blocks by address; nil: to be made anew
	others  map[netip.Prefix]*other   // not owned: of other nodes, or nobody's
	held    map[netip.Prefix]bool     // those of others that this node has addresses of
	closing map[netip.Prefix]closing  // being given back, or given back
	halfway map[netip.Prefix]bool     // claims that were cut short
	unread  map[netip.Prefix]bool     // before Sync: own blocks, as the watch told
	busy    map[string]bool           // Keys whose ADD is waiting for the datastore
	mute    map[string]time.Time      // owners that did not say in time that they route a loan
	routed  map[netip.Addr]model.Loan // own addresses on loan that this node's kernel routes
	news    chan struct{}             // closed, and made anew, when a block that is not owned changes
	suspect map[string]suspicion      // what the audit saw once
	audits  int                       // since the start, as far as it matters; the audit's alone
	synced  bool
	clash   map[netip.Addr]struct{} // addresses that the datastore gives to somebody else
}

// owned is a block that this node owns.
type owned struct {
	cidr  netip.Prefix
	obj   *v3.IPAMBlock // as last read or written; never changed in place
	ready []int         // ordinals of the kept head that nobody uses, in FIFO order
	idle  time.Time     // since when the block is empty; zero when it is not

	// A write that keeps less may be under way, and may come to pass whatever its answer was. Until a later write of ours
	// is confirmed, nothing is handed out but the first limit ordinals of the FIFO, and none that is barred.
	limit  int
	barred map[int]bool
}

// Options of New.
type Options struct {
	Node    string // name of the node
	Dir     string // folder of the journal, on tmpfs
	Boot    string // identifies the running boot of the node
	Store   Datastore
	Cluster Cluster
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now
}

// New opens the journal. ErrLocked: another agent of this node runs. Nothing is assigned before Sync.
func New(o Options) (*Allocator, error) {
	j, live, damage, err := openJournal(o.Dir, o.Boot)
	if err != nil {
		return nil, err
	}
	if damage != nil {
		o.Log.Error("journal was damaged; addresses in use are taken from the kernel's routes and the datastore", "err", damage)
	}
	a := &Allocator{
		node: o.Node, ds: o.Store, cluster: o.Cluster, log: o.Log, now: o.Now,
		settling: make(chan struct{}, 1),
		kick:     make(chan struct{}, 1), urgent: make(chan struct{}, 1),
		journal: j, live: live, inUse: map[netip.Addr]string{},
		others: map[netip.Prefix]*other{}, held: map[netip.Prefix]bool{}, busy: map[string]bool{}, mute: map[string]time.Time{}, news: make(chan struct{}),
		blocks: map[netip.Prefix]*owned{}, closing: map[netip.Prefix]closing{}, halfway: map[netip.Prefix]bool{}, unread: map[netip.Prefix]bool{}, clash: map[netip.Addr]struct{}{}, suspect: map[string]suspicion{},
	}
	if a.now == nil {
		a.now = time.Now
	}
	for _, key := range slices.SortedFunc(maps.Keys(live), func(x, y string) int { return live[x].Since.Compare(live[y].Since) }) {
		for _, addr := range live[key].Addrs {
			if old := a.inUse[addr]; old != "" { // its end was in a damaged line
				o.Log.Error("journal gives an address to two endpoints; the younger one has it", "addr", addr.String(), "endpoint", key, "older", old)
				a.unuse(old)
			}
			a.inUse[addr] = key
		}
	}
	return a, nil
}

// unuse drops an assignment whose address has been given on.
func (a *Allocator) unuse(key string) {
	for addr, user := range a.inUse {
		if user == key {
			delete(a.inUse, addr)
		}
	}
	delete(a.live, key)
}

// Close ends the use of the journal. What is not settled stays in it.
func (a *Allocator) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.journal.close()
}

// begin waits until no settle, claim or give-back is under way; a request waits no longer than its context.
func (a *Allocator) begin(ctx context.Context) error {
	select {
	case a.settling <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for writes to the datastore that are under way: %w", ctx.Err())
	}
}

func (a *Allocator) end() { <-a.settling }

// Endpoints returns the endpoints that live, so that a restarted agent wants their routes.
func (a *Allocator) Endpoints() []model.Endpoint {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []model.Endpoint
	for _, as := range a.live {
		if as.Active && !as.Released && as.Tunnel == "" {
			out = append(out, as.Endpoint)
		}
	}
	return out
}

// Lookup returns an endpoint that lives.
func (a *Allocator) Lookup(key string) (model.Endpoint, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	as, ok := a.live[key]
	if !ok || as.Released {
		return model.Endpoint{}, false
	}
	return as.Endpoint, true
}

// Activate says that the endpoint's routes stand: from now on it survives a restart of the agent.
func (a *Allocator) Activate(key string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	as := a.live[key]
	if as == nil || as.Released {
		return ErrUnknown
	}
	if err := a.journal.append(entry{Op: opActive, Key: key}); err != nil {
		return err
	}
	as.Active = true
	return nil
}

// Release takes the endpoint's addresses back; the datastore learns of it soon after. It always succeeds: an unknown
// endpoint has no address, and what a full disk keeps out of the journal is found again by the audit.
func (a *Allocator) Release(key string) Released {
	a.mu.Lock()
	defer a.mu.Unlock()
	as := a.live[key]
	if as == nil {
		as = a.recall(key)
	}
	if as == nil || as.Released {
		return Released{}
	}
	if err := a.journal.append(entry{Op: opRelease, Key: key}); err != nil {
		a.log.Error("release is not in the journal; after a crash the audit has to find it", "endpoint", key, "err", err)
	}
	as.Released, as.ended = true, a.now()
	a.wake()
	return Released{Endpoint: as.Endpoint, Found: true}
}

// recall makes an assignment of what blocks hold for a container of this node that the journal does not know: a reboot took the
// journal, and now the runtime deletes the sandboxes of before. The caller holds mu.
func (a *Allocator) recall(key string) *Assignment {
	container, ifName, _ := strings.Cut(key, "/")
	as := &Assignment{Endpoint: model.Endpoint{ContainerID: container, IfName: ifName}, Since: a.now()}
	for _, h := range a.holdings() {
		if strings.HasSuffix(h.handle, "."+container) && a.inUse[h.addr] == "" {
			as.Handle, as.Addrs = h.handle, append(as.Addrs, h.addr)
		}
	}
	if len(as.Addrs) == 0 {
		return nil
	}
	a.live[key] = as
	for _, addr := range as.Addrs {
		a.inUse[addr] = key
	}
	return as
}

// wake makes the settle loop run, soon when little is ready.
func (a *Allocator) wake() {
	ready := 0
	for _, b := range a.ownBlocks() {
		if ready += len(b.ready); ready >= lowWater {
			break
		}
	}
	if ready < lowWater {
		a.hurry()
		return
	}
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// hurry makes the settle loop run at once.
func (a *Allocator) hurry() {
	select {
	case a.urgent <- struct{}{}:
	default:
	}
}

// Observe takes a block as a watch reports it; gone means that it was deleted.
func (a *Allocator) Observe(obj *v3.IPAMBlock, gone bool) {
	cidr, err := netip.ParsePrefix(obj.Spec.CIDR)
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.blocks[cidr]
	a.learn(cidr, obj, gone)
	if b != nil && obj.UID != b.obj.UID && obj.Spec.SequenceNumber < b.obj.Spec.SequenceNumber {
		return // a late event of an earlier life: a new life's numbers start higher, at its time of birth
	}
	if gone || obj.Spec.Deleted || block.Owner(obj) != a.node {
		delete(a.unread, cidr)
		if b == nil {
			return // not ours
		}
		a.lose(b, block.Owner(obj))
		return
	}
	if !a.synced {
		a.unread[cidr] = true
	}
	if c, ok := a.closing[cidr]; ok && (!c.done || c.uid == obj.UID) || !a.synced {
		return
	}
	if b == nil || obj.UID != b.obj.UID || obj.Spec.SequenceNumber > b.obj.Spec.SequenceNumber {
		a.install(cidr, obj)
	}
}

// lose ends the use of a block that somebody took away. What lives in it is to be settled: the block is claimed once more
// if nobody else has it. The caller holds mu.
func (a *Allocator) lose(b *owned, owner string) {
	a.log.Warn("own block was taken away", "block", b.cidr.String(), "owner", owner)
	delete(a.blocks, b.cidr)
	a.order = nil
	for _, as := range a.live {
		if !as.Released && len(within(b.cidr, as.Addrs)) > 0 {
			as.Settled = false
		}
	}
	a.wake()
}

// install makes obj the last known state of an own block. The caller holds mu.
func (a *Allocator) install(cidr netip.Prefix, obj *v3.IPAMBlock) {
	if err := block.Check(obj); err != nil {
		a.log.Error("own block is damaged; it gives no more addresses until it is repaired", "block", cidr.String(), "err", err)
		delete(a.blocks, cidr)
		a.order = nil
		return
	}
	b := a.blocks[cidr]
	size := len(obj.Spec.Allocations)
	if b == nil {
		b = &owned{cidr: cidr, limit: block.Kept(size)}
		if asked, _ := block.Wanted(obj); asked != "" {
			b.limit = 0 // this node, before a crash, may have begun to answer
		}
		a.blocks[cidr] = b
		a.order = nil
	}
	b.obj = obj
	if !block.Empty(obj) {
		b.idle = time.Time{}
	}
	head := obj.Spec.Unallocated
	head = head[:min(len(head), block.KeptOf(obj), b.limit)]
	b.ready = nil
	for _, o := range head {
		if _, used := a.inUse[block.AddrAt(cidr, o)]; !used && !b.barred[o] {
			b.ready = append(b.ready, o)
		}
	}
	a.compare(b)
	if a.owes(b) {
		a.hurry()
	}
}

// compare marks which assignments the block already has, and which it has no longer.
func (a *Allocator) compare(b *owned) {
	for _, as := range a.live {
		for _, addr := range as.Addrs {
			if !b.cidr.Contains(addr) || as.Released {
				continue
			}
			o := block.OrdinalOf(b.cidr, addr)
			held := block.Handle(b.obj, o) == as.Handle
			if held {
				delete(a.clash, addr)
			} else if !as.Settled && !as.taking && block.Attr(b.obj, o) == nil {
				a.wake() // whoever had it in the datastore has left it
			}
			if as.Settled && !held {
				a.log.Warn("address of a living pod was released by somebody else; taking it again", "addr", addr.String(), "pod", as.Namespace+"/"+as.Pod)
				as.Settled = false
				a.wake()
			}
		}
	}
}

// Stats returns counts for metrics and logs.
func (a *Allocator) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Stats{Blocks: len(a.blocks), Conflicts: len(a.clash)}
	for _, as := range a.live {
		if !as.Released && as.Tunnel == "" {
			s.Endpoints++
		}
		if as.Released || !as.Settled {
			s.Unsettled++
			since := as.Since
			if as.ended.After(since) {
				since = as.ended
			}
			if s.Oldest.IsZero() || since.Before(s.Oldest) {
				s.Oldest = since
			}
		}
	}
	for _, b := range a.blocks {
		s.Free += len(b.obj.Spec.Unallocated)
		s.Ready += len(b.ready)
		s.Lent += len(block.Loans(b.obj))
	}
	for cidr := range a.held {
		s.Borrowed += len(a.others[cidr].mine)
	}
	return s
}

// poolNames lists the pools that fit.
func poolNames(pools []Pool, fits func(Pool) bool) string {
	var names []string
	for _, p := range pools {
		if fits(p) {
			names = append(names, p.Name+" ("+p.CIDR.String()+")")
		}
	}
	if len(names) == 0 {
		return "(there is none)"
	}
	return strings.Join(names, ", ")
}

// ownBlocks returns the owned blocks in address order. The caller holds mu.
func (a *Allocator) ownBlocks() []*owned {
	if a.order == nil {
		a.order = slices.SortedFunc(maps.Values(a.blocks), func(x, y *owned) int { return x.cidr.Addr().Compare(y.cidr.Addr()) })
	}
	return a.order
}
