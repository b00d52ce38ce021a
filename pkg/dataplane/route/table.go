package route

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/reconcile"
)

// key is what the kernel tells routes of one table apart by.
type key struct {
	dst    netip.Prefix
	metric uint32
	tos    uint8
}

func keyOf(r netlink.Route) key { return key{r.Dst, r.Metric, r.TOS} }

// wantedKey is the key of the routes that this package writes.
func wantedKey(dst netip.Prefix) key {
	if dst.Addr().Is6() {
		return key{dst: dst, metric: netlink.DefaultMetric6}
	}
	return key{dst: dst}
}

func compareKeys(a, b key) int {
	return cmp.Or(a.dst.Compare(b.dst), cmp.Compare(a.metric, b.metric), cmp.Compare(a.tos, b.tos))
}

// source is one list of wanted routes by destination.
type source struct {
	routes map[netip.Prefix]model.Route
	devs   map[string]bool
	known  bool
}

// Table is the main routing table as far as it is ours. All methods may be called from any goroutine.
type Table struct {
	conn *netlink.Conn
	log  *slog.Logger
	loop *reconcile.Loop

	mu               sync.Mutex // held for one kernel write at most, never during a listing
	devs             *netlink.Devices
	routes           *reconcile.Tracker[key, netlink.Route]
	cluster, learned source
	complete         bool         // learned is all that there is
	taken            map[key]bool // somebody else has what is wanted for learned; false: it is time to try again
	endpoints        map[netip.Prefix]model.Route
	podsKnown        bool
	listed           bool // the kernel was listed since the last wanted route that a listing must look for
	surplus          []netlink.Route
	wishes, tried    int // changes of cluster and learned, and how many of them Apply has got through

	reaches func(dev string, index int, via netip.Addr) bool // see Follow
	written func()
}

// New returns a table that does nothing yet. The Conn must be this table's own.
func New(c *netlink.Conn, log *slog.Logger, hooks reconcile.Hooks) *Table {
	t := &Table{
		conn: c, log: log.With("subsystem", "route"), devs: c.Devices(), routes: reconcile.NewTracker[key, netlink.Route](),
		taken: map[key]bool{}, endpoints: map[netip.Prefix]model.Route{},
	}
	t.loop = reconcile.NewLoop(t, t.log, hooks)
	return t
}

// Follow has routes by tunnel come after their neighbours, and these go after the routes: an on-link route is not written
// while reaches says that its device can't send to its next hop, until Kick; written is called when Written may have become
// true. Call it before Run.
func (t *Table) Follow(reaches func(dev string, index int, via netip.Addr) bool, written func()) {
	t.reaches, t.written = reaches, written
}

// Kick has what could not be written tried again soon.
func (t *Table) Kick() { t.loop.Kick() }

// Written says whether all routes that were set last have been tried: what only the ones before needed may go.
func (t *Table) Written() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tried == t.wishes
}

// SetCluster says which routes there should be besides the pods' ones. The first call means that the datastore is in
// sync. The latest call counts.
func (t *Table) SetCluster(routes []model.Route) {
	next := newSource(routes)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(&t.cluster, next)
}

func newSource(routes []model.Route) source {
	s := source{routes: make(map[netip.Prefix]model.Route, len(routes)), devs: map[string]bool{}, known: true}
	for _, r := range routes {
		r.Dst = r.Dst.Masked()
		s.routes[r.Dst] = r
		s.devs[r.Dev] = true
		for _, h := range r.Others.List() {
			s.devs[h.Dev] = true
		}
	}
	return s
}

// set puts next in the place of a source.
func (t *Table) set(s *source, next source) {
	last := *s
	*s = next
	for dst := range last.routes {
		if _, ok := next.routes[dst]; !ok {
			t.wishes++
			t.refresh(dst)
		}
	}
	for dst, r := range next.routes {
		if old, ok := last.routes[dst]; !ok || old != r {
			t.wishes++
			t.refresh(dst)
			t.listed = t.listed && (r.Proto == model.ProtoMargay || r.Proto == model.ProtoBIRD)
		}
	}
	if t.listed {
		t.loop.Kick()
	} else {
		t.loop.KickResync()
	}
}

// SetEndpoints says which routes to pods there should be, at the start of the agent. The latest call counts.
func (t *Table) SetEndpoints(routes []model.Route) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.endpoints
	t.endpoints = make(map[netip.Prefix]model.Route, len(routes))
	for _, r := range routes {
		t.endpoints[r.Dst.Masked()] = r
	}
	for dst := range last {
		t.refresh(dst)
	}
	for dst := range t.endpoints {
		t.refresh(dst)
	}
	t.podsKnown, t.listed = true, false
	t.loop.KickResync()
}

// PutEndpoint adds routes to a pod; they are in the kernel when it returns nil. On error they stay wanted, and are tried
// again, until DeleteEndpoint. It costs one request to the kernel for each route that isn't there yet.
func (t *Table) PutEndpoint(ctx context.Context, routes []model.Route) error {
	var failed reconcile.Failures
	for _, r := range routes {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("put route %s: %w", r.Dst, err)
		}
		failed.Add(t.putEndpoint(r))
	}
	if err := failed.Err(); err != nil {
		t.loop.Kick()
		return err
	}
	return nil
}

func (t *Table) putEndpoint(r model.Route) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Dst = r.Dst.Masked()
	t.endpoints[r.Dst] = r
	if index, _ := t.devs.Put(r.Dev); index == 0 {
		t.refresh(r.Dst)
		return fmt.Errorf("put route %s: device %s is not there or not up", r.Dst, r.Dev)
	}
	t.refresh(r.Dst)
	return t.put(wantedKey(r.Dst))
}

// DeleteEndpoint ends the care for routes to pods. They are left to vanish with their device, unless the destination is
// wanted otherwise: a block of one address gets its blackhole back at once.
func (t *Table) DeleteEndpoint(prefixes ...netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, dst := range prefixes {
		dst = dst.Masked()
		dev := t.endpoints[dst].Dev
		delete(t.endpoints, dst)
		t.refresh(dst)
		if !t.cluster.devs[dev] && !t.learned.devs[dev] && !t.endpointOn(dev) {
			t.devs.Forget(dev)
		}
		if t.routes.IsDirty(wantedKey(dst)) {
			t.loop.Kick()
		}
	}
}

// DropEndpoint is DeleteEndpoint for routes whose device stays, since a newer sandbox of the pod has it: they are removed
// from the kernel, also when PutEndpoint and SetEndpoints have never told of them.
func (t *Table) DropEndpoint(routes []model.Route) error {
	var failed reconcile.Failures
	for _, r := range routes {
		r.Dst = r.Dst.Masked()
		t.mu.Lock()
		have := t.resolve(r)
		t.mu.Unlock()
		t.DeleteEndpoint(r.Dst)
		if have.OIF != 0 {
			failed.Add(t.conn.DeleteRoute(have))
		}
	}
	return failed.Err()
}

func (t *Table) endpointOn(dev string) bool {
	for _, r := range t.endpoints {
		if r.Dev == dev {
			return true
		}
	}
	return false
}

// SetAudit sets the pause between full comparisons with the kernel, beside its events; 0: there are none.
func (t *Table) SetAudit(d time.Duration) { t.loop.SetAudit(d) }

// Run keeps the kernel as it should be until ctx is done. It fails only when it can't hear of the kernel's events.
func (t *Table) Run(ctx context.Context) error {
	events, err := t.conn.Subscribe(netlink.GroupLink, netlink.GroupAddr4, netlink.GroupAddr6, netlink.GroupRoute4, netlink.GroupRoute6)
	if err != nil {
		return fmt.Errorf("run route table: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return events.Run(ctx, t.event, t.loop.KickResync) })
	g.Go(func() error { return t.loop.Run(ctx) })
	return g.Wait()
}
