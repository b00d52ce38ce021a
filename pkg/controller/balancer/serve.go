package balancer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/margay-net/margay/pkg/controller/cluster"
	"github.com/margay-net/margay/pkg/kube"
)

// serve does what is to be done for one Service, as the API server has it now. lacks says why it has not all that it asks
// for; err is what is worth trying again soon.
func (b *Balancer) serve(ctx context.Context, k kube.Key, pools []cluster.Pool) (lacks, err error) {
	obj, err := b.client.GetService(ctx, k.Namespace, k.Name)
	if apierrors.IsNotFound(err) {
		return nil, nil // the watch will tell
	}
	if err != nil {
		return nil, err
	}
	s := cluster.ReadService(obj)
	handle := handleOf(k, s.UID)
	have := b.held()[handle].have
	if !managed(s, b.assignment()) {
		if err := b.release(ctx, k, handle, have, nil); err != nil {
			return nil, err
		}
		return nil, b.status(ctx, obj, have, nil, true)
	}
	w, lacks := wantOf(s, pools, b.cluster.NamespaceLabels(k.Namespace))
	if lacks != nil {
		return lacks, nil
	}
	// What is new comes first, so that a Service is not left without.
	_, back, addrs, families := w.compare(publishedFirst(have, s.Ingress))
	if lacks, err = b.take(ctx, k, handle, w, addrs, families); err == nil {
		var keep []held
		keep, back = w.replaced(b.held()[handle].have, back, pools)
		err = b.release(ctx, k, handle, back, keep)
	}
	have = b.held()[handle].have
	return lacks, errors.Join(err, b.makeHandle(ctx, handle, have), b.status(ctx, obj, back, have, false))
}

// replaced says what of back may go, now that a Service has what could be had, and what it keeps: as long as an address that
// it asks for cannot be had, the one of that family that it had before serves on, if its pool still gives addresses.
func (w *want) replaced(have, back []held, pools []cluster.Pool) (keep, gone []held) {
	gone = slices.DeleteFunc(slices.Clone(back), func(old held) bool {
		lacks := slices.ContainsFunc(w.addrs, func(a netip.Addr) bool {
			return a.Is6() == old.addr.Is6() && !slices.ContainsFunc(have, func(h held) bool { return h.addr == a })
		})
		return lacks && slices.ContainsFunc(pools, func(p cluster.Pool) bool { return gives(p) && p.CIDR.Contains(old.addr) })
	})
	keep = slices.DeleteFunc(slices.Clone(have), func(h held) bool { return slices.Contains(gone, h) })
	return keep, gone
}

// publishedFirst returns have with what the Service's status tells people first: should it hold too many, these stay.
func publishedFirst(have []held, ingress []string) []held {
	return slices.SortedStableFunc(slices.Values(have), func(x, y held) int {
		switch px, py := slices.Contains(ingress, x.addr.String()), slices.Contains(ingress, y.addr.String()); {
		case px && !py:
			return -1
		case py && !px:
			return 1
		}
		return 0
	})
}

// take takes what a Service lacks. What cannot be had says why in lacks, and does not stop the rest.
func (b *Balancer) take(ctx context.Context, k kube.Key, handle string, w want, addrs []netip.Addr, families []bool) (lacks, err error) {
	secondary := attributes(k, time.Now())
	for _, a := range addrs {
		missing, aerr := b.takeAddr(ctx, handle, a, secondary)
		lacks, err = errors.Join(lacks, missing), errors.Join(err, aerr)
	}
	for _, family6 := range families {
		missing, aerr := b.takeAny(ctx, handle, family6, w.pools[family6], secondary)
		lacks, err = errors.Join(lacks, missing), errors.Join(err, aerr)
	}
	return lacks, err
}

// status writes a Service's addresses. ours are those that it had of us; those of others stay only where the Service is not
// ours.
func (b *Balancer) status(ctx context.Context, obj *corev1.Service, ours, have []held, foreign bool) error {
	var ingress []corev1.LoadBalancerIngress
	for _, i := range obj.Status.LoadBalancer.Ingress {
		if foreign && !slices.ContainsFunc(ours, func(h held) bool { return h.addr.String() == i.IP }) {
			ingress = append(ingress, i)
		}
	}
	for _, h := range have {
		ingress = append(ingress, corev1.LoadBalancerIngress{IP: h.addr.String()})
	}
	same := slices.EqualFunc(ingress, obj.Status.LoadBalancer.Ingress, func(x, y corev1.LoadBalancerIngress) bool { return x.IP == y.IP && x.Hostname == y.Hostname })
	if same {
		return nil
	}
	obj = obj.DeepCopy()
	obj.Status.LoadBalancer.Ingress = ingress
	if _, err := b.client.UpdateServiceStatus(ctx, obj); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("update status: %w", err)
	}
	b.log.Info("addresses of a Service", "service", obj.Namespace+"/"+obj.Name, "addrs", fmt.Sprint(addrsOf(have)))
	return nil
}

func addrsOf(have []held) (out []netip.Addr) {
	for _, h := range have {
		out = append(out, h.addr)
	}
	return out
}

// tell says once what a Service lacks, in the log and as an event of the Service.
func (b *Balancer) tell(ctx context.Context, k kube.Key, uid string, lacks error) {
	if lacks == nil {
		delete(b.told, k)
		return
	}
	if b.told[k] == lacks.Error() {
		return
	}
	b.told[k] = lacks.Error()
	b.log.Warn("Service lacks an address", "service", k.Namespace+"/"+k.Name, "err", lacks)
	on := corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: k.Namespace, Name: k.Name, UID: types.UID(uid)}
	if err := b.client.Tell(ctx, on, corev1.EventTypeWarning, component, "AddressNotAssigned", lacks.Error()); err != nil {
		b.log.Debug("cannot write an event", "err", err)
	}
}
