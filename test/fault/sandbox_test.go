package fault

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/margay-net/margay/test/lab"
)

// wantErr checks a CNI error's code and words.
func wantErr(t *testing.T, what string, err error, code uint, words ...string) {
	t.Helper()
	got, text := lab.Code(err)
	t.Logf("%s: %d %s", what, got, text)
	if got != code {
		t.Errorf("%s: code %d, want %d: %v", what, got, code, err)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s: %q does not say %q", what, text, w)
		}
	}
}

// TestTwoAddsOneContainer: the runtime calls ADD again for a sandbox that lives, and twice at once for a new one.
func TestTwoAddsOneContainer(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true})
	n := l.Nodes[0]
	p, other := n.Pod("web"), n.Pod("other")
	addrs := p.Addrs
	wantErr(t, "second ADD", p.Add(), 7, "exists")
	p.Addrs = addrs
	if err := p.Check(); err != nil {
		t.Errorf("after a refused ADD: CHECK: %v", err)
	}
	for _, a := range other.Addrs {
		if err := p.Echo(a, 10*time.Second); err != nil {
			t.Error(err)
		}
	}
	twin := n.NewPod("twin")
	again := *twin
	errs := make([]error, 2)
	var both sync.WaitGroup
	for i, p := range []*lab.Pod{twin, &again} {
		both.Go(func() { errs[i] = p.Add() })
	}
	both.Wait()
	t.Logf("two ADDs at once: %v; %v", errs[0], errs[1])
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Errorf("of two ADDs at once of one sandbox one must win: %v; %v", errs[0], errs[1])
	}
	for _, p := range []*lab.Pod{&again, twin} {
		if err := p.Del(); err != nil {
			t.Error(err)
		}
	}
	l.Agrees(30 * time.Second)
}

// TestDelBeforeAdd, TestDelTwice: DEL is idempotent.
func TestDelBeforeAdd(t *testing.T) {
	l := cluster.New(t, lab.Options{})
	p := l.Nodes[0].NewPod("web")
	for range 2 {
		if err := p.Del(); err != nil {
			t.Errorf("DEL of a sandbox that was never added: %v", err)
		}
	}
	if err := p.Add(); err != nil {
		t.Errorf("ADD after DEL: %v", err)
	}
	l.Agrees(30 * time.Second)
}

func TestDelTwice(t *testing.T) {
	l := cluster.New(t, lab.Options{})
	p := l.Nodes[0].Pod("web")
	for range 3 {
		if err := p.Del(); err != nil {
			t.Errorf("DEL: %v", err)
		}
	}
	l.Agrees(30 * time.Second)
	if spooled := l.Nodes[0].Spooled(); len(spooled) > 0 {
		t.Errorf("releases were spooled though the agent runs: %v", spooled)
	}
}

// TestNetnsGone: the runtime has taken the namespace away before it calls DEL.
func TestNetnsGone(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true})
	p := l.Nodes[0].Pod("web")
	p.NS.Close()
	l.Within(30*time.Second, "the kernel removes the pair", func() error {
		if v := l.Nodes[0].Veths(); len(v) > 0 {
			return errLeft(v)
		}
		return nil
	})
	wantErr(t, "CHECK", p.Check(), 8)
	if err := p.Del(); err != nil {
		t.Errorf("DEL without a namespace: %v", err)
	}
	l.Agrees(30 * time.Second)
	late := l.Nodes[0].NewPod("late")
	late.NS.Close()
	wantErr(t, "ADD", late.Add(), 8)
	if err := late.Del(); err != nil {
		t.Error(err)
	}
	l.Agrees(30 * time.Second)
}

type errLeft []string

func (e errLeft) Error() string { return "left: " + strings.Join(e, " ") }

// TestHostVethExists: the pod's host side is there before ADD, made by an earlier sandbox or by somebody else.
func TestHostVethExists(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true})
	n := l.Nodes[0]
	foreign := n.NewPod("foreign")
	if err := n.NS.Batch("link add " + foreign.HostVeth() + " type bridge"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "ADD over a foreign device", foreign.Add(), 102, foreign.HostVeth(), "exists already")
	if err := foreign.Remove(); err != nil {
		t.Error(err)
	}
	if out, err := n.NS.Run("ip -d link show " + foreign.HostVeth()); err != nil || !strings.Contains(out, "bridge") {
		t.Errorf("the foreign device was touched: %v %s", err, out)
	}
	if err := n.NS.Batch("link del " + foreign.HostVeth()); err != nil {
		t.Fatal(err)
	}
	l.Agrees(30 * time.Second)
	// One of ours, that a crash has left behind.
	stale := n.NewPod("stale")
	if err := n.NS.Batch("link add "+stale.HostVeth()+" address ee:ee:ee:ee:ee:ee type veth peer name left",
		"link set "+stale.HostVeth()+" up"); err != nil {
		t.Fatal(err)
	}
	if err := stale.Add(); err != nil {
		t.Errorf("ADD over a stale host side: %v", err)
	}
	if err := stale.Check(); err != nil {
		t.Error(err)
	}
	l.Agrees(30 * time.Second)
}

// TestInterfaceDeletedByHand: CHECK names it, DEL succeeds.
func TestInterfaceDeletedByHand(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true})
	n := l.Nodes[0]
	p := n.Pod("web")
	if err := n.NS.Batch("link del " + p.HostVeth()); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "CHECK", p.Check(), 101, "eth0")
	if err := p.Remove(); err != nil {
		t.Errorf("DEL: %v", err)
	}
	l.Agrees(30 * time.Second)
	down := n.Pod("down")
	if err := n.NS.Batch("addr add 10.9.9.9/32 dev " + down.HostVeth()); err != nil {
		t.Fatal(err)
	}
	if err := down.Check(); err != nil {
		t.Errorf("CHECK with a foreign address on the host side: %v", err)
	}
	if err := down.NS.Batch("addr flush dev eth0"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "CHECK", down.Check(), 101, "address", down.V4().String())
}

// TestPodRecreatedSameName: a new sandbox of a pod comes before the DEL of the old one.
func TestPodRecreatedSameName(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true})
	n := l.Nodes[0]
	other := n.Pod("other")
	old := n.Pod("web")
	next := n.Pod("web")
	if old.V4() == next.V4() {
		t.Fatalf("both sandboxes have %s", old.V4())
	}
	check := func(when string) {
		t.Helper()
		if err := next.Check(); err != nil {
			t.Errorf("%s: CHECK of the new sandbox: %v", when, err)
		}
		for _, a := range next.Addrs {
			if err := other.Echo(a, 10*time.Second); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	check("after the new ADD")
	if err := old.Remove(); err != nil {
		t.Errorf("late DEL: %v", err)
	}
	check("after the late DEL")
	l.Agrees(30 * time.Second)
	// The same with the agent away for the late DEL.
	third := n.Pod("web")
	n.Kill()
	if err := next.Remove(); err != nil {
		t.Errorf("late DEL without the agent: %v", err)
	}
	n.Start()
	n.WaitReady(30 * time.Second)
	next = third
	check("after a spooled late DEL")
	l.Agrees(30 * time.Second)
}

// TestGarbage: GC releases what the runtime no longer knows, and nothing else.
func TestGarbage(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true})
	n := l.Nodes[0]
	stays, lost := n.Pod("stays"), n.Pod("lost")
	if err := n.GC(stays, lost); err != nil {
		t.Fatal(err)
	}
	l.Agrees(30 * time.Second)
	if err := n.GC(stays); err != nil {
		t.Fatal(err)
	}
	if err := stays.Check(); err != nil {
		t.Error(err)
	}
	if err := lost.Remove(); err != nil {
		t.Errorf("DEL after GC: %v", err)
	}
	l.Agrees(30 * time.Second)
}
