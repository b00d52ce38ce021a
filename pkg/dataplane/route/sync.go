package route

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/reconcile"
)

// Resync lists the kernel's routes. PutEndpoint goes on meanwhile.
func (t *Table) Resync(context.Context) error {
	t.mu.Lock()
	t.routes.Listing()
	t.listed = true
	t.changed(t.devs.Look())
	protos := t.protos()
	t.mu.Unlock()

	all := make(map[key]netlink.Route)
	var twice []netlink.Route
	for _, family := range netlink.Families {
		for _, proto := range protos {
			routes, err := t.conn.Routes(family, proto)
			if err != nil {
				t.mu.Lock()
				t.listed = false
				t.mu.Unlock()
				return err
			}
			for _, r := range routes {
				if _, there := all[keyOf(r)]; there {
					twice = append(twice, r)
				} else {
					all[keyOf(r)] = r
				}
			}
		}
	}
	t.take(all, twice)
	return nil
}

// take takes a listing in. Routes in twice have the same key as one in all, and stand behind it.
func (t *Table) take(all map[key]netlink.Route, twice []netlink.Route) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tryTaken()
	for k, r := range all {
		if t.ours(r) {
			continue
		}
		if want, wanted := t.routes.Wanted(k); !wanted || want.Proto == model.ProtoBIRD {
			delete(all, k)
		}
	}
	t.surplus = nil
	for _, r := range twice {
		if !t.ours(r) {
			continue
		}
		k := keyOf(r)
		if want, _ := t.routes.Wanted(k); r == want && t.ours(all[k]) {
			all[k], r = r, all[k]
		}
		t.surplus = append(t.surplus, r)
	}
	t.routes.Listed(all)
}

// protos returns our protocols and those that wanted routes have.
func (t *Table) protos() []uint8 {
	protos := []uint8{model.ProtoMargay, model.ProtoBoot}
	if t.learned.known {
		protos = append(protos, model.ProtoBIRD)
	}
	for _, r := range t.cluster.routes {
		if p := uint8(r.Proto); !slices.Contains(protos, p) {
			protos = append(protos, p)
		}
	}
	return protos
}

// Apply writes what is missing and removes what is too much.
func (t *Table) Apply(ctx context.Context) error {
	t.mu.Lock()
	if !t.cluster.known || !t.listed {
		t.mu.Unlock()
		return nil
	}
	put, remove := t.routes.Dirty(compareKeys)
	surplus := t.surplus
	t.surplus = nil
	sweep, complete, wishes := t.podsKnown, t.complete, t.wishes
	t.mu.Unlock()

	var failed reconcile.Failures
	for _, k := range put {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failed.Add(t.applyPut(k))
	}
	if !sweep {
		return failed.Err()
	}
	for _, k := range remove {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failed.Add(t.applyRemove(k))
	}
	for _, r := range surplus {
		if r.Proto != model.ProtoBIRD || complete {
			failed.Add(t.conn.DeleteRoute(r))
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tried != wishes && t.written != nil {
		t.written()
	}
	t.tried = wishes
	return failed.Err()
}

func (t *Table) applyPut(k key) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	want, _ := t.routes.Wanted(k)
	if want.Type == unix.RTN_BLACKHOLE && k.dst.IsSingleIP() && !t.podsKnown {
		return nil // a pod that we don't know of yet may have that address
	}
	err := t.put(k)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENETDOWN) {
		if changed := t.devs.Look(); len(changed) > 0 { // the device went before its event came
			t.changed(changed)
			return nil
		}
	}
	return err
}

func (t *Table) applyRemove(k key) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	have, there := t.routes.Known(k)
	if _, wanted := t.routes.Wanted(k); wanted || !there || have.Proto == model.ProtoBIRD && !t.complete {
		return nil
	}
	if err := t.conn.DeleteRoute(have); err != nil {
		return err
	}
	t.routes.Lost(k)
	return nil
}

// event takes in what the kernel says that somebody did. What this table did itself it knows already.
func (t *Table) event(e netlink.Event) {
	switch e.Type {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if !e.Own {
			t.routeEvent(e)
		}
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		t.linkEvent(e)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		a, ok := e.Addr()
		if !ok {
			return
		}
		t.mu.Lock()
		_, ours := t.devs.Name(a.Index)
		t.mu.Unlock()
		switch {
		case ours && e.Deleted():
			t.loop.KickResync()
		case ours: // a next hop may be on the link now
			t.loop.Kick()
		}
	}
}

func (t *Table) routeEvent(e netlink.Event) {
	r, ok := e.Route()
	if !ok {
		return
	}
	k := keyOf(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, wanted := t.routes.Wanted(k); !wanted && !t.ours(r) {
		return
	}
	t.note(k, r, e.Deleted())
	if t.routes.IsDirty(k) {
		t.loop.Kick()
	}
}

func (t *Table) linkEvent(e netlink.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	names, lost := t.devs.Event(e)
	if lost != 0 {
		t.letGo(lost)
	}
	if l, ok := e.Link(); ok && len(t.taken) > 0 && (e.Deleted() || !l.Up) {
		t.tryTaken() // what others had there may be gone without an event
		t.loop.Kick()
	}
	t.changed(names)
	if len(names) > 0 {
		t.loop.Kick()
	}
}

// changed works out the routes on these devices anew.
func (t *Table) changed(devs []string) {
	for _, dev := range devs {
		for dst, r := range t.endpoints {
			if r.Dev == dev {
				t.refresh(dst)
			}
		}
		for _, s := range []source{t.cluster, t.learned} {
			if !s.devs[dev] {
				continue
			}
			for dst, r := range s.routes {
				if r.Dev == dev || r.Others != "" {
					t.refresh(dst)
				}
			}
		}
	}
}

// Count returns how many routes there should be, by family. It asks the kernel nothing.
func (t *Table) Count() (v4, v6 int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	count := func(dst netip.Prefix) {
		if dst.Addr().Is4() {
			v4++
		} else {
			v6++
		}
	}
	for dst := range t.endpoints {
		count(dst)
	}
	for dst := range t.cluster.routes {
		if _, pod := t.endpoints[dst]; !pod {
			count(dst)
		}
	}
	for dst := range t.learned.routes {
		_, pod := t.endpoints[dst]
		if _, cluster := t.cluster.routes[dst]; !pod && !cluster {
			count(dst)
		}
	}
	return v4, v6
}
