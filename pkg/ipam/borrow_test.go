package ipam_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/model"
)

// truth collects who has which address, and finds what is given twice.
type truth map[netip.Addr]string

func (o truth) take(t *testing.T, ep model.Endpoint) {
	t.Helper()
	for _, a := range ep.Addrs {
		if by := o[a]; by != "" {
			t.Fatalf("%s given to %s, but %s has it", a, ep.Key(), by)
		}
		o[a] = ep.Key()
	}
}

func (o truth) drop(ep model.Endpoint) {
	for _, a := range ep.Addrs {
		delete(o, a)
	}
}

func static(addrs ...string) (r ipam.Request) {
	for _, a := range addrs {
		r.Addrs = append(r.Addrs, netip.MustParseAddr(a))
	}
	return r
}

// must adds a pod; a failure is fatal.
func (n *node) must(id string) model.Endpoint {
	n.t.Helper()
	ep, err := n.add(id)
	if err != nil {
		n.t.Fatalf("%s: add %s: %v", n.name, id, err)
	}
	return ep
}

// owner makes node1, which owns all blocks of the pool, and node2, which can only borrow.
func owner(t *testing.T, cidr string, bits int32) (*kube.Client, *node, *node, truth) {
	t.Helper()
	_, config, client := server(t)
	makePool(t, client, "one", cidr, bits)
	n1 := newNode(t, "node1", config)
	pool := netip.MustParsePrefix(cidr)
	eventually(t, "node1 owns all blocks", func() bool {
		n1.del(n1.must(fmt.Sprintf("early%d", time.Now().UnixNano()))) // each looks whether there is room ahead
		return n1.alloc.Stats().Blocks == 1<<(int(bits)-pool.Bits())
	})
	settle(t, n1)
	return client, n1, newNode(t, "node2", config), truth{}
}

// TestUsedUp: a node without a block gets every address that the owner does not need, and both go on when it is restarted,
// and when what was lent comes back.
func TestUsedUp(t *testing.T) {
	client, n1, n2, has := owner(t, "10.50.0.0/29", 30)
	a := n1.must("a")
	has.take(t, a)
	has.take(t, n1.must("b"))
	var borrowed []model.Endpoint
	for i := range 6 {
		start := time.Now()
		ep := n2.must(fmt.Sprintf("c%d", i))
		t.Logf("%v borrowed in %s", ep.Addrs, time.Since(start).Round(time.Millisecond))
		has.take(t, ep)
		borrowed = append(borrowed, ep)
	}
	for _, n := range []*node{n1, n2} {
		if _, err := n.add("too-many"); !errors.Is(err, ipam.ErrFull) {
			t.Errorf("%s: a 9th address of a /29: %v", n.name, err)
		}
	}
	n1.crash()
	n1.start()
	n1.del(a)
	has.drop(a)
	has.take(t, n1.must("d")) // what it keeps is nothing: by compare-and-swap
	for _, ep := range borrowed[:4] {
		n2.del(ep)
		has.drop(ep)
	}
	settle(t, n2)
	for i := range 2 {
		has.take(t, n1.must(fmt.Sprintf("e%d", i)))
		has.take(t, n2.must(fmt.Sprintf("f%d", i)))
	}
	if st := n2.alloc.Stats(); st.Blocks != 0 || st.Borrowed != 4 {
		t.Errorf("node2 %+v, want 4 borrowed addresses and no block", st)
	}
	settleAll(t, []*node{n1, n2})
	compare(t, client, []*node{n1, n2}, has)
}

// TestKeptAgain: an owner that has plenty keeps half of its block again, and hands out without the API.
func TestKeptAgain(t *testing.T) {
	client, n1, n2, _ := owner(t, "10.50.0.0/28", 28)
	cidr := netip.MustParsePrefix("10.50.0.0/28")
	kept := func() int {
		b, err := client.GetBlock(t.Context(), block.Name(cidr))
		if err != nil {
			t.Fatal(err)
		}
		return block.KeptOf(b)
	}
	var pods []model.Endpoint
	for i := range 14 {
		pods = append(pods, n2.must(fmt.Sprintf("c%d", i)))
	}
	if kept() > 2 {
		t.Errorf("%d are kept though just 2 are left", kept())
	}
	for _, ep := range pods {
		n2.del(ep)
	}
	settle(t, n2)
	eventually(t, "half is kept again, and ready", func() bool { return kept() == 8 && n1.alloc.Stats().Ready == 8 })
}

// TestOwnerGone: what an owner that does not answer keeps stays its own, and nobody waits long.
func TestOwnerGone(t *testing.T) {
	_, n1, n2, has := owner(t, "10.50.0.0/29", 29)
	n1.crash()
	for i := range 4 {
		has.take(t, n2.must(fmt.Sprintf("c%d", i)))
	}
	var took time.Duration
	for range 2 { // a tunnel's address holds up a whole plan: one slow answer is no fault
		start := time.Now()
		if _, err := n2.alloc.TunnelAddr(t.Context(), "vxlan-tunnel-addr-node2", block.TypeVXLAN4, false); !errors.Is(err, ipam.ErrFull) {
			t.Errorf("a tunnel's address that the owner keeps: %v", err)
		}
		if took = time.Since(start); took < 2500*time.Millisecond {
			break
		}
	}
	if took > 2500*time.Millisecond {
		t.Errorf("a tunnel's address is refused after %s", took)
	}
	start := time.Now()
	if _, err := n2.add("fifth"); !errors.Is(err, ipam.ErrFull) || time.Since(start) > 6*time.Second {
		t.Errorf("an address that the owner keeps: %v after %s", err, time.Since(start))
	}
	n1.start()
	for i := range 4 {
		has.take(t, n1.must(fmt.Sprintf("d%d", i)))
	}
}

// TestBorrowedAfterLoss: a node finds what it borrowed when its journal is gone: living pods are adopted, DEL of pods of
// before a reboot gives back, and what nobody deletes is found by the audit.
func TestBorrowedAfterLoss(t *testing.T) {
	client, n1, n2, has := owner(t, "10.50.0.0/28", 28)
	lives, deleted, leaked := n2.must("lives"), n2.must("deleted"), n2.must("leaked")
	settle(t, n2)
	n2.crash()
	if err := os.RemoveAll(n2.dir); err != nil {
		t.Fatal(err)
	}
	for _, ep := range []model.Endpoint{deleted, leaked} {
		delete(n2.links, ep.HostVeth)
		delete(n2.routes, ep.Addrs[0])
	}
	n2.start()
	if !n2.alloc.Release(deleted.Key()).Found {
		t.Error("a borrowed address of before is not found")
	}
	has.take(t, lives)
	settleAll(t, []*node{n1, n2})
	compare(t, client, []*node{n1, n2}, has)
	if _, ok := n2.alloc.Lookup(lives.Key()); !ok {
		t.Error("the living pod was not adopted")
	}
	n2.del(lives)
	settleAll(t, []*node{n1, n2})
	compare(t, client, []*node{n1, n2}, nil)
}

// TestStrict: nothing is borrowed, and the error names both settings.
func TestStrict(t *testing.T) {
	_, n1, n2, _ := owner(t, "10.50.0.0/29", 30)
	configure(t, n1.config, v3.IPAMConfigurationSpec{StrictAffinity: true, AutoAllocateBlocks: true, MaxBlocksPerHost: 2}, n1, n2)
	if _, err := n2.add("c"); !errors.Is(err, ipam.ErrFull) {
		t.Errorf("borrowed, though strict: %v", err)
	}
	for i := range 8 {
		n1.must(fmt.Sprintf("c%d", i))
	}
	if _, err := n1.add("more"); !errors.Is(err, ipam.ErrFull) || !strings.Contains(err.Error(), "maxBlocksPerHost 2") || !strings.Contains(err.Error(), "strictAffinity true") {
		t.Errorf("at the limit: %v", err)
	}
}

// TestStatic: an address that a pod asks for, wherever it is.
func TestStatic(t *testing.T) {
	client, n1, n2, has := owner(t, "10.50.0.0/28", 28)
	makePool(t, client, "two", "10.60.0.0/24", 26)
	reserve(t, n1.config, []*node{n1, n2}, "10.50.0.0/30")
	eventually(t, "both know the second pool", func() bool { return len(n1.store.Pools()) == 2 && len(n2.store.Pools()) == 2 })
	ask := func(n *node, id string, addrs ...string) {
		t.Helper()
		ep, err := n.ask(id, static(addrs...))
		if err != nil {
			t.Fatalf("%s asks for %v: %v", n.name, addrs, err)
		}
		has.take(t, ep)
	}
	ask(n1, "own", "10.50.0.5")
	ask(n1, "reserved", "10.50.0.2")
	ask(n1, "behind", "10.50.0.15")
	ask(n2, "lent", "10.50.0.14")
	ask(n2, "kept", "10.50.0.6")
	ask(n2, "new-block", "10.60.0.77")
	for _, c := range []struct {
		n    *node
		addr string
		err  error
		says string
	}{
		{n1, "10.50.0.5", ipam.ErrInUse, "ns/pod-own"},
		{n2, "10.50.0.5", ipam.ErrInUse, "ns/pod-own on node node1"},
		{n2, "10.70.0.1", ipam.ErrNoSuchPool, "10.60.0.0/24"},
		{n2, "fd00::1", ipam.ErrNoSuchPool, "there is none"},
	} {
		if _, err := c.n.ask("bad", static(c.addr)); !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s asks for %s: %v, want %v with %q", c.n.name, c.addr, err, c.err, c.says)
		}
	}
	if _, err := n1.ask("twice", static("10.50.0.8", "10.50.0.9")); err == nil {
		t.Error("two addresses of one family are accepted")
	}
	if _, err := n1.ask("own", static("10.50.0.5")); !errors.Is(err, ipam.ErrExists) {
		t.Errorf("ADD of what lives: %v", err)
	}
	configure(t, n1.config, v3.IPAMConfigurationSpec{StrictAffinity: true, AutoAllocateBlocks: true}, n1, n2)
	if _, err := n2.ask("strict", static("10.50.0.9")); err == nil || !strings.Contains(err.Error(), "strictAffinity") {
		t.Errorf("static address of another node's block, strict: %v", err)
	}
	settleAll(t, []*node{n1, n2})
	compare(t, client, []*node{n1, n2}, has)
}

// TestReserved: reserved addresses are passed over, by tunnels too, and a FIFO that begins with them starves nobody.
func TestReserved(t *testing.T) {
	_, config, client := server(t)
	n := newNode(t, "node1", config)
	reserve(t, config, []*node{n}, "10.50.0.0/29", "10.50.0.9/32")
	makePool(t, client, "one", "10.50.0.0/28", 28)
	eventually(t, "the pool is known", func() bool { return len(n.store.Pools()) == 1 })
	has := truth{n.tunnel(): "tunnel"}
	for i := range 6 {
		ep := n.must(fmt.Sprintf("c%d", i))
		has.take(t, ep)
	}
	for a := range has {
		if netip.MustParsePrefix("10.50.0.0/29").Contains(a) || a == netip.MustParseAddr("10.50.0.9") {
			t.Errorf("%s is reserved", a)
		}
	}
	if _, err := n.add("more"); !errors.Is(err, ipam.ErrFull) {
		t.Errorf("just reserved addresses are left: %v", err)
	}
}

// TestChosenPools: a request's pools, in their order, manual ones too; a pool of some namespaces is used by none else.
func TestChosenPools(t *testing.T) {
	_, config, client := server(t)
	for name, spec := range map[string]v3.IPPoolSpec{
		"plain":  {CIDR: "10.50.0.0/26", BlockSize: 28},
		"manual": {CIDR: "10.60.0.0/26", BlockSize: 28, AssignmentMode: v3.AssignManual},
		"team":   {CIDR: "10.40.0.0/26", BlockSize: 28, NamespaceSelector: "team == 'a'"},
	} {
		if err := client.CreatePool(t.Context(), &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}); err != nil {
			t.Fatal(err)
		}
	}
	n := newNode(t, "node1", config)
	pool := map[string]ipam.Pool{}
	for _, p := range n.store.Pools() {
		pool[p.Name] = p
	}
	for i, c := range []struct {
		pools []ipam.Pool
		want  string
	}{
		{nil, "plain"}, {[]ipam.Pool{pool["manual"]}, "manual"}, {[]ipam.Pool{pool["team"]}, "team"}, {nil, "plain"},
		{[]ipam.Pool{pool["team"], pool["plain"]}, "team"}, {[]ipam.Pool{pool["plain"], pool["team"]}, "plain"},
	} {
		ep, err := n.ask(fmt.Sprintf("c%d", i), ipam.Request{Pools: c.pools})
		if err != nil || !pool[c.want].CIDR.Contains(ep.Addrs[0]) {
			t.Errorf("pools %v: %v, %v; want one of %s", c.pools, ep.Addrs, err, c.want)
		}
	}
	if _, err := n.ask("none", ipam.Request{Pools: []ipam.Pool{}}); !errors.Is(err, ipam.ErrNoPool) {
		t.Errorf("no pool at all: %v", err)
	}
	settle(t, n)
}

// TestTogether: three nodes take and give at the same time, several pods each, of one block that is full most of the time, with
// answers lost and agents killed. No address has two users at any time.
func TestTogether(t *testing.T) {
	_, config, client := server(t)
	makePool(t, client, "one", "10.50.0.0/28", 28)
	var nodes []*node
	for i := range 3 {
		nodes = append(nodes, newNode(t, fmt.Sprintf("node%d", i), config))
		settle(t, nodes[i])
	}
	for _, n := range nodes {
		n.flaky.Store(20)
	}
	var mu sync.Mutex
	has := truth{}
	adds, full, end := 0, 0, time.Now().Add(8*time.Second)
	pods := func(n *node, worker int) {
		var mine []model.Endpoint
		for i := 0; time.Now().Before(end); i++ {
			id := fmt.Sprintf("%s-%d-%d", n.name, worker, i)
			ep := model.Endpoint{Network: "k8s-pod-network", ContainerID: id, IfName: "eth0", Namespace: "ns", Pod: id, HostVeth: model.HostVeth("ns", id)}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			ep, err := n.alloc.Assign(ctx, ipam.Request{Endpoint: ep})
			cancel()
			if err == nil {
				err = n.alloc.Activate(ep.Key())
			}
			mu.Lock()
			if err == nil {
				adds++
				for _, a := range ep.Addrs {
					if by := has[a]; by != "" {
						t.Errorf("%s given to %s, but %s has it", a, ep.Key(), by)
					}
					has[a] = ep.Key()
				}
				mine = append(mine, ep)
			} else {
				full++
			}
			if len(mine) > 1 || err != nil && len(mine) > 0 {
				has.drop(mine[0])
				ep, mine = mine[0], mine[1:]
				mu.Unlock()
				n.alloc.Release(ep.Key())
				continue
			}
			mu.Unlock()
		}
		for _, ep := range mine {
			mu.Lock()
			has.drop(ep)
			mu.Unlock()
			n.alloc.Release(ep.Key())
		}
	}
	var all sync.WaitGroup
	for _, n := range nodes {
		for worker := range 3 {
			all.Go(func() { pods(n, worker) })
		}
	}
	all.Wait()
	t.Logf("%d pods added, %d times full or failed", adds, full)
	for _, n := range nodes {
		n.flaky.Store(0)
	}
	time.Sleep(300 * time.Millisecond)
	settleAll(t, nodes)
	compare(t, client, nodes, nil)
}

// TestBorrowedCooldown: a borrowed address rests after its use, too.
func TestBorrowedCooldown(t *testing.T) {
	client, n1, n2, has := owner(t, "10.50.0.0/30", 30)
	configure(t, n1.config, v3.IPAMConfigurationSpec{AutoAllocateBlocks: true, IPCooldownSeconds: 3}, n1, n2)
	eventually(t, "cooldown", func() bool { return n1.store.Config().Cooldown > 0 && n2.store.Config().Cooldown > 0 })
	a, b := n2.must("a"), n2.must("b")
	n2.del(a)
	n2.del(b)
	settle(t, n2)
	start := time.Now()
	for i := range 2 {
		ep := n2.must(fmt.Sprintf("c%d", i))
		if ep.Addrs[0] == a.Addrs[0] || ep.Addrs[0] == b.Addrs[0] {
			t.Errorf("%v is given again after %s", ep.Addrs, time.Since(start))
		}
		has.take(t, ep)
	}
	if _, err := n2.ask("static", ipam.Request{Addrs: a.Addrs}); !errors.Is(err, ipam.ErrInUse) {
		t.Errorf("a resting address that is asked for: %v", err)
	}
	eventually(t, "the other two have rested", func() bool {
		ep, err := n2.add(fmt.Sprintf("d%d", time.Now().UnixNano()))
		if err == nil {
			has.take(t, ep)
		}
		return len(has) == 4
	})
	settle(t, n1)
	settle(t, n2)
	compare(t, client, []*node{n1, n2}, has)
}

// TestNobodysBlock: a block without an affinity gives its addresses to who needs them, all of them; one of Services none.
func TestNobodysBlock(t *testing.T) {
	_, config, client := server(t)
	makePool(t, client, "one", "10.50.0.0/29", 30)
	for i, affinity := range []string{"", block.LoadBalancer} {
		b := block.New(block.Nth(netip.MustParsePrefix("10.50.0.0/29"), 30, uint64(i)), affinity, time.Now())
		if affinity == "" {
			b.Spec.Affinity = nil
		}
		if _, err := client.CreateBlock(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	n, has := newNode(t, "node1", config), truth{}
	for i := range 4 {
		ep := n.must(fmt.Sprintf("c%d", i))
		if !netip.MustParsePrefix("10.50.0.0/30").Contains(ep.Addrs[0]) {
			t.Errorf("%v is of the block of Services", ep.Addrs)
		}
		has.take(t, ep)
	}
	if _, err := n.add("more"); !errors.Is(err, ipam.ErrFull) {
		t.Errorf("a fifth address: %v", err)
	}
	if _, err := n.ask("service", static("10.50.0.5")); err == nil || !strings.Contains(err.Error(), "Services") {
		t.Errorf("an address of the block of Services: %v", err)
	}
	settle(t, n)
	if st := n.alloc.Stats(); st.Borrowed != 4 || st.Blocks != 0 {
		t.Errorf("%+v", st)
	}
}
