package ipam_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/test/apiserver"
)

// walk is a random walk of a few nodes with what is true of their pods.
type walk struct {
	t        *testing.T
	srv      *apiserver.Server
	config   *rest.Config
	rnd      *rand.Rand
	nodes    []*node
	pods     [][]model.Endpoint    // by node
	owner    map[netip.Addr]string // address → Key
	strict   bool
	reserved []netip.Prefix
	step     int

	adds, full, lost, borrowed, static, refused int
}

// TestWalk lets three nodes add, ask for addresses, delete, crash, lose answers, their journals and the API server, at random,
// while reservations and strictAffinity change, in pools that are full most of the time. After each step it checks that no
// address is given twice, and at the end that datastore and pods agree.
func TestWalk(t *testing.T) {
	srv, config, client := server(t)
	makePool(t, client, "first", "10.50.0.0/28", 29)
	makePool(t, client, "second", "10.60.0.0/29", 30)
	makePool(t, client, "six", "fd00:50::/120", 124)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := &walk{t: t, srv: srv, config: config, rnd: rand.New(rand.NewPCG(seed, 1)), owner: map[netip.Addr]string{}, pods: make([][]model.Endpoint, 3)}
	for i := range w.pods {
		w.nodes = append(w.nodes, newNode(t, fmt.Sprintf("node%d", i), config))
		w.nodes[i].flaky.Store(10)
	}
	for w.step = range 300 {
		i := w.rnd.IntN(len(w.nodes))
		if w.step == 150 {
			w.down(i, w.nodes[i]) // takes longer than all the rest
			continue
		}
		w.once(i)
	}
	t.Logf("%d pods added, %d with borrowed addresses, %d with static ones, %d refused, %d times full, %d answers lost", w.adds, w.borrowed, w.static, w.refused, w.full, w.lost)
	if w.adds == 0 || w.full == 0 || w.borrowed == 0 {
		t.Error("the walk never added a pod, never borrowed, or never found the pools full: it tests nothing")
	}
	for _, n := range w.nodes {
		n.flaky.Store(0)
	}
	time.Sleep(300 * time.Millisecond) // the last late write
	settleAll(t, w.nodes)
	compare(t, client, w.nodes, w.owner)
	for i, n := range w.nodes {
		for len(w.pods[i]) > 0 {
			w.del(i, n, 0)
		}
	}
	settleAll(t, w.nodes)
	compare(t, client, w.nodes, nil)
}

// once does one step on node i.
func (w *walk) once(i int) {
	n := w.nodes[i]
	switch op := w.rnd.IntN(100); {
	case op < 46:
		w.add(i, n)
	case op < 54:
		w.ask(i, n)
	case op < 90 && len(w.pods[i]) > 0:
		w.del(i, n, w.rnd.IntN(len(w.pods[i])))
	case op < 93:
		w.strict = !w.strict
		configure(w.t, w.config, v3.IPAMConfigurationSpec{StrictAffinity: w.strict, AutoAllocateBlocks: true}, w.nodes...)
	case op < 95:
		cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, 0, byte(4 * w.rnd.IntN(4))}), 30)
		w.reserved = []netip.Prefix{cidr}
		reserve(w.t, w.config, w.nodes, cidr.String())
		for _, n := range w.nodes {
			eventually(w.t, "reservation", func() bool { return n.store.Reserved()[0] == cidr })
		}
	default:
		w.crash(n)
	}
}

func (w *walk) add(i int, n *node) {
	ep, err := n.add(fmt.Sprintf("c%d", w.step))
	if errors.Is(err, ipam.ErrFull) {
		w.full++
		return
	}
	if errors.Is(err, errLost) {
		w.lost++
		return
	}
	if err != nil {
		w.t.Fatalf("step %d: add: %v", w.step, err)
	}
	w.adds++
	if len(ep.Addrs) != 2 {
		w.t.Fatalf("step %d: %v: want one address of each family", w.step, ep.Addrs)
	}
	lent := false
	for _, a := range ep.Addrs {
		for _, p := range w.reserved {
			if p.Contains(a) {
				w.t.Errorf("step %d: %s is reserved", w.step, a)
			}
		}
		holder := n.holder(a) // "" of a block that this node claimed a moment ago
		lent = lent || holder != "" && holder != n.name
	}
	if lent {
		w.borrowed++
	}
	if lent && w.strict {
		w.t.Errorf("step %d: %v: one of these is not of %s, though strictAffinity is true", w.step, ep.Addrs, n.name)
	}
	w.take(i, ep)
}

// ask adds a pod that asks for an address.
func (w *walk) ask(i int, n *node) {
	want := netip.AddrFrom4([4]byte{10, 50, 0, byte(w.rnd.IntN(16))})
	ep, err := n.ask(fmt.Sprintf("s%d", w.step), ipam.Request{Addrs: []netip.Addr{want}})
	if err != nil {
		w.refused++
		if !errors.Is(err, ipam.ErrInUse) && !errors.Is(err, errLost) && !w.strict {
			w.t.Errorf("step %d: ask for %s: %v", w.step, want, err)
		}
		return
	}
	if len(ep.Addrs) != 1 || ep.Addrs[0] != want {
		w.t.Fatalf("step %d: asked for %s, got %v", w.step, want, ep.Addrs)
	}
	w.static++
	w.take(i, ep)
}

func (w *walk) take(i int, ep model.Endpoint) {
	for _, a := range ep.Addrs {
		if by := w.owner[a]; by != "" {
			w.t.Fatalf("step %d: %s given to %s, but %s has it", w.step, a, ep.Key(), by)
		}
		w.owner[a] = ep.Key()
	}
	w.pods[i] = append(w.pods[i], ep)
}

func (w *walk) del(i int, n *node, k int) {
	ep := w.pods[i][k]
	w.pods[i] = append(w.pods[i][:k], w.pods[i][k+1:]...)
	for _, a := range ep.Addrs {
		delete(w.owner, a)
	}
	n.del(ep)
}

// crash kills an agent, and now and then its journal is damaged.
func (w *walk) crash(n *node) {
	damage := w.rnd.IntN(3) == 0
	if damage {
		settle(w.t, n) // what only a damaged line knew is lost; its address stays unused while its route is there
	}
	n.crash()
	if damage {
		spoil(w.t, filepath.Join(n.dir, "journal"), w.rnd)
	}
	n.start()
}

// down takes the API server away while half of a node's pods end.
func (w *walk) down(i int, n *node) {
	if err := w.srv.Down(); err != nil {
		w.t.Fatal(err)
	}
	for range len(w.pods[i]) / 2 {
		w.del(i, n, 0)
	}
	if err := w.srv.Up(); err != nil {
		w.t.Fatal(err)
	}
}

// TestReleaseAfterReboot: the journal is gone with the boot, and the runtime deletes the sandboxes of before it.
func TestReleaseAfterReboot(t *testing.T) {
	_, config, client := server(t)
	makePool(t, client, "four", "10.50.0.0/26", 28)
	makePool(t, client, "six", "fd00:50::/120", 124)
	n := newNode(t, "node1", config)
	var keys []string
	for i := range 5 {
		ep, err := n.add(fmt.Sprintf("c%d", i))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, ep.Key())
	}
	settle(t, n)
	n.crash()
	if err := os.RemoveAll(n.dir); err != nil {
		t.Fatal(err)
	}
	clear(n.routes)
	clear(n.links)
	n.start()
	for _, key := range keys {
		if !n.alloc.Release(key).Found {
			t.Errorf("%s is not found in the own blocks", key)
		}
	}
	if n.alloc.Release("never-was/eth0").Found {
		t.Error("a container that never was is found")
	}
	settle(t, n)
	compare(t, client, []*node{n}, nil)
}
