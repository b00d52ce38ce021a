package route

import (
	"context"
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

	var all []netlink.Route
	for _, family := range netlink.Families {
		for _, proto := range protos {
			routes, err := t.conn.Routes(family, proto)
			if err != nil {
				t.mu.Lock()
				t.listed = false
				t.mu.Unlock()
				return err
			}
			all = append(all, routes...)
		}
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	have := make(map[key]netlink.Route, len(all))
	t.surplus = nil
	for _, r := range all {
		k := keyOf(r)
		want, wanted := t.routes.Wanted(k)
		if !wanted && r.Proto != model.ProtoMargay {
			continue
		}
		first, twice := have[k]
		switch {
		case !twice:
			have[k] = r
		case r.Proto != model.ProtoMargay: // behind ours, and not ours
		case r != want:
			t.surplus = append(t.surplus, r)
		case first.Proto == model.ProtoMargay: // ours stands behind another one of ours
			t.surplus = append(t.surplus, first)
			have[k] = r
		}
	}
	t.routes.Listed(have)
	return nil
}

// protos returns the protocols that wanted routes have, besides our own.
func (t *Table) protos() []uint8 {
	protos := []uint8{model.ProtoMargay, model.ProtoBoot}
	for _, r := range t.cluster {
		if p := uint8(r.Proto); !slices.Contains(protos, p) {
			protos = append(protos, p)
		}
	}
	return protos
}

// Apply writes what is missing and removes what is too much.
func (t *Table) Apply(ctx context.Context) error {
	t.mu.Lock()
	if !t.clusterKnown || !t.listed {
		t.mu.Unlock()
		return nil
	}
	put, remove := t.routes.Dirty(compareKeys)
	surplus := t.surplus
	t.surplus = nil
	sweep := t.podsKnown
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
		failed.Add(t.conn.DeleteRoute(r))
	}
	return failed.Err()
}

func (t *Table) applyPut(k key) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	want, _ := t.routes.Wanted(k)
	if want.Type == unix.RTN_BLACKHOLE && k.dst.IsSingleIP() && !t.podsKnown {
		return nil // a pod that we don't know of yet may have that address
	}
	return t.put(k)
}

func (t *Table) applyRemove(k key) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	have, there := t.routes.Known(k)
	if _, wanted := t.routes.Wanted(k); wanted || !there {
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
	case unix.RTM_DELADDR:
		a, ok := e.Addr()
		if !ok {
			return
		}
		t.mu.Lock()
		_, ours := t.devs.Name(a.Index)
		t.mu.Unlock()
		if ours {
			t.loop.KickResync()
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
	_, wanted := t.routes.Wanted(k)
	if !wanted && r.Proto != model.ProtoMargay {
		return
	}
	if e.Deleted() {
		t.routes.Lost(k)
	} else {
		t.routes.Have(k, r)
	}
	if t.routes.IsDirty(k) {
		t.loop.Kick()
	}
}

func (t *Table) linkEvent(e netlink.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	names, lost := t.devs.Event(e)
	if lost != 0 {
		t.routes.LostIf(func(_ key, r netlink.Route) bool { return r.OIF == lost })
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
		if !t.clusterDevs[dev] {
			continue
		}
		for dst, r := range t.cluster {
			if r.Dev == dev {
				t.refresh(dst)
			}
		}
	}
}
