// Package garbage gives back what package collect finds left over.
//
// It promises that nothing is taken that lives. What a watch told is never enough: right before something is released its
// node and its pods are read from the API server once more, and judged again; each write is a compare-and-swap on what was
// read; an allocation is released by handle and sequence number, so that an address that somebody has meanwhile is not
// touched. Released addresses go to the tail of their block's FIFO and cool down there: the head is the owner's.
//
// The order is that of pkg/ipam: a handle goes before its addresses, an affinity says pendingDeletion before its block
// goes, and goes after it; blocks, handles and affinities are marked deleted before they are deleted. So whatever a crash
// cuts off, an allocation or a mark is left, which the next pass finds, and two controllers at once do no harm.
package garbage

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/margay-net/margay/pkg/controller/cluster"
	"github.com/margay-net/margay/pkg/ipam/collect"
	"github.com/margay-net/margay/pkg/kube"
)

const (
	window     = time.Second // how long events gather
	period     = 5 * time.Minute
	maxBackoff = 30 * time.Second
	writeTries = 8
	atOnce     = 8 // requests, and nodes
)

// Garbage collects until its context ends.
type Garbage struct {
	cluster *cluster.Cluster
	client  *kube.Client
	log     *slog.Logger
	now     func() time.Time
	counted Counted
	window  time.Duration

	collector *collect.Collector // under the cluster's lock
	grace     atomic.Int64
	regrace   chan struct{}
	blocked   int
	cut       bool // a lock of the datastore cut the last pass short
}

// Counted is told of what was collected: how many addresses of which block and node.
type Counted func(block collect.Block, node string, addresses int)

// Options of New.
type Options struct {
	Cluster *cluster.Cluster
	Client  *kube.Client
	Log     *slog.Logger
	Grace   time.Duration    // see collect.Collector
	Counted Counted          // may be nil
	Now     func() time.Time // nil: time.Now
	Window  time.Duration    // how long events gather; 0: a second
}

// New returns a collector that has not started.
func New(o Options) *Garbage {
	g := &Garbage{cluster: o.Cluster, client: o.Client, log: o.Log, now: o.Now, counted: o.Counted, window: o.Window, regrace: make(chan struct{}, 1), collector: collect.New(o.Grace)}
	if g.now == nil {
		g.now = time.Now
	}
	if g.counted == nil {
		g.counted = func(collect.Block, string, int) {}
	}
	if g.window == 0 {
		g.window = window
	}
	g.grace.Store(int64(o.Grace))
	return g
}

// SetGrace changes the grace period; what is left over has been so since it was first seen.
func (g *Garbage) SetGrace(d time.Duration) {
	if g.grace.Swap(int64(d)) == int64(d) {
		return
	}
	select {
	case g.regrace <- struct{}{}:
	default:
	}
}

// IsCandidate says whether an allocation is left over. It is to be called from within cluster.State.
func (g *Garbage) IsCandidate(a *collect.Alloc, b *collect.Block) bool {
	return g.collector.IsCandidate(a.Node, b.Addr(a), a.Handle)
}

// Run waits until the cluster is known, and collects until ctx ends: a full pass at the start and from time to time, and in
// between what events point at.
func (g *Garbage) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-g.cluster.InSync():
	}
	failed, backoff, full := false, time.Duration(0), true
	var last, next time.Time
	for ctx.Err() == nil {
		if full {
			last = g.now()
		}
		var err error
		next, err = g.Once(ctx, full)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && failed:
			g.log.Info("collecting addresses works again")
			failed, backoff = false, 0
		case err != nil:
			if !failed {
				g.log.Error("collect what is left over failed; it is tried again", "err", err)
			}
			failed, backoff = true, min(max(2*backoff, time.Second), maxBackoff)
		}
		full = g.wait(ctx, last.Add(g.pause()), next, backoff)
	}
	return nil
}

// pause is the time between two full passes: two looks have to fit into a grace period.
func (g *Garbage) pause() time.Duration {
	if d := time.Duration(g.grace.Load()) / 2; d > 0 && d < period {
		return max(d, time.Second)
	}
	return period
}

// wait waits for something to do, and says whether it is a full pass. retry is how long after a failure; 0: none.
func (g *Garbage) wait(ctx context.Context, fullAt, next time.Time, retry time.Duration) bool {
	until := fullAt.Sub(g.now())
	if !next.IsZero() {
		until = min(until, max(next.Sub(g.now()), 100*time.Millisecond))
	}
	full := !next.IsZero() && !next.After(fullAt) // what is due may be of any kind
	if retry > 0 && retry < until {
		until, full = retry, true
	}
	t := time.NewTimer(max(until, 0))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
		return full || !g.now().Before(fullAt)
	case <-g.regrace:
		return true
	case <-g.cluster.Changed(cluster.Addresses):
		gather := time.NewTimer(g.window)
		defer gather.Stop()
		select {
		case <-ctx.Done():
		case <-gather.C:
		}
	}
	return !g.now().Before(fullAt)
}

// Once does one pass and what it asks for. It returns when something is due that nobody will tell of; zero: nothing is. While
// the datastore is locked it begins nothing; what a lock cut short is done when that ends.
func (g *Garbage) Once(ctx context.Context, full bool) (next time.Time, err error) {
	if g.cluster.Locked() {
		return g.now().Add(period), nil
	}
	full, g.cut = full || g.cut, false
	var p *collect.Plan
	var cooldown time.Duration
	g.cluster.State(func(s *collect.State) {
		g.collector.Grace = time.Duration(g.grace.Load())
		p, cooldown = g.collector.Pass(s, g.now(), full), s.Cooldown
	})
	if p.Blocked != g.blocked && full {
		g.blocked = p.Blocked
		if p.Blocked > 0 {
			g.log.Warn("blocks of nodes that do not exist are kept, since pods of other nodes or unknown users live in them", "blocks", p.Blocked)
		}
	}
	if !p.Work() {
		return p.Next, nil
	}
	do := &work{Garbage: g, cooldown: cooldown}
	err = errors.Join(do.releases(ctx, p.Releases), do.reap(ctx, p.Reap), do.empty(ctx, p.Empty), do.affinities(ctx, p.Affinities), do.handles(ctx, p.Handles))
	if errors.Is(err, errLocked) {
		g.cut = true
		g.log.Info("the datastore was locked; what is left over waits until it is unlocked")
		return g.now().Add(period), nil
	}
	return p.Next, err
}
