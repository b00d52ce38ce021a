package ipam_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/model"
)

// machine is a node of the model with what its kernel has. All but its allocator's own goroutines is done by one goroutine.
type machine struct {
	*node
	m      *modelWorld
	rnd    *rand.Rand
	link   *link
	up     bool
	pods   map[string]model.Endpoint // by name: what runs
	ghosts map[string]bool           // of them, those whose Pod is gone
	unsure map[string]bool           // of them, those that only a lost journal may have known: till they end the datastore may lack them
	tunnel netip.Addr
}

// step does one thing of the node's life.
func (h *machine) step() {
	if h.up && h.link.isCut() && !h.silent() {
		h.m.count("crashes between two writes")
		h.crash()
		h.revive()
	}
	switch op := h.rnd.IntN(1000); {
	case !h.up:
		if op < 300 {
			h.comes()
		}
	case h.link.isCut() && op < 80:
		h.heals()
	case op < 455:
		if h.m.room() || op < 50 { // a full cluster costs seconds each time
			h.adds(1 + h.rnd.IntN(3))
		}
	case op < 500:
		h.asks()
	case op < 920:
		h.ends()
	case op < 940:
		h.audit()
	case op < 944 && !h.link.isCut():
		h.goes()
	case op < 954 && !h.link.isCut():
		h.falls()
	case op < 964 && !h.link.isCut():
		h.dies()
	case op < 974 && !h.link.isCut():
		h.link.cutAt(1 + h.rnd.IntN(6))
	case op < 985:
		h.takeTunnel()
	default:
	}
}

// silent says whether the node is cut off and the cluster knows.
func (h *machine) silent() bool { return h.ghosts != nil }

func (h *machine) comes() {
	h.m.putNode(h.name)
	h.up = true
	h.revive()
}

// revive starts the agent, which needs the API server.
func (h *machine) revive() {
	h.link.set(false)
	h.start()
	h.takeTunnel()
}

// adds has a few pods start at once.
func (h *machine) adds(n int) {
	var starts sync.WaitGroup
	var mu sync.Mutex
	for range n {
		name := h.m.name()
		h.m.putPod(name, h.name)
		starts.Go(func() {
			ep, err := h.begin(name, ipam.Request{})
			mu.Lock()
			defer mu.Unlock()
			h.began(name, ep, err)
		})
	}
	starts.Wait()
}

// asks has a pod start that wants an address of its own.
func (h *machine) asks() {
	name := h.m.name()
	h.m.putPod(name, h.name)
	want := netip.AddrFrom4([4]byte{10, 50, 0, byte(h.rnd.IntN(128))})
	ep, err := h.begin(name, ipam.Request{Addrs: []netip.Addr{want}})
	if err == nil && !slices.Equal(ep.Addrs, []netip.Addr{want}) {
		h.t.Errorf("asked for %s, got %v", want, ep.Addrs)
	}
	if err == nil {
		h.m.count("static")
	}
	h.began(name, ep, err)
}

// begin is an ADD up to the point at which the pod's routes are made.
func (h *machine) begin(name string, r ipam.Request) (model.Endpoint, error) {
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	r.Endpoint = model.Endpoint{Network: "k8s-pod-network", ContainerID: "c" + name, IfName: "eth0", Namespace: "default", Pod: name, HostVeth: model.HostVeth("default", name)}
	return h.alloc.Assign(ctx, r)
}

// began ends an ADD: the kernel has the pod, or there is none.
func (h *machine) began(name string, ep model.Endpoint, err error) {
	if err != nil {
		h.m.refused(err)
		h.m.dropPod(name)
		return
	}
	for _, a := range ep.Addrs {
		h.m.take(a, ep.Key()+" on "+h.name)
		h.routes[a] = ep.HostVeth
		if o := h.holder(a); o != "" && o != h.name {
			h.m.count("borrowed")
		}
	}
	h.links[ep.HostVeth] = true
	h.pods[name] = ep
	if err := h.alloc.Activate(ep.Key()); err != nil {
		h.t.Errorf("activate %s: %v", ep.Key(), err)
	}
	h.m.count("pods")
	if h.rnd.IntN(3) == 0 {
		h.m.report(name, ep.Addrs)
	}
}

// leaves takes a pod out of the kernel.
func (h *machine) leaves(name string) model.Endpoint {
	ep := h.pods[name]
	delete(h.links, ep.HostVeth)
	for _, a := range ep.Addrs {
		delete(h.routes, a)
		h.m.leave(a, ep.Key()+" on "+h.name)
	}
	delete(h.pods, name)
	delete(h.unsure, name)
	return ep
}

// any returns one of the pods, or "".
func (h *machine) any() string {
	names := slices.Sorted(maps.Keys(h.pods))
	if len(names) == 0 {
		return ""
	}
	return names[h.rnd.IntN(len(names))]
}

// ends has a pod end. Now and then the agent never hears of it.
func (h *machine) ends() {
	name := h.any()
	if name == "" {
		return
	}
	ep := h.leaves(name)
	if h.rnd.IntN(20) > 0 {
		h.alloc.Release(ep.Key())
	} else {
		h.m.count("releases lost")
	}
	if !h.ghosts[name] {
		h.m.dropPod(name)
	}
	delete(h.ghosts, name)
}

// audit moves the node's clock on, and looks for what leaked.
func (h *machine) audit() {
	h.ahead.Add(h.rnd.Int64N(int64(90 * time.Second)))
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
	defer cancel()
	if _, err := h.alloc.Audit(ctx, func(name string) bool { return h.links[name] }); err != nil {
		h.m.count("audits that failed")
	}
}

// dies kills the agent, perhaps between Assign and Activate of a pod. Now and then its journal is damaged, or lost, also
// with what the datastore does not know yet: the kernel's routes are all that is left then.
func (h *machine) dies() {
	h.m.count("crashes")
	what := h.rnd.IntN(7)
	if what < 2 && !h.settled() {
		what = 2
	}
	if what == 2 {
		_, _ = h.begin(h.m.name(), ipam.Request{})
	}
	h.crash()
	switch what {
	case 0:
		h.m.count("journals damaged")
		spoil(h.t, filepath.Join(h.dir, "journal"), h.rnd)
	case 1, 3:
		h.m.count("journals lost")
		if what == 3 {
			h.m.count("journals lost with what only they knew")
			h.forgets()
		}
		if err := os.RemoveAll(h.dir); err != nil {
			h.t.Error(err)
		}
	}
	h.revive()
}

// forgets notes that nobody may know what runs, but the kernel by its routes. A tunnel has none: its address goes.
func (h *machine) forgets() {
	for name := range h.pods {
		h.unsure[name] = true
	}
	h.drains()
}

// drains takes the address off the tunnel.
func (h *machine) drains() {
	if h.tunnel.IsValid() {
		h.m.leave(h.tunnel, "tunnel of "+h.name)
		h.tunnel = netip.Addr{}
	}
}

// settled says whether the datastore knows everything: what only a damaged line knew is lost.
func (h *machine) settled() bool {
	for range 20 {
		if err := h.alloc.Settle(h.t.Context()); err == nil && h.alloc.Stats().Unsettled == 0 {
			return true
		}
	}
	return false
}

// goes takes the machine away with all that runs on it, and then the Node.
func (h *machine) goes() {
	h.m.count("nodes gone")
	h.crash()
	h.link.set(false)
	h.drains()
	for name := range maps.Clone(h.pods) {
		h.leaves(name)
		h.m.dropPod(name)
	}
	if err := os.RemoveAll(h.dir); err != nil {
		h.t.Error(err)
	}
	h.up = false
	h.m.dropNode(h.name)
}

// falls cuts the node off. The cluster sees that its kubelet is silent, and somebody deletes some of its pods, which run on.
func (h *machine) falls() {
	h.m.count("partitions")
	h.m.ready(h.name, corev1.ConditionUnknown)
	h.link.set(true)
	h.ghosts = map[string]bool{}
	for name := range h.pods {
		if h.rnd.IntN(3) == 0 {
			h.ghosts[name] = true
			h.m.dropPod(name)
		}
	}
}

// heals ends a partition: kubelet ends what should not run, and reports again.
func (h *machine) heals() {
	h.link.set(false)
	for name := range h.ghosts {
		h.alloc.Release(h.leaves(name).Key())
	}
	h.ghosts = nil
	h.m.ready(h.name, corev1.ConditionTrue)
}

// takeTunnel asks for the address of the node's tunnel, as the agent does with each plan.
func (h *machine) takeTunnel() {
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
	defer cancel()
	addr, err := h.alloc.TunnelAddr(ctx, "vxlan-tunnel-addr-"+h.name, block.TypeVXLAN4, false)
	if err != nil || addr == h.tunnel {
		return
	}
	if h.tunnel.IsValid() {
		h.m.count("tunnels moved")
		h.m.leave(h.tunnel, "tunnel of "+h.name)
	}
	h.tunnel = addr
	h.m.take(addr, "tunnel of "+h.name)
	h.m.annotate(h.name, addr)
}

func newMachine(m *modelWorld, i int, seed uint64) *machine {
	l := &link{}
	h := &machine{m: m, link: l, rnd: rand.New(rand.NewPCG(seed, uint64(i+1))), pods: map[string]model.Endpoint{}, unsure: map[string]bool{}}
	h.node = &node{t: m.t, name: fmt.Sprintf("model%d", i), dir: filepath.Join(m.t.TempDir(), "ipam"), config: l.over(m.config), links: map[string]bool{}, routes: map[netip.Addr]string{}}
	h.flaky.Store(20)
	return h
}
