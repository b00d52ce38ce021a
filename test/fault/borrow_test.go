package fault

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// small makes pools of two blocks in each family: the third node can only borrow, its tunnel's addresses too.
func small(mode v3.EncapMode) []v3.IPPoolSpec {
	return []v3.IPPoolSpec{
		{CIDR: "172.20.0.0/25", BlockSize: 26, VXLANMode: mode},
		{CIDR: "fd00:172:20::/121", BlockSize: 122, VXLANMode: mode},
	}
}

// first says whether each of the pods gets an answer to its first echo request to both addresses of to.
func first(to *lab.Pod, from ...*lab.Pod) (errs []error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, p := range from {
		for _, addr := range to.Addrs {
			all.Go(func() {
				if err := p.Echo(addr, 900*time.Millisecond); err != nil { // a second request would come after a second
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, fmt.Errorf("from %s: %w", p.Node.Name, err))
				}
			})
		}
	}
	all.Wait()
	return errs
}

// lent says how many of a pod's addresses are of other nodes' blocks.
func lent(t *testing.T, l *lab.Lab, p *lab.Pod) (n int) {
	t.Helper()
	for _, owner := range l.Nodes {
		held, err := l.Held(owner.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range p.Addrs {
			if held[a] == p.Handle() && owner != p.Node {
				n++
			}
		}
	}
	return n
}

// TestBorrowedAnswersAtOnce: a borrowed address answers the first packet of every node, its owner too, at the moment ADD
// returns.
func TestBorrowedAnswersAtOnce(t *testing.T) {
	for _, mode := range []v3.EncapMode{v3.EncapAlways, v3.EncapNever} {
		t.Run(string(mode), func(t *testing.T) {
			l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true, Pools: small(mode)})
			n3 := l.AddNode("node3", 3)
			n3.Start()
			n3.WaitReady(30 * time.Second)
			l.WaitRoutes(30 * time.Second)
			peers := []*lab.Pod{l.Nodes[0].Pod("peer1"), l.Nodes[1].Pod("peer2"), n3.Pod("peer3")}
			l.Within(30*time.Second, "the nodes' own network is up", func() error {
				for _, err := range first(peers[2], peers[:2]...) {
					return err
				}
				return nil
			})
			rounds, borrowed := 25, 0
			var took []time.Duration
			for i := range rounds {
				p := n3.Pod(fmt.Sprintf("p%d", i))
				took = append(took, p.Took)
				for _, err := range first(p, peers...) {
					t.Errorf("round %d: %v", i, err)
				}
				borrowed += lent(t, l, p)
				if i%3 > 0 { // some stay, so that different addresses are used
					if err := p.Remove(); err != nil {
						t.Fatal(err)
					}
				}
			}
			slices.Sort(took)
			t.Logf("%d addresses borrowed in %d ADDs, half of them took %s at most, the slowest %s", borrowed, rounds, took[rounds/2], took[rounds-1])
			if borrowed != 2*rounds {
				t.Errorf("%d addresses were borrowed, want %d: this tests something else", borrowed, 2*rounds)
			}
			l.WaitRoutes(30 * time.Second)
			l.Agrees(30 * time.Second)
		})
	}
}

// TestBorrowedOwnerDown: without the owner's agent an ADD takes a while, but not for ever, and the nodes whose agents run reach
// the pod; the owner's own pods do as soon as its agent is back.
func TestBorrowedOwnerDown(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true, Pools: []v3.IPPoolSpec{
		{CIDR: "172.20.0.0/26", BlockSize: 26, VXLANMode: v3.EncapAlways}, {CIDR: "fd00:172:20::/122", BlockSize: 122, VXLANMode: v3.EncapAlways},
	}})
	owner, borrower := l.Nodes[0], l.Nodes[1]
	if held, err := l.Held(owner.Name); err != nil || len(held) == 0 {
		owner, borrower = borrower, owner
	}
	third := l.AddNode("node3", 3)
	third.Start()
	third.WaitReady(30 * time.Second)
	l.WaitRoutes(30 * time.Second)
	home, away := owner.Pod("home"), third.Pod("away")
	owner.Kill()
	p := borrower.Pod("guest")
	t.Logf("ADD without the owner took %s", p.Took)
	for _, err := range first(p, away) {
		t.Error(err)
	}
	if p.Took > 10*time.Second {
		t.Errorf("ADD took %s", p.Took)
	}
	if again := borrower.Pod("guest2"); again.Took > 3*time.Second {
		t.Errorf("the next ADD took %s", again.Took)
	}
	owner.Start()
	owner.WaitReady(30 * time.Second)
	l.Within(30*time.Second, "the owner's pod reaches the borrowed addresses", func() error {
		for _, err := range first(p, home) {
			return err
		}
		return nil
	})
	l.Agrees(30 * time.Second)
}

// TestBorrowerKilled: an agent that is killed and comes back knows what it borrowed: pods keep talking, and what they had goes
// back when they end.
func TestBorrowerKilled(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true, Pools: small(v3.EncapAlways)})
	n3 := l.AddNode("node3", 3)
	n3.Start()
	n3.WaitReady(30 * time.Second)
	l.WaitRoutes(30 * time.Second)
	peer := l.Nodes[0].Pod("peer")
	var pods []*lab.Pod
	for i := range 4 {
		pods = append(pods, n3.Pod(fmt.Sprintf("p%d", i)))
	}
	var pings []*lab.Pinger
	for _, a := range pods[0].Addrs {
		pings = append(pings, peer.Ping(a, 10*time.Millisecond))
	}
	for range 3 {
		n3.Kill()
		n3.Start()
		n3.WaitReady(30 * time.Second)
	}
	for _, loss := range lab.Stop(pings...) {
		if loss.Lost > 0 {
			t.Error(loss)
		}
	}
	n3.Kill()
	var freed []netip.Addr
	for _, p := range pods[1:] { // spooled
		freed = append(freed, p.Addrs...)
		if err := p.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	n3.Start()
	n3.WaitReady(30 * time.Second)
	l.Agrees(30 * time.Second)
	l.WaitRoutes(30 * time.Second)
	for _, n := range l.Nodes {
		if lines := n.State().Names(freed...); len(lines) > 0 {
			t.Errorf("%s still knows what was given back: %q", n.Name, lines)
		}
	}
}
