package agent

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	promised "github.com/margay-net/margay/pkg/metrics"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/reconcile"
	"github.com/margay-net/margay/pkg/status"
)

// metrics counts what the agent does, looks on while the data plane works, and logs what is at fault.
type metrics struct {
	*promised.Metrics
	watch reconcile.Watch

	mu   sync.Mutex
	seen []string // faults that were logged
}

func newMetrics(node string) *metrics { return &metrics{Metrics: promised.New(node, Version)} }

// hooks counts and watches one part of the data plane.
func (m *metrics) hooks(part string) reconcile.Hooks { return m.watch.Hooks(part, m.Dataplane(part)) }

// planned takes what a plan found: all faults, and those of the node's own address. Each is logged once.
func (m *metrics) planned(nodes int, pools []model.Pool, faults []string, ofAddress int, log *slog.Logger) {
	m.Planned(nodes, len(pools), len(faults), ofAddress)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range faults {
		if !slices.Contains(m.seen, f) {
			log.Error("cluster state or this node's settings contradict themselves", "fault", f)
		}
	}
	m.seen = faults
}

// sources is where a scrape looks.
func (a *Agent) sources(ctx context.Context) promised.Sources {
	out := promised.Sources{
		Params: a.currentParams, IPAM: a.stats, Ready: a.health.ready, Resyncs: a.store.Resyncs, Routes: a.plane.routes.Count,
		MTU: func() (v4, v6, pod int) {
			s := a.selfNow()
			return s.up4.MTU, s.up6.MTU, s.podMTU
		},
	}
	if a.bgp != nil {
		out.Peers, out.Learned = func() []status.Peer { return a.bgp.Peers(ctx) }, a.bgp.count
	}
	return out
}
