package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/store"
	"github.com/margay-net/margay/test/lab"
)

// counting is a datastore that counts what others were faster with.
type counting struct {
	ipam.Datastore
	conflicts *atomic.Int64
}

func (c counting) note(err error) {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		c.conflicts.Add(1)
	}
}

func (c counting) CreateBlock(ctx context.Context, b *v3.IPAMBlock) (*v3.IPAMBlock, error) {
	b, err := c.Datastore.CreateBlock(ctx, b)
	c.note(err)
	return b, err
}

func (c counting) UpdateBlock(ctx context.Context, b *v3.IPAMBlock) (*v3.IPAMBlock, error) {
	b, err := c.Datastore.UpdateBlock(ctx, b)
	c.note(err)
	return b, err
}

// crowd is the allocators of many nodes, with the watches and loops that their agents have.
type crowd struct {
	nodes     []*ipam.Allocator
	conflicts atomic.Int64
	pods      atomic.Int64
}

func newCrowd(t *testing.T, l *lab.Lab, n int) *crowd {
	t.Helper()
	c := &crowd{nodes: make([]*ipam.Allocator, n)}
	ctx, stop := context.WithCancel(context.Background())
	var loops, starts sync.WaitGroup
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	t.Cleanup(func() {
		stop()
		loops.Wait()
		for _, a := range c.nodes {
			if a != nil {
				a.Close()
			}
		}
	})
	for i := range n {
		dir, s := journalDir(t), store.New()
		a, err := ipam.New(ipam.Options{Node: fmt.Sprintf("crowd-%d", i), Dir: dir, Boot: "1", Store: counting{l.API, &c.conflicts}, Cluster: s, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		c.nodes[i] = a
		loops.Go(func() { _ = kube.NewWatcher(l.API, s, a, log).Run(ctx) })
		starts.Go(func() {
			for begin := time.Now(); !s.InSync() && time.Since(begin) < time.Minute; {
				time.Sleep(5 * time.Millisecond)
			}
			if err := a.Sync(ctx, nil); err != nil {
				t.Error(err)
			}
			loops.Go(func() { _ = a.Run(ctx) })
			loops.Go(func() { tellRouted(ctx, a, s) })
		})
	}
	starts.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return c
}

// tellRouted is the agent's part in a loan, with a kernel that takes no time.
func tellRouted(ctx context.Context, a *ipam.Allocator, s *store.Store) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.Changed():
			a.Routed(s.Blocks())
		}
	}
}

// journalDir makes a folder on tmpfs.
func journalDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "margay-bench-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// add gives a new pod an address.
func (c *crowd) add(ctx context.Context, a *ipam.Allocator) (netip.Addr, error) {
	id := fmt.Sprintf("crowd%d", c.pods.Add(1))
	ep, err := a.Assign(ctx, ipam.Request{Endpoint: model.Endpoint{Network: "k8s-pod-network", ContainerID: id, IfName: "eth0", Namespace: "default", Pod: id, HostVeth: model.HostVeth("default", id)}})
	if err != nil {
		return netip.Addr{}, err
	}
	return ep.Addrs[0], a.Activate(ep.Key())
}

// claims measures 50 agents that take blocks of one pool at once. A block has one address, so that each ADD needs one; the
// time includes the writes of the pods into their blocks.
func claims(t *testing.T, b *bench, r *report) {
	const nodes, each = 50, 10
	l := b.lab(t).New(t, lab.Options{Stopped: true, Pools: []v3.IPPoolSpec{{CIDR: "172.20.0.0/21", BlockSize: 32, VXLANMode: v3.EncapAlways}}})
	c := newCrowd(t, l, nodes)
	c.conflicts.Store(0)
	var perSecond, conflicts sample
	for range count("ROUNDS", each) {
		before, begin := c.conflicts.Load(), time.Now()
		c.all(t, func(a *ipam.Allocator) error {
			_, err := c.add(t.Context(), a)
			return err
		})
		perSecond = append(perSecond, nodes/time.Since(begin).Seconds())
		conflicts = append(conflicts, float64(c.conflicts.Load()-before)/nodes)
	}
	r.add(
		row{what: "ipam: 50 agents claim a block each at once", unit: "blocks/s", ours: perSecond},
		row{what: "ipam: conflicts per claim", unit: "conflicts", ours: conflicts})
}

// all calls f for all nodes at once.
func (c *crowd) all(t *testing.T, f func(*ipam.Allocator) error) {
	t.Helper()
	var g sync.WaitGroup
	for _, a := range c.nodes {
		g.Go(func() {
			if err := f(a); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// burstFill is what one burst came to.
type burstFill struct {
	took               time.Duration
	each               []time.Duration
	conflicts, refused int64
}

// fill measures a burst that fills a /22 from 8 nodes, 16 ADDs at once on each, until all 1,024 addresses are in use: what
// kubelet tries again is tried again here.
func fill(t *testing.T, b *bench, r *report) {
	var took, add, conflicts, refused sample
	for round := range count("ROUNDS", 5) {
		t.Run(fmt.Sprint(round), func(t *testing.T) { // so that its agents end before the next round
			f := fillOnce(t, b)
			took = append(took, f.took.Seconds())
			for _, d := range f.each {
				add.ms(d)
			}
			conflicts, refused = append(conflicts, float64(f.conflicts)), append(refused, float64(f.refused))
		})
	}
	r.add(
		row{what: "ipam: 8 nodes fill a /22, all 1,024 in use", unit: "s", ours: took},
		row{what: "ipam: one of these ADDs", unit: "ms", ours: add},
		row{what: "ipam: conflicts in such a burst", unit: "conflicts", ours: conflicts},
		row{what: "ipam: ADDs that were told to try again", unit: "ADDs", ours: refused})
}

func fillOnce(t *testing.T, b *bench) (f burstFill) {
	const nodes, atOnce, size = 8, 16, 1024
	l := b.lab(t).New(t, lab.Options{Stopped: true, Pools: []v3.IPPoolSpec{{CIDR: "172.20.0.0/22", BlockSize: 26, VXLANMode: v3.EncapAlways}}})
	c := newCrowd(t, l, nodes)
	c.conflicts.Store(0)
	var mu sync.Mutex
	var g sync.WaitGroup
	var started, refused atomic.Int64
	seen, begin := map[netip.Addr]bool{}, time.Now()
	for i := range nodes * atOnce {
		g.Go(func() {
			for started.Add(1) <= size {
				asked := time.Now()
				addr, err := c.add(t.Context(), c.nodes[i%nodes])
				for err != nil && time.Since(begin) < time.Minute {
					refused.Add(1)
					addr, err = c.add(t.Context(), c.nodes[i%nodes])
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[addr] {
					t.Errorf("%s is given twice", addr)
				}
				seen[addr] = true
				f.each = append(f.each, time.Since(asked))
				mu.Unlock()
			}
		})
	}
	g.Wait()
	f.took, f.conflicts, f.refused = time.Since(begin), c.conflicts.Load(), refused.Load()
	if len(seen) != size {
		t.Errorf("%d addresses are in use, want %d", len(seen), size)
	}
	return f
}

// ownBlocks gives a node blocks of a pool before its agent starts.
func ownBlocks(t *testing.T, api *kube.Client, node string, pool netip.Prefix, bits, n int) {
	t.Helper()
	errs := make([]error, n)
	var g sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range n {
		slots <- struct{}{}
		g.Go(func() {
			defer func() { <-slots }()
			cidr := block.Nth(pool, bits, uint64(i))
			_, err := api.CreateAffinity(t.Context(), &v3.BlockAffinity{
				ObjectMeta: metav1.ObjectMeta{Name: block.AffinityName(node, cidr), Labels: block.AffinityLabels(block.HostAffinity(node), false)},
				Spec:       v3.BlockAffinitySpec{State: v3.AffinityConfirmed, Node: node, Type: "host", CIDR: cidr.String()},
			})
			if err == nil {
				_, err = api.CreateBlock(t.Context(), block.New(cidr, block.HostAffinity(node), time.Now()))
			}
			errs[i] = err
		})
	}
	g.Wait()
	if err := errors.Join(slices.DeleteFunc(errs, func(err error) bool { return err == nil })...); err != nil {
		t.Fatal(err)
	}
}
