package metrics

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/margay-net/margay/pkg/cni/server"
	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/pkg/reconcile"
)

// Routes is the name of the data plane's part whose listings felix_route_table_resync_seconds times.
const Routes = "routes"

// quantiles are those of Calico's summaries, with the error of each.
var quantiles = map[float64]float64{0.5: 0.05, 0.9: 0.01, 0.99: 0.001}

// latencies are the upper bounds of histograms, in seconds: a call of the plugin takes milliseconds, kubelet gives up after
// minutes.
var latencies = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10}

// reasons are the ends of a call but OK, as labels.
var reasons = map[wire.Code]string{
	wire.Invalid: "invalid", wire.NotReady: "not_ready", wire.Exhausted: "exhausted", wire.Unknown: "unknown",
	wire.Mismatch: "mismatch", wire.Internal: "internal", server.Abandoned: "abandoned",
}

// Metrics are those of one agent. All methods may be called from any goroutine.
type Metrics struct {
	registry *prometheus.Registry

	apply, calc, listing prometheus.Summary
	failures             prometheus.Counter
	hosts                prometheus.Gauge

	partApply, partResync *prometheus.SummaryVec
	partFailures          *prometheus.CounterVec

	calls  *prometheus.HistogramVec
	failed *prometheus.CounterVec

	pools, faults, addressFaults prometheus.Gauge
}

// New returns metrics of the agent of a node, of this version.
func New(node, version string) *Metrics {
	m := &Metrics{
		registry:      prometheus.NewRegistry(),
		apply:         summary("felix_int_dataplane_apply_time_seconds", "Seconds to bring one part of the kernel to the wanted state."),
		calc:          summary("felix_calc_graph_update_time_seconds", "Seconds to compute the wanted state after a change of the datastore."),
		listing:       summary("felix_route_table_resync_seconds", "Seconds to list the kernel's routes."),
		failures:      prometheus.NewCounter(opts("felix_int_dataplane_failures", "Updates of the kernel that failed and were tried again.")),
		hosts:         gauge("felix_cluster_num_hosts", "Nodes of the cluster."),
		partApply:     sums("margay_dataplane_apply_seconds", "Seconds to bring a part of the kernel to the wanted state."),
		partResync:    sums("margay_dataplane_resync_seconds", "Seconds to compare a part of the kernel with the wanted state."),
		partFailures:  prometheus.NewCounterVec(opts("margay_dataplane_failures_total", "Updates of a part of the kernel that failed and were tried again."), []string{"part"}),
		failed:        prometheus.NewCounterVec(opts("margay_cni_failures_total", "Calls of the CNI plugin that failed, by the reason."), []string{"verb", "reason"}),
		pools:         gauge("margay_ip_pools", "IP pools of the cluster."),
		faults:        gauge("margay_cluster_faults", "What contradicts itself in the cluster's state or in this node's settings, such as two nodes with one address; the log names each."),
		addressFaults: gauge("margay_node_address_faults", "What is odd about this node's own address: it is another node's too, is gone, or is not the one that the Node object names."),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "margay_cni_call_seconds", Help: "Seconds that calls of the CNI plugin took, of an ADD from its first request to the end of its last.", Buckets: latencies,
		}, []string{"verb", "result"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "margay_build_info", Help: "1; the labels say what runs.", ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	host := prometheus.NewGauge(prometheus.GaugeOpts{Name: "felix_host", Help: "1; the label is the node's name.", ConstLabels: prometheus.Labels{"host": node}})
	build.Set(1)
	host.Set(1)
	m.registry.MustRegister(m.apply, m.calc, m.listing, m.failures, m.hosts, m.partApply, m.partResync, m.partFailures, m.failed,
		m.pools, m.faults, m.addressFaults, m.calls, build, host)
	m.prepare()
	return m
}

// prepare makes the series that are there before anything happens.
func (m *Metrics) prepare() {
	for _, verb := range server.Verbs {
		m.calls.WithLabelValues(verb, "ok")
		m.calls.WithLabelValues(verb, "failed")
	}
	for _, reason := range reasons {
		m.failed.WithLabelValues(server.VerbAdd, reason)
		m.failed.WithLabelValues(server.VerbDel, reason)
	}
}

func opts(name, help string) prometheus.CounterOpts {
	return prometheus.CounterOpts{Name: name, Help: help}
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

// summary is one with Calico's quantiles, over the last ten minutes.
func summary(name, help string) prometheus.Summary {
	return prometheus.NewSummary(prometheus.SummaryOpts{Name: name, Help: help, Objectives: quantiles})
}

// sums is a sum and a count by part: enough for a rate and a mean, and cheap.
func sums(name, help string) *prometheus.SummaryVec {
	return prometheus.NewSummaryVec(prometheus.SummaryOpts{Name: name, Help: help}, []string{"part"})
}

// Dataplane counts what one part of the data plane does.
func (m *Metrics) Dataplane(part string) reconcile.Hooks {
	apply, resync, failures := m.partApply.WithLabelValues(part), m.partResync.WithLabelValues(part), m.partFailures.WithLabelValues(part)
	count := func(err error) {
		if err != nil {
			m.failures.Inc()
			failures.Inc()
		}
	}
	return reconcile.Hooks{
		Resynced: func(d time.Duration, err error) {
			resync.Observe(d.Seconds())
			if part == Routes {
				m.listing.Observe(d.Seconds())
			}
			count(err)
		},
		Applied: func(d time.Duration, err error) {
			apply.Observe(d.Seconds())
			m.apply.Observe(d.Seconds())
			count(err)
		},
	}
}

// Computed is told of each computation of the wanted state.
func (m *Metrics) Computed(took time.Duration) { m.calc.Observe(took.Seconds()) }

// Planned takes how many nodes and pools the cluster has, and how much of its state, of which of the node's own address, is
// at fault.
func (m *Metrics) Planned(nodes, pools, faults, ofAddress int) {
	m.hosts.Set(float64(nodes))
	m.pools.Set(float64(pools))
	m.faults.Set(float64(faults))
	m.addressFaults.Set(float64(ofAddress))
}

// Served counts a call of the plugin: it is a server.Served.
func (m *Metrics) Served(verb string, took time.Duration, end wire.Code) {
	if end == wire.OK {
		m.calls.WithLabelValues(verb, "ok").Observe(took.Seconds())
		return
	}
	m.calls.WithLabelValues(verb, "failed").Observe(took.Seconds())
	m.failed.WithLabelValues(verb, reasons[end]).Inc()
}
