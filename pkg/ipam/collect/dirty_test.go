package collect

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/ipam/block"
)

// TestDirtyPassesSuffice: passes over just those nodes about which something was heard find what full passes at the same
// times find. One world does full passes alone and is the oracle; what it asks for nobody does, so that it asks again.
func TestDirtyPassesSuffice(t *testing.T) {
	for seed := range uint64(150) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		oracle, w := newWorld(t), newWorld(t)
		cidrs := []string{"10.0.0.0/29", "10.0.0.8/29", "10.0.0.16/29"}
		for i, cidr := range cidrs {
			for _, x := range []*world{oracle, w} {
				x.block(cidr, fmt.Sprintf("host:n%d", i))
				x.SetNode(fmt.Sprintf("n%d", i), Node{UID: "1"})
			}
		}
		open, next := map[string][]string{}, time.Time{}
		for range 60 {
			op, cidr, node, k := rnd.IntN(8), cidrs[rnd.IntN(3)], fmt.Sprintf("n%d", rnd.IntN(3)), rnd.IntN(8)
			pod := fmt.Sprintf("p%d", rnd.IntN(6))
			for _, x := range []*world{oracle, w} {
				x.change(op, cidr, node, pod, k)
			}
			after := time.Duration(rnd.IntN(int(grace / 2)))
			all := handlesOf(oracle.pass(after))
			w.now = oracle.now
			looked := map[string]bool{}
			for n := range w.dirty {
				looked[n.Value()] = true
			}
			full := !next.IsZero() && !w.now.Before(next)
			p := w.c.Pass(w.State, w.now, full)
			next = p.Next
			for n := range open {
				if full || looked[n] {
					delete(open, n)
				}
			}
			for n, h := range handlesOf(p) {
				open[n] = h
			}
			if fmt.Sprint(open) != fmt.Sprint(all) {
				t.Fatalf("seed %d: %v is open, full passes find %v", seed, open, all)
			}
		}
	}
}

// handlesOf returns the handles that a plan releases, by node.
func handlesOf(p *Plan) map[string][]string {
	out := map[string][]string{}
	for n, list := range p.Releases {
		for _, r := range list {
			out[n] = append(out[n], r.Handle)
		}
		slices.Sort(out[n])
	}
	return out
}

// change does one of the things that happen.
func (w *world) change(op int, cidr, node, pod string, k int) {
	b := w.blocks[cidr]
	switch op {
	case 0, 1:
		if b.Spec.Allocations[k] == nil {
			w.takePod(cidr, k, pod, node)
		}
	case 2:
		block.Retire(b, k, block.Handle(b, k), false, 0, w.now)
		w.put(cidr)
	case 3:
		w.pod(pod, node)
	case 4:
		w.pod(pod, node, fmt.Sprintf("10.0.0.%d", k))
	case 5:
		w.DeletePod(PodKey{NameOf("ns"), pod})
	case 6:
		w.DeleteNode(node)
	case 7:
		w.SetNode(node, Node{UID: fmt.Sprint(k % 2), Silent: k > 5})
	}
}
