package route

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

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

// Table is the main routing table as far as it is ours. All methods may be called from any goroutine.
type Table struct {
	conn *netlink.Conn
	loop *reconcile.Loop

	mu                      sync.Mutex // held for one kernel write at most, never during a listing
	devs                    *netlink.Devices
	routes                  *reconcile.Tracker[key, netlink.Route]
	cluster, endpoints      map[netip.Prefix]model.Route
	clusterDevs             map[string]bool
	clusterKnown, podsKnown bool
	listed                  bool // the kernel was listed since the last wanted route that a listing must look for
	surplus                 []netlink.Route
}

// New returns a table that does nothing yet. The Conn must be this table's own.
func New(c *netlink.Conn, log *slog.Logger, hooks reconcile.Hooks) *Table {
	t := &Table{
		conn: c, devs: c.Devices(), routes: reconcile.NewTracker[key, netlink.Route](),
		cluster: map[netip.Prefix]model.Route{}, endpoints: map[netip.Prefix]model.Route{},
	}
	t.loop = reconcile.NewLoop(t, log.With("subsystem", "route"), hooks)
	return t
}

// SetCluster says which routes there should be besides the pods' ones. The first call means that the datastore is in
// sync. The latest call counts.
func (t *Table) SetCluster(routes []model.Route) {
	next := make(map[netip.Prefix]model.Route, len(routes))
	devs := map[string]bool{}
	for _, r := range routes {
		r.Dst = r.Dst.Masked()
		next[r.Dst] = r
		devs[r.Dev] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.cluster
	t.cluster, t.clusterDevs, t.clusterKnown = next, devs, true
	for dst := range last {
		if _, ok := next[dst]; !ok {
			t.refresh(dst)
		}
	}
	for dst, r := range next {
		if old, ok := last[dst]; !ok || old != r {
			t.refresh(dst)
			t.listed = t.listed && r.Proto == model.ProtoMargay
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
		if !t.clusterDevs[dev] && !t.endpointOn(dev) {
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

// refresh works out what dst should be. Pods come before the cluster's routes.
func (t *Table) refresh(dst netip.Prefix) {
	k := wantedKey(dst)
	r, ok := t.endpoints[dst]
	if !ok {
		r, ok = t.cluster[dst]
	}
	if ok {
		t.routes.Want(k, t.resolve(r))
		return
	}
	want, wanted := t.routes.Wanted(k)
	t.routes.Unwant(k)
	have, there := t.routes.Known(k)
	ours := have.Proto == model.ProtoMargay || wanted && have == want && have.Proto != model.ProtoBoot
	if there && !ours {
		t.routes.Lost(k) // nothing to remove: not ours, or it goes with its device
	}
}

// resolve turns a wanted route into what the kernel should list. Without a usable device its OIF is 0.
func (t *Table) resolve(r model.Route) netlink.Route {
	k := wantedKey(r.Dst)
	out := netlink.Route{Dst: k.dst, Metric: k.metric, Proto: uint8(r.Proto), Type: unix.RTN_UNICAST}
	if r.Kind == model.RouteBlackhole {
		out.Type = unix.RTN_BLACKHOLE
		return out
	}
	out.OIF, out.Gw, out.OnLink = t.devs.Index(r.Dev), r.Via, r.OnLink
	if !r.Via.IsValid() && r.Dst.Addr().Is4() {
		out.Scope = unix.RT_SCOPE_LINK
	}
	return out
}

// put writes the route of k if it is wanted and not there.
func (t *Table) put(k key) error {
	want, ok := t.routes.Wanted(k)
	if !ok || !t.routes.IsDirty(k) || want.Type == unix.RTN_UNICAST && want.OIF == 0 {
		return nil
	}
	err := t.conn.PutRoute(want)
	switch {
	case errors.Is(err, unix.EEXIST):
		err = t.putFirst(want)
	case errors.Is(err, unix.EINVAL) && want.OnLink && want.Dst.Addr().Is6():
		err = t.putOnLink6(want)
	}
	if err != nil {
		return err
	}
	t.routes.Have(k, want)
	return nil
}

// putFirst puts a route that stands behind another one for the same destination.
func (t *Table) putFirst(r netlink.Route) error {
	if err := t.conn.DeleteRoute(r); err != nil {
		return err
	}
	return t.conn.PutRoute(r)
}

// putOnLink6 puts an on-link route whose next hop the kernel finds on another device as yet, mostly because of the very
// route that is to be replaced. A passing route to the next hop itself shows it the right device.
func (t *Table) putOnLink6(r netlink.Route) error {
	hop := netlink.Route{Dst: netip.PrefixFrom(r.Gw, r.Gw.BitLen()), Metric: r.Metric, Type: r.Type, Proto: r.Proto, OIF: r.OIF}
	if err := t.conn.PutRoute(hop); err != nil {
		return err
	}
	err := t.conn.PutRoute(r)
	switch before, ours := t.routes.Known(keyOf(hop)); {
	case hop.Dst == r.Dst:
		return err
	case ours:
		return errors.Join(err, t.conn.PutRoute(before))
	}
	return errors.Join(err, t.conn.DeleteRoute(hop))
}
