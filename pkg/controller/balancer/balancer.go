// Package balancer gives Services of type LoadBalancer addresses of the pools that allow that use, in blocks of the affinity
// virtual:load-balancer, and writes them to the Services' status.
//
// Blocks are the truth: what a Service has is what they hold under its handle. Each pass compares all of them with all
// Services; a Service for which something is to be done is read from the API server first. A block is written before its
// handle, and the handle goes before the address, as in package ipam. Two controllers at once may give a Service two
// addresses; the next pass takes one back.
package balancer

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/controller/cluster"
	"github.com/margay-net/margay/pkg/ipam/collect"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/reconcile"
)

const (
	component  = "margay-controller"
	window     = 100 * time.Millisecond
	period     = 5 * time.Minute
	maxBackoff = 30 * time.Second
)

// Balancer serves Services until its context ends.
type Balancer struct {
	cluster *cluster.Cluster
	client  *kube.Client
	log     *slog.Logger
	assign  atomic.Value // v3.AssignIPs
	faults  atomic.Int64
	told    map[kube.Key]string // what a Service was told the last time
}

// New returns a balancer that has not started.
func New(c *cluster.Cluster, client *kube.Client, assign v3.AssignIPs, log *slog.Logger) *Balancer {
	b := &Balancer{cluster: c, client: client, log: log, told: map[kube.Key]string{}}
	b.assign.Store(assign)
	return b
}

// SetAssign changes which Services get addresses.
func (b *Balancer) SetAssign(a v3.AssignIPs) {
	if b.assign.Swap(a) != a {
		b.cluster.Wake(cluster.Services)
	}
}

// Faults returns how many Services lack an address.
func (b *Balancer) Faults() int { return int(b.faults.Load()) }

// Run serves until ctx ends.
func (b *Balancer) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-b.cluster.InSync():
	}
	backoff, failed := time.Duration(0), false
	for {
		err := b.Once(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && failed:
			b.log.Info("addresses of Services are in order again")
			backoff, failed = 0, false
		case err != nil:
			if !failed {
				b.log.Error("serve Services with addresses failed; it is tried again", "err", err)
			}
			failed, backoff = true, min(max(2*backoff, time.Second), maxBackoff)
		}
		wait := period
		if failed {
			wait = backoff
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-b.cluster.Changed(cluster.Services):
			pause(ctx, window)
		}
		t.Stop()
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// owner is whose the addresses under a handle are.
type owner struct {
	key  kube.Key
	have []held
}

// Once looks at all Services, and does what is to be done.
func (b *Balancer) Once(ctx context.Context) error {
	if b.cluster.Locked() {
		return nil
	}
	services, pools, byHandle := b.cluster.Services(), b.cluster.Pools(), b.held()
	var errs reconcile.Failures
	for _, handle := range slices.Sorted(maps.Keys(byHandle)) {
		if b.cluster.Locked() {
			return nil // whoever unlocks it wakes us
		}
		o := byHandle[handle]
		if s, ok := services[o.key]; !ok || handleOf(o.key, s.UID) != handle {
			errs.Add(b.orphan(ctx, handle, o))
		}
	}
	keys := slices.SortedFunc(maps.Keys(services), func(x, y kube.Key) int {
		return strings.Compare(x.Namespace+"/"+x.Name, y.Namespace+"/"+y.Name)
	})
	serves, faults := slices.ContainsFunc(pools, gives), 0
	for _, k := range keys {
		if b.cluster.Locked() {
			return nil
		}
		s := services[k]
		have := byHandle[handleOf(k, s.UID)].have
		if len(have) == 0 && (!serves || !managed(s, b.assignment())) || b.settled(k, s, pools, have) {
			delete(b.told, k)
			continue
		}
		lacks, err := b.serve(ctx, k, pools)
		if lacks != nil {
			faults++
		}
		b.tell(ctx, k, s.UID, lacks)
		switch {
		case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
			b.cluster.Wake(cluster.Services) // somebody else writes: look again
		case err != nil:
			errs.Add(fmt.Errorf("serve Service %s/%s: %w", k.Namespace, k.Name, err))
		}
	}
	for k := range b.told {
		if _, ok := services[k]; !ok {
			delete(b.told, k)
		}
	}
	b.faults.Store(int64(faults))
	return errs.Err()
}

func (b *Balancer) assignment() v3.AssignIPs { return b.assign.Load().(v3.AssignIPs) }

// held returns what Services have, by handle.
func (b *Balancer) held() map[string]owner {
	out := map[string]owner{}
	b.cluster.State(func(s *collect.State) {
		for blk := range s.BlocksOf(collect.LoadBalancer) {
			for i := range blk.Allocs {
				a := &blk.Allocs[i]
				if a.Kind != collect.Service || a.Handle == "" || a.Released != 0 {
					continue
				}
				o := out[a.Handle]
				o.key = kube.Key{Namespace: a.Namespace.Value(), Name: a.Name}
				o.have = append(o.have, held{blk.Name, blk.CIDR, int(a.Ordinal), blk.Addr(a), a.Seq})
				out[a.Handle] = o
			}
		}
	})
	for _, o := range out {
		slices.SortFunc(o.have, func(x, y held) int { return x.addr.Compare(y.addr) })
	}
	return out
}

// settled says whether nothing is to be done for a Service.
func (b *Balancer) settled(k kube.Key, s cluster.Service, pools []cluster.Pool, have []held) bool {
	if !managed(s, b.assignment()) {
		return len(have) == 0
	}
	w, err := wantOf(s, pools, b.cluster.NamespaceLabels(k.Namespace))
	if err != nil {
		return false
	}
	_, back, addrs, families := w.compare(publishedFirst(have, s.Ingress))
	return len(back)+len(addrs)+len(families) == 0 && sameAddrs(s.Ingress, have)
}

func sameAddrs(ingress []string, have []held) bool {
	return len(ingress) == len(have) && !slices.ContainsFunc(have, func(h held) bool { return !slices.Contains(ingress, h.addr.String()) })
}

// orphan releases what a Service left behind that is gone, or that another of its name has followed.
func (b *Balancer) orphan(ctx context.Context, handle string, o owner) error {
	obj, err := b.client.GetService(ctx, o.key.Namespace, o.key.Name)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("get Service %s/%s: %w", o.key.Namespace, o.key.Name, err)
	}
	if err == nil && handleOf(o.key, string(obj.UID)) == handle {
		return nil // the watch is behind
	}
	return b.release(ctx, o.key, handle, o.have, nil)
}
