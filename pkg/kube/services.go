package kube

import (
	"context"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/margay-net/margay/pkg/advertise"
)

// endpointSlices selects the EndpointSlices of Services that have an address.
const endpointSlices = discoveryv1.LabelServiceName + ",!" + corev1.IsHeadlessService

// FollowServices keeps a directory of Services, and of where their endpoints are ready as seen from a node, up to date
// until ctx ends. While the directory does not want any, it watches nothing, and the directory is empty.
func FollowServices(ctx context.Context, c *Client, node string, d *advertise.Directory) error {
	for ctx.Err() == nil {
		wanted, news := d.Wanted()
		if wanted {
			c.followServices(ctx, node, d)
			d.Forget()
			continue
		}
		select {
		case <-ctx.Done():
		case <-news:
		}
	}
	return nil
}

// followServices watches until the directory wants no more.
func (c *Client) followServices(ctx context.Context, node string, d *advertise.Directory) {
	ctx, stop := context.WithCancel(ctx)
	var watches sync.WaitGroup
	watches.Go(func() { Follow[corev1.Service](ctx, c, serviceSink(d)) })
	watches.Go(func() {
		follow[discoveryv1.EndpointSlice](ctx, c.discovery, "endpointslices", endpointSlices, sliceSink(d, node))
	})
	for wanted, news := d.Wanted(); wanted && ctx.Err() == nil; wanted, news = d.Wanted() {
		select {
		case <-ctx.Done():
		case <-news:
		}
	}
	stop()
	watches.Wait()
}

func serviceSink(d *advertise.Directory) Sink[*corev1.Service, *advertise.Service] {
	return Sink[*corev1.Service, *advertise.Service]{
		Read:   readService,
		Put:    func(k Key, s *advertise.Service) { d.SetService(advertise.Key(k), s) },
		Drop:   func(k Key) { d.SetService(advertise.Key(k), nil) },
		Synced: d.ReadServices,
	}
}

func sliceSink(d *advertise.Directory, node string) Sink[*discoveryv1.EndpointSlice, *advertise.Slice] {
	return Sink[*discoveryv1.EndpointSlice, *advertise.Slice]{
		Read:   func(s *discoveryv1.EndpointSlice) *advertise.Slice { return readSlice(s, node) },
		Put:    func(k Key, s *advertise.Slice) { d.SetSlice(advertise.Key(k), s) },
		Drop:   func(k Key) { d.SetSlice(advertise.Key(k), nil) },
		Synced: d.ReadSlices,
	}
}

// readService returns nil for a Service without cluster addresses: a headless one, an ExternalName.
func readService(s *corev1.Service) *advertise.Service {
	if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	inside := s.Spec.InternalTrafficPolicy
	out := &advertise.Service{
		Cluster: addrs(s.Spec.ClusterIPs...), External: addrs(s.Spec.ExternalIPs...),
		Inside:  inside != nil && *inside == corev1.ServiceInternalTrafficPolicyLocal,
		Outside: s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
	}
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return out
	}
	for _, i := range s.Status.LoadBalancer.Ingress {
		// In mode Proxy the load balancer sends to node ports: no node takes packets for its address.
		if i.IPMode == nil || *i.IPMode == corev1.LoadBalancerIPModeVIP {
			out.Balancer = append(out.Balancer, addrs(i.IP)...)
		}
	}
	return out
}

// addrs leaves out what is no address.
func addrs(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// readSlice returns nil when no endpoint is ready, or the slice is not of a Service's addresses.
func readSlice(s *discoveryv1.EndpointSlice, node string) *advertise.Slice {
	service := s.Labels[discoveryv1.LabelServiceName]
	if service == "" || s.AddressType == discoveryv1.AddressTypeFQDN {
		return nil
	}
	var out *advertise.Slice
	for _, e := range s.Endpoints {
		if !ready(e.Conditions) {
			continue
		}
		if out == nil {
			out = &advertise.Slice{Service: service, Family6: s.AddressType == discoveryv1.AddressTypeIPv6}
		}
		out.Here = out.Here || e.NodeName != nil && *e.NodeName == node
	}
	return out
}

// ready says whether an endpoint should have new connections. Not said is yes. One that terminates is said to be ready
// when its Service publishes addresses that are not.
func ready(c discoveryv1.EndpointConditions) bool {
	return (c.Ready == nil || *c.Ready) && (c.Terminating == nil || !*c.Terminating)
}
