package nft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/reconcile"
)

// Table is our table of both families. SetNAT, Placed and SetAudit may be called from any goroutine.
type Table struct {
	conn *netlink.Conn
	log  *slog.Logger
	loop *reconcile.Loop
	port atomic.Uint32 // of the socket in use, by which our own events are known

	mu     sync.Mutex // never held while the kernel works
	want   map[byte]*content
	known  bool // SetNAT was called
	placed chan struct{}

	// What follows is the loop's alone.
	socket *socket        // nil: to be opened
	have   map[byte]state // nil: to be read
}

// New returns a table that does nothing yet. The Conn says which network namespace, and may be shared.
func New(c *netlink.Conn, log *slog.Logger, hooks reconcile.Hooks) *Table {
	t := &Table{conn: c, log: log.With("subsystem", "nft"), placed: make(chan struct{})}
	t.loop = reconcile.NewLoop(t, t.log, hooks)
	return t
}

// SetNAT says what is translated, in each family; nil: nothing, and no table of ours. The first call means that the
// datastore is in sync. The latest call counts.
func (t *Table) SetNAT(v4, v6 *model.NAT) {
	want := map[byte]*content{
		unix.NFPROTO_IPV4: contentOf(v4, unix.NFPROTO_IPV4),
		unix.NFPROTO_IPV6: contentOf(v6, unix.NFPROTO_IPV6),
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.want, t.known, t.placed = want, true, make(chan struct{})
	t.loop.Kick()
}

// contentOf returns what a table must hold for n; nil for nothing.
func contentOf(n *model.NAT, family byte) *content {
	six := family == unix.NFPROTO_IPV6
	if n == nil || len(n.Sources) == 0 && len(n.Tunnels) == 0 && len(n.Floating) == 0 {
		return nil
	}
	kind := ourSet(family)
	return &content{
		rules:   rulesOf(n, six),
		sources: set{kind: kind, spans: spansOf(n.Sources, six)},
		spared:  set{kind: kind, spans: spansOf(n.Spared, six)},
	}
}

// Placed returns a channel that is closed once the kernel has what the latest SetNAT asked for. After a further SetNAT,
// ask again.
func (t *Table) Placed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.placed
}

// SetAudit sets the pause between full comparisons with the kernel, beside its events; 0: there are none.
func (t *Table) SetAudit(d time.Duration) { t.loop.SetAudit(d) }

// Run keeps the kernel as it should be until ctx is done. It fails only when it can't hear of the kernel's events.
func (t *Table) Run(ctx context.Context) error {
	w, err := Watch(t.conn)
	if err != nil {
		return fmt.Errorf("run nftables table: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.Run(ctx, t.concerns, t.loop.KickResync) })
	g.Go(func() error {
		defer t.forget()
		return t.loop.Run(ctx)
	})
	return g.Wait()
}

// concerns tells whether somebody else touched our table.
func (t *Table) concerns(e Event) bool {
	ours := e.Table == tableName && (slices.Contains(families[:], e.Family))
	return ours && e.Port != t.port.Load()
}

// Resync reads our tables.
func (t *Table) Resync(context.Context) error {
	if t.socket == nil {
		s, err := open(t.conn)
		if err != nil {
			return err
		}
		t.socket = s
		t.port.Store(s.port)
	}
	have := map[byte]state{}
	for _, family := range families {
		s, err := t.socket.read(family)
		if err != nil {
			t.forget()
			return fmt.Errorf("%s: %w", familyName(family), err)
		}
		have[family] = s
	}
	t.have = have
	return nil
}

// forget closes the socket; what the kernel has must be read again.
func (t *Table) forget() {
	if t.socket != nil {
		_ = t.socket.Close()
	}
	t.socket, t.have = nil, nil
}

// Apply writes what differs.
func (t *Table) Apply(ctx context.Context) error {
	t.mu.Lock()
	want, known, placed := t.want, t.known, t.placed
	t.mu.Unlock()
	if !known {
		return nil
	}
	var errs []error
	for _, family := range families {
		err := t.apply(ctx, family, want[family])
		if err != nil { // mostly that somebody was faster: what we read was old
			err = t.apply(ctx, family, want[family])
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	select {
	case <-placed:
	default:
		close(placed)
	}
	return nil
}

func (t *Table) apply(ctx context.Context, family byte, want *content) error {
	if t.have == nil {
		if err := t.Resync(ctx); err != nil {
			return err
		}
	}
	before := t.have[family]
	if before.matches(want) {
		return nil
	}
	after, err := t.socket.write(family, want, before)
	if err != nil {
		t.forget()
		return fmt.Errorf("%s: %w", familyName(family), err)
	}
	t.have[family] = after
	t.report(family, before, after)
	return nil
}

func (t *Table) report(family byte, before, after state) {
	switch {
	case !after.there:
		t.log.Info("removed translation of addresses", "family", familyName(family))
	case !before.there:
		t.log.Info("set up translation of addresses", "family", familyName(family), "sources", len(after.sources.spans), "spared", len(after.spared.spans))
	}
}

// Clean removes our tables, whoever wrote them. No Table may run.
func Clean(c *netlink.Conn) error {
	k, err := open(c)
	if err != nil {
		return err
	}
	defer k.Close()
	var errs []error
	for _, family := range families {
		s, err := k.read(family)
		switch {
		case lacking(err):
			err = nil
		case err == nil && s.there:
			_, err = k.write(family, nil, s)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("clean %s: %w", familyName(family), err))
		}
	}
	return errors.Join(errs...)
}
