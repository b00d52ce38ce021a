package bench

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/test/lab"
)

// An agent claims a block ahead when it has fewer than eight addresses to hand out, so with one block of 16 the ninth pod has it
// do so.
const (
	meshPool = "172.20.0.0/16"
	meshBits = 28
)

// meshBlocks is where the blocks are that a node has at the start.
func meshBlocks(i int) netip.Prefix { return nth("172.20.0.0", 24, i) }

// meshOf measures a mesh: first all agents, then in the same namespaces all BIRDs.
func meshOf(t *testing.T, b *bench, r *report, nodes, blocks int, whole bool) {
	l := b.bgpLab(t, nodes, meshPool, meshBits)
	of := func(i int) (out []netip.Prefix) {
		for k := range blocks {
			out = append(out, block.Nth(meshBlocks(i), meshBits, uint64(k)))
		}
		return out
	}
	for i, n := range l.Nodes {
		ownBlocks(t, l.API, n.Name, meshBlocks(i), meshBits, blocks)
	}
	birds, extra := birdMesh(t, l, of), make([][]netip.Prefix, nodes)
	var took, cpu, rss, idle, one, every [2]sample
	runs := []struct {
		start, stop func(i int)
		pid         func(i int) int
		claim       func(i, round int) ([]netip.Prefix, time.Time)
	}{
		{func(i int) { l.Nodes[i].Start() }, func(i int) { l.Nodes[i].Kill() }, func(i int) int { return agentPID(t, l.Nodes[i]) },
			func(i, round int) ([]netip.Prefix, time.Time) { return claimByPod(t, l, l.Nodes[i], round) }},
		{func(i int) { birds[i].start() }, func(i int) { birds[i].stop() }, func(i int) int { return birds[i].pid },
			func(i, round int) ([]netip.Prefix, time.Time) {
				p := nth("172.21.0.0", meshBits, round)
				begin := time.Now()
				extra[i] = append(extra[i], p)
				birds[i].blocks("blackhole", append(of(i), extra[i]...)...)
				birds[i].configure()
				return []netip.Prefix{p}, begin
			}},
	}
	for k, run := range runs {
		kernels := followAll(t, l)
		begin := time.Now()
		for i := range l.Nodes {
			run.start(i)
		}
		took[k] = append(took[k], allRouted(t, kernels, (nodes-1)*blocks).Sub(begin).Seconds())
		pids := make([]int, nodes)
		for i := range pids {
			pids[i] = run.pid(i)
			cpu[k].ms(cpuTime(t, pids[i]))
		}
		if whole {
			rss[k], idle[k] = quiet(t, pids)
			if k == 0 {
				eightPods(t, l.Nodes[:min(nodes, count("N", 60))])
			}
			one[k], every[k] = claimMany(t, kernels, run.claim)
		}
		var ends sync.WaitGroup // at once: those that are left would take up what the others no longer do
		for i := range l.Nodes {
			ends.Go(func() { run.stop(i) })
		}
		ends.Wait()
		for _, k := range kernels {
			k.stop()
		}
	}
	with := fmt.Sprintf("mesh of %d, %d blocks each", nodes, blocks)
	r.add(
		row{what: with + ": start to all routes in all kernels", unit: "s", ours: took[0], peer: "BIRD", theirs: took[1]},
		row{what: with + ": CPU that took, a node", unit: "ms", ours: cpu[0], peer: "BIRD", theirs: cpu[1]})
	if whole {
		r.add(
			row{what: fmt.Sprintf("%d peers: resident memory", nodes-1), unit: "MB", ours: rss[0], peer: "BIRD", theirs: rss[1]},
			row{what: fmt.Sprintf("%d peers: idle CPU", nodes-1), unit: "mCPU", ours: idle[0], peer: "BIRD", theirs: idle[1], aim: upTo(10)},
			row{what: fmt.Sprintf("mesh of %d: ADD that has a block claimed to a far kernel", nodes), unit: "ms", ours: one[0], peer: "BIRD", theirs: one[1]},
			row{what: fmt.Sprintf("mesh of %d: the same to all kernels", nodes), unit: "ms", n: len(every[0]), ours: every[0], peer: "BIRD", theirs: every[1],
				aim: aim{"max < 1000", func(r row) bool { return r.ours.at(1) < 1000 }}})
		r.note("BIRD's claim is a static route in its file and birdc configure, without an API server; ours is the CNI's ADD, after which the agent writes the pod and claims a block ahead")
	}
}

func followAll(t *testing.T, l *lab.Lab) (out []*kernel) {
	t.Helper()
	for _, n := range l.Nodes {
		out = append(out, follow(t, n.NS))
	}
	return out
}

// allRouted waits until each kernel has so many routes, and returns when the last one came.
func allRouted(t *testing.T, kernels []*kernel, want int) (last time.Time) {
	t.Helper()
	for i, k := range kernels {
		eventually(t, bgpPatience, fmt.Sprintf("node %d has %d routes", i+1, want), func() bool { return k.heard() >= want })
		k.check()
		if _, at := k.span(); at.After(last) {
			last = at
		}
	}
	return last
}

// quiet looks at processes that have nothing to do: memory in MB, CPU in thousandths of a core, a value each.
func quiet(t *testing.T, pids []int) (rss, idle sample) {
	t.Helper()
	time.Sleep(5 * time.Second) // what is left of the start
	before := make([]time.Duration, len(pids))
	begin := time.Now()
	for i, pid := range pids {
		before[i] = cpuTime(t, pid)
	}
	time.Sleep(time.Duration(count("SECONDS_EACH", 60)) * time.Second)
	took := time.Since(begin).Seconds()
	for i, pid := range pids {
		idle = append(idle, 1000*(cpuTime(t, pid)-before[i]).Seconds()/took)
		a, _ := memory(t, pid)
		rss = append(rss, a)
	}
	return rss, idle
}

// eightPods brings each node to where its next pod has it claim a block.
func eightPods(t *testing.T, nodes []*lab.Node) {
	t.Helper()
	for k := range 8 {
		var g errgroup.Group
		g.SetLimit(4)
		for _, n := range nodes {
			g.Go(n.NewPod(fmt.Sprintf("before-%d", k)).Add)
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

// claimByPod adds a pod to a node, and returns the blocks that were claimed for it, and when the ADD was sent. It asks for blocks
// half a second later, when the routes are where they belong: that costs the API server something.
func claimByPod(t *testing.T, l *lab.Lab, n *lab.Node, round int) (claimed []netip.Prefix, begin time.Time) {
	t.Helper()
	before, err := l.Blocks()
	if err != nil {
		t.Fatal(err)
	}
	p := n.NewPod(fmt.Sprintf("claim-%d", round))
	begin = time.Now()
	if err := p.Add(); err != nil {
		t.Fatalf("%s: %v", n.Name, err)
	}
	time.Sleep(500 * time.Millisecond)
	after, err := l.Blocks()
	if err != nil {
		t.Fatal(err)
	}
	for cidr := range after {
		if before[cidr] == nil {
			claimed = append(claimed, cidr)
		}
	}
	return claimed, begin
}

// claimMany has one node after the other take blocks, and returns in milliseconds when each far kernel had the route, and when
// all had it.
func claimMany(t *testing.T, kernels []*kernel, claim func(i, round int) ([]netip.Prefix, time.Time)) (one, every sample) {
	t.Helper()
	want := count("N", 60)
	for round := 0; len(every) < want; round++ {
		if round > 20*want {
			t.Fatalf("%d rounds claimed %d blocks", round, len(every))
		}
		i := round % len(kernels)
		blocks, begin := claim(i, round)
		for _, block := range blocks {
			var all time.Duration
			for j, k := range kernels {
				if j == i {
					continue
				}
				eventually(t, bgpPatience, fmt.Sprintf("node %d routes %s", j+1, block), func() bool { return k.get(block).hops > 0 })
				took := k.get(block).first.Sub(begin)
				one.ms(took)
				all = max(all, took)
			}
			every.ms(all)
		}
	}
	return one, every
}
