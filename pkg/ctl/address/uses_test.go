package address

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/ipam/check"
)

// TestPodUses: which addresses count as a pod's.
func TestPodUses(t *testing.T) {
	now := metav1.Now()
	running := corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}}
	on := corev1.PodSpec{NodeName: "node-1"}
	for _, test := range []struct {
		name string
		pod  corev1.Pod
		want []string // addresses; "": one that is not known; a trailing ! is the pod's own
	}{
		{"running", corev1.Pod{Spec: on, Status: running}, []string{"10.0.0.1", "fd00::1"}},
		{"waits for a node", corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending}}, nil},
		{"starts", corev1.Pod{Spec: on, Status: corev1.PodStatus{Phase: corev1.PodPending}}, []string{""}},
		{"starts, with an address", corev1.Pod{Spec: on, Status: corev1.PodStatus{Phase: corev1.PodPending, PodIP: "10.0.0.1"}}, []string{"", "10.0.0.1"}},
		{"ends", corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}, Spec: on, Status: running}, []string{""}},
		{"over", corev1.Pod{Spec: on, Status: corev1.PodStatus{Phase: corev1.PodSucceeded, PodIP: "10.0.0.1"}}, nil},
		{"failed", corev1.Pod{Spec: on, Status: corev1.PodStatus{Phase: corev1.PodFailed, PodIP: "10.0.0.1"}}, nil},
		{"on the node's network", corev1.Pod{Spec: corev1.PodSpec{NodeName: "node-1", HostNetwork: true}, Status: running}, nil},
		{"Calico's annotation", corev1.Pod{ObjectMeta: annotated(annPodIP, "10.0.0.9/32"), Spec: on, Status: corev1.PodStatus{Phase: corev1.PodRunning}}, []string{"10.0.0.9"}},
		{"Calico's annotation, both families", corev1.Pod{ObjectMeta: annotated(annPodIPs, "10.0.0.9/32,fd00::9/128"), Spec: on, Status: corev1.PodStatus{Phase: corev1.PodRunning}}, []string{"10.0.0.9", "fd00::9"}},
		{"Calico's annotation, emptied", corev1.Pod{ObjectMeta: annotated(annPodIP, ""), Spec: on, Status: running}, nil},
		{"brought along", corev1.Pod{ObjectMeta: annotated(annNoIPAM, `["10.0.0.1"]`), Spec: on, Status: running}, []string{"10.0.0.1!", "fd00::1"}},
	} {
		test.pod.Namespace, test.pod.Name = "shop", "web-1"
		var have []string
		for _, u := range PodUses(&test.pod) {
			text := ""
			if u.Addr.IsValid() {
				text = u.Addr.String()
			}
			if u.Own {
				text += "!"
			}
			have = append(have, text)
			if u.Label != "Workload(shop/node--1-k8s-web--1-eth0)" || u.Node != "node-1" || u.Kind != check.Pod {
				t.Errorf("%s: %+v", test.name, u)
			}
		}
		if !slices.Equal(have, test.want) {
			t.Errorf("%s: %q, want %q", test.name, have, test.want)
		}
	}
}

func annotated(key, value string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Annotations: map[string]string{key: value}}
}

// TestServices: which Services get addresses of pools, and that these are compared where a pool is for them.
func TestServices(t *testing.T) {
	class := func(s string) *string { return &s }
	balancer := corev1.ServiceTypeLoadBalancer
	for _, test := range []struct {
		name           string
		svc            corev1.Service
		all, requested bool
	}{
		{"no load balancer", corev1.Service{}, false, false},
		{"plain", corev1.Service{Spec: corev1.ServiceSpec{Type: balancer}}, true, false},
		{"ours by class", corev1.Service{Spec: corev1.ServiceSpec{Type: balancer, LoadBalancerClass: class("calico")}}, true, true},
		{"another's", corev1.Service{Spec: corev1.ServiceSpec{Type: balancer, LoadBalancerClass: class("metallb")}}, false, false},
		{"asks for a pool", corev1.Service{ObjectMeta: annotated(annV4Pools, `["lb"]`), Spec: corev1.ServiceSpec{Type: balancer}}, true, true},
		{"asks for an address", corev1.Service{ObjectMeta: annotated(annLBIPs, `["203.0.113.1"]`), Spec: corev1.ServiceSpec{Type: balancer}}, true, true},
	} {
		if all, requested := managed(&test.svc, allServices), managed(&test.svc, "RequestedServicesOnly"); all != test.all || requested != test.requested {
			t.Errorf("%s: %v and %v, want %v and %v", test.name, all, requested, test.all, test.requested)
		}
	}

	cidr := netip.MustParsePrefix("203.0.113.0/28")
	b := block.New(cidr, block.LoadBalancer, metav1.Now().Time)
	for o, name := range []string{"shop", "gone"} {
		if err := block.Take(b, o, "lb-"+name, map[string]string{"service": name, block.AttrNamespace: "default", block.AttrNode: "load-balancer", block.AttrType: "LoadBalancer"}); err != nil {
			t.Fatal(err)
		}
	}
	pool := v3.IPPool{Spec: v3.IPPoolSpec{CIDR: cidr.String(), BlockSize: 28, AllowedUses: []v3.PoolUse{v3.UseLoadBalancer}}}
	svc := corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "shop"}, Spec: corev1.ServiceSpec{Type: balancer},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "203.0.113.0"}, {Hostname: "x"}}}},
	}
	s := &Snapshot{State: check.State{
		Blocks: []v3.IPAMBlock{*b}, Active: []netip.Prefix{cidr},
		Handles:    []v3.IPAMHandle{{Spec: v3.IPAMHandleSpec{HandleID: "lb-shop", Block: map[string]int{cidr.String(): 1}}}, {Spec: v3.IPAMHandleSpec{HandleID: "lb-gone", Block: map[string]int{cidr.String(): 1}}}},
		Affinities: []v3.BlockAffinity{{Spec: v3.BlockAffinitySpec{CIDR: cidr.String(), Node: "load-balancer", Type: "virtual", State: v3.AffinityConfirmed}}},
	}, Pools: []v3.IPPool{pool}, ServiceList: []corev1.Service{svc}}
	s.uses(allServices)
	r := check.Run(s.State)
	if len(r.Problems) != 1 || r.Problems[0].Fault != check.Leaked || r.Problems[0].About != "203.0.113.1" || s.LoadBalancers != 1 {
		t.Errorf("%+v", r.Problems)
	}
	if have := owner(r, cidr); have != "load-balancer" || !virtual(r, r.Allocations[0]) {
		t.Errorf("owner %q", have)
	}
	// Somebody else's load balancer: there is no pool for it.
	s = &Snapshot{ServiceList: []corev1.Service{svc}}
	s.uses(allServices)
	if len(s.Uses) != 0 {
		t.Errorf("%+v", s.Uses)
	}
}

func TestLeft(t *testing.T) {
	p := netip.MustParsePrefix
	for _, test := range []struct {
		pool    string
		covered []netip.Prefix
		want    float64
	}{
		{"10.0.0.0/24", nil, 256},
		{"10.0.0.0/24", []netip.Prefix{p("10.0.0.0/16")}, 0},
		{"10.0.0.0/24", []netip.Prefix{p("10.1.0.0/16"), p("fd00::/64")}, 256},
		{"10.0.0.0/24", []netip.Prefix{p("10.0.0.0/25"), p("10.0.0.0/26"), p("10.0.0.5/32"), p("10.0.0.200/32")}, 127},
		{"fd00::/64", []netip.Prefix{p("fd00::/65")}, 1 << 63},
	} {
		if have := left(p(test.pool), test.covered); have != test.want {
			t.Errorf("left(%s, %v) = %g, want %g", test.pool, test.covered, have, test.want)
		}
	}
}
