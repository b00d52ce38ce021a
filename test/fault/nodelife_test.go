package fault

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/margay-net/margay/test/lab"
)

// gone is how soon nothing anywhere may name a node that went, or that came again as another.
const gone = 15 * time.Second

// TestNodeGone takes nodes out of the cluster: one is drained before, the other one dies with its pods. The others forget
// them; their blocks stay for whoever collects what dead nodes leave, and name what they held.
func TestNodeGone(t *testing.T) {
	for _, drained := range []bool{true, false} {
		t.Run(fmt.Sprintf("drained %t", drained), func(t *testing.T) { nodeGone(t, drained) })
	}
}

func nodeGone(t *testing.T, drained bool) {
	l := cluster.New(t, lab.Options{Nodes: 3, IPv6: true})
	a, b, x := l.Nodes[0].Pod("a"), l.Nodes[1].Pod("b"), l.Nodes[2]
	leaving := []*lab.Pod{x.Pod("x1"), x.Pod("x2")}
	l.WaitRoutes(30 * time.Second)
	warm(t, a, b, leaving[0])
	l.Agrees(30 * time.Second)
	names := namesOf(t, l, x)
	p := pings{still: slices.Concat(between(a, b), between(b, a))}
	if drained {
		for _, pod := range leaving {
			if err := pod.Remove(); err != nil {
				t.Error(err)
			}
		}
		l.Agrees(30 * time.Second) // what a kubelet that has a minute to go gives its agent
		x.Stop()
	}
	x.PowerOff()
	time.Sleep(500 * time.Millisecond)
	for _, n := range l.Nodes {
		if lines := n.State().Names(names...); len(lines) < 4 {
			t.Errorf("%s has forgotten a node that is only down: it has %q", n.Name, lines)
		}
	}
	if err := x.Unregister(); err != nil {
		t.Fatal(err)
	}
	took := l.Within(gone, "the node is forgotten", func() error { return unnamed(l, names) })
	t.Logf("drained %t: nothing names the node %s after its Node object is gone", drained, took)
	l.WaitRoutes(30 * time.Second)
	l.WaitPeers(30 * time.Second)
	held, err := l.Held(x.Name)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("drained %t: its blocks stay and hold %v", drained, slices.Sorted(maps.Values(held)))
	want := 2 // tunnels
	if !drained {
		want += 4
	}
	if len(held) != want {
		t.Errorf("the node's blocks hold %d addresses, want %d: %v", len(held), want, held)
	}
	p.stop(t, "a node goes")
}

// namesOf returns the addresses by which other nodes know a node: its own, its tunnels', its blocks'.
func namesOf(t *testing.T, l *lab.Lab, n *lab.Node) (out []netip.Addr) {
	t.Helper()
	out = []netip.Addr{n.Addr4.Addr(), n.Addr6.Addr()}
	for key, v := range n.Object().Annotations {
		if strings.HasSuffix(key, "VXLANTunnelAddr") {
			out = append(out, netip.MustParseAddr(v))
		}
	}
	blocks, err := l.Blocks()
	if err != nil {
		t.Fatal(err)
	}
	for cidr, b := range blocks {
		if *b.Spec.Affinity == "host:"+n.Name {
			out = append(out, cidr.Addr())
		}
	}
	return out
}

// unnamed says which node still names one of these addresses.
func unnamed(l *lab.Lab, names []netip.Addr) error {
	for _, n := range l.Nodes {
		if lines := n.State().Names(names...); len(lines) > 0 {
			return fmt.Errorf("%s has %q", n.Name, lines)
		}
	}
	return nil
}

// TestNodeRenamed has a machine come back under another name, with its journal: kubelet deletes the pods of before.
func TestNodeRenamed(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 3, IPv6: true})
	a, b, x := l.Nodes[0].Pod("a"), l.Nodes[1].Pod("b"), l.Nodes[2]
	before := []*lab.Pod{x.Pod("x1"), x.Pod("x2")}
	l.WaitRoutes(30 * time.Second)
	warm(t, a, b, before[0])
	l.Agrees(30 * time.Second)
	was, old := x.Name, x.Object()
	tunnels := namesOf(t, l, x)[2:] // the machine keeps its own addresses
	p := pings{still: between(a, b)}
	x.Stop()
	if err := x.Unregister(); err != nil {
		t.Fatal(err)
	}
	if err := x.Rename("other-name"); err != nil {
		t.Fatal(err)
	}
	x.Start()
	x.WaitReady(30 * time.Second)
	took := l.Within(gone, "the old name is forgotten", func() error { return unnamed(l, tunnels) })
	l.WaitPeers(gone)
	t.Logf("nothing names the old tunnels and blocks %s after the agent is ready", took)
	for _, pod := range before {
		if err := pod.Remove(); err != nil {
			t.Errorf("DEL of a pod of the old name: %v", err)
		}
	}
	fresh := x.Pod("x1")
	l.WaitRoutes(30 * time.Second)
	warm(t, a, b, fresh)
	l.Within(30*time.Second, "the old pods' addresses are free", func() error {
		held, err := l.Held(was)
		if err == nil && len(held) > 2 {
			err = fmt.Errorf("blocks of %s hold %v", was, held)
		}
		return err
	})
	held, err := l.Held(was)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("what is left of the old name (UID %s): %v", old.UID, held)
	for addr, handle := range held {
		if !strings.Contains(handle, "tunnel-addr-"+was) {
			t.Errorf("%s is still held by %s", addr, handle)
		}
	}
	p.stop(t, "a node is renamed")
}

// TestNodeRecreated has a machine die and another one come under its name: another UID, other addresses, no journal. No
// node may send to the old one, and what its pods held comes back.
func TestNodeRecreated(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 3, IPv6: true})
	a, b, x := l.Nodes[0].Pod("a"), l.Nodes[1].Pod("b"), l.Nodes[2]
	lost := []*lab.Pod{x.Pod("x1"), x.Pod("x2"), x.Pod("x3")}
	l.WaitRoutes(30 * time.Second)
	warm(t, a, b, lost[0])
	l.Agrees(30 * time.Second)
	old, uid := []netip.Addr{x.Addr4.Addr(), x.Addr6.Addr()}, x.Object().UID
	heldBefore, err := l.Held(x.Name)
	if err != nil {
		t.Fatal(err)
	}
	p := pings{still: between(a, b)}
	x.PowerOff()
	if err := x.Unregister(); err != nil {
		t.Fatal(err)
	}
	y := l.AddNode(x.Name, 7)
	start := time.Now()
	y.Start()
	took := l.Within(gone, "the old machine is forgotten", func() error { return unnamed(l, old) })
	t.Logf("nothing names the old machine %s after the new one's agent was started", took)
	y.WaitReady(30 * time.Second)
	l.WaitPeers(gone)
	if now := y.Object().UID; now == uid {
		t.Errorf("the Node object has the same UID %s: the test shows nothing", now)
	}
	fresh := y.Pod("x1") // as a StatefulSet has it: the same name
	l.WaitRoutes(30 * time.Second)
	warm(t, a, b, fresh)
	for _, pod := range lost {
		if slices.Contains(pod.Addrs, fresh.V4()) {
			t.Errorf("%s was given again while the block says that %s has it", fresh.V4(), pod.Name)
		}
	}
	heldAfter, err := l.Held(x.Name)
	if err != nil {
		t.Fatal(err)
	}
	took = l.Agrees(150 * time.Second)
	t.Logf("the name's blocks held %d addresses before, %d with the new machine's first pod; all of the lost pods are free %s after its start (of them %s waiting here)",
		len(heldBefore), len(heldAfter), time.Since(start).Round(time.Second), took.Round(time.Second))
	p.stop(t, "a node is re-created")
}

// TestNodeRegisteredAnew deletes the Node object of a node that lives, and registers it again, so that it has another UID.
// The agent goes on, also when a second one was started meanwhile: it waits, and takes over when the first one ends.
func TestNodeRegisteredAnew(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 3, IPv6: true})
	var pods []*lab.Pod
	for _, n := range l.Nodes {
		pods = append(pods, n.Pod(n.Name+"-pod"))
	}
	l.WaitRoutes(30 * time.Second)
	warm(t, pods...)
	x := l.Nodes[2]
	before, old := x.State(), x.Object()
	p := pings{still: between(pods[0], pods[1]), touched: slices.Concat(between(pods[0], pods[2]), between(pods[2], pods[1]))}
	if err := x.Unregister(); err != nil {
		t.Fatal(err)
	}
	if err := x.Register(); err != nil {
		t.Fatal(err)
	}
	second := x.Spawn(nil)
	took := l.Within(gone, "the new Node object has all", func() error {
		now := x.Object()
		if now.UID == old.UID || !maps.Equal(now.Annotations, old.Annotations) {
			return fmt.Errorf("UID %s, annotations %v, want %v", now.UID, now.Annotations, old.Annotations)
		}
		if c := x.Condition("NetworkUnavailable"); c.Status != corev1.ConditionFalse {
			return fmt.Errorf("NetworkUnavailable is %q", c.Status)
		}
		return l.ComparePeers()
	})
	t.Logf("annotations, condition and the other nodes' entries are back after %s", took)
	warm(t, pods...)
	l.Within(30*time.Second, "the second agent says that it waits", func() error {
		if ended, err := second.Ended(); ended || !strings.Contains(x.Log(), "another agent of this node runs") {
			return errors.Join(fmt.Errorf("ended %t", ended), err)
		}
		return nil
	})
	x.Kill()
	l.Within(30*time.Second, "the second agent is ready", func() error { return x.Probe("readiness") })
	if diff := x.State().Diff(before); diff != "" {
		t.Errorf("the kernel's state changed:\n%s", diff)
	}
	l.Agrees(30 * time.Second)
	p.stop(t, "a living node is registered anew")
}
