package ipam_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/store"
	"github.com/margay-net/margay/test/apiserver"
)

// node is one node's allocator with its own watches, against a real API server.
type node struct {
	t      *testing.T
	name   string
	dir    string
	config *rest.Config
	alloc  *ipam.Allocator
	stop   context.CancelFunc
	done   sync.WaitGroup
	links  map[string]bool // interfaces that the kernel would have
	routes map[netip.Addr]string
	clock  func() time.Time
}

func quiet() *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

func TestMain(m *testing.M) {
	flag.Parse()
	klog.SetSlogLogger(quiet())
	os.Exit(m.Run())
}

func newNode(t *testing.T, name string, config *rest.Config) *node {
	n := &node{t: t, name: name, dir: filepath.Join(t.TempDir(), name), config: config, links: map[string]bool{}, routes: map[netip.Addr]string{}, clock: time.Now}
	n.start()
	t.Cleanup(func() { n.crash() })
	return n
}

// start starts the allocator as an agent does, and waits until it gives addresses.
func (n *node) start() {
	n.t.Helper()
	client, err := kube.New(n.config)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(n.t.Context())
	n.stop = stop
	s := store.New()
	n.alloc, err = ipam.New(ipam.Options{Node: n.name, Dir: n.dir, Boot: "1", Store: client, Cluster: s, Log: quiet(), Now: func() time.Time { return n.clock() }})
	if err != nil {
		n.t.Fatal(err)
	}
	n.done.Go(func() { _ = kube.NewWatcher(client, s, n.alloc, quiet()).Run(ctx) })
	for !s.InSync() {
		time.Sleep(5 * time.Millisecond)
	}
	routes := map[netip.Addr]string{}
	for a, dev := range n.routes {
		routes[a] = dev
	}
	if err := n.alloc.Sync(ctx, routes); err != nil {
		n.t.Fatal(err)
	}
	n.done.Go(func() { _ = n.alloc.Run(ctx) })
}

// crash ends the allocator as SIGKILL would: what is not in the journal or the datastore is lost.
func (n *node) crash() {
	n.stop()
	n.alloc.Close()
	n.done.Wait()
}

func (n *node) add(id string) (model.Endpoint, error) {
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	ep := model.Endpoint{Network: "k8s-pod-network", ContainerID: id, IfName: "eth0", Namespace: "ns", Pod: "pod-" + id}
	ep.HostVeth = model.HostVeth(ep.Namespace, ep.Pod)
	ep, err := n.alloc.Assign(ctx, ipam.Request{Endpoint: ep})
	if err != nil {
		return ep, err
	}
	n.links[ep.HostVeth] = true
	if err := n.alloc.Activate(ep.Key()); err != nil {
		return ep, err
	}
	for _, a := range ep.Addrs {
		n.routes[a] = ep.HostVeth
	}
	return ep, nil
}

func (n *node) del(ep model.Endpoint) {
	delete(n.links, ep.HostVeth)
	for _, a := range ep.Addrs {
		delete(n.routes, a)
	}
	n.alloc.Release(ep.Key())
}

// server runs one API server with our CRDs.
func server(t *testing.T) (*apiserver.Server, *rest.Config, *kube.Client) {
	t.Helper()
	s := apiserver.StartServer(t)
	config := s.Config()
	apiserver.InstallCRDs(t, config)
	client, err := kube.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return s, config, client
}

func makePool(t *testing.T, c *kube.Client, name, cidr string, bits int32) {
	t.Helper()
	if err := c.CreatePool(t.Context(), &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v3.IPPoolSpec{CIDR: cidr, BlockSize: bits}}); err != nil {
		t.Fatal(err)
	}
}

// TestWalk lets three nodes add, delete, crash, lose their journals and the API server, at random, and checks after each
// step that no address is given twice, and at the end that datastore and pods agree.
func TestWalk(t *testing.T) {
	srv, config, client := server(t)
	makePool(t, client, "first", "10.50.0.0/28", 29)
	makePool(t, client, "second", "10.60.0.0/29", 30)
	makePool(t, client, "six", "fd00:50::/120", 124)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	var nodes []*node
	for i := range 3 {
		nodes = append(nodes, newNode(t, fmt.Sprintf("node%d", i), config))
	}
	owner := map[netip.Addr]string{}
	pods := make([][]model.Endpoint, len(nodes))
	steps, adds, full := 300, 0, 0
	for step := range steps {
		i := rnd.IntN(len(nodes))
		n := nodes[i]
		switch op := rnd.IntN(100); {
		case op < 52:
			ep, err := n.add(fmt.Sprintf("c%d", step))
			if errors.Is(err, ipam.ErrFull) {
				full++
				break
			}
			if err != nil {
				t.Fatalf("step %d: add: %v", step, err)
			}
			adds++
			for _, a := range ep.Addrs {
				if by := owner[a]; by != "" {
					t.Fatalf("step %d: %s given to %s, but %s has it", step, a, ep.Key(), by)
				}
				owner[a] = ep.Key()
			}
			if len(ep.Addrs) != 2 {
				t.Fatalf("step %d: %v: want one address of each family", step, ep.Addrs)
			}
			pods[i] = append(pods[i], ep)
		case op < 90 && len(pods[i]) > 0:
			k := rnd.IntN(len(pods[i]))
			ep := pods[i][k]
			pods[i] = append(pods[i][:k], pods[i][k+1:]...)
			for _, a := range ep.Addrs {
				delete(owner, a)
			}
			n.del(ep)
		case op < 98:
			damage := rnd.IntN(3) == 0
			if damage {
				settle(t, n) // what only a damaged line knew is lost; its address stays unused while its route is there
			}
			n.crash()
			if damage {
				spoil(t, filepath.Join(n.dir, "journal"), rnd)
			}
			n.start()
		default:
			if err := srv.Down(); err != nil {
				t.Fatal(err)
			}
			for _, ep := range pods[i][:len(pods[i])/2] {
				n.del(ep)
				for _, a := range ep.Addrs {
					delete(owner, a)
				}
			}
			pods[i] = pods[i][len(pods[i])/2:]
			if err := srv.Up(); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d pods added, %d times full", adds, full)
	if adds == 0 || full == 0 {
		t.Error("the walk never added a pod or never found the pools full: it tests nothing")
	}
	settleAll(t, nodes)
	compare(t, client, nodes, owner)
	for i, n := range nodes {
		for _, ep := range pods[i] {
			n.del(ep)
		}
	}
	settleAll(t, nodes)
	compare(t, client, nodes, nil)
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

// spoil flips a byte of a file.
func spoil(t *testing.T, path string, rnd *rand.Rand) {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[rnd.IntN(len(b))] ^= 0x5a
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// settleAll waits until nothing is left to write, and lets the audit look twice with a grace period in between.
func settleAll(t *testing.T, nodes []*node) {
	t.Helper()
	for _, n := range nodes {
		for look := range 3 {
			settle(t, n)
			n.clock = func() time.Time { return time.Now().Add(time.Duration(look) * 2 * time.Minute) }
			if _, err := n.alloc.Audit(t.Context(), func(name string) bool { return n.links[name] }); err != nil {
				t.Fatal(err)
			}
		}
		settle(t, n)
	}
}

func settle(t *testing.T, n *node) {
	t.Helper()
	var err error
	for range 100 {
		if err = n.alloc.Settle(t.Context()); err == nil && n.alloc.Stats().Unsettled == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s: %d unsettled, %v", n.name, n.alloc.Stats().Unsettled, err)
}

// compare checks that blocks, handles and affinities say just what the pods have.
func compare(t *testing.T, c *kube.Client, nodes []*node, owner map[netip.Addr]string) {
	t.Helper()
	handles, got := map[string]bool{}, map[netip.Addr]string{}
	for _, n := range nodes {
		affs, err := c.NodeAffinities(t.Context(), n.name)
		if err != nil {
			t.Fatal(err)
		}
		for _, aff := range affs {
			b, err := c.GetBlock(t.Context(), block.Name(netip.MustParsePrefix(aff.Spec.CIDR)))
			if err != nil || aff.Spec.State != v3.AffinityConfirmed || block.Owner(b) != n.name {
				t.Errorf("affinity %s %s: block %v, %v", aff.Name, aff.Spec.State, b, err)
				continue
			}
			if err := block.Check(b); err != nil {
				t.Error(err)
			}
			for o, i := range b.Spec.Allocations {
				if i != nil {
					at := b.Spec.Attributes[*i]
					handles[*at.HandleID] = true
					got[block.AddrAt(netip.MustParsePrefix(b.Spec.CIDR), o)] = *at.HandleID
				}
			}
		}
		st := n.alloc.Stats()
		if st.Conflicts != 0 {
			t.Errorf("%s: %d conflicts", n.name, st.Conflicts)
		}
	}
	if len(got) != len(owner) {
		t.Errorf("datastore has %d addresses in use, pods have %d", len(got), len(owner))
	}
	for a, handle := range got {
		if owner[a] == "" {
			t.Errorf("%s is held by %s, which has no pod", a, handle)
		}
	}
	for a, key := range owner {
		if got[a] != "k8s-pod-network."+key[:len(key)-len("/eth0")] {
			t.Errorf("%s of %s: datastore says %q", a, key, got[a])
		}
	}
	all, err := c.Handles(t.Context())
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	for _, h := range all {
		if !handles[h.Spec.HandleID] {
			t.Errorf("handle %s holds nothing", h.Spec.HandleID)
		}
		delete(handles, h.Spec.HandleID)
	}
	for h := range handles {
		t.Errorf("handle %s is missing", h)
	}
}
