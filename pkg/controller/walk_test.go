package controller_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/store"
)

// host is a node with its agent's allocator, and what runs on it.
type host struct {
	l      *lab
	name   string
	dir    string
	alloc  *ipam.Allocator
	stop   context.CancelFunc
	done   sync.WaitGroup
	pods   map[string]model.Endpoint // by name: those that run
	ghosts map[string]bool           // of them, those whose object is gone
	up     bool                      // the Node exists, and the agent runs
	silent bool
}

func (h *host) start() {
	t := h.l.t
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	s := store.New()
	var err error
	h.alloc, err = ipam.New(ipam.Options{Node: h.name, Dir: h.dir, Boot: "1", Store: h.l.client, Cluster: s, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	alloc := h.alloc
	h.done.Go(func() { _ = kube.NewWatcher(h.l.client, s, alloc, quiet()).Run(ctx) })
	h.l.eventually("the agent is in sync", s.InSync)
	routes := map[netip.Addr]string{}
	for _, ep := range h.pods {
		for _, a := range ep.Addrs {
			routes[a] = ep.HostVeth
		}
	}
	if err := h.alloc.Sync(ctx, routes); err != nil {
		t.Fatal(err)
	}
	h.done.Go(func() { _ = alloc.Run(ctx) })
}

func (h *host) crash() {
	h.stop()
	h.done.Wait()
	if err := h.alloc.Close(); err != nil {
		h.l.t.Error(err)
	}
}

// walk is a random walk of nodes and a collector.
type walk struct {
	*lab
	rnd   *rand.Rand
	hosts []*host
	owner map[netip.Addr]string
	pods  int

	adds, lost, gone, silences int
}

// TestWalk lets nodes with real allocators come, go, crash, fall silent and lose their journals, while a collector, at times
// one that has just started, does its passes on what its watches happen to know. No address is ever given twice; at the end
// blocks and handles hold just what runs.
func TestWalk(t *testing.T) {
	l := newLab(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for name, spec := range map[string]map[string]any{
		"four": {"cidr": "10.50.0.0/24", "blockSize": int64(29)}, "six": {"cidr": "fd00:50::/112", "blockSize": int64(125)},
	} {
		_, err := l.any.Resource(ipPools).Create(t.Context(), object("IPPool", name, spec), createOptions)
		l.must(err)
	}
	w := &walk{lab: l, rnd: rand.New(rand.NewPCG(seed, 1)), owner: map[netip.Addr]string{}}
	for i := range 3 {
		h := &host{l: l, name: fmt.Sprintf("node%d", i), dir: filepath.Join(t.TempDir(), "ipam"), pods: map[string]model.Endpoint{}, ghosts: map[string]bool{}}
		w.hosts = append(w.hosts, h)
		w.comes(h)
	}
	defer func() {
		for _, h := range w.hosts {
			if h.up {
				h.crash()
			}
		}
	}()
	for range 250 {
		w.step(w.hosts[w.rnd.IntN(len(w.hosts))])
	}
	t.Logf("%d pods added, %d releases lost, %d nodes gone, %d silences", w.adds, w.lost, w.gone, w.silences)
	if w.adds == 0 || w.lost == 0 || w.gone == 0 || w.silences == 0 {
		t.Error("the walk left something out: it tests less than it says")
	}
	w.end()
}

func (w *walk) step(h *host) {
	op := w.rnd.IntN(100)
	switch {
	case op < 22: // the collector
		w.pass(time.Duration(w.rnd.IntN(int(grace))))
		if w.rnd.IntN(6) == 0 {
			w.restart(w.acting)
		}
		if w.rnd.IntN(2) == 0 {
			w.caughtUp()
		}
		if _, err := w.garbage.Once(w.t.Context(), w.rnd.IntN(2) == 0); err != nil {
			w.t.Fatal(err)
		}
	case !h.up:
		if op < 60 {
			w.comes(h)
		}
	case op < 62:
		w.add(h)
	case op < 78:
		w.del(h)
	case op < 86: // the agent loses its journal, and with it the release of a pod
		w.lose(h)
	case op < 91:
		h.crash()
		h.start()
	case op < 95:
		w.goes(h)
	default:
		w.falls(h)
	}
}

func (w *walk) comes(h *host) {
	w.node(h.name, nil)
	h.up, h.silent = true, false
	h.start()
}

// goes takes a node away with everything that runs on it: the machine is gone.
func (w *walk) goes(h *host) {
	w.gone++
	h.crash()
	w.must(os.RemoveAll(h.dir))
	for name, ep := range h.pods {
		w.ends(h, name, ep)
	}
	w.deleteNode(h.name)
	h.up = false
}

// ends notes that a pod no longer runs.
func (w *walk) ends(h *host, name string, ep model.Endpoint) {
	for _, a := range ep.Addrs {
		delete(w.owner, a)
	}
	if !h.ghosts[name] {
		w.deletePod(name)
	}
	delete(h.pods, name)
	delete(h.ghosts, name)
}

func (w *walk) add(h *host) {
	w.pods++
	name := fmt.Sprintf("pod-%d", w.pods)
	w.pod(name, h.name)
	ep := model.Endpoint{Network: "k8s-pod-network", ContainerID: fmt.Sprintf("c%d", w.pods), IfName: "eth0", Namespace: "default", Pod: name, HostVeth: model.HostVeth("default", name)}
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	ep, err := h.alloc.Assign(ctx, ipam.Request{Endpoint: ep})
	if err == nil {
		err = h.alloc.Activate(ep.Key())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.adds++
	h.pods[name] = ep
	for _, a := range ep.Addrs {
		if by := w.owner[a]; by != "" {
			w.t.Fatalf("%s is given to %s of %s, but %s has it", a, name, h.name, by)
		}
		w.owner[a] = name
	}
	if w.rnd.IntN(4) == 0 {
		return // kubelet takes its time
	}
	p, err := w.core.CoreV1().Pods("default").Get(w.t.Context(), name, getOptions)
	w.must(err)
	p.Status.PodIP = ep.Addrs[0].String()
	for _, a := range ep.Addrs {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a.String()})
	}
	_, err = w.core.CoreV1().Pods("default").UpdateStatus(w.t.Context(), p, updateOptions)
	w.must(err)
}

// any returns one of the pods that run.
func (h *host) any() (string, model.Endpoint, bool) {
	for name, ep := range h.pods {
		return name, ep, true
	}
	return "", model.Endpoint{}, false
}

func (w *walk) del(h *host) {
	if name, ep, ok := h.any(); ok {
		h.alloc.Release(ep.Key())
		w.ends(h, name, ep)
	}
}

func (w *walk) lose(h *host) {
	name, ep, ok := h.any()
	if !ok {
		return
	}
	w.settled(h)
	h.crash()
	w.must(os.RemoveAll(h.dir))
	w.ends(h, name, ep)
	w.lost++
	h.start()
	w.audit(h) // what runs is adopted, from the kernel's interfaces
}

func (w *walk) audit(h *host) {
	_, err := h.alloc.Audit(w.t.Context(), func(veth string) bool {
		for _, ep := range h.pods {
			if ep.HostVeth == veth {
				return true
			}
		}
		return false
	})
	w.must(err)
}

// falls: a node is cut off from its kubelet's reports, and somebody deletes pods by force, which run on; or it is back, and
// kubelet ends what should not run.
func (w *walk) falls(h *host) {
	w.silences++
	if h.silent = !h.silent; h.silent {
		w.ready(h.name, corev1.ConditionUnknown)
		w.caughtUp()
		if name, _, ok := h.any(); ok && !h.ghosts[name] {
			w.deletePod(name)
			h.ghosts[name] = true
		}
		return
	}
	for name, ep := range h.pods {
		if h.ghosts[name] {
			h.alloc.Release(ep.Key())
			w.ends(h, name, ep)
		}
	}
	w.ready(h.name, corev1.ConditionTrue)
}

func (w *walk) settled(h *host) {
	w.t.Helper()
	w.eventually("the agent's writes are done", func() bool {
		_ = h.alloc.Settle(w.t.Context())
		return h.alloc.Stats().Unsettled == 0
	})
}

// end lets everything come to rest and compares.
func (w *walk) end() {
	for _, h := range w.hosts {
		if h.up && h.silent {
			w.falls(h)
		}
		if h.up {
			w.settled(h)
		}
	}
	for range 3 {
		w.once()
		w.pass(grace)
	}
	for _, h := range w.hosts {
		if h.up {
			w.settled(h)
		}
	}
	w.once()
	var want []string
	for a := range w.owner {
		want = append(want, a.String())
	}
	w.wants(want...)
	for _, h := range w.hosts {
		claims, err := w.client.NodeAffinities(w.t.Context(), h.name)
		w.must(err)
		if !h.up && len(claims) > 0 {
			w.t.Errorf("%s is gone and has %d claims", h.name, len(claims))
		}
		for _, c := range claims {
			if c.Spec.State != v3.AffinityConfirmed {
				w.t.Errorf("claim %s is %s", c.Name, c.Spec.State)
			}
		}
		if n := h.alloc.Stats().Conflicts; h.up && n != 0 {
			w.t.Errorf("%s: %d conflicts", h.name, n)
		}
	}
}
