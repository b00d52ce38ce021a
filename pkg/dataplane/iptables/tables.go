package iptables

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/dataplane/nft"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/reconcile"
)

// LookEvery is how often legacy tables are looked at, which have no events.
const LookEvery = 10 * time.Second

// wanted is what was set.
type wanted struct {
	backend                Backend
	forward                [2]bool // IPv4, IPv6
	nat                    [2]*model.NAT
	forwardKnown, natKnown bool // SetForward, SetNAT were called
	placed                 chan struct{}
}

// place is a section in the tables of one kind.
type place struct {
	kind
	section int
}

// Tables is what we have in iptables' tables. The methods that begin with Set, and Placed, may be called from any goroutine.
type Tables struct {
	conn *netlink.Conn
	log  *slog.Logger
	loop *reconcile.Loop

	mu   sync.Mutex // never held while a program runs
	want wanted

	// What follows is the loop's alone.
	programs map[kind]*program // nil: there is none
	chosen   Backend           // NFT or Legacy
	have     map[place]listing // nil: to be listed
	unread   []error           // what could not be listed
	counted  struct {          // which backend had more rules, and when
		backend Backend
		at      time.Time
	}
	lacking string // what was logged last to be missing
}

// New returns tables that do nothing yet. The Conn says which network namespace, and may be shared.
func New(c *netlink.Conn, log *slog.Logger, hooks reconcile.Hooks) *Tables {
	t := &Tables{conn: c, log: log.With("subsystem", "iptables"), want: wanted{backend: Auto, placed: make(chan struct{})}, programs: map[kind]*program{}}
	t.loop = reconcile.NewLoop(t, t.log, hooks)
	return t
}

// SetForward says in which families pods' packets are to pass FORWARD. The latest call counts.
func (t *Tables) SetForward(v4, v6 bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.want.forward, t.want.forwardKnown = [2]bool{v4, v6}, true
	t.loop.Kick()
}

// SetNAT says what is masqueraded by iptables, in each family; nil: nothing. The first call means that the datastore is in
// sync. The latest call counts. The slices are kept and must stay as they are.
func (t *Tables) SetNAT(v4, v6 *model.NAT) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.want.nat = [2]*model.NAT{}
	for i, n := range [...]*model.NAT{v4, v6} {
		if n != nil {
			own := *n
			t.want.nat[i] = &own
		}
	}
	t.want.natKnown, t.want.placed = true, make(chan struct{})
	t.loop.Kick()
}

// SetBackend says which iptables to use; Auto unless it is called. An unknown value is Auto.
func (t *Tables) SetBackend(b Backend) {
	if b != Legacy && b != NFT {
		b = Auto
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.want.backend != b {
		t.want.backend = b
		t.loop.KickResync()
	}
}

// Placed returns a channel that is closed once the kernel has what the latest SetNAT asked for; without a program that can
// write it that is never. After a further SetNAT, ask again.
func (t *Tables) Placed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.want.placed
}

// SetAudit sets the pause between full comparisons with the kernel, beside its events and LookEvery; 0: there are none.
func (t *Tables) SetAudit(d time.Duration) { t.loop.SetAudit(d) }

// Run keeps the tables as they should be until ctx is done.
func (t *Tables) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if w, err := nft.Watch(t.conn); err != nil {
		t.log.Warn("kernel tells of no changes of nftables; iptables is looked at now and then", "err", err)
	} else {
		g.Go(func() error { return w.Run(ctx, concerns, t.loop.KickResync) })
	}
	g.Go(func() error { return t.lookOn(ctx) })
	g.Go(func() error { return t.loop.Run(ctx) })
	return g.Wait()
}

// concerns tells whether an event of nftables is about what we look at: not about other programs' chains, of which
// kube-proxy changes hundreds a second.
func concerns(e nft.Event) bool {
	if e.Family != unix.NFPROTO_IPV4 && e.Family != unix.NFPROTO_IPV6 {
		return false
	}
	if e.Table == "mangle" {
		return slices.Contains(hints[:], e.Chain)
	}
	for _, s := range sections {
		if e.Table == s.table && (e.Chain == "" || e.Chain == s.hook || slices.Contains(s.chains, e.Chain)) {
			return true
		}
	}
	return false
}

// lookOn has legacy tables looked at now and then, on a node that has any.
func (t *Tables) lookOn(ctx context.Context) error {
	tick := time.NewTicker(LookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if lookAt(t.conn).anyLegacy() {
				t.loop.KickResync()
			}
		}
	}
}
