package controller_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/controller/balancer"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// balance starts a balancer for the length of a test.
func (l *lab) balance(assign v3.AssignIPs) *balancer.Balancer {
	l.t.Helper()
	b := balancer.New(l.cluster, l.acting, assign, quiet())
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	l.t.Cleanup(func() {
		stop()
		<-done
	})
	return b
}

func (l *lab) pool(name, cidr string, more map[string]any) {
	l.t.Helper()
	spec := map[string]any{"cidr": cidr, "allowedUses": []any{"LoadBalancer"}, "blockSize": int64(30), "nodeSelector": "all()"}
	if strings.Contains(cidr, ":") {
		spec["blockSize"] = int64(126)
	}
	for k, v := range more {
		spec[k] = v
	}
	_, err := l.any.Resource(ipPools).Create(l.t.Context(), object("IPPool", name, spec), createOptions)
	l.must(err)
}

func (l *lab) service(name string, annotations map[string]string, change func(*corev1.ServiceSpec)) {
	l.t.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if change != nil {
		change(&s.Spec)
	}
	_, err := l.core.CoreV1().Services("default").Create(l.t.Context(), s, createOptions)
	l.must(err)
}

// ingress is what a Service's status says.
func (l *lab) ingress(name string) (out []string) {
	l.t.Helper()
	s, err := l.core.CoreV1().Services("default").Get(l.t.Context(), name, getOptions)
	l.must(err)
	for _, i := range s.Status.LoadBalancer.Ingress {
		out = append(out, i.IP)
	}
	return out
}

// settles waits until a Service's status says this, and its blocks and handles do.
func (l *lab) settles(name string, addrs ...string) {
	l.t.Helper()
	l.eventually(fmt.Sprintf("Service %s has %v", name, addrs), func() bool {
		got := l.ingress(name)
		if len(addrs) == 1 && strings.HasSuffix(addrs[0], "*") {
			return len(got) == 1 && strings.HasPrefix(got[0], strings.TrimSuffix(addrs[0], "*"))
		}
		return slices.Equal(got, addrs)
	})
}

func (l *lab) annotate(name string, annotations string) {
	l.t.Helper()
	_, err := l.core.CoreV1().Services("default").Patch(l.t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"annotations":`+annotations+`}}`), metav1.PatchOptions{})
	l.must(err)
}

func (l *lab) deleteService(name string) {
	l.t.Helper()
	l.must(l.core.CoreV1().Services("default").Delete(l.t.Context(), name, deleteOptions))
}

// TestServices: a Service's address through its life, in Calico's format.
func TestServices(t *testing.T) {
	l := newLab(t)
	l.balance(v3.AssignAllServices)
	l.service("early", nil, nil) // before there is any pool
	l.pool("first", "10.20.0.0/29", nil)
	l.settles("early", "10.20.0.0")
	aff, err := l.client.GetAffinity(t.Context(), "load-balancer-10-20-0-0-30")
	l.must(err)
	if aff.Spec.Type != "virtual" || aff.Spec.Node != "load-balancer" || aff.Spec.State != v3.AffinityConfirmed || aff.Labels["projectcalico.org/affinity-type"] != "virtual" {
		t.Errorf("claim %+v, labels %v", aff.Spec, aff.Labels)
	}
	b, err := l.client.GetBlock(t.Context(), "10-20-0-0-30")
	l.must(err)
	at := block.Attr(b, 0)
	if *b.Spec.Affinity != "virtual:load-balancer" || at.Secondary["service"] != "early" || at.Secondary["namespace"] != "default" || at.Secondary["type"] != "LoadBalancer" || !strings.HasPrefix(*at.HandleID, "lb-") {
		t.Errorf("block of %s: %+v", *b.Spec.Affinity, at)
	}
	for i := range 8 { // the eighth finds the pool full
		l.service(fmt.Sprintf("s%d", i), nil, nil)
	}
	for i := range 7 {
		l.settles(fmt.Sprintf("s%d", i), "10.20.0.*")
	}
	l.eventually("the eighth is told why it has no address", func() bool { return strings.Contains(l.events("s7"), "no free IPv4 address") })
	l.deleteService("s3")
	l.settles("s7", "10.20.0.*")
	if got := len(l.inUse()); got != 8 {
		t.Errorf("%d addresses in use, want 8", got)
	}
	// No longer of the type: the address goes, and the next block that is empty with it, after its time.
	l.deleteService("early")
	for _, s := range []string{"s0", "s1", "s2", "s4", "s5", "s6", "s7"} {
		l.deleteService(s)
	}
	l.eventually("all addresses are released", func() bool { return len(l.holders()) == 0 })
	l.once()
	l.pass(grace)
	l.once()
	if n := l.objects("ipamblocks") + l.objects("blockaffinities") + l.objects("ipamhandles"); n != 0 {
		t.Errorf("%d objects are left", n)
	}
}

// events returns the messages of an object's events.
func (l *lab) events(name string) (out string) {
	l.t.Helper()
	list, err := l.core.CoreV1().Events("default").List(l.t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + name})
	l.must(err)
	for _, e := range list.Items {
		out += e.Reason + ": " + e.Message + "\n"
	}
	return out
}

// TestServiceRequests: annotations, spec.loadBalancerIP, reservations, pools' switches.
func TestServiceRequests(t *testing.T) {
	l := newLab(t)
	_, err := l.any.Resource(reservations).Create(t.Context(), object("IPReservation", "r", map[string]any{"reservedCIDRs": []any{"10.20.0.0/30", "10.20.0.4"}}), createOptions)
	l.must(err)
	l.pool("auto", "10.20.0.0/28", nil)
	l.pool("manual", "10.21.0.0/28", map[string]any{"assignmentMode": "Manual"})
	l.pool("elsewhere", "10.19.0.0/28", map[string]any{"namespaceSelector": "has(not-there)"})
	l.balance(v3.AssignAllServices)
	l.service("plain", nil, nil)
	l.settles("plain", "10.20.0.5")
	l.service("named", map[string]string{"projectcalico.org/ipv4pools": `["manual"]`}, nil)
	l.settles("named", "10.21.0.*")
	l.annotate("named", `{"projectcalico.org/ipv4pools":null}`) // no longer asked for: an address of the others
	l.settles("named", "10.20.0.*")
	l.annotate("named", `{"projectcalico.org/ipv4pools":"[\"10.21.0.0/28\"]"}`)
	l.settles("named", "10.21.0.*")
	l.service("static", map[string]string{"projectcalico.org/loadBalancerIPs": `["10.20.0.1"]`}, nil) // reserved, but asked for
	l.settles("static", "10.20.0.1")
	l.annotate("static", `{"projectcalico.org/loadBalancerIPs":"[\"10.20.0.9\"]"}`)
	l.settles("static", "10.20.0.9")
	l.service("field", nil, func(s *corev1.ServiceSpec) { s.LoadBalancerIP = "10.20.0.10" })
	l.settles("field", "10.20.0.10")
	for name, c := range map[string]struct{ key, value, want string }{
		"taken":   {"projectcalico.org/loadBalancerIPs", `["10.20.0.9"]`, "10.20.0.9 is in use"},
		"nowhere": {"projectcalico.org/loadBalancerIPs", `["10.30.0.9"]`, "10.30.0.9 is in no enabled IP pool"},
		"twice":   {"projectcalico.org/loadBalancerIPs", `["10.20.0.11","10.20.0.12"]`, "two addresses of one family"},
		"nolist":  {"projectcalico.org/ipv4pools", `auto`, "projectcalico.org/ipv4pools is \"auto\": want a JSON list"},
		"nopool":  {"projectcalico.org/ipv4pools", `["none"]`, `names "none": there is no such IP pool`},
		"family":  {"projectcalico.org/ipv6pools", `["auto"]`, "of the other family"},
	} {
		l.service(name, map[string]string{c.key: c.value}, nil)
		l.eventually(name+" is told why", func() bool { return strings.Contains(l.events(name), c.want) })
		if got := l.ingress(name); len(got) != 0 {
			t.Errorf("%s has %v", name, got)
		}
	}
	cloud := "cloud.example/lb"
	l.service("foreign", nil, func(s *corev1.ServiceSpec) { s.LoadBalancerClass = &cloud })
	own := "calico"
	l.service("own", nil, func(s *corev1.ServiceSpec) { s.LoadBalancerClass = &own })
	l.settles("own", "10.20.0.*")
	if got := l.ingress("foreign"); len(got) != 0 {
		t.Errorf("a Service of another class has %v", got)
	}
	l.inUse() // handles fit
}

// TestServiceAsksAnother: a Service that asks for another address has the one that it had until it has that.
func TestServiceAsksAnother(t *testing.T) {
	l := newLab(t)
	l.pool("auto", "10.20.0.0/28", nil)
	l.balance(v3.AssignAllServices)
	l.service("first", map[string]string{"projectcalico.org/loadBalancerIPs": `["10.20.0.1"]`}, nil)
	l.settles("first", "10.20.0.1")
	l.service("second", map[string]string{"projectcalico.org/loadBalancerIPs": `["10.20.0.2"]`}, nil)
	l.settles("second", "10.20.0.2")
	l.annotate("second", `{"projectcalico.org/loadBalancerIPs":"[\"10.20.0.1\"]"}`)
	l.eventually("second is told why", func() bool { return strings.Contains(l.events("second"), "10.20.0.1 is in use") })
	if got := l.ingress("second"); !slices.Equal(got, []string{"10.20.0.2"}) {
		t.Errorf("second has %v, want what it had", got)
	}
	if got := l.holders()["10.20.0.2"]; got != "second" {
		t.Errorf("10.20.0.2 is of %q", got)
	}
	l.deleteService("first")
	l.settles("second", "10.20.0.1")
	l.eventually("one address is in use", func() bool { return len(l.holders()) == 1 })
	l.inUse()
}

// TestServiceSwitch: who asked for nothing loses its address when only who asks gets one.
func TestServiceSwitch(t *testing.T) {
	l := newLab(t)
	l.pool("auto", "10.20.0.0/28", nil)
	b := l.balance(v3.AssignAllServices)
	l.service("plain", nil, nil)
	l.service("asks", map[string]string{"projectcalico.org/ipv4pools": `["auto"]`}, nil)
	l.settles("plain", "10.20.0.*")
	l.settles("asks", "10.20.0.*")
	had := l.ingress("asks")
	b.SetAssign(v3.AssignRequestedServicesOnly)
	l.settles("plain")
	l.settles("asks", had...)
	l.eventually("one address is in use", func() bool { return len(l.holders()) == 1 })

	// Made anew under the same name it is another Service.
	l.deaf()
	l.watches.Wait()
	l.deleteService("asks")
	l.service("asks", map[string]string{"projectcalico.org/ipv4pools": `["auto"]`}, nil)
	l.restart(l.acting)
	l.balance(v3.AssignRequestedServicesOnly)
	l.settles("asks", "10.20.0.*")
	l.eventually("one address is in use", func() bool { return len(l.holders()) == 1 })
	l.inUse()
}

// TestTwoBalancers: two at once, one of them slow to learn that it does not lead, give no address twice, and in the end one
// to each Service.
func TestTwoBalancers(t *testing.T) {
	l := newLab(t)
	l.pool("auto", "10.20.0.0/26", nil)
	l.balance(v3.AssignAllServices)
	l.balance(v3.AssignAllServices)
	for i := range 12 {
		l.service(fmt.Sprintf("s%d", i), nil, nil)
	}
	l.eventually("each Service has one address, and no other", func() bool {
		seen := map[string]bool{}
		for i := range 12 {
			got := l.ingress(fmt.Sprintf("s%d", i))
			if len(got) != 1 {
				return false
			}
			seen[got[0]] = true
		}
		return len(seen) == 12 && len(l.holders()) == 12
	})
}
