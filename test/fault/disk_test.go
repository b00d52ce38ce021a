package fault

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// TestCorruptJournal spoils the journal of a dead agent in several ways: pods go on, no address is given twice, and the
// pods are released like all others.
func TestCorruptJournal(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"deleted":       func([]byte) []byte { return nil },
		"empty":         func([]byte) []byte { return []byte{} },
		"garbage":       func([]byte) []byte { return bytes.Repeat([]byte{0xde, 0xad, '\n'}, 300) },
		"cut short":     func(b []byte) []byte { return b[:len(b)-20] },
		"flipped byte":  func(b []byte) []byte { b[len(b)/2] ^= 0x40; return b },
		"first line":    func(b []byte) []byte { b[3] ^= 1; return b },
		"last line off": func(b []byte) []byte { return b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1] },
	} {
		t.Run(name, func(t *testing.T) { corruptJournal(t, spoil) })
	}
}

func corruptJournal(t *testing.T, spoil func([]byte) []byte) {
	pool4, pool6 := lab.Pool4, lab.Pool6
	pool4.BlockSize, pool6.BlockSize = 28, 124
	l := cluster.New(t, lab.Options{IPv6: true, Pools: []v3.IPPoolSpec{pool4, pool6}})
	n := l.Nodes[0]
	owner := &owners{t: t, of: map[netip.Addr]string{}}
	var pods []*lab.Pod
	for i := range 5 {
		pods = append(pods, n.Pod(fmt.Sprintf("pod%d", i)))
		owner.take(pods[i])
	}
	l.Agrees(30 * time.Second)
	n.Kill()
	path := filepath.Join(n.Journal, "journal")
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b := spoil(bytes.Clone(was)); b == nil {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	before := n.State()
	n.Start()
	n.WaitReady(30 * time.Second)
	if diff := n.State().Diff(before); diff != "" {
		t.Errorf("the kernel's state changed:\n%s", diff)
	}
	for i := range 20 { // more than what is left of the block
		p := n.NewPod(fmt.Sprintf("new%d", i))
		if err := p.Add(); err != nil {
			t.Fatalf("ADD: %v", err)
		}
		owner.take(p)
		pods = append(pods, p)
	}
	if err := pods[0].Echo(pods[len(pods)-1].V4(), 10*time.Second); err != nil {
		t.Error(err)
	}
	l.Agrees(30 * time.Second)
	for _, p := range pods {
		if err := p.Remove(); err != nil {
			t.Errorf("DEL: %v", err)
		}
	}
	l.Agrees(30 * time.Second)
}

// TestFullDisk: journal and spool are on a file system without room.
func TestFullDisk(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true, Stopped: true})
	n := l.Nodes[0]
	dir := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Kill()
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	n.Journal, n.Spool = filepath.Join(dir, "journal"), filepath.Join(dir, "spool")
	n.Start()
	n.WaitReady(30 * time.Second)
	old, later := n.Pod("old"), n.Pod("later")
	var gone []*lab.Pod
	for i := range 40 {
		gone = append(gone, n.Pod(fmt.Sprintf("gone%d", i)))
	}
	l.Agrees(30 * time.Second)

	room := fill(t, dir)
	p := n.NewPod("no-room")
	wantErr(t, "ADD on a full disk", addUntilFails(p), 11, "no space left on device", "journal")
	if err := p.Remove(); err != nil {
		t.Errorf("DEL after it: %v", err)
	}
	for _, p := range gone { // too many for what room the journal's last page may have
		if err := p.Remove(); err != nil {
			t.Errorf("DEL on a full disk: %v", err)
		}
	}
	if err := old.Check(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(n.Log(), "release is not in the journal") {
		t.Error("the log does not say that releases are in no journal")
	}
	room()
	t.Logf("all agrees %s after there is room", l.Agrees(30*time.Second))
	l.Within(30*time.Second, "the journal is written anew", func() error {
		b, err := os.ReadFile(filepath.Join(n.Journal, "journal"))
		if err == nil && bytes.Contains(b, []byte(gone[39].ID)) {
			err = fmt.Errorf("it still has a pod that is gone")
		}
		return err
	})

	room = fill(t, dir)
	n.Kill()
	wantErr(t, "DEL on a full disk without an agent", later.Del(), 11, "no space left on device", n.Spool)
	n.Start()
	l.Within(30*time.Second, "readiness says that the disk is full", func() error {
		if err := n.Probe("readiness"); err == nil || !strings.Contains(err.Error(), "no space left on device") {
			return fmt.Errorf("it says %w", err)
		}
		return nil
	})
	if ended, err := n.Agent().Ended(); ended {
		t.Errorf("agent ended: %v", err)
	}
	room()
	t.Logf("ready %s after there is room", n.WaitReady(30*time.Second))
	if err := later.Remove(); err != nil {
		t.Errorf("DEL again: %v", err)
	}
	fresh := n.Pod("fresh")
	if err := fresh.Echo(old.V4(), 10*time.Second); err != nil {
		t.Error(err)
	}
	l.Agrees(30 * time.Second)
}

// fill leaves no room until the returned function is called.
func fill(t *testing.T, dir string) (room func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// addUntilFails adds and deletes until the journal's last page is full: it may have room for some lines.
func addUntilFails(p *lab.Pod) (err error) {
	for range 60 {
		if err = p.Add(); err != nil {
			return err
		}
		if err = p.Del(); err != nil {
			return fmt.Errorf("DEL: %w", err)
		}
	}
	return err
}

// TestTwoAgentsOneNode: a second agent of a node waits, and takes over when the first ends.
func TestTwoAgentsOneNode(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true})
	n := l.Nodes[0]
	first := n.Pod("first")
	second := n.Spawn(nil)
	l.Within(30*time.Second, "the second agent says that it waits", func() error {
		if log := n.Log(); !strings.Contains(log, "another agent of this node runs") {
			return fmt.Errorf("log: %s", n.LastLog(5))
		}
		return nil
	})
	for i := range 10 {
		if err := n.Pod(fmt.Sprintf("pod%d", i)).Echo(first.V6(), 10*time.Second); err != nil {
			t.Error(err)
		}
	}
	if ended, err := second.Ended(); ended {
		t.Fatalf("the second agent ended: %v\n%s", err, n.LastLog(10))
	}
	before := n.State()
	ping := first.Ping(n.Addr4.Addr(), 2*time.Millisecond)
	for _, how := range []string{"SIGTERM", "SIGKILL"} {
		start := time.Now()
		if how == "SIGTERM" {
			n.Stop()
		} else {
			third := n.Spawn(nil)
			time.Sleep(500 * time.Millisecond)
			second.Kill()
			second = third
		}
		p := n.NewPod("after-" + how)
		if err := p.Add(); err != nil {
			t.Errorf("ADD while the second agent takes over after %s: %v", how, err)
		}
		t.Logf("%s: an ADD at once was done %s after it", how, time.Since(start))
		if err := p.Remove(); err != nil {
			t.Error(err)
		}
		l.Within(30*time.Second, "the second agent is ready", func() error { return n.Probe("readiness") })
		l.Agrees(30 * time.Second)
		if diff := n.State().Diff(before); diff != "" {
			t.Errorf("%s: the kernel's state changed:\n%s", how, diff)
		}
	}
	if loss := ping.Stop(); loss.Lost > 0 {
		t.Errorf("packets were lost: %s", loss)
	}
}

// TestNoDefaultGateway: on nodes without a default route pods work all the same.
func TestNoDefaultGateway(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true, NoGateway: true})
	a, b, c := l.Nodes[0].Pod("a"), l.Nodes[0].Pod("b"), l.Nodes[1].Pod("c")
	l.WaitRoutes(30 * time.Second)
	for _, to := range []*lab.Pod{b, c} {
		for _, addr := range to.Addrs {
			if err := a.Echo(addr, 10*time.Second); err != nil {
				t.Error(err)
			}
		}
	}
	for _, n := range l.Nodes {
		for _, addr := range []netip.Addr{n.Addr4.Addr(), n.Addr6.Addr()} {
			if err := a.Echo(addr, 2*time.Second); err != nil && n == l.Nodes[0] {
				t.Error(err)
			}
		}
	}
}
