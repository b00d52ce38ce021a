// Package cluster is what the controller knows of the cluster: nodes, pods, blocks, handles and the rest, as watches tell
// it, each reduced to what counts as soon as it is decoded. It says that something changed, never what; who is woken looks
// at all that it needs. What it knows may be seconds old: before anything is taken away, its reader asks the API server.
package cluster

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/collect"
	"github.com/margay-net/margay/pkg/kube"
)

// kinds are what has to be read before the cluster is known.
var kinds = []string{
	"Node", "Pod", "Service", "Namespace", "IPPool", "IPReservation", "IPAMBlock", "IPAMHandle", "BlockAffinity", "IPAMConfiguration", "ClusterInformation", "KubeControllersConfiguration",
}

// Cluster is filled by Run. Its methods may be called from any goroutine.
type Cluster struct {
	client *kube.Client
	log    *slog.Logger

	mu         sync.Mutex
	state      *collect.State
	services   map[kube.Key]Service
	namespaces map[string]map[string]string // labels
	pools      map[string]Pool
	reserved   map[string][]netip.Prefix
	config     *v3.KubeControllersConfiguration
	locked     bool
	unread     map[string]struct{} // kinds

	inSync chan struct{} // closed when all kinds have been read
	wake   map[Topic]chan struct{}
}

// Topic is who is to be woken by a change.
type Topic int

// Topics: Addresses are nodes, pods, blocks, handles and claims; Services are Services and what their addresses come from;
// Pools are pools; Config is the controller's own configuration.
const (
	Addresses Topic = iota
	Services
	Pools
	Config
)

// New returns a cluster of which nothing is known yet.
func New(client *kube.Client, log *slog.Logger) *Cluster {
	c := &Cluster{
		client: client, log: log, state: collect.NewState(),
		services: map[kube.Key]Service{}, namespaces: map[string]map[string]string{}, pools: map[string]Pool{}, reserved: map[string][]netip.Prefix{},
		inSync: make(chan struct{}), wake: map[Topic]chan struct{}{}, unread: map[string]struct{}{},
	}
	for _, k := range kinds {
		c.unread[k] = struct{}{}
	}
	for _, t := range []Topic{Addresses, Services, Pools, Config} {
		c.wake[t] = make(chan struct{}, 1)
	}
	return c
}

// InSync is closed when everything that there was at the start is known.
func (c *Cluster) InSync() <-chan struct{} { return c.inSync }

// Unread returns the kinds that have not been read yet, sorted.
func (c *Cluster) Unread() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.unread))
}

// Changed returns a channel that is ready when something of a topic has changed. One reader per topic.
func (c *Cluster) Changed(t Topic) <-chan struct{} { return c.wake[t] }

// Wake has whoever reads Changed look again.
func (c *Cluster) Wake(t Topic) { c.changed(t) }

// State calls f with what is known of addresses. f must not keep it.
func (c *Cluster) State(f func(*collect.State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.state)
}

// Pools returns all pools, sorted by name.
func (c *Cluster) Pools() []Pool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.pools), func(x, y Pool) int { return strings.Compare(x.Name, y.Name) })
}

// Reserved returns what must not be given out, without being asked for.
func (c *Cluster) Reserved() []netip.Prefix {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []netip.Prefix
	for _, r := range c.reserved {
		out = append(out, r...)
	}
	return out
}

// Services returns all Services, those of type LoadBalancer and those that once had such an address.
func (c *Cluster) Services() map[kube.Key]Service {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.services)
}

// NamespaceLabels returns the labels of a namespace.
func (c *Cluster) NamespaceLabels(name string) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.namespaces[name]
}

// Config returns the controller's configuration, nil when there is none.
func (c *Cluster) Config() *v3.KubeControllersConfiguration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.config
}

// Locked says whether somebody has locked the datastore: nothing of IPAM is to be written meanwhile.
func (c *Cluster) Locked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.locked
}

// Wrote takes a block as this process has just written it: nobody who reads after that sees an older one.
func (c *Cluster) Wrote(b *v3.IPAMBlock) {
	c.putBlock(c.readBlock(b))
}

// Run follows the cluster until ctx ends.
func (c *Cluster) Run(ctx context.Context) error {
	var g sync.WaitGroup
	g.Go(func() {
		follow[corev1.Node](ctx, c, readNode, Addresses, (*collect.State).SetNode, (*collect.State).DeleteNode)
	})
	g.Go(func() { followIn(ctx, c, Addresses, readPod, c.putPod, c.dropPod) })
	g.Go(func() {
		followIn(ctx, c, Addresses, c.readBlock, func(_ kube.Key, b *collect.Block) { c.putBlock(b) }, c.dropBlock)
	})
	g.Go(func() {
		follow[v3.IPAMHandle](ctx, c, collect.ReadHandle, Addresses, (*collect.State).SetHandle, (*collect.State).DeleteHandle)
	})
	g.Go(func() {
		follow[v3.BlockAffinity](ctx, c, readAffinity, Addresses, func(s *collect.State, _ string, a collect.Affinity) { s.SetAffinity(a) }, (*collect.State).DeleteAffinity)
	})
	g.Go(func() { followIn(ctx, c, Addresses, readCooldown, c.putCooldown, c.dropCooldown) })
	g.Go(func() { followMap(ctx, c, c.services, func(k kube.Key) kube.Key { return k }, readService, Services) })
	g.Go(func() { followMap(ctx, c, c.namespaces, name, readLabels, Services) })
	g.Go(func() { followMap(ctx, c, c.pools, name, c.readPool, Services, Pools) })
	g.Go(func() { followMap(ctx, c, c.reserved, name, c.readReservation, Services) })
	g.Go(func() {
		followIn(ctx, c, Config, func(k *v3.KubeControllersConfiguration) *v3.KubeControllersConfiguration { return k }, c.putConfig, c.dropConfig)
	})
	g.Go(func() {
		followIn(ctx, c, Addresses, readLocked, func(_ kube.Key, locked bool) { c.putLocked(locked) }, func(kube.Key) { c.putLocked(false) })
	})
	g.Wait()
	return nil
}

func name(k kube.Key) string { return k.Name }

// object is a pointer to T that is an API object.
type object[T any] interface {
	*T
	kube.Object
}

// followIn follows a kind with functions of its own, which are called with the lock held.
func followIn[T any, P object[T], V any](ctx context.Context, c *Cluster, topic Topic, read func(P) V, put func(kube.Key, V), drop func(kube.Key)) {
	kube.Follow[T](ctx, c.client, kube.Sink[P, V]{
		Read: read,
		Put: func(k kube.Key, v V) {
			put(k, v)
			c.changed(topic)
		},
		Drop: func(k kube.Key) {
			drop(k)
			c.changed(topic)
		},
		Synced: func() { c.read(reflect.TypeFor[T]().Name()) },
	})
}

// follow follows a kind into the state.
func follow[T any, P object[T], V any](ctx context.Context, c *Cluster, read func(P) V, topic Topic, put func(*collect.State, string, V), drop func(*collect.State, string)) {
	followIn(ctx, c, topic, read,
		func(k kube.Key, v V) { c.State(func(s *collect.State) { put(s, k.Name, v) }) },
		func(k kube.Key) { c.State(func(s *collect.State) { drop(s, k.Name) }) })
}

// followMap follows a kind into one of the maps.
func followMap[T any, P object[T], K comparable, V any](ctx context.Context, c *Cluster, m map[K]V, key func(kube.Key) K, read func(P) V, topics ...Topic) {
	also := func() {
		for _, t := range topics[1:] {
			c.changed(t)
		}
	}
	followIn(ctx, c, topics[0], read, func(k kube.Key, v V) {
		c.mu.Lock()
		m[key(k)] = v
		c.mu.Unlock()
		also()
	}, func(k kube.Key) {
		c.mu.Lock()
		delete(m, key(k))
		c.mu.Unlock()
		also()
	})
}

// read notes that a kind has been read. It panics when that is none of kinds.
func (c *Cluster) read(kind string) {
	if !slices.Contains(kinds, kind) {
		panic("the cluster has no kind " + kind)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.unread) == 0 {
		return
	}
	if delete(c.unread, kind); len(c.unread) == 0 {
		close(c.inSync)
	}
}

func (c *Cluster) changed(t Topic) {
	select {
	case c.wake[t] <- struct{}{}:
	default:
	}
}
