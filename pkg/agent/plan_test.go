package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/netlink/nstest"
	"github.com/margay-net/margay/test/lab"
)

const patience = time.Minute

// plain is a pool for pods alone, whose routes wait for no tunnel.
var plain = v3.IPPoolSpec{CIDR: "172.20.0.0/16", BlockSize: 26, AllowedUses: []v3.PoolUse{v3.UseWorkload}}

// TestPlan has agents make plans while something of them cannot be had.
func TestPlan(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED under -short: needs a real kube-apiserver")
	}
	nstest.Root(t)
	c, err := lab.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("pool of tunnels is full", func(t *testing.T) { testTunnelPoolFull(t, c) })
	t.Run("datastore is locked", func(t *testing.T) { testTunnelLocked(t, c) })
	t.Run("pool turns to VXLAN", func(t *testing.T) { testFirstVXLAN(t, c) })
	t.Run("back end turns to VXLAN", func(t *testing.T) { testBackEnd(t, c) })
	t.Run("address of a pool is brought along", func(t *testing.T) { testBroughtAlong(t, c) })
}

// goesOn checks that a node's plans are carried out: an annotation that somebody takes away comes back, and a block that
// another node has from now on gets its route.
func goesOn(t *testing.T, l *lab.Lab, n, owner *lab.Node, cidr netip.Prefix) {
	t.Helper()
	if n.Object().Annotations["projectcalico.org/IPv4VXLANTunnelAddr"] != "" {
		t.Fatal("the node has a tunnel address, and the test no point")
	}
	if _, err := l.Core.CoreV1().Nodes().Patch(t.Context(), n.Name, types.MergePatchType, []byte(`{"metadata":{"annotations":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.API.CreateBlock(t.Context(), block.New(cidr, block.HostAffinity(owner.Name), time.Now())); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("route %s via %s dev eth0", cidr, owner.Addr4.Addr())
	took := l.Within(patience, "the new block's route", func() error { return has(n, want) })
	l.Within(patience, "the annotation is back", func() error {
		if have := n.Object().Annotations["projectcalico.org/IPv4Address"]; have != n.Addr4.String() {
			return fmt.Errorf("it says %q", have)
		}
		return nil
	})
	t.Logf("the new block's route came after %s", took.Round(time.Millisecond))
}

func has(n *lab.Node, line string) error {
	if s := n.State(); !slices.Contains(s, line) {
		return fmt.Errorf("%s has no %q:\n%s", n.Name, line, strings.Join(s, "\n"))
	}
	return nil
}

// getsTunnel waits until all nodes have tunnel addresses after all, and routes by them.
func getsTunnel(l *lab.Lab) {
	for _, n := range l.Nodes {
		l.Within(patience, n.Name+" has a tunnel address", func() error {
			if n.Object().Annotations["projectcalico.org/IPv4VXLANTunnelAddr"] == "" {
				return errors.New("it has none")
			}
			return nil
		})
	}
}

func testTunnelPoolFull(t *testing.T, c *lab.Cluster) {
	full := v3.IPPoolSpec{CIDR: "172.21.0.0/30", BlockSize: 30, VXLANMode: v3.EncapNever}
	l := c.New(t, lab.Options{Nodes: 2, Pools: []v3.IPPoolSpec{full}})
	a, b := l.Nodes[0], l.Nodes[1]
	var pods []*lab.Pod
	for {
		p := a.NewPod(fmt.Sprintf("pod%d", len(pods)))
		if err := p.Add(); err != nil {
			if _, text := lab.Code(err); !strings.Contains(text, "no free address") {
				t.Fatal(err)
			}
			if err := p.Remove(); err != nil {
				t.Fatal(err)
			}
			break
		}
		pods = append(pods, p)
	}
	if err := errors.Join(l.CreatePool("plain", plain), l.SetVXLANMode("pool1", v3.EncapAlways)); err != nil {
		t.Fatal(err)
	}
	l.Within(patience, "the agent misses a tunnel address", func() error { return says(b, "take tunnel address") })
	goesOn(t, l, b, a, netip.MustParsePrefix("172.20.7.0/26"))
	goesOn(t, l, b, a, netip.MustParsePrefix("172.20.8.0/26"))
	for _, p := range pods {
		if err := p.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	getsTunnel(l)
}

// says checks what the agent logs.
func says(n *lab.Node, text string) error {
	if !strings.Contains(n.Log(), text) {
		return fmt.Errorf("%s does not say %q:\n%s", n.Name, text, n.LastLog(5))
	}
	return nil
}

func testTunnelLocked(t *testing.T, c *lab.Cluster) {
	l := c.New(t, lab.Options{Nodes: 2, Pools: []v3.IPPoolSpec{plain}})
	a, b := l.Nodes[0], l.Nodes[1]
	kind, _ := kube.KindOf("ClusterInformation")
	lock := func(ready bool) {
		t.Helper()
		if _, err := l.API.PatchResource(t.Context(), kind, "", "default", types.MergePatchType, fmt.Appendf(nil, `{"spec":{"datastoreReady":%v}}`, ready), false); err != nil {
			t.Fatal(err)
		}
	}
	lock(false)
	for _, n := range l.Nodes {
		l.Within(patience, n.Name+" knows the lock", func() error {
			if err := n.Status(); err == nil || !strings.Contains(err.Error(), "datastore is locked") {
				return fmt.Errorf("STATUS says %w", err)
			}
			return nil
		})
	}
	time.Sleep(2500 * time.Millisecond) // the agents' last writes
	tunnels := v3.IPPoolSpec{CIDR: "172.21.0.0/24", BlockSize: 30, VXLANMode: v3.EncapAlways, AllowedUses: []v3.PoolUse{v3.UseTunnel}}
	if err := l.CreatePool("tunnels", tunnels); err != nil {
		t.Fatal(err)
	}
	l.Within(patience, "the agent misses a tunnel address", func() error { return says(b, "datastore is locked") })
	goesOn(t, l, b, a, netip.MustParsePrefix("172.20.7.0/26"))
	goesOn(t, l, b, a, netip.MustParsePrefix("172.20.8.0/26"))
	lock(true)
	getsTunnel(l)
}

// testBroughtAlong: an address that a pod brings along, and that another node may give to another pod, is told of by an
// event of the Node; one that is in no pool is not.
func testBroughtAlong(t *testing.T, c *lab.Cluster) {
	l := c.New(t, lab.Options{Pools: []v3.IPPoolSpec{plain}, Stopped: true})
	n := l.Nodes[0]
	conf, err := json.Marshal(map[string]any{"cniVersion": "1.1.0", "name": "k8s-pod-network", "plugins": []any{map[string]any{
		"type": "margay", "socket": n.Socket, "spool": n.Spool, "feature_control": map[string]any{"ip_addrs_no_ipam": true},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	n.Env = map[string]string{"CNI_NETWORK_CONFIG": string(conf)}
	n.Start()
	n.WaitReady(patience)
	bring := func(name, addr string) {
		t.Helper()
		pods := l.Core.CoreV1().Pods("default")
		o, err := pods.Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"cni.projectcalico.org/ipAddrsNoIpam": `["` + addr + `"]`}},
			Spec:       corev1.PodSpec{NodeName: n.Name, Containers: []corev1.Container{{Name: "c", Image: "c"}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = pods.Delete(context.Background(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
		})
		p := n.NewPod(name)
		p.UID = string(o.UID)
		if err := p.Add(); err != nil {
			t.Fatal(err)
		}
	}
	bring("outside", "10.99.0.7")
	bring("inside", "172.20.99.7")
	if err := l.SetNATOutgoing("pool1", true); err != nil { // makes a plan; without, the audit does so once a minute
		t.Fatal(err)
	}
	l.Within(2*patience, "the Node has an event", func() error {
		told := n.Events("NetworkFault")
		if len(told) != 1 || !strings.Contains(told[0], "pod default/inside brought address 172.20.99.7 along") ||
			!strings.Contains(told[0], "IPPool pool1") || !strings.Contains(told[0], "IPReservation") {
			return fmt.Errorf("it has %q", told)
		}
		return nil
	})
}

// testBackEnd starts an agent anew that does not speak BGP: the routes that the one before has learned go, and what another
// program has of the same protocol stays.
func testBackEnd(t *testing.T, c *lab.Cluster) {
	l := c.New(t, lab.Options{Nodes: 2, Pools: []v3.IPPoolSpec{plain}, Env: map[string]string{"CALICO_NETWORKING_BACKEND": "bird"}})
	a, b := l.Nodes[0], l.Nodes[1]
	b.Pod("pod")
	learned := func() string {
		out, err := a.NS.Run("ip -4 route show proto bird")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	l.Within(patience, "a learned route", func() error {
		if !strings.Contains(learned(), "172.20.") {
			return errors.New("there is none")
		}
		return nil
	})
	a.Stop()
	if _, err := a.NS.Run(fmt.Sprintf("ip route add 10.99.0.0/16 via %s proto bird", b.Addr4.Addr())); err != nil {
		t.Fatal(err)
	}
	a.Env = map[string]string{"CALICO_NETWORKING_BACKEND": "vxlan"}
	a.Start()
	a.WaitReady(patience)
	l.Within(patience, "the learned route is gone", func() error {
		if out := learned(); strings.Contains(out, "172.20.") {
			return errors.New(out)
		}
		return nil
	})
	if out := learned(); !strings.Contains(out, "10.99.0.0/16") {
		t.Errorf("another program's route is gone: %q", out)
	}
}
