package kube

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/pods"
	"github.com/margay-net/margay/pkg/store"
)

// BlockWatcher is told of each block, whole, as the watch reports it. gone means that it was deleted.
type BlockWatcher interface {
	Observe(b *v3.IPAMBlock, gone bool)
}

// Watcher fills a store from the API until its context ends.
type Watcher struct {
	client *Client
	store  *store.Store
	log    *slog.Logger
	blocks BlockWatcher
	node   string          // the own one; "" unless WithPods was called
	pods   *pods.Directory // may be nil

	bgp       Peering       // may be nil
	namespace string        // of Secrets with BGP's passwords
	named     chan struct{} // the names of these may have changed
}

// NewWatcher returns a watcher that has not started. blocks may be nil.
func NewWatcher(c *Client, s *store.Store, blocks BlockWatcher, log *slog.Logger) *Watcher {
	return &Watcher{client: c, store: s, blocks: blocks, log: log}
}

// Run watches all kinds and blocks until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	runs := []func(context.Context){
		w.reflect(w.client.core, "nodes", &corev1.Node{}, &sink[*corev1.Node]{
			put:    w.putNode,
			drop:   w.dropNode,
			synced: w.syncedNodes,
		}),
		w.reflect(w.client.v3, ippools, &v3.IPPool{}, &sink[*v3.IPPool]{
			put:    w.putPool,
			drop:   w.store.DeletePool,
			synced: func() { w.store.Synced(store.Pools) },
		}),
		w.reflect(w.client.v3, blocks, &v3.IPAMBlock{}, w.blockSink()),
		w.reflect(w.client.v3, ipamconfigs, &v3.IPAMConfiguration{}, &sink[*v3.IPAMConfiguration]{
			put:    func(c *v3.IPAMConfiguration) { w.store.SetConfig(readConfig(c)) },
			drop:   func(string) { w.store.SetConfig(nil) },
			synced: func() { w.store.Synced(store.IPAMConfig) },
		}),
		w.reflect(w.client.v3, felixes, &v3.FelixConfiguration{}, &sink[*v3.FelixConfiguration]{
			put:    func(f *v3.FelixConfiguration) { w.store.SetParams(f.Name, readParams(f)) },
			drop:   func(name string) { w.store.SetParams(name, nil) },
			synced: func() { w.store.Synced(store.Params) },
		}),
		w.reflect(w.client.v3, reservations, &v3.IPReservation{}, &sink[*v3.IPReservation]{
			put:    func(r *v3.IPReservation) { w.store.SetReservation(r.Name, readReservation(r, w.log)) },
			drop:   w.store.DeleteReservation,
			synced: func() { w.store.Synced(store.Reservations) },
		}),
		w.reflect(w.client.v3, clusterinfo, &v3.ClusterInformation{}, &sink[*v3.ClusterInformation]{
			put:    func(i *v3.ClusterInformation) { w.store.SetLocked(locked(i)) },
			drop:   func(string) { w.store.SetLocked(false) },
			synced: func() { w.store.Synced(store.Information) },
		}),
	}
	runs = append(runs, w.podRuns()...)
	runs = append(runs, w.bgpRuns()...)
	done := make(chan struct{})
	for _, run := range runs {
		go func() { run(ctx); done <- struct{}{} }()
	}
	for range runs {
		<-done
	}
	return nil
}

func (w *Watcher) reflect(c rest.Interface, resource string, of runtime.Object, to cache.ReflectorStore) func(context.Context) {
	lw := cache.ToListWatcherWithWatchListSemantics(cache.NewListWatchFromClient(c, resource, "", fields.Everything()), c)
	return w.reflector(lw, resource, of, to)
}

func (w *Watcher) reflector(lw cache.ListerWatcher, resource string, of runtime.Object, to cache.ReflectorStore) func(context.Context) {
	r := cache.NewReflectorWithOptions(lw, of, to, cache.ReflectorOptions{
		Name: resource,
		// Back soon after the API server is back: it is one agent per node, jittered.
		Backoff: &wait.Backoff{Duration: 500 * time.Millisecond, Cap: 8 * time.Second, Steps: 8, Factor: 2, Jitter: 1},
	})
	return func(ctx context.Context) { r.RunWithContext(ctx) }
}

func (w *Watcher) putNode(n *corev1.Node) {
	w.store.SetNode(readNode(n, w.log))
	if n.Name == w.node {
		w.store.SetLabels(readLabels(n, w.log))
	}
	if w.bgp != nil {
		w.bgp.SetNode(n.Name, readPeering(n, w.log))
	}
}

func (w *Watcher) dropNode(name string) {
	w.store.DeleteNode(name)
	if w.bgp != nil {
		w.bgp.SetNode(name, nil)
	}
}

func (w *Watcher) syncedNodes() {
	w.store.Synced(store.Nodes)
	if w.bgp != nil {
		w.bgp.Synced(model.BGPNodes)
	}
}

func (w *Watcher) putPool(p *v3.IPPool) {
	pool, err := readPool(p)
	if err != nil {
		w.log.Error("IP pool is not used until it is corrected", "pool", p.Name, "err", err)
		w.store.DeletePool(p.Name)
		return
	}
	w.store.SetPool(pool)
}

func (w *Watcher) blockSink() *sink[*v3.IPAMBlock] {
	last := map[string]*v3.IPAMBlock{} // of a name: what to report as gone
	return &sink[*v3.IPAMBlock]{
		put: func(b *v3.IPAMBlock) {
			cidr, err := netip.ParsePrefix(b.Spec.CIDR)
			if err != nil {
				w.log.Error("block is not used until it is corrected: spec.cidr is no CIDR", "block", b.Name, "cidr", b.Spec.CIDR)
				return
			}
			last[b.Name] = &v3.IPAMBlock{ObjectMeta: b.ObjectMeta, Spec: v3.IPAMBlockSpec{CIDR: b.Spec.CIDR, SequenceNumber: b.Spec.SequenceNumber}}
			if b.Spec.Deleted {
				w.store.DeleteBlock(cidr)
			} else {
				w.store.SetBlock(readBlock(cidr, b))
			}
			if w.blocks != nil {
				w.blocks.Observe(b, b.Spec.Deleted)
			}
		},
		drop: func(name string) {
			b := last[name]
			if b == nil {
				return
			}
			delete(last, name)
			cidr, _ := netip.ParsePrefix(b.Spec.CIDR)
			w.store.DeleteBlock(cidr)
			if w.blocks != nil {
				w.blocks.Observe(b, true)
			}
		},
		synced: func() { w.store.Synced(store.Blocks) },
	}
}

// named is an API object, as far as a sink must know it.
type named interface{ GetName() string }

// sink passes what a reflector reads on, keeping just the names. A reflector calls it from one goroutine.
type sink[T named] struct {
	put    func(T)
	drop   func(name string)
	synced func()
	key    func(T) string // what tells objects apart; nil: their names
	names  map[string]struct{}
}

func (s *sink[T]) keyOf(o T) string {
	if s.key != nil {
		return s.key(o)
	}
	return o.GetName()
}

// Add puts an object.
func (s *sink[T]) Add(obj any) error {
	o, ok := obj.(T)
	if !ok {
		return nil
	}
	if s.names == nil {
		s.names = map[string]struct{}{}
	}
	s.names[s.keyOf(o)] = struct{}{}
	s.put(o)
	return nil
}

// Update puts an object.
func (s *sink[T]) Update(obj any) error { return s.Add(obj) }

// Delete drops an object.
func (s *sink[T]) Delete(obj any) error {
	if d, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = d.Obj
	}
	if o, ok := obj.(T); ok {
		delete(s.names, s.keyOf(o))
		s.drop(s.keyOf(o))
	}
	return nil
}

// Replace puts all objects and drops those that are no longer there.
func (s *sink[T]) Replace(list []any, _ string) error {
	old := s.names
	s.names = map[string]struct{}{}
	for _, obj := range list {
		if err := s.Add(obj); err != nil {
			return err
		}
	}
	for name := range old {
		if _, ok := s.names[name]; !ok {
			s.drop(name)
		}
	}
	s.synced()
	return nil
}

// Resync does nothing: the store is level-triggered.
func (s *sink[T]) Resync() error { return nil }
