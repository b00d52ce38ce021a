package ipam_test

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/ipam/check"
)

const (
	modelNodes = 4
	modelSteps = 10_000 // unless MARGAY_MODEL_STEPS says otherwise
)

// TestModel lets nodes live side by side, each in a goroutine of its own, against one API server: pods that start several at
// once, some with addresses that they ask for; agents that die, also between any two of their writes; answers that are lost,
// writes that are late; journals that are damaged or lost; partitions, during which pods are deleted that run on; machines
// that go with all they have, and come back under the same name. Meanwhile strictAffinity, cooldown, reservations and a pool
// come and go, and two collectors, whose watches go deaf, give back what seems left over. The oracle is a map of which
// kernel has which address: never two. At the end everything is accounted for, and "ipam check" finds nothing.
//
// The seed gives the same lives; goroutines and the API server make them meet differently each time.
func TestModel(t *testing.T) {
	m, seed := newModel(t), uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("MARGAY_MODEL_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("seed %d (MARGAY_MODEL_SEED)", seed)
	steps := int64(modelSteps)
	if n, err := strconv.ParseInt(os.Getenv("MARGAY_MODEL_STEPS"), 10, 64); err == nil {
		steps = n
	}
	second := v3.IPPoolSpec{CIDR: "10.60.0.0/28", BlockSize: 30, AllowedUses: []v3.PoolUse{v3.UseWorkload}}
	var machines []*machine
	for i := range modelNodes {
		machines = append(machines, newMachine(m, i, seed))
	}
	t.Cleanup(func() {
		for _, h := range machines {
			if h.up {
				h.crash()
			}
		}
	})
	collectors := []*collector{m.collector(seed, 100), m.collector(seed, 101)}
	begin := time.Now()
	var lives, rest sync.WaitGroup
	var done atomic.Int64
	over := make(chan struct{})
	for _, h := range machines {
		lives.Go(func() {
			h.comes()
			for done.Add(1) <= steps && !t.Failed() {
				h.step()
			}
		})
	}
	every := func(d time.Duration, f func()) {
		rest.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(d):
					f()
				}
			}
		})
	}
	rnd := rand.New(rand.NewPCG(seed, 102))
	every(300*time.Millisecond, func() { m.turn(rnd, second) })
	for _, c := range collectors {
		every(200*time.Millisecond, c.step)
	}
	lives.Wait()
	close(over)
	rest.Wait()
	took := time.Since(begin)
	t.Logf("%d steps in %.0f s, %.0f/s", steps, took.Seconds(), float64(steps)/took.Seconds())
	for _, what := range slices.Sorted(maps.Keys(m.seen)) {
		t.Logf("%6d %s", m.seen[what], what)
	}
	if t.Failed() {
		return
	}
	for _, what := range []string{"pods", "static", "borrowed", "crashes", "crashes between two writes", "journals damaged", "journals lost", "journals lost with what only they knew", "nodes gone", "partitions", "releases lost", "ADD refused: full", "pools deleted"} {
		if m.seen[what] == 0 && steps >= modelSteps {
			t.Errorf("not once in all steps: %s", what)
		}
	}
	m.rests(machines, collectors)
	for _, h := range machines {
		for name := range maps.Clone(h.pods) {
			h.alloc.Release(h.leaves(name).Key())
			m.dropPod(name)
		}
	}
	m.rests(machines, collectors)
}

func newModel(t *testing.T) *modelWorld {
	_, config, client := server(t)
	m := &modelWorld{t: t, config: config, core: kubernetes.NewForConfigOrDie(config), owner: map[netip.Addr]string{}, seen: map[string]int{}}
	m.limit.Store(80)
	makePool(t, client, "first", "10.50.0.0/25", 28)
	makePool(t, client, "six", "fd00:50::/119", 124)
	t.Cleanup(func() { // the other tests have no Nodes and Pods
		now := int64(0)
		ctx := context.Background()
		for _, err := range []error{
			m.core.CoreV1().Pods("default").DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{}),
			m.core.CoreV1().Nodes().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}),
		} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return m
}

// rests lets everything come to rest, with all nodes up, and compares.
func (m *modelWorld) rests(machines []*machine, collectors []*collector) {
	m.t.Helper()
	for _, h := range machines {
		h.flaky.Store(0)
		switch {
		case !h.up:
			h.comes()
		case h.silent():
			h.heals()
		case h.link.isCut():
			h.crash()
			h.revive()
		}
		h.link.set(false)
		for name := range maps.Clone(h.unsure) {
			h.alloc.Release(h.leaves(name).Key())
			m.dropPod(name)
		}
	}
	time.Sleep(400 * time.Millisecond) // the last late write
	for _, c := range collectors {
		c.restart()
	}
	var problems []string
	for range 20 {
		for _, h := range machines {
			h.settled()
			h.ahead.Add(int64(70 * time.Second))
			h.audit()
			h.takeTunnel()
		}
		for _, c := range collectors {
			c.ahead.Add(int64(modelGrace))
			c.pass(true)
		}
		time.Sleep(500 * time.Millisecond)
		if problems = m.account(machines); len(problems) == 0 {
			return
		}
	}
	for _, p := range problems {
		m.t.Error(p)
	}
}

// account compares all that is stored with who has an address in truth.
func (m *modelWorld) account(machines []*machine) (problems []string) {
	m.t.Helper()
	s := check.State{Blocks: stored[v3.IPAMBlock](m, "ipamblocks"), Handles: stored[v3.IPAMHandle](m, "ipamhandles"), Affinities: stored[v3.BlockAffinity](m, "blockaffinities"), Now: time.Now()}
	for _, p := range stored[v3.IPPool](m, "ippools") {
		if !p.Spec.Disabled {
			s.Active = append(s.Active, netip.MustParsePrefix(p.Spec.CIDR))
		}
	}
	want := map[netip.Addr]string{} // to the handle
	for _, h := range machines {
		s.Nodes = append(s.Nodes, h.name)
		for name, ep := range h.pods {
			for _, a := range ep.Addrs {
				want[a] = "k8s-pod-network." + ep.ContainerID
				s.Uses = append(s.Uses, check.Use{Addr: a, Kind: check.Pod, Namespace: "default", Name: name, Node: h.name, Label: "Workload(default/" + name + ")"})
			}
		}
		if h.tunnel.IsValid() {
			want[h.tunnel] = "vxlan-tunnel-addr-" + h.name
			s.Uses = append(s.Uses, check.Use{Addr: h.tunnel, Kind: check.Node, Name: h.name, Node: h.name, Tunnel: block.TypeVXLAN4, Label: "Node(" + h.name + ")"})
		}
		if st := h.alloc.Stats(); st.Conflicts > 0 || st.Unsettled > 0 {
			problems = append(problems, h.name+": conflicts "+strconv.Itoa(st.Conflicts)+", unsettled "+strconv.Itoa(st.Unsettled))
		}
	}
	m.mu.Lock()
	if len(want) != len(m.owner) {
		problems = append(problems, "the model lost count of its own addresses")
	}
	m.mu.Unlock()
	for i := range s.Blocks {
		b := &s.Blocks[i]
		if err := block.Check(b); err != nil {
			problems = append(problems, err.Error())
			continue
		}
		cidr := netip.MustParsePrefix(b.Spec.CIDR)
		for o := range b.Spec.Allocations {
			if handle := block.Handle(b, o); handle != want[block.AddrAt(cidr, o)] {
				problems = append(problems, block.AddrAt(cidr, o).String()+": the block says "+strconv.Quote(handle)+", the kernels "+strconv.Quote(want[block.AddrAt(cidr, o)]))
			}
			delete(want, block.AddrAt(cidr, o))
		}
	}
	for a, handle := range want {
		problems = append(problems, a.String()+" of "+handle+" is in no block")
	}
	for _, p := range check.Run(s).Problems {
		problems = append(problems, "ipam check: "+p.Line)
	}
	for _, a := range s.Affinities {
		if a.Spec.State != v3.AffinityConfirmed {
			problems = append(problems, "claim "+a.Name+" is "+string(a.Spec.State))
		}
	}
	return problems
}

// stored reads all objects of a kind.
func stored[T any](m *modelWorld, resource string) []T {
	m.t.Helper()
	list, err := objects(m.t, m.config, resource).List(m.t.Context(), metav1.ListOptions{})
	m.must(err)
	out := make([]T, len(list.Items))
	for i := range list.Items {
		m.must(k8sruntime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &out[i]))
	}
	return out
}
