package route

import (
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/reconcile"
)

// SetLearned says which routes BGP has told of; a destination that pods or the cluster have is theirs. From the first call
// on routes of protocol 12 are ours: those in the kernel that are not wanted are removed once complete is true. Until
// then, while the speaker has not heard all of its peers after a start, they stay. The latest call counts.
func (t *Table) SetLearned(routes []model.Route, complete bool) {
	next := newSource(routes)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.setLearned(next, complete)
}

// Set is SetCluster and SetLearned at once: a destination that goes over from the one to the other keeps a route.
func (t *Table) Set(cluster, learned []model.Route, complete bool) {
	nextCluster, nextLearned := newSource(cluster), newSource(learned)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(&t.cluster, nextCluster)
	t.setLearned(nextLearned, complete)
}

func (t *Table) setLearned(next source, complete bool) {
	t.listed = t.listed && t.learned.known // protocol 12 must be looked for
	t.complete = complete
	t.set(&t.learned, next)
}

// ours tells routes that are known by their protocol: protocol 80, and, where BGP is spoken, protocol 12 but for a metric
// that a BIRD on this node gives its routes unless told otherwise.
func (t *Table) ours(r netlink.Route) bool {
	return r.Proto == model.ProtoMargay || r.Proto == model.ProtoBIRD && t.learned.known && r.Metric != birdMetric
}

// DropLearned removes routes of protocol 12 inside some networks, such as an agent that spoke BGP, or Calico's BIRD, has left
// where it is not spoken any more: one to a borrowed address would win over its block's. Those outside may be another
// program's. What is wanted otherwise stays until it is replaced.
func (t *Table) DropLearned(within []netip.Prefix) error {
	var failed reconcile.Failures
	for _, family := range netlink.Families {
		routes, err := t.conn.Routes(family, model.ProtoBIRD)
		failed.Add(err)
		for _, r := range routes {
			inside := slices.ContainsFunc(within, func(n netip.Prefix) bool { return n.Bits() <= r.Dst.Bits() && n.Contains(r.Dst.Addr()) })
			t.mu.Lock()
			_, wanted := t.routes.Wanted(keyOf(r))
			t.mu.Unlock()
			if inside && !wanted && r.Metric != birdMetric {
				failed.Add(t.conn.DeleteRoute(r))
			}
		}
	}
	return failed.Err()
}

// birdMetric is BIRD 2's default metric of kernel routes.
const birdMetric = 32

// hold leaves a destination, for which a learned route is wanted, to somebody else's route.
func (t *Table) hold(k key) {
	t.routes.Lost(k)
	if _, told := t.taken[k]; !told {
		t.log.Info("learned route is not written: another program has a route with the same metric", "dst", k.dst)
	}
	t.taken[k] = true
}

// tryTaken has learned routes that were held tried again.
func (t *Table) tryTaken() {
	for k := range t.taken {
		t.taken[k] = false
	}
}

// note takes in an event of a route that is wanted, or ours.
func (t *Table) note(k key, r netlink.Route, deleted bool) {
	want, _ := t.routes.Wanted(k)
	have, _ := t.routes.Known(k)
	foreign := want.Proto == model.ProtoBIRD && !t.ours(r)
	switch {
	case foreign && deleted:
		if _, told := t.taken[k]; told {
			t.taken[k] = false
		}
	case foreign:
		t.hold(k)
		t.loop.KickResync() // is ours still there, before or behind it?
	case deleted && have.Others != "" && r != have:
		t.tear(k) // one of several next hops
	case deleted:
		t.routes.Lost(k)
	default:
		t.routes.Have(k, r)
	}
}

// tear notes that the kernel has changed a route of ours in some way.
func (t *Table) tear(k key) {
	have, _ := t.routes.Known(k)
	have.Odd = true
	t.routes.Have(k, have)
}

// letGo takes in that the kernel has let go of what hung on a device. Of a route with several next hops those on other
// devices may be left.
func (t *Table) letGo(index int) {
	var torn []key
	t.routes.LostIf(func(k key, r netlink.Route) bool {
		if r.Others != "" && r.Uses(index) {
			torn = append(torn, k)
			return false
		}
		return r.OIF == index
	})
	for _, k := range torn {
		t.tear(k)
	}
}

// putLearned writes a learned route in place of one of ours, and of nobody else's.
func (t *Table) putLearned(k key, want netlink.Route) error {
	held, told := t.taken[k]
	if held {
		return nil
	}
	have, there := t.routes.Known(k)
	if there && told { // replacing could hit the other one
		if err := t.conn.DeleteRoute(have); err != nil {
			return err
		}
		t.routes.Lost(k)
		there = false
	}
	write := t.conn.AddRoute
	if there {
		write = t.conn.PutRoute
	}
	err := write(want)
	switch {
	case errors.Is(err, unix.EEXIST) && there: // stands behind ours
		t.loop.KickResync()
		return nil
	case errors.Is(err, unix.EEXIST):
		t.hold(k)
		return nil
	case err != nil:
		return err
	}
	delete(t.taken, k)
	t.routes.Have(k, want)
	return nil
}
