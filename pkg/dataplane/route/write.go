package route

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
)

// refresh works out what dst should be. Pods come before the cluster's routes, these before learned ones.
func (t *Table) refresh(dst netip.Prefix) {
	k := wantedKey(dst)
	r, ok := t.endpoints[dst]
	if !ok {
		r, ok = t.cluster.routes[dst]
	}
	if !ok {
		r, ok = t.learned.routes[dst]
	}
	if r.Proto != model.ProtoBIRD {
		delete(t.taken, k)
	}
	want, wanted := t.routes.Wanted(k)
	if ok {
		t.routes.Want(k, t.resolve(r))
	} else {
		t.routes.Unwant(k)
	}
	have, there := t.routes.Known(k)
	if !there || t.ours(have) {
		return
	}
	switch {
	case ok && r.Proto == model.ProtoBIRD:
		t.hold(k)
	case !ok && (!wanted || have != want || have.Proto == model.ProtoBoot):
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
	if r.Others != "" {
		out.SetHops(t.usable(r))
		return out
	}
	out.OIF, out.Gw, out.OnLink = t.devs.Index(r.Dev), r.Via, r.OnLink
	if !r.Via.IsValid() && r.Dst.Addr().Is4() {
		out.Scope = unix.RT_SCOPE_LINK
	}
	return out
}

// usable returns the next hops whose devices are there and up.
func (t *Table) usable(r model.Route) (out []netlink.Hop) {
	for _, h := range append(r.Others.List(), model.Hop{Dev: r.Dev, Via: r.Via, OnLink: r.OnLink}) {
		if index := t.devs.Index(h.Dev); index != 0 {
			out = append(out, netlink.Hop{OIF: index, Gw: h.Via, OnLink: h.OnLink})
		}
	}
	return out
}

// put writes the route of k if it is wanted and not there.
func (t *Table) put(k key) error {
	want, ok := t.routes.Wanted(k)
	if !ok || !t.routes.IsDirty(k) || want.Type == unix.RTN_UNICAST && want.OIF == 0 {
		return nil
	}
	if dev, _ := t.devs.Name(want.OIF); want.OnLink && t.reaches != nil && !t.reaches(dev, want.OIF, want.Gw) {
		return nil
	}
	if want.Proto == model.ProtoBIRD {
		return t.putLearned(k, want)
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
