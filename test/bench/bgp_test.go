package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/test/lab"
)

// bgpPatience is how long anything of BGP may take before the section fails.
const bgpPatience = 4 * time.Minute

// bgpSection measures routes between nodes, against BIRD on the same machines.
func bgpSection(t *testing.T, b *bench, r *report) {
	if _, err := os.Stat("/usr/sbin/bird"); err != nil {
		t.Fatal("needs BIRD 2: hack/deps installs it")
	}
	sizes := counts("BGP_NODES", 20, 50, 100)
	for i, n := range sizes {
		for _, blocks := range []int{10, 1} {
			last := i == len(sizes)-1 && blocks == 1
			t.Run(fmt.Sprintf("mesh of %d, %d blocks", n, blocks), func(t *testing.T) { meshOf(t, b, r, n, blocks, last) })
		}
	}
	t.Run("reflector", func(t *testing.T) { reflector(t, b, r) })
	t.Run("dead router", func(t *testing.T) { deadRouter(t, b, r) })
	t.Run("dead node", func(t *testing.T) { deadNode(t, b, r) })
	r.note("the peer is BIRD 2 alone, which is told its blocks by a file, with the timers of Calico's templates; ours is the whole agent: API server, blocks, pods' addresses, too")
	r.note("hold time 3 s is the routers' setting, the least there is (RFC 4271); agents among themselves have 90 s, and that is not measured")
	r.note("a mesh runs once for each: all agents, then all BIRDs on the same machines")
	r.note("GoBGP begins each connection with a pause of one to two seconds at random, BIRD with two seconds")
}

// counts is a list of numbers from the environment, split at spaces.
func counts(name string, def ...int) (out []int) {
	for _, f := range strings.Fields(os.Getenv(name)) {
		if n, err := strconv.Atoi(f); err == nil && n > 1 {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return def
	}
	return out
}

// bgpLab makes nodes whose routes BGP distributes, with agents that do not run yet, and a pool without encapsulation.
func (b *bench) bgpLab(t *testing.T, nodes int, pool string, blockSize int32) *lab.Lab {
	t.Helper()
	l := b.lab(t).New(t, lab.Options{Nodes: nodes, Stopped: true, Env: map[string]string{"CALICO_NETWORKING_BACKEND": "bird"},
		Pools: []v3.IPPoolSpec{{CIDR: pool, BlockSize: blockSize, IPIPMode: v3.EncapNever, VXLANMode: v3.EncapNever}}})
	for _, n := range l.Nodes {
		meetAll(t, l, n)
	}
	return l
}

// meetAll tells a node the other nodes' Ethernet addresses: the machine's table of neighbours, which all namespaces share, takes
// 1,024 that were learned (net.ipv4.neigh.default.gc_thresh3), and a mesh of 50 has more.
func meetAll(t *testing.T, l *lab.Lab, n *lab.Node) {
	t.Helper()
	var lines []string
	for i, to := range l.Nodes {
		if to != n {
			lines = append(lines, fmt.Sprintf("neigh replace %s lladdr 02:00:00:00:01:%02x dev eth0 nud permanent", to.Addr4.Addr(), i+1))
		}
	}
	if len(lines) == 0 {
		return
	}
	if err := n.NS.Batch(lines...); err != nil {
		t.Fatal(err)
	}
}

// create makes one of our resources.
func create(t *testing.T, l *lab.Lab, kind, name string, spec map[string]any) {
	t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": v3.GroupVersion.String(), "kind": kind,
		"metadata": map[string]any{"name": name}, "spec": spec}}
	_, err := l.API.Dynamic().Resource(v3.GroupVersion.WithResource(strings.ToLower(kind)+"s")).Create(t.Context(), o, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// routed is what a kernel has of one prefix.
type routed struct {
	first, last time.Time // when it came, when it changed last
	hops        int       // now; 0: gone
}

// kernel follows the routes of protocol 12, which agents and BIRDs write, in a namespace.
type kernel struct {
	t    *testing.T
	conn *netlink.Conn
	stop func()

	mu sync.Mutex
	at map[netip.Prefix]routed
}

// follow begins, with routes of an earlier run removed.
func follow(t *testing.T, ns *lab.NS) *kernel {
	t.Helper()
	for _, proto := range []uint8{model.ProtoBIRD, model.ProtoMargay} {
		if _, err := ns.Run(fmt.Sprintf("ip route flush proto %d", proto)); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := ns.Conn()
	if err != nil {
		t.Fatal(err)
	}
	sub, err := conn.Subscribe(netlink.GroupRoute4)
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{t: t, conn: conn, at: map[netip.Prefix]routed{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := sub.Run(ctx, k.event, func() { t.Error("events of routes were lost") }); err != nil {
			t.Error(err)
		}
	}()
	k.stop = sync.OnceFunc(func() { cancel(); <-done; conn.Close() })
	t.Cleanup(k.stop)
	return k
}

func (k *kernel) event(e netlink.Event) {
	r, ok := e.Route()
	if !ok || r.Proto != model.ProtoBIRD || r.Type == unix.RTN_BLACKHOLE {
		return
	}
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	x, known := k.at[r.Dst]
	if !known {
		x.first = now
	}
	x.last, x.hops = now, 1+len(r.Others.List())
	if e.Deleted() {
		x.hops = 0
	}
	k.at[r.Dst] = x
}

// heard is how many prefixes have come.
func (k *kernel) heard() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.at)
}

// get is what there is of one prefix.
func (k *kernel) get(p netip.Prefix) routed {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.at[p]
}

// check compares what has been heard with what the kernel has: events alone would be a promise.
func (k *kernel) check() {
	k.t.Helper()
	routes, err := k.conn.Routes(unix.AF_INET, model.ProtoBIRD)
	if err != nil {
		k.t.Fatal(err)
	}
	have := map[netip.Prefix]bool{}
	for _, r := range routes {
		if r.Type != unix.RTN_BLACKHOLE {
			have[r.Dst] = true
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for p, x := range k.at {
		if have[p] != (x.hops > 0) {
			k.t.Errorf("the kernel has a route to %s: %t, but %d next hops were heard of", p, have[p], x.hops)
		}
	}
}

// span is when the first and the last of the prefixes came.
func (k *kernel) span() (first, last time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for x := range maps.Values(k.at) {
		if first.IsZero() || x.first.Before(first) {
			first = x.first
		}
		if x.first.After(last) {
			last = x.first
		}
	}
	return first, last
}

// nth is the n-th network of a length.
func nth(first string, bits, n int) netip.Prefix {
	a := netip.MustParseAddr(first).As4()
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])+uint32(n)<<(32-bits))
	return netip.PrefixFrom(netip.AddrFrom4(a), bits)
}
