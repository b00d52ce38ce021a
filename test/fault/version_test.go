package fault

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/netlink/nstest"
	"github.com/margay-net/margay/test/lab"
)

// previous is the version before this one, as a tag, and as the commit that the tag is put on.
var previous = []string{"v0.1.0", "66ce4005aca7be2e0009619a57c0b80507d2105c"}

// oldPrograms builds the version before this one, or that of MARGAY_OLD_REF, from the checkout's history. Without one (a
// download, a shallow clone) the test is skipped, loudly; what that version left behind is tested all the same, see
// TestRecordedNode and TestRecordedWire.
func oldPrograms(t *testing.T) *lab.Programs {
	t.Helper()
	nstest.Root(t)
	refs := previous
	if ref := os.Getenv("MARGAY_OLD_REF"); ref != "" {
		refs = []string{ref}
	}
	var missing error
	for _, ref := range refs {
		p, err := cluster.Old(ref)
		if err == nil {
			t.Logf("old version: %s", p.Version)
			return p
		}
		if !errors.Is(err, lab.ErrNoHistory) || os.Getenv("MARGAY_OLD_REF") != "" {
			t.Fatal(err)
		}
		missing = err
	}
	t.Skipf("SKIPPED: NEEDS the history of the checkout, or MARGAY_OLD_REF: %v", missing)
	return nil
}

// TestUpgradeAndDowngrade takes a cluster of the old version to this one and back, node by node, so that both are in it at
// the same time: no pod loses its address or a packet, and each version takes over what the other one left.
func TestUpgradeAndDowngrade(t *testing.T) {
	old := oldPrograms(t)
	l := cluster.New(t, lab.Options{Nodes: 3, IPv6: true, Stopped: true})
	for _, n := range l.Nodes {
		n.Programs = old
		n.Start()
	}
	var pods []*lab.Pod
	for _, n := range l.Nodes {
		n.WaitReady(30 * time.Second)
		pods = append(pods, n.Pod(n.Name+"-old"))
	}
	l.WaitRoutes(30 * time.Second)
	warm(t, pods...)
	want := tunnels(l)
	p := pings{}
	for i := range pods {
		p.still = append(p.still, between(pods[i], pods[(i+1)%len(pods)])...)
	}
	for _, to := range []*lab.Programs{cluster.Programs, old, cluster.Programs} {
		for i, n := range l.Nodes {
			what := fmt.Sprintf("%s to %s", n.Name, to.Version)
			other := l.Nodes[(i+1)%len(l.Nodes)]
			change(t, l, n, to, what)
			fresh := []*lab.Pod{n.Pod("fresh"), other.Pod("fresh-other")}
			warm(t, append(fresh, pods...)...)
			for _, pod := range append(fresh, pods...) {
				if err := pod.Check(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			for _, pod := range fresh {
				if err := pod.Remove(); err != nil {
					t.Errorf("%s: DEL: %v", what, err)
				}
			}
			l.Agrees(30 * time.Second)
			if now := tunnels(l); fmt.Sprint(now) != fmt.Sprint(want) {
				t.Errorf("%s: tunnels are %v, were %v", what, now, want)
			}
			if err := l.ComparePeers(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	p.stop(t, "upgrade and downgrade")
}

// change ends a node's agent and starts that of another version. A pod ends in between, which the plugin that is there
// puts into the spool, and one was added and not written to the datastore yet.
func change(t *testing.T, l *lab.Lab, n *lab.Node, to *lab.Programs, what string) {
	t.Helper()
	leaving := n.Pod("leaving")
	l.Agrees(30 * time.Second)
	before := n.State()
	unsettled := n.Pod("unsettled")
	n.Kill()
	if err := leaving.Remove(); err != nil {
		t.Errorf("%s: DEL without an agent: %v", what, err)
	}
	if files := n.Spooled(); len(files) != 1 {
		t.Errorf("%s: spool has %v, want one release", what, files)
	}
	m := n.Monitor()
	n.Programs = to
	n.Start()
	took := n.WaitReady(30 * time.Second)
	l.Agrees(30 * time.Second)
	for _, line := range n.State().Names(unsettled.Addrs...) {
		if !strings.HasPrefix(line, "pod ") {
			t.Errorf("%s: %s", what, line)
		}
	}
	if diff := n.State().Cluster().Diff(before.Cluster()); diff != "" {
		t.Errorf("%s: what leads to other nodes changed:\n%s", what, diff)
	}
	if err := unsettled.Check(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if err := unsettled.Remove(); err != nil {
		t.Errorf("%s: DEL: %v", what, err)
	}
	events, _, wrong := m.Stop()
	t.Logf("%s: ready after %s; %d kernel events, %d of them for what was right", what, took, events, len(wrong))
	for _, w := range wrong {
		t.Errorf("%s: %s", what, w)
	}
}

// TestPluginOfOtherVersion: between the agent's rollout and its installing its plugin, and where an agent may not replace
// plugins, both versions talk to each other.
func TestPluginOfOtherVersion(t *testing.T) {
	old := oldPrograms(t)
	for _, c := range []struct {
		name          string
		agent, plugin *lab.Programs
	}{{"old agent, new plugin", old, cluster.Programs}, {"new agent, old plugin", cluster.Programs, old}} {
		t.Run(c.name, func(t *testing.T) {
			l := cluster.New(t, lab.Options{IPv6: true, Stopped: true})
			n := l.Nodes[0]
			n.Programs = c.agent
			n.Start()
			n.WaitReady(30 * time.Second)
			own := n.Pod("own") // by the agent's own plugin
			if err := n.Install(c.plugin); err != nil {
				t.Fatal(err)
			}
			p, gone, collected := n.Pod("p"), n.Pod("gone"), n.Pod("collected")
			for what, err := range map[string]error{
				"ping": p.Echo(own.V6(), 10*time.Second), "CHECK": p.Check(), "CHECK of the other's pod": own.Check(),
				"STATUS": n.Status(), "DEL of the other's pod": own.Remove(), "GC": n.GC(p, gone),
			} {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			if err := collected.Remove(); err != nil {
				t.Errorf("DEL after GC: %v", err)
			}
			l.Agrees(30 * time.Second)
			n.Kill()
			wantErr(t, "STATUS without an agent", n.Status(), 50, "agent is not running")
			if err := gone.Remove(); err != nil {
				t.Errorf("DEL without an agent: %v", err)
			}
			n.Start()
			n.WaitReady(30 * time.Second)
			if err := n.Install(c.plugin); err != nil {
				t.Fatal(err)
			}
			l.Agrees(30 * time.Second)
			if err := p.Remove(); err != nil {
				t.Errorf("DEL: %v", err)
			}
			l.Agrees(30 * time.Second)
		})
	}
}
