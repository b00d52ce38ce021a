package fault

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/margay-net/margay/test/lab"
)

// TestAPIServerAway kills the API server for a while: pods talk on, come and go.
func TestAPIServerAway(t *testing.T) {
	const more = 10
	l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true})
	var old, leaving []*lab.Pod
	for _, n := range l.Nodes {
		old = append(old, n.Pod(n.Name+"-old"))
		leaving = append(leaving, n.Pod(n.Name+"-leaving1"), n.Pod(n.Name+"-leaving2"))
	}
	l.WaitRoutes(30 * time.Second)
	l.Agrees(30 * time.Second)
	before := []lab.State{l.Nodes[0].State().Cluster(), l.Nodes[1].State().Cluster()}
	monitors := []*lab.Monitor{l.Nodes[0].Monitor(), l.Nodes[1].Monitor()}
	var pingers []*lab.Pinger
	for _, a := range old[1].Addrs {
		pingers = append(pingers, old[0].Ping(a, 3*time.Millisecond))
	}
	if err := l.Server.Down(); err != nil {
		t.Fatal(err)
	}
	back := false
	defer func() {
		if !back {
			_ = l.Server.Up()
		}
	}()
	down := time.Now()
	var slowest time.Duration
	for _, n := range l.Nodes {
		for i := range more {
			p := n.Pod(fmt.Sprintf("%s-new%d", n.Name, i))
			slowest = max(slowest, p.Took)
			if err := p.Echo(old[0].V4(), 10*time.Second); err != nil {
				t.Error(err)
			}
			if err := p.Echo(old[1].V6(), 10*time.Second); err != nil {
				t.Error(err)
			}
		}
		if err := n.Probe("readiness"); err != nil {
			t.Errorf("%s: a node that can add pods is not ready: %v", n.Name, err)
		}
	}
	t.Logf("%d ADDs per node without the API server, the slowest took %s", more, slowest)
	for _, p := range leaving {
		if err := p.Remove(); err != nil {
			t.Errorf("DEL without the API server: %v", err)
		}
		if p.Took > 3*time.Second {
			t.Errorf("DEL without the API server took %s", p.Took)
		}
	}
	restartWithoutAPI(t, l.Nodes[1])
	if err := l.Server.Up(); err != nil {
		t.Fatal(err)
	}
	back = true
	t.Logf("API server was away for %s", time.Since(down).Round(time.Millisecond))
	t.Logf("node2's new agent is ready %s after its return", l.Nodes[1].WaitReady(30*time.Second))
	t.Logf("all agrees %s after that", l.Agrees(30*time.Second))
	for _, loss := range lab.Stop(pingers...) {
		t.Log(loss)
		if loss.Lost > 0 {
			t.Errorf("packets were lost: %s", loss)
		}
	}
	for i, n := range l.Nodes {
		_, _, wrong := monitors[i].Stop()
		if len(wrong) > 0 {
			t.Errorf("%s: right objects were touched: %s", n.Name, strings.Join(wrong, "\n"))
		}
		checkUntouched(t, l, n, before[i])
	}
}

// restartWithoutAPI kills the agent and starts one that finds no API server: it waits, says why, and touches nothing.
func restartWithoutAPI(t *testing.T, n *lab.Node) {
	t.Helper()
	before := n.State()
	n.Kill()
	n.Start()
	const why = "API server has not answered yet"
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := n.Probe("readiness")
		if err != nil && strings.Contains(err.Error(), why) {
			t.Logf("readiness: %v", err)
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("readiness does not say what the agent waits for: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := n.Probe("liveness"); err != nil {
		t.Errorf("an agent that waits is not alive: %v", err)
	}
	err := n.Status()
	code, text := lab.Code(err)
	if code != 50 || !strings.Contains(text, why) {
		t.Errorf("STATUS: code %d, %s", code, text)
	}
	t.Logf("STATUS: %d %s", code, text)
	p := n.NewPod("too-early")
	if err := p.Add(); err == nil {
		t.Error("ADD succeeds on a node whose state is not known")
	} else {
		t.Logf("ADD: %v (after %s)", err, p.Took)
	}
	if err := p.Remove(); err != nil {
		t.Errorf("DEL: %v", err)
	}
	if diff := n.State().Diff(before); diff != "" {
		t.Errorf("the kernel's state changed while the agent waits:\n%s", diff)
	}
}

// TestAgentDown: nobody answers the plugin.
func TestAgentDown(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true})
	n := l.Nodes[0]
	stays, goes, checked := n.Pod("stays"), n.Pod("goes"), n.Pod("checked")
	n.Kill()
	late := n.NewPod("late")
	err := late.Add()
	code, text := lab.Code(err)
	t.Logf("ADD: %d %s (after %s)", code, text, late.Took)
	if code != 11 || !strings.Contains(text, "agent is not running") || late.Took > 8*time.Second {
		t.Errorf("ADD: code %d after %s: %v; want 11 within 8 s", code, late.Took, err)
	}
	err = n.Status()
	if code, text = lab.Code(err); code != 50 || !strings.Contains(text, "agent is not running") {
		t.Errorf("STATUS: %d %s", code, text)
	}
	t.Logf("STATUS: %d %s", code, text)
	if err := checked.Check(); err == nil {
		t.Error("CHECK succeeds though nobody can say")
	}
	for _, p := range []*lab.Pod{goes, late} {
		if err := p.Remove(); err != nil {
			t.Errorf("DEL of %s: %v", p.Name, err)
		}
		if p.Took > 3*time.Second {
			t.Errorf("DEL of %s took %s", p.Name, p.Took)
		}
	}
	if veths := n.Veths(); len(veths) != 2 {
		t.Errorf("after DEL the node has %v, want the host sides of two pods", veths)
	}
	if files := n.Spooled(); len(files) != 2 {
		t.Errorf("spool has %v, want two releases", files)
	}
	if err := stays.Echo(checked.V4(), 10*time.Second); err != nil {
		t.Error(err)
	}
	n.Start()
	n.WaitReady(30 * time.Second)
	t.Logf("all agrees %s after the agent is ready", l.Agrees(30*time.Second))
	if files := n.Spooled(); len(files) != 0 {
		t.Errorf("spool still has %v", files)
	}
	if info, err := os.Stat(n.Socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, mode %s", err, info.Mode())
	}
}

// TestAPIServerSilent: the API server neither answers nor refuses, as behind a broken load balancer.
func TestAPIServerSilent(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true})
	n := l.Nodes[0]
	old, leaving := n.Pod("old"), n.Pod("leaving")
	l.Agrees(30 * time.Second)
	before := n.State().Cluster()
	resume := n.StallAPI()
	var slowest time.Duration
	for i := range 10 {
		p := n.Pod(fmt.Sprintf("new%d", i))
		slowest = max(slowest, p.Took)
		if err := p.Echo(old.V6(), 10*time.Second); err != nil {
			t.Error(err)
		}
	}
	t.Logf("10 ADDs, the slowest took %s", slowest)
	if slowest > 3*time.Second {
		t.Errorf("an ADD took %s", slowest)
	}
	if err := leaving.Remove(); err != nil || leaving.Took > 3*time.Second {
		t.Errorf("DEL: %v after %s", err, leaving.Took)
	}
	n.Kill()
	n.Start()
	time.Sleep(time.Second)
	if err := n.Probe("readiness"); err == nil {
		t.Error("an agent that knows nothing of the cluster is ready")
	}
	if diff := n.State().Cluster().Diff(before); diff != "" {
		t.Errorf("the kernel's state changed:\n%s", diff)
	}
	resume()
	t.Logf("ready %s after the API server speaks again", n.WaitReady(30*time.Second))
	l.Agrees(30 * time.Second)
	if err := old.Check(); err != nil {
		t.Error(err)
	}
}
