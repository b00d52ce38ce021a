package agent

import (
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/reconcile"
)

// metrics are served on port 9091 when they are switched on. Those named felix_ are what Calico's dashboards read.
type metrics struct {
	registry *prometheus.Registry
	apply    *prometheus.SummaryVec
	failures *prometheus.CounterVec
	resyncs  *prometheus.CounterVec
	hosts    prometheus.Gauge
	pools    prometheus.Gauge
	faults   prometheus.Gauge

	mu   sync.Mutex
	seen []string // faults that were logged
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		apply:    prometheus.NewSummaryVec(prometheus.SummaryOpts{Name: "felix_int_dataplane_apply_time_seconds", Help: "Time to bring the kernel to the wanted state.", Objectives: map[float64]float64{0.5: 0.05, 0.99: 0.001}}, []string{"part"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "felix_int_dataplane_failures", Help: "Updates of the kernel that failed and were tried again."}, []string{"part"}),
		resyncs:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "felix_resyncs_started", Help: "Times that a part's state was read anew from the kernel."}, []string{"part"}),
		hosts:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "felix_cluster_num_hosts", Help: "Nodes of the cluster."}),
		pools:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "margay_ip_pools", Help: "IP pools of the cluster."}),
		faults:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "margay_cluster_faults", Help: "Contradictions in the cluster's state, such as two nodes with one address; the log names them."}),
	}
	m.registry.MustRegister(m.apply, m.failures, m.resyncs, m.hosts, m.pools, m.faults)
	return m
}

// hooks counts what one part of the data plane does.
func (m *metrics) hooks(part string) reconcile.Hooks {
	count := func(err error) {
		if err != nil {
			m.failures.WithLabelValues(part).Inc()
		}
	}
	return reconcile.Hooks{
		Resynced: func(_ time.Duration, err error) { m.resyncs.WithLabelValues(part).Inc(); count(err) },
		Applied:  func(d time.Duration, err error) { m.apply.WithLabelValues(part).Observe(d.Seconds()); count(err) },
	}
}

// planned takes what a plan found; each fault is logged once.
func (m *metrics) planned(nodes int, pools []model.Pool, faults []string, log *slog.Logger) {
	m.hosts.Set(float64(nodes))
	m.pools.Set(float64(len(pools)))
	m.faults.Set(float64(len(faults)))
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range faults {
		if !slices.Contains(m.seen, f) {
			log.Error("cluster state contradicts itself", "fault", f)
		}
	}
	m.seen = faults
}

// addIPAM serves IPAM's counts.
func (m *metrics) addIPAM(a *ipam.Allocator) {
	gauge := func(name, help string, f func(ipam.Stats) float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return f(a.Stats()) }))
	}
	gauge("felix_active_local_endpoints", "Pods' interfaces on this node.", func(s ipam.Stats) float64 { return float64(s.Endpoints) })
	gauge("margay_ipam_blocks", "Blocks that this node owns.", func(s ipam.Stats) float64 { return float64(s.Blocks) })
	gauge("margay_ipam_free_addresses", "Free addresses of this node's blocks.", func(s ipam.Stats) float64 { return float64(s.Free) })
	gauge("margay_ipam_ready_addresses", "Addresses that ADD can give without an API request.", func(s ipam.Stats) float64 { return float64(s.Ready) })
	gauge("margay_ipam_unsettled", "Assignments and releases that the datastore does not know yet.", func(s ipam.Stats) float64 { return float64(s.Unsettled) })
	gauge("margay_ipam_unsettled_seconds", "Age of the oldest of these.", func(s ipam.Stats) float64 {
		if s.Oldest.IsZero() {
			return 0
		}
		return time.Since(s.Oldest).Seconds()
	})
	gauge("margay_ipam_conflicts", "Addresses of this node's pods that the datastore gave to somebody else.", func(s ipam.Stats) float64 { return float64(s.Conflicts) })
}

// handler serves the metrics, IPAM's too, and of the process and the runtime as the parameters say.
func (m *metrics) handler(params func() model.Parameters, a *ipam.Allocator) http.Handler {
	m.addIPAM(a)
	runtime, process := prometheus.NewRegistry(), prometheus.NewRegistry()
	runtime.MustRegister(collectors.NewGoCollector())
	process.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, p := prometheus.Gatherers{m.registry}, params()
		if p.GoMetrics {
			from = append(from, runtime)
		}
		if p.ProcessMetrics {
			from = append(from, process)
		}
		promhttp.HandlerFor(from, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
}
