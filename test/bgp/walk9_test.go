package bgp

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// Walkthrough 9: VXLAN inside, BGP outside. The fabric's router is an FRR some hops behind the nodes' gateways, which is told
// the Services' addresses.
func TestWalkthrough9VXLANWithBGP(t *testing.T) {
	cross := plain4
	cross.VXLANMode = v3.EncapCrossSubnet
	l := bird(t, lab.Options{Nodes: 3, Subnets: 2, Pools: []v3.IPPoolSpec{cross}})
	frr := runFRR(t, l)
	pods := onePodEach(l)

	refusesNone(t, l)
	apply(t, resource("BGPConfiguration", "default", "logSeverityScreen: Debug", "serviceExternalIPs: [{cidr: 192.168.50.0/24}]",
		"serviceLoadBalancerIPs: [{cidr: 192.168.51.0/24}]", "serviceClusterIPs: [{cidr: 10.0.0.0/24}]"),
		resource("BGPPeer", "fabric", "peerIP: "+fabricPeer, "asNumber: 65000", "sourceAddress: None"))
	start := time.Now()

	all := addresses(l.Nodes...)
	for _, cidr := range []string{"192.168.50.0/24", "192.168.51.0/24", "10.0.0.0/24"} {
		frr.told(l, cidr, all)
	}
	t.Logf("FRR has the Services' ranges from all nodes %s after the resources were written", time.Since(start).Round(10*time.Millisecond))
	for _, n := range l.Nodes {
		waitTable(l, n, 4, inMesh(l, n, 4, viaFabric)...)
	}
	for _, n := range l.Nodes { // that FRR routes to by the same sessions
		l.Within(patience, "FRR's routes to "+n.Name, func() error {
			return routesTo(l, l.Fabric, n, "via "+n.Addr4.Addr().String(), "")
		})
	}
	meet(t, pods)
	if out, err := pods[0].NS.Run("ip -o link show eth0"); err != nil || !strings.Contains(out, "mtu 1450") {
		t.Errorf("pods' MTU where VXLAN may be: %s (%v)", out, err)
	}

	spreads(t, l)
	followsEndpoints(t, l, frr)

	label(t, l, l.Nodes[2], "node.kubernetes.io/exclude-from-external-load-balancers=true")
	frr.told(l, "192.168.50.0/24", addresses(l.Nodes[0], l.Nodes[1]))
	frr.told(l, "192.168.51.0/24", addresses(l.Nodes[0], l.Nodes[1]))
	label(t, l, l.Nodes[2], "node.kubernetes.io/exclude-from-external-load-balancers-")
	frr.told(l, "192.168.50.0/24", all)
	apply(t, resource("BGPConfiguration", "default", "logSeverityScreen: Info"))
	for _, cidr := range []string{"192.168.50.0/24", "192.168.51.0/24", "10.0.0.0/24"} {
		frr.told(l, cidr, nil)
	}
}

// spreads has the fabric's kernel spread a Service's packets over all nodes. What kube-proxy does there is one address of the
// loopback device here.
func spreads(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, n := range l.Nodes {
		if err := n.NS.Batch("addr add 192.168.50.10/32 dev lo"); err != nil {
			t.Fatal(err)
		}
	}
	l.Within(patience, "the fabric's kernel has a route with all nodes", func() error {
		out, err := l.Fabric.Run("ip route show 192.168.50.0/24")
		for _, a := range addresses(l.Nodes...) {
			if !strings.Contains(out+" ", "via "+a+" ") {
				return fmt.Errorf("it is %s (%w)", out, err)
			}
		}
		return err
	})
	if _, err := l.Fabric.Run("ping -n -c 1 -W 5 192.168.50.10"); err != nil {
		t.Error(err)
	}
}

// refusesNone writes the value that people get wrong.
func refusesNone(t *testing.T, l *lab.Lab) {
	t.Helper()
	lower := resource("BGPPeer", "fabric", "peerIP: "+fabricPeer, "asNumber: 65000", "sourceAddress: none")
	if err := create(t, l, lower); err == nil || !strings.Contains(err.Error(), `spec.sourceAddress: Unsupported value: "none": supported values: "UseNodeIP", "None"`) {
		t.Errorf("the API server says of sourceAddress none: %v", err)
	}
	if out, err := ctl(lower, "apply", "-f", "-"); err == nil || !strings.Contains(out, "sourceAddress") || !strings.Contains(out, "None") {
		t.Errorf("margayctl says of sourceAddress none: %v %s", err, out)
	}
}

// followsEndpoints has Services of externalTrafficPolicy Local announced by the nodes that have a ready endpoint, and by no
// other.
func followsEndpoints(t *testing.T, l *lab.Lab, frr *router) {
	t.Helper()
	services, slices := l.Core.CoreV1().Services("default"), l.Core.DiscoveryV1().EndpointSlices("default")
	web := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
		ExternalIPs: []string{"192.168.50.20"}, Ports: []corev1.ServicePort{{Port: 80}},
	}}
	web, err := services.Create(t.Context(), web, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = services.Delete(context.Background(), "web", metav1.DeleteOptions{})
		_ = slices.Delete(context.Background(), "web-1", metav1.DeleteOptions{})
	})
	web.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.168.51.20"}}
	if _, err := services.UpdateStatus(t.Context(), web, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: new(int32(80))}},
	}
	ready := func(nodes ...*lab.Node) {
		t.Helper()
		slice.Endpoints = nil
		for i, n := range l.Nodes {
			is := false
			for _, x := range nodes {
				is = is || x == n
			}
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{fmt.Sprintf("172.20.200.%d", i+1)}, NodeName: &n.Name, Conditions: discoveryv1.EndpointConditions{Ready: &is},
			})
		}
		write := slices.Update
		if slice.UID == "" {
			write = func(ctx context.Context, s *discoveryv1.EndpointSlice, _ metav1.UpdateOptions) (*discoveryv1.EndpointSlice, error) {
				return slices.Create(ctx, s, metav1.CreateOptions{})
			}
		}
		if slice, err = write(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for _, cidr := range []string{"192.168.50.20/32", "192.168.51.20/32"} {
			frr.told(l, cidr, addresses(nodes...))
		}
		t.Logf("ready on %d nodes: FRR knows after %s", len(nodes), time.Since(start).Round(time.Millisecond))
	}
	ready(l.Nodes[0])
	ready(l.Nodes[1], l.Nodes[2])
	ready()
	ready(l.Nodes...)
	frr.told(l, "192.168.50.0/24", addresses(l.Nodes...)) // for the Services of all nodes, as before
}

// told waits until FRR has a route from just these peers.
func (r *router) told(l *lab.Lab, cidr string, peers []string) {
	l.Within(patience, "FRR's paths to "+cidr, func() error {
		var have struct {
			Paths []struct {
				Peer struct{ PeerID string }
			}
		}
		out, err := r.vtysh("show bgp ipv4 unicast " + cidr + " json")
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(out), &have); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		var from []string
		for _, p := range have.Paths {
			from = append(from, p.Peer.PeerID)
		}
		slices.Sort(from)
		if !slices.Equal(from, peers) {
			return fmt.Errorf("they come from %v, want %v", from, peers)
		}
		return nil
	})
}
