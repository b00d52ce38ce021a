package lab

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestPeersNotices(t *testing.T) {
	l := cluster.New(t, Options{Nodes: 2, IPv6: true})
	n := l.Nodes[0]
	l.WaitPeers(5 * time.Second)
	n.Kill() // nobody mends now
	for name, c := range map[string]struct{ hurt, mend, says string }{
		"stale neighbour": {"ip neigh add 172.20.99.0 lladdr 66:00:00:00:00:01 nud permanent dev vxlan.calico", "ip neigh del 172.20.99.0 dev vxlan.calico", "+ neigh 172.20.99.0"},
		"stale FDB entry": {"bridge fdb add 66:00:00:00:00:01 dst fd00:10::99 dev vxlan-v6.calico", "bridge fdb del 66:00:00:00:00:01 dst fd00:10::99 dev vxlan-v6.calico", "+ fdb 660000000001"},
	} {
		if _, err := n.NS.Run(c.hurt); err != nil {
			t.Fatal(err)
		}
		if err := l.ComparePeers(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: ComparePeers says %v, want %q", name, err, c.says)
		}
		if _, err := n.NS.Run(c.mend); err != nil {
			t.Fatal(err)
		}
	}
	peer := l.Nodes[1]
	v4, v6 := peer.AddrOf(50)
	if err := peer.SetInternal(v4, v6); err != nil {
		t.Fatal(err)
	}
	if err := l.ComparePeers(); err == nil || !strings.Contains(err.Error(), "- fdb") {
		t.Errorf("a node has another address now, ComparePeers says %v", err)
	}
	if lines := n.State().Names(v4.Addr()); len(lines) > 0 {
		t.Errorf("Names finds an address that nobody has: %q", lines)
	}
}

func TestMachines(t *testing.T) {
	l := cluster.New(t, Options{Nodes: 2, IPv6: true})
	n, other := l.Nodes[0], l.Nodes[1]
	p, gone := n.Pod("web"), other.Pod("gone")
	full := 1430
	if err := p.EchoFull(n.Addr4.Addr(), 2*time.Second, full); err != nil {
		t.Error(err)
	}
	if err := p.EchoFull(n.Addr6.Addr(), 200*time.Millisecond, full+1); err == nil {
		t.Error("a packet larger than the MTU gets through")
	}
	held, err := l.Held(other.Name)
	if err != nil || held[other.Addr4.Addr()] != "" {
		t.Errorf("node2 holds %v: %v", held, err)
	}
	uid := other.Object().UID
	other.PowerOff()
	if len(l.Nodes) != 1 || len(l.Pods()) != 1 {
		t.Errorf("after a node's end the lab has %d nodes and pods %v", len(l.Nodes), l.Pods())
	}
	if err := gone.Echo(p.V4(), 100*time.Millisecond); err == nil {
		t.Error("a pod of a machine that is off talks")
	}
	if err := other.Unregister(); err != nil {
		t.Fatal(err)
	}
	again := l.AddNode(other.Name, 5)
	if again.Object().UID == uid || again.Addr4 == other.Addr4 {
		t.Errorf("the new machine is the old one: %s %s", again.Object().UID, again.Addr4)
	}
	again.Start()
	again.WaitReady(30 * time.Second)
	boot := again.NS.Path()
	again.Reboot()
	if err := again.Probe("readiness"); err == nil || again.NS.Path() == boot && len(again.State()) > 0 {
		t.Errorf("a machine that was just booted has an agent, or a state: %q", again.State())
	}
}

func TestFigures(t *testing.T) {
	n := cluster.New(t, Options{}).Nodes[0]
	heap, err := n.Heap(30 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	rss, anonymous, err := n.Agent().Memory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("live heap %.0f kB, RSS %d kB, anonymous %d kB", heap/1024, rss>>10, anonymous>>10)
	if heap < 1<<20 || float64(anonymous) < heap || rss < anonymous {
		t.Error("that can't be")
	}
	if _, err := n.Metric("no_such_metric"); err == nil {
		t.Error("a metric that does not exist has a value")
	}
	one, err := n.Metric("go_goroutines")
	if err != nil || one < 10 || one != math.Trunc(one) {
		t.Errorf("goroutines: %v, %v", one, err)
	}
	if _, err = n.Metric("go_gc_duration_seconds"); err != nil { // a line for each quantile
		t.Error(err)
	}
}
