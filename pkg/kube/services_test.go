package kube

import (
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/margay-net/margay/pkg/advertise"
)

const here = "node-1" // what the tests' directories are for

func TestReadService(t *testing.T) {
	both := []string{"10.96.0.10", "fd96::10"}
	addr := func(texts ...string) (out []netip.Addr) {
		for _, text := range texts {
			out = append(out, netip.MustParseAddr(text))
		}
		return out
	}
	spec := func(change func(*corev1.ServiceSpec)) corev1.ServiceSpec {
		s := corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: both[0], ClusterIPs: both}
		change(&s)
		return s
	}
	local := corev1.ServiceInternalTrafficPolicyLocal
	cluster := corev1.ServiceInternalTrafficPolicyCluster
	vip, proxy := corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy
	ingress := []corev1.LoadBalancerIngress{{IP: "192.168.60.8"}, {IP: "fd60::8", IPMode: &vip}, {IP: "192.168.60.9", IPMode: &proxy}, {Hostname: "lb.example.com"}}
	for _, c := range []struct {
		name string
		spec corev1.ServiceSpec
		want *advertise.Service
	}{
		{"of either family", spec(func(*corev1.ServiceSpec) {}), &advertise.Service{Cluster: addr(both...)}},
		{"headless", spec(func(s *corev1.ServiceSpec) { s.ClusterIP, s.ClusterIPs = "None", []string{"None"} }), nil},
		{"without an address yet", spec(func(s *corev1.ServiceSpec) { s.ClusterIP, s.ClusterIPs = "", nil }), nil},
		{"ExternalName", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com", ExternalIPs: []string{"192.168.50.7"}}, nil},
		{"external addresses", spec(func(s *corev1.ServiceSpec) {
			s.ExternalIPs, s.ExternalTrafficPolicy = []string{"192.168.50.7", "fd50::7", "::ffff:192.168.50.8", "x"}, corev1.ServiceExternalTrafficPolicyCluster
		}), &advertise.Service{Cluster: addr(both...), External: addr("192.168.50.7", "fd50::7", "192.168.50.8")}},
		{"policies Local", spec(func(s *corev1.ServiceSpec) {
			s.ExternalTrafficPolicy, s.InternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal, &local
		}), &advertise.Service{Cluster: addr(both...), Inside: true, Outside: true}},
		{"policy Cluster", spec(func(s *corev1.ServiceSpec) { s.InternalTrafficPolicy = &cluster }), &advertise.Service{Cluster: addr(both...)}},
		{"load balancer, without what is only wished for", spec(func(s *corev1.ServiceSpec) {
			s.Type, s.LoadBalancerIP = corev1.ServiceTypeLoadBalancer, "192.168.60.99"
		}), &advertise.Service{Cluster: addr(both...), Balancer: addr("192.168.60.8", "fd60::8")}},
		{"node port, which has no load balancer", spec(func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeNodePort }), &advertise.Service{Cluster: addr(both...)}},
	} {
		got := readService(&corev1.Service{Spec: c.spec, Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: ingress}}})
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// endpoint is one on a node; conditions are what is said of it: r, s, t are ready, serving, terminating, capitals the
// contrary.
func endpoint(node, conditions string) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{"10.244.0.7"}}
	if node != "" {
		e.NodeName = &node
	}
	for letter, field := range map[string]**bool{"r": &e.Conditions.Ready, "s": &e.Conditions.Serving, "t": &e.Conditions.Terminating} {
		if yes := strings.Contains(conditions, letter); yes || strings.Contains(conditions, strings.ToUpper(letter)) {
			*field = &yes
		}
	}
	return e
}

func TestReadSlice(t *testing.T) {
	const elsewhere = "node-2"
	of := func(endpoints ...discoveryv1.Endpoint) []discoveryv1.Endpoint { return endpoints }
	for _, c := range []struct {
		name        string
		endpoints   []discoveryv1.Endpoint
		ready, here bool
	}{
		{"empty", nil, false, false},
		{"ready here", of(endpoint(here, "rsT")), true, true},
		{"ready elsewhere", of(endpoint(elsewhere, "rsT")), true, false},
		{"ready on no node", of(endpoint("", "rsT")), true, false},
		{"nothing said", of(endpoint(here, "")), true, true},
		{"not ready", of(endpoint(here, "RST")), false, false},
		{"serving is not ready", of(endpoint(here, "RsT")), false, false},
		{"terminating, still serving", of(endpoint(here, "Rst")), false, false},
		{"terminating, though ready", of(endpoint(here, "rst")), false, false},
		{"one of many", of(endpoint(elsewhere, "rsT"), endpoint(here, "Rst"), endpoint(here, "r"), endpoint(elsewhere, "r"), endpoint(here, "R")), true, true},
		{"here only terminating", of(endpoint(elsewhere, "rsT"), endpoint(here, "Rst")), true, false},
	} {
		for kind, six := range map[discoveryv1.AddressType]bool{discoveryv1.AddressTypeIPv4: false, discoveryv1.AddressTypeIPv6: true} {
			s := &discoveryv1.EndpointSlice{AddressType: kind, Endpoints: c.endpoints}
			if got := readSlice(s, here); got != nil {
				t.Errorf("%s, of no Service: %+v", c.name, got)
			}
			s.Labels = map[string]string{discoveryv1.LabelServiceName: "web"}
			want := &advertise.Slice{Service: "web", Family6: six, Here: c.here}
			if !c.ready {
				want = nil
			}
			if got := readSlice(s, here); !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %s: %+v, want %+v", c.name, kind, got, want)
			}
			if s.AddressType = discoveryv1.AddressTypeFQDN; readSlice(s, here) != nil {
				t.Errorf("%s: names are taken for addresses", c.name)
			}
		}
	}
}

// BenchmarkServices reads 5,000 Services with a slice of ten endpoints each, as they come from the API server. MB-held is
// what is kept of them, the reflectors' part included.
func BenchmarkServices(b *testing.B) {
	var texts [2][][]byte
	for i := range 5000 {
		name := fmt.Sprintf("service-%d", i)
		meta := metav1.ObjectMeta{Namespace: fmt.Sprintf("namespace-%d", i/100), Name: name, UID: "8c2f6b1e-9d0a-4a37-8d52-1f3d3c0f3b11", Labels: map[string]string{discoveryv1.LabelServiceName: name, "app": name}}
		s := balancer(policyLocal, fmt.Sprintf("192.168.%d.%d", i/250, i%250))
		s.ObjectMeta = meta
		s.Spec.ClusterIPs, s.Spec.ExternalIPs = []string{fmt.Sprintf("10.96.%d.%d", i/250, i%250)}, nil
		slice := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4}
		slice.Name += "-x7b2k"
		for j := range 10 {
			slice.Endpoints = append(slice.Endpoints, endpoint(fmt.Sprintf("node-%d", (i+j)%500), "rsT"))
		}
		for k, o := range []interface{ Marshal() ([]byte, error) }{s, slice} {
			text, err := o.Marshal()
			if err != nil {
				b.Fatal(err)
			}
			texts[k] = append(texts[k], text)
		}
	}
	before := heap()
	var d *advertise.Directory
	var services *reduced[corev1.Service, *corev1.Service, *advertise.Service]
	var endpoints *reduced[discoveryv1.EndpointSlice, *discoveryv1.EndpointSlice, *advertise.Slice]
	for b.Loop() {
		d = advertise.NewDirectory(nil)
		services, endpoints = &reduced[corev1.Service, *corev1.Service, *advertise.Service]{Sink: serviceSink(d), keys: map[Key]struct{}{}},
			&reduced[discoveryv1.EndpointSlice, *discoveryv1.EndpointSlice, *advertise.Slice]{Sink: sliceSink(d, here), keys: map[Key]struct{}{}}
		for i := range texts[0] {
			s, slice := &corev1.Service{}, &discoveryv1.EndpointSlice{}
			if s.Unmarshal(texts[0][i]) != nil || slice.Unmarshal(texts[1][i]) != nil || services.Add(s) != nil || endpoints.Add(slice) != nil {
				b.Fatal("not read")
			}
		}
	}
	b.ReportMetric(heap()-before, "MB-held")
	runtime.KeepAlive(texts)
	runtime.KeepAlive(services)
	runtime.KeepAlive(endpoints)
}

func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}
