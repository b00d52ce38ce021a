package fault

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/margay-net/margay/test/lab"
)

// TestNodeJoins adds a node to a cluster that talks: all know it soon, and nobody loses anything.
func TestNodeJoins(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true})
	a, b := l.Nodes[0].Pod("a"), l.Nodes[1].Pod("b")
	l.WaitRoutes(30 * time.Second)
	warm(t, a, b)
	p := pings{still: slices.Concat(between(a, b), between(b, a))}
	n := l.AddNode("node3", 3)
	start := time.Now()
	n.Start()
	ready := n.WaitReady(30 * time.Second)
	l.WaitRoutes(gone)
	l.WaitPeers(gone)
	t.Logf("a new node is ready %s after its agent was started, and known to all after %s", ready, time.Since(start))
	warm(t, a, b, n.Pod("c"))
	l.Agrees(30 * time.Second)
	p.stop(t, "a node joins")
}

// TestNodeReboots switches a node off and on under its pods. The others' routes stay; after the boot no address of before
// is given to another pod until the runtime, or the audit, has released it.
func TestNodeReboots(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 3, IPv6: true})
	a, b, x := l.Nodes[0].Pod("a"), l.Nodes[1].Pod("b"), l.Nodes[2]
	before := []*lab.Pod{x.Pod("x1"), x.Pod("x2"), x.Pod("x3")}
	l.WaitRoutes(30 * time.Second)
	warm(t, a, b, before[0])
	l.Agrees(30 * time.Second)
	wantTunnels, want := tunnels(l), x.State().Cluster()
	monitors := []*lab.Monitor{l.Nodes[0].Monitor(), l.Nodes[1].Monitor()}
	p := pings{still: between(a, b), touched: between(a, before[0])}
	x.Reboot()
	start := time.Now()
	x.Start()
	x.WaitReady(30 * time.Second)
	if err := before[2].Remove(); err != nil { // as containerd calls it for sandboxes that it finds dead
		t.Errorf("DEL of a pod of before the boot: %v", err)
	}
	fresh := x.Pod("x1")
	for _, addr := range fresh.Addrs {
		if err := a.Echo(addr, 10*time.Second); err != nil {
			t.Error(err)
		}
	}
	t.Logf("a pod of the rebooted node is reached %s after its agent was started", time.Since(start))
	for range 40 { // more than are ready without a write
		pod := x.Pod("crowd")
		for _, old := range before[:2] {
			if pod.V4() == old.V4() || pod.V6() == old.V6() {
				t.Errorf("%v was given again before %s was deleted", pod.Addrs, old.Name)
			}
		}
		if err := pod.Remove(); err != nil {
			t.Error(err)
		}
	}
	for _, pod := range before[:2] {
		if err := pod.Remove(); err != nil {
			t.Errorf("DEL of a pod of before the boot: %v", err)
		}
	}
	l.Agrees(30 * time.Second)
	if now := tunnels(l); !maps.Equal(now, wantTunnels) {
		t.Errorf("tunnels are %v, were %v", now, wantTunnels)
	}
	if diff := x.State().Cluster().Diff(want); diff != "" {
		t.Errorf("the rebooted node has another state:\n%s", diff)
	}
	for i, m := range monitors {
		if _, _, wrong := m.Stop(); len(wrong) > 0 {
			t.Errorf("%s: right objects were touched: %q", l.Nodes[i].Name, wrong)
		}
	}
	p.stop(t, "a node reboots")
}
