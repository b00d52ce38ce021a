package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/status"
)

// Sources are where a scrape looks. Each answers from memory.
type Sources struct {
	Params  func() model.Parameters
	IPAM    func() ipam.Stats
	Ready   func() error                           // nil when pods can be added
	Resyncs func() (reads int, inSync bool)        // how often the datastore was read whole, and whether all of it was
	Routes  func() (v4, v6 int)                    // of ours in the main table
	MTU     func() (underlay4, underlay6, pod int) // bytes; 0: not known, or no such address
	Peers   func() []status.Peer                   // of BGP; nil: the agent does not speak it
	Learned func() (v4, v6 int)                    // prefixes in use that BGP peers have told; with Peers
}

// Handler serves all metrics, those of the runtime and of the process as the parameters say. It may be called once.
func (m *Metrics) Handler(s Sources) http.Handler {
	m.registry.MustRegister(newScraped(s))
	runtime, process := prometheus.NewRegistry(), prometheus.NewRegistry()
	runtime.MustRegister(collectors.NewGoCollector())
	process.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, p := prometheus.Gatherers{m.registry}, s.Params()
		if p.GoMetrics {
			from = append(from, runtime)
		}
		if p.ProcessMetrics {
			from = append(from, process)
		}
		promhttp.HandlerFor(from, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
}

// scraped is the metrics that are looked up when somebody asks for them, each source once.
type scraped struct {
	Sources
	descs []*prometheus.Desc

	endpoints, blocks, free, ready, unsettled, oldest, conflicts *prometheus.Desc
	resyncs, state, routes, canAdd, underlay, pod                *prometheus.Desc

	bgp bgpDescs
}

func newScraped(s Sources) *scraped {
	c := &scraped{Sources: s}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		d := prometheus.NewDesc(name, help, labels, nil)
		c.descs = append(c.descs, d)
		return d
	}
	c.endpoints = desc("felix_active_local_endpoints", "Pods' interfaces on this node.")
	c.blocks = desc("margay_ipam_blocks", "Blocks that this node owns.")
	c.free = desc("margay_ipam_free_addresses", "Free addresses of this node's blocks.")
	c.ready = desc("margay_ipam_ready_addresses", "Addresses that ADD can give without an API request.")
	c.unsettled = desc("margay_ipam_unsettled", "Assignments and releases that the datastore does not know yet.")
	c.oldest = desc("margay_ipam_unsettled_seconds", "Age of the oldest of these.")
	c.conflicts = desc("margay_ipam_conflicts", "Addresses of this node's pods that the datastore gave to somebody else.")
	c.resyncs = desc("felix_resyncs_started", "Times that the datastore was read whole.")
	c.state = desc("felix_resync_state", "What of the datastore has been read: 1 nothing, 2 some, 3 all.")
	c.routes = desc("felix_route_table_num_routes", "Routes of ours in the main table.", "table")
	c.canAdd = desc("margay_ready", "1 when pods can be added.")
	c.underlay = desc("margay_underlay_mtu_bytes", "MTU of the device that has the node's address; none where there is no address.", "family")
	c.pod = desc("margay_pod_mtu_bytes", "MTU of new pods' interfaces.")
	c.bgp = newBGPDescs(desc)
	return c
}

// Describe tells what there is.
func (c *scraped) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

// Collect looks it up.
func (c *scraped) Collect(to chan<- prometheus.Metric) {
	set := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	stats := c.IPAM()
	set(c.endpoints, float64(stats.Endpoints))
	set(c.blocks, float64(stats.Blocks))
	set(c.free, float64(stats.Free))
	set(c.ready, float64(stats.Ready))
	set(c.unsettled, float64(stats.Unsettled))
	set(c.conflicts, float64(stats.Conflicts))
	age := 0.0
	if !stats.Oldest.IsZero() {
		age = max(time.Since(stats.Oldest).Seconds(), 0)
	}
	set(c.oldest, age)

	reads, inSync := c.Resyncs()
	to <- prometheus.MustNewConstMetric(c.resyncs, prometheus.CounterValue, float64(reads))
	switch {
	case inSync:
		set(c.state, 3)
	case reads > 0:
		set(c.state, 2)
	default:
		set(c.state, 1)
	}
	v4, v6 := c.Routes()
	set(c.routes, float64(v4), "IPv4:254")
	set(c.routes, float64(v6), "IPv6:254")
	ready := 0.0
	if c.Ready() == nil {
		ready = 1
	}
	set(c.canAdd, ready)
	mtu4, mtu6, pod := c.MTU()
	if mtu4 > 0 {
		set(c.underlay, float64(mtu4), "IPv4")
	}
	if mtu6 > 0 {
		set(c.underlay, float64(mtu6), "IPv6")
	}
	set(c.pod, float64(pod))
	c.collectBGP(to)
}
