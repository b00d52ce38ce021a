package plugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/margay-net/margay/pkg/cni/wire"
)

func TestDelTwiceAndBeforeAdd(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	c := call{id: "c1", pod: "web", netns: pod.path}
	del := c
	del.verb = "DEL"
	l.mustRun(del)
	l.add(c)
	l.mustRun(del)
	l.empty()
	if names(t, pod) != "lo" {
		t.Errorf("pod still has %s", names(t, pod))
	}
	l.mustRun(del)
	del.netns = ""
	l.mustRun(del)
	del.netns = "/var/run/netns/gone"
	l.mustRun(del)
	del.netns = "/etc/passwd"
	l.mustRun(del)
	if len(l.spooled()) > 0 {
		t.Errorf("spool has %v", l.spooled())
	}
}

func TestDelAfterNetns(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	l.add(call{id: "c1", pod: "web", netns: pod.path})
	pod.remove()
	l.mustRun(call{verb: "DEL", id: "c1", pod: "web", netns: pod.path})
	for range 100 { // the kernel ends a namespace in its own time
		if !l.node.has("cali68caf03a5f4") {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	l.empty()
}

// The agent takes the host side away by itself, in the background: the plugin does not, which would take the kernel's time.
func TestDelRemovedByAgent(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	l.add(call{id: "c1", pod: "web", netns: pod.path})
	l.agent.on(wire.OpRelease, func(req *wire.Request) *wire.Response {
		resp := l.agent.answer(req)
		resp.Removed = true
		return resp
	})
	l.mustRun(call{verb: "DEL", id: "c1", pod: "web", netns: pod.path})
	if !l.node.has("cali68caf03a5f4") {
		t.Error("the plugin took the host side away that the agent was about to")
	}
}

// kubelet may delete a pod's old sandbox after it has made the new one, whose host side has the same name.
func TestDelOldSandboxLate(t *testing.T) {
	for _, agentUp := range []bool{true, false} {
		l, old, now := newLab(t), newNS(t), newNS(t)
		l.add(call{id: "old", pod: "web", netns: old.path})
		l.add(call{id: "new", pod: "web", netns: now.path})
		if !agentUp {
			l.agent.stop()
		}
		for _, netns := range []string{old.path, "", "/var/run/netns/gone"} {
			l.mustRun(call{verb: "DEL", id: "old", pod: "web", netns: netns})
			if !now.has("eth0") || !l.node.has("cali68caf03a5f4") {
				t.Fatalf("agent up %t, DEL of the old sandbox with netns %q took the new one's interface", agentUp, netns)
			}
		}
		l.mustRun(call{verb: "DEL", id: "new", pod: "web", netns: now.path})
		if names(t, now) != "lo" || l.node.has("cali68caf03a5f4") {
			t.Error("DEL of the new sandbox left its interface")
		}
	}
}

// After a refused ADD the runtime calls DEL: an interface that was there before is not ours to delete.
func TestDelLeavesForeignInterface(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	takeName(t, pod.path, "eth0")
	c := call{verb: "ADD", id: "c1", pod: "web", netns: pod.path}
	l.wantErr(c, 102)
	c.verb = "DEL"
	l.mustRun(c)
	if !pod.has("eth0") {
		t.Error("DEL took a foreign eth0")
	}
	// and one whose host side is on this node, as another plugin makes it
	pod = newNS(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "veth01234567"
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerNamespace = "eth0", netlink.NsFd(pod.fd)
	if err := l.node.nl.LinkAdd(pair); err != nil {
		t.Fatal(err)
	}
	c.netns = pod.path
	l.mustRun(c)
	if !pod.has("eth0") {
		t.Error("DEL took another plugin's eth0")
	}
}

func TestDelAgentDown(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	c := call{id: "c1", pod: "web", netns: pod.path}
	l.add(c)
	l.agent.stop()
	c.verb = "DEL"
	for range 2 {
		within(t, delTimeout, func() { l.mustRun(c) })
	}
	if names(t, pod) != "lo" || l.node.has("cali68caf03a5f4") {
		t.Error("the interface is still there")
	}
	if got := l.spooled(); len(got) != 1 || got[0] != "c1-eth0.json" {
		t.Fatalf("spool has %v", got)
	}
	f, err := os.Open(filepath.Join(l.spool, "c1-eth0.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var req wire.Request
	if err := wire.Read(wire.Reader(f), &req); err != nil {
		t.Fatal(err)
	}
	want := wire.Request{Op: wire.OpRelease, Network: "k8s-pod-network", ContainerID: "c1", IfName: "eth0", Namespace: "default",
		Pod: "web", PodUID: "uid-web", HostVeth: "cali68caf03a5f4"}
	if req.Op != want.Op || req.Network != want.Network || req.ContainerID != want.ContainerID || req.IfName != want.IfName ||
		req.Pod != want.Pod || req.PodUID != want.PodUID || req.HostVeth != want.HostVeth {
		t.Errorf("spooled %+v, want %+v", req, want)
	}
	info, err := os.Stat(l.spool)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("spool: %v, %v", info.Mode(), err)
	}
}

// An agent that hangs, refuses or talks nonsense is told through the spool.
func TestDelAgentIll(t *testing.T) {
	for name, hook := range map[string]func(*wire.Request) *wire.Response{
		"hangs":    func(*wire.Request) *wire.Response { time.Sleep(delTimeout + time.Second); return nil },
		"hangs up": func(*wire.Request) *wire.Response { return nil },
		"not yet":  func(*wire.Request) *wire.Response { return &wire.Response{Code: wire.NotReady, Msg: "starting"} },
		"invalid":  func(*wire.Request) *wire.Response { return &wire.Response{Code: wire.Invalid, Msg: "unknown field"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, pod := newLab(t), newNS(t)
			c := call{id: "c1", pod: "web", netns: pod.path}
			l.add(c)
			l.agent.on(wire.OpRelease, hook)
			c.verb = "DEL"
			within(t, delTimeout+3*time.Second, func() { l.mustRun(c) })
			if names(t, pod) != "lo" || len(l.spooled()) != 1 {
				t.Errorf("pod has %s, spool has %v", names(t, pod), l.spooled())
			}
		})
	}
}

// An ADD that was killed half way leaves what DEL finds.
func TestDelAfterKilledAdd(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	c := call{verb: "ADD", id: "c1", pod: "web", netns: pod.path}
	cmd := l.command(c)
	l.agent.on(wire.OpActivate, func(*wire.Request) *wire.Response { cmd.Process.Kill(); return nil })
	if l.node.do(cmd.Run) == nil || !pod.has("eth0") {
		t.Fatal("ADD was not killed between its steps")
	}
	c.verb = "DEL"
	l.mustRun(c)
	l.empty()
}

func TestSpoolErrors(t *testing.T) {
	dir := t.TempDir()
	long := &wire.Request{Op: wire.OpRelease, ContainerID: strings.Repeat("c", 300), IfName: "eth0"}
	if err := spool(dir, long); err == nil {
		t.Error("a name of 300 bytes was spooled")
	}
	taken := &wire.Request{Op: wire.OpRelease, ContainerID: "c1", IfName: "eth0"}
	if err := os.MkdirAll(filepath.Join(dir, "c1-eth0.json", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := spool(dir, taken); err == nil {
		t.Error("a directory was replaced")
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(files) > 0 {
		t.Errorf("left %v", files)
	}
}

// Nobody to tell and no place to keep it: the interface goes, and the runtime is asked to call again.
func TestDelCannotSpool(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	c := call{id: "c1", pod: "web", netns: pod.path}
	l.add(c)
	l.agent.stop()
	if err := os.WriteFile(l.spool, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.verb = "DEL"
	l.wantErr(c, 11, "delete default/web eth0", l.spool, "not a directory", "the agent is not running")
	if names(t, pod) != "lo" || l.node.has("cali68caf03a5f4") {
		t.Error("the interface is still there")
	}
}
