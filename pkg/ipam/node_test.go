package ipam_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
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
	store  *store.Store
	alloc  *ipam.Allocator
	stop   context.CancelFunc
	done   sync.WaitGroup
	links  map[string]bool // interfaces that the kernel would have
	routes map[netip.Addr]string
	ahead  atomic.Int64 // nanoseconds that the node's clock is fast
	flaky  atomic.Int64 // of how many writes of blocks one gets no answer; 0: none
}

// errLost is what a write gets that has no answer.
var errLost = errors.New("answer lost")

// network is the way to the API server. Of a node's writes of blocks some are lost, some are carried out though the answer is
// lost, and some are carried out later, perhaps when the node has crashed.
type network struct {
	*kube.Client
	n *node
}

func (w network) UpdateBlock(ctx context.Context, b *v3.IPAMBlock) (*v3.IPAMBlock, error) {
	one := w.n.flaky.Load()
	if one == 0 || rand.Int64N(one) > 0 {
		return w.Client.UpdateBlock(ctx, b)
	}
	switch rand.IntN(3) {
	case 0:
	case 1:
		_, _ = w.Client.UpdateBlock(ctx, b)
	default:
		late := context.WithoutCancel(ctx)
		time.AfterFunc(time.Duration(rand.IntN(300))*time.Millisecond, func() { _, _ = w.Client.UpdateBlock(late, b) })
	}
	return nil, errLost
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
	code := m.Run()
	if shared != nil {
		if err := shared.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop API server:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func newNode(t *testing.T, name string, config *rest.Config) *node {
	n := &node{t: t, name: name, dir: filepath.Join(t.TempDir(), name), config: config, links: map[string]bool{}, routes: map[netip.Addr]string{}}
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
	n.store = s
	n.alloc, err = ipam.New(ipam.Options{Node: n.name, Dir: n.dir, Boot: "1", Store: network{client, n}, Cluster: s, Log: quiet(), Now: func() time.Time { return time.Now().Add(time.Duration(n.ahead.Load())) }})
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
	n.done.Go(func() { // as the agent, whose kernel takes no time here
		for {
			select {
			case <-ctx.Done():
				return
			case <-s.Changed():
				n.alloc.Routed(s.Blocks())
			}
		}
	})
}

// crash ends the allocator as SIGKILL would: what is not in the journal or the datastore is lost.
func (n *node) crash() {
	n.stop()
	n.alloc.Close()
	n.done.Wait()
}

func (n *node) add(id string) (model.Endpoint, error) { return n.ask(id, ipam.Request{}) }

// ask adds a pod that asks for something of its own: r's endpoint is made here.
func (n *node) ask(id string, r ipam.Request) (model.Endpoint, error) {
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	r.Endpoint = model.Endpoint{Network: "k8s-pod-network", ContainerID: id, IfName: "eth0", Namespace: "ns", Pod: "pod-" + id}
	r.HostVeth = model.HostVeth(r.Namespace, r.Pod)
	ep, err := n.alloc.Assign(ctx, r)
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

// holder returns the node that owns the block of an address, as this node knows it.
func (n *node) holder(a netip.Addr) string {
	for _, b := range n.store.Blocks() {
		if b.CIDR.Contains(a) {
			return b.Node
		}
	}
	return ""
}

// shared is the API server of all tests; nil until one needs it.
var shared *apiserver.Server

// server returns the API server with our CRDs and none of our resources.
func server(t *testing.T) (*apiserver.Server, *rest.Config, *kube.Client) {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED under -short: needs a real kube-apiserver")
	}
	if shared == nil {
		s, err := apiserver.New()
		if err != nil {
			t.Fatal(err)
		}
		shared = s
		apiserver.InstallCRDs(t, s.Config())
	}
	config := shared.Config()
	for _, resource := range strings.Fields("ippools ipamblocks ipamhandles blockaffinities ipamconfigurations ipreservations") {
		clean(t, config, resource)
	}
	client, err := kube.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return shared, config, client
}

func objects(t *testing.T, config *rest.Config, resource string) dynamic.ResourceInterface {
	t.Helper()
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c.Resource(v3.GroupVersion.WithResource(resource))
}

// clean deletes all objects of a resource, and waits until lists from the API server's cache say so too.
func clean(t *testing.T, config *rest.Config, resource string) {
	t.Helper()
	all := objects(t, config, resource)
	eventually(t, resource+" are gone", func() bool {
		if err := all.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		list, err := all.List(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
		return err == nil && len(list.Items) == 0
	})
}

// put makes or changes an object of one of our kinds.
func put(t *testing.T, config *rest.Config, resource, kind, name string, spec any) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"apiVersion": v3.GroupVersion.String(), "kind": kind, "metadata": map[string]any{"name": name}, "spec": spec})
	if err != nil {
		t.Fatal(err)
	}
	force := true
	if _, err := objects(t, config, resource).Patch(t.Context(), name, types.ApplyPatchType, patch, metav1.PatchOptions{FieldManager: "test", Force: &force}); err != nil {
		t.Fatal(err)
	}
}

// configure sets the cluster's IPAM configuration, and waits until the nodes have it.
func configure(t *testing.T, config *rest.Config, spec v3.IPAMConfigurationSpec, nodes ...*node) {
	t.Helper()
	put(t, config, "ipamconfigurations", "IPAMConfiguration", "default", spec)
	for _, n := range nodes {
		eventually(t, n.name+" has the configuration", func() bool {
			c := n.store.Config()
			return c.StrictAffinity == spec.StrictAffinity && c.AutoAllocateBlocks == spec.AutoAllocateBlocks && (spec.MaxBlocksPerHost == 0 || c.MaxBlocksPerHost == int(spec.MaxBlocksPerHost))
		})
	}
}

// reserve keeps networks from being given out by themselves, and waits until the nodes know.
func reserve(t *testing.T, config *rest.Config, nodes []*node, cidrs ...string) {
	t.Helper()
	put(t, config, "ipreservations", "IPReservation", "kept", v3.IPReservationSpec{ReservedCIDRs: cidrs})
	for _, n := range nodes {
		eventually(t, n.name+" has the reservation", func() bool { return len(n.store.Reserved()) == len(cidrs) })
	}
}

func makePool(t *testing.T, c *kube.Client, name, cidr string, bits int32) {
	t.Helper()
	if err := c.CreatePool(t.Context(), &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v3.IPPoolSpec{CIDR: cidr, BlockSize: bits}}); err != nil {
		t.Fatal(err)
	}
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
			n.ahead.Store(int64(look) * int64(2*time.Minute))
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
	for range 300 {
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
