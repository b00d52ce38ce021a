package fault

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/margay-net/margay/test/lab"
)

// TestReadyWhateverOthersDo: peers that are dead, nodes that are deleted and an API server that is away or silent take
// nothing from a node's own work, so the node stays ready, and can add pods.
func TestReadyWhateverOthersDo(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 3, IPv6: true})
	n := l.Nodes[0]
	far := l.Nodes[1].Pod("far")
	for _, c := range []struct {
		what string
		do   func() error
	}{
		{"a peer's agent is killed", func() error { l.Nodes[1].Kill(); return nil }},
		{"a peer is cut off", func() error { return l.Nodes[1].NS.Batch("link set eth0 down") }},
		{"another node is deleted", func() error {
			l.Nodes[2].Kill()
			return l.Core.CoreV1().Nodes().Delete(t.Context(), l.Nodes[2].Name, metav1.DeleteOptions{})
		}},
		{"the API server is silent", func() error { time.AfterFunc(2*time.Second, n.StallAPI()); return nil }},
		{"the API server is away", func() error { n.CutAPI(); return nil }},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		asked, start := 0, time.Now()
		for i := 0; time.Since(start) < 2500*time.Millisecond; i++ {
			for _, path := range []string{"readiness", "liveness"} {
				if err := n.Probe(path); err != nil {
					t.Fatalf("%s: %s: %v", c.what, path, err)
				}
			}
			if asked++; i == 10 {
				if p := n.NewPod(fmt.Sprintf("after-%d", start.UnixNano())); p.Add() != nil || p.Remove() != nil {
					t.Errorf("%s: the node can add no pod, or not delete it", c.what)
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err := n.Status(); err != nil {
			t.Errorf("%s: STATUS: %v", c.what, err)
		}
		if s := scrapeOf(t, n); s.values["margay_ready"] != 1 {
			t.Errorf("%s: margay_ready is %v", c.what, s.values["margay_ready"])
		}
		t.Logf("%s: %d probes, all well", c.what, asked)
	}
	if err := n.Pod("near").Echo(far.V4(), time.Second); err == nil {
		t.Error("the peer that was cut off answers: this test has tested nothing")
	}
}

// broken makes one thing of a node's own work impossible, and possible again.
type broken struct {
	what       string
	words      string // of /readiness, meanwhile
	within     time.Duration
	spoil      func() error
	mend       func() error
	killed     bool // liveness fails, too, and kubelet's kill is part of the mending
	addStillOK bool // pods can be added nevertheless
}

// TestReadinessSaysWhatIsBroken breaks what the agent needs of its node, one thing after the other: readiness turns to 503
// with words that say what, the agent goes on, and readiness comes back by itself as soon as that is mended.
func TestReadinessSaysWhatIsBroken(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true, Stopped: true})
	n := l.Nodes[0]
	small, sys := mountSmall(t, n), mountSysctls(t)
	n.Journal = filepath.Join(small, "journal")
	n.Env = map[string]string{"MARGAY_PROC_SYS": sys, "FELIX_ROUTEREFRESHINTERVAL": "1s"}
	n.Start()
	n.WaitReady(30 * time.Second)
	var room func()
	var deaf []int
	for _, c := range []broken{
		{
			what: "the journal's disk is full", words: "journal's folder cannot be written: write", within: 10 * time.Second, addStillOK: true, // on the last page
			spoil: func() error { room = fill(t, small); return nil },
			mend:  func() error { room(); return nil },
		},
		{
			what: "sysctls are read-only", words: "sysctls cannot be written: " + sys + "/net/ipv4/ip_forward: read-only file system", within: time.Second,
			spoil: func() error { return unix.Mount("", sys, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "") },
			mend:  func() error { return unix.Mount("", sys, "", unix.MS_REMOUNT|unix.MS_BIND, "") },
		},
		{
			what: "the kernel does not answer", words: "routes cannot be read from the kernel: ", within: 30 * time.Second,
			spoil: func() (err error) { deaf, err = deafen(t, n); return err },
			mend:  func() error { return undeafen(deaf) },
		},
		{
			what: "the CNI socket is removed", words: "CNI socket " + n.Socket + " is gone", within: 10 * time.Second, killed: true,
			spoil: func() error { return os.Remove(n.Socket) },
			mend:  func() error { n.Kill(); n.Start(); return nil },
		},
	} {
		breakAndMend(t, l, n, c)
	}
	l.Agrees(30 * time.Second)
	p := n.Pod("after")
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

func breakAndMend(t *testing.T, l *lab.Lab, n *lab.Node, c broken) {
	t.Helper()
	if err := c.spoil(); err != nil {
		t.Fatalf("%s: %v", c.what, err)
	}
	var said error
	took := l.Within(c.within, c.what, func() error {
		if said = n.Probe("readiness"); said == nil || !strings.Contains(said.Error(), "503") || !strings.Contains(said.Error(), c.words) {
			return fmt.Errorf("readiness: %w, want 503 and %q", said, c.words)
		}
		return nil
	})
	t.Logf("%s: after %s: %v", c.what, took.Round(time.Millisecond), said)
	if err := n.Probe("liveness"); (err != nil) != c.killed {
		t.Errorf("%s: liveness: %v", c.what, err)
	}
	if !c.addStillOK {
		p := n.NewPod(fmt.Sprintf("tried-%d", time.Now().UnixNano()))
		if err := p.Add(); err == nil {
			t.Errorf("%s: a pod can be added: readiness is wrong", c.what)
		}
		defer func() {
			if err := p.Remove(); err != nil {
				t.Errorf("%s: DEL once it is mended: %v", c.what, err)
			}
		}()
	}
	if err := c.mend(); err != nil {
		t.Fatalf("%s: mend: %v", c.what, err)
	}
	took = l.Within(30*time.Second, c.what+": ready again", func() error { return n.Probe("readiness") })
	t.Logf("%s: ready %s after it is mended", c.what, took.Round(time.Millisecond))
	if ended, err := n.Agent().Ended(); ended {
		t.Fatalf("%s: agent ended: %v", c.what, err)
	}
}

// mountSmall mounts a small disk for the node's journal; the agent is killed before it goes.
func mountSmall(t *testing.T, n *lab.Node) string {
	t.Helper()
	dir := t.TempDir()
	mountAt(t, n, "tmpfs", dir, "tmpfs", 0, "size=128k")
	return dir
}

// mountSysctls mounts /proc/sys a second time, as the manifest does.
func mountSysctls(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mountAt(t, nil, "/proc/sys", dir, "", unix.MS_BIND, "")
	return dir
}

func mountAt(t *testing.T, user *lab.Node, source, dir, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, dir, kind, flags, data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if user != nil {
			user.Kill()
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// deafen takes hold of the sockets over which the node's agent asks the kernel, and has the kernel throw all answers away;
// they are waited for a second, instead of ten. It returns the test's own descriptors of them.
func deafen(t *testing.T, n *lab.Node) (fds []int, err error) {
	t.Helper()
	pid := agentPID(t, n)
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(process)
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil, err
	}
	nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K} // keep 0 bytes of each message
	for _, f := range files {
		var number int
		if _, err := fmt.Sscan(f.Name(), &number); err != nil {
			return nil, err
		}
		fd, err := unix.PidfdGetfd(process, number, 0)
		if err != nil {
			continue // closed meanwhile
		}
		sa, nameErr := unix.Getsockname(fd)
		addr, ok := sa.(*unix.SockaddrNetlink)
		proto, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		if nameErr != nil || !ok || addr.Groups != 0 || proto != unix.NETLINK_ROUTE {
			unix.Close(fd)
			continue
		}
		fds = append(fds, fd)
		if err := errors.Join(
			unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing}),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})); err != nil {
			return fds, err
		}
	}
	if len(fds) == 0 {
		return nil, errors.New("the agent has no netlink socket")
	}
	t.Logf("%d sockets hear nothing any more", len(fds))
	return fds, nil
}

func undeafen(fds []int) error {
	var errs []error
	for _, fd := range fds {
		errs = append(errs, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0), unix.Close(fd))
	}
	return errors.Join(errs...)
}

// TestWithoutNetAdmin runs an agent that lacks the capability that all of its work needs, as under a wrong manifest: it
// says so, and one that has it takes over.
func TestWithoutNetAdmin(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true})
	n := l.Nodes[0]
	p := n.Pod("p")
	pid := agentPID(t, n)
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatal(err)
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		t.Fatal(err)
	}
	before := n.State()
	n.Kill()
	weak := exec.Command(exe)
	weak.Env = strings.Split(strings.TrimRight(string(env), "\x00"), "\x00")
	stop := startWeak(t, n, weak)
	l.Within(30*time.Second, "readiness says what is missing", func() error {
		if err := n.Probe("readiness"); err == nil || !strings.Contains(err.Error(), "lacks the capability NET_ADMIN") {
			return fmt.Errorf("it says %w", err)
		}
		return nil
	})
	t.Logf("readiness: %v", n.Probe("readiness"))
	if err := n.Probe("liveness"); err != nil {
		t.Errorf("liveness: %v: a restart would not help", err)
	}
	if err := n.NewPod("q").Add(); err == nil {
		t.Error("a pod can be added: readiness is wrong")
	}
	stop()
	n.Start()
	n.WaitReady(30 * time.Second)
	if diff := n.State().Diff(before); diff != "" {
		t.Errorf("the kernel's state changed:\n%s", diff)
	}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

// startWeak starts a program in the node's namespace without NET_ADMIN: from a thread that has given it up for its children,
// and ends with them.
func startWeak(t *testing.T, n *lab.Node, cmd *exec.Cmd) (stop func()) {
	t.Helper()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &said, &said, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlocked
		defer close(ended)
		err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_NET_ADMIN, 0, 0, 0)
		if err == nil {
			err = n.NS.Do(cmd.Start)
		}
		if started <- err; err == nil {
			_ = cmd.Wait() // killed
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
		if t.Failed() {
			t.Logf("the agent without NET_ADMIN said:\n%s", said.String())
		}
	})
	t.Cleanup(stop)
	return stop
}
