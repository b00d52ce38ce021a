// Package metric serves what the controller knows of addresses, in Calico's names and with Calico's labels: ippool, and
// node. Counts are looked up when somebody asks for them.
//
//	ipam_allocations_in_use{ippool,node}        addresses in use, by the node of the pod; unknown_node: none is named
//	ipam_allocations_borrowed{ippool,node}      those of them that are of another node's block
//	ipam_allocations_gc_candidates{ippool,node} those that look left over
//	ipam_allocations_gc_reclamations{ippool,node}  addresses that were collected, since the start
//	ipam_blocks{ippool,node}                    blocks, by owner; no_affinity: they have none
//	ipam_ippool_size{ippool}, ipam_ippool_reserved{ippool}  addresses of a pool, and those that reservations keep
//	ipam_allocations_per_node{node}, ipam_allocations_borrowed_per_node{node}, ipam_blocks_per_node{node}
//
// What is of no pool has the label ippool="no_ippool". Nodes that exist have a zero where there is nothing. A controller
// that does not lead serves none of these.
package metric

import (
	"math"
	"net/http"
	"net/netip"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/margay-net/margay/pkg/controller/cluster"
	"github.com/margay-net/margay/pkg/ipam/collect"
)

// Values of labels (Calico's).
const (
	unknownNode = "unknown_node"
	noAffinity  = "no_affinity"
	noPool      = "no_ippool"
)

// Sources are where the counts are looked up. While the controller does not lead, Cluster is nil.
type Sources struct {
	Cluster     *cluster.Cluster
	IsCandidate func(*collect.Alloc, *collect.Block) bool // called from within Cluster.State
	PoolFaults  func() map[string]string
	Services    func() int // that lack an address
}

// Metrics are those of one controller.
type Metrics struct {
	registry  *prometheus.Registry
	reclaimed *prometheus.CounterVec
	sources   func() Sources

	inUse, borrowed, candidates, blocks, size, reserved, perNode, borrowedPerNode, blocksPerNode, leader, poolFaults, serviceFaults *prometheus.Desc
	descs                                                                                                                           []*prometheus.Desc
}

// New returns metrics of a controller of this version; sources is asked at each scrape.
func New(version string, sources func() Sources) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), sources: sources}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		d := prometheus.NewDesc(name, help, labels, nil)
		m.descs = append(m.descs, d)
		return d
	}
	m.inUse = desc("ipam_allocations_in_use", "Addresses in use, by the node of their pod or tunnel.", "ippool", "node")
	m.borrowed = desc("ipam_allocations_borrowed", "Addresses in use that are of another node's block.", "ippool", "node")
	m.candidates = desc("ipam_allocations_gc_candidates", "Addresses that look left over. They are collected after the grace period, or turn out to be in use.", "ippool", "node")
	m.blocks = desc("ipam_blocks", "Blocks of the pool, by owner.", "ippool", "node")
	m.size = desc("ipam_ippool_size", "Addresses of the pool.", "ippool")
	m.reserved = desc("ipam_ippool_reserved", "Addresses of the pool that reservations keep from being given out.", "ippool")
	m.perNode = desc("ipam_allocations_per_node", "Addresses in use.", "node")
	m.borrowedPerNode = desc("ipam_allocations_borrowed_per_node", "Addresses in use that are of another node's block.", "node")
	m.blocksPerNode = desc("ipam_blocks_per_node", "Blocks.", "node")
	m.leader = desc("margay_controller_leader", "1 when this controller leads; the others wait.")
	m.poolFaults = desc("margay_ip_pool_faults", "1 when something is wrong with the pool, such as a network that overlaps another's; its events and the log say what.", "ippool")
	m.serviceFaults = desc("margay_service_address_faults", "Services of type LoadBalancer that lack an address; their events say why.")
	m.reclaimed = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ipam_allocations_gc_reclamations", Help: "Addresses that were collected."}, []string{"ippool", "node"})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "margay_build_info", Help: "1; the labels say what runs.", ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m, m.reclaimed, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Reclaimed counts collected addresses of a block: it is a garbage.Counted.
func (m *Metrics) Reclaimed(b collect.Block, node string, n int) {
	pool := noPool
	if s := m.sources(); s.Cluster != nil {
		pool = poolOf(s.Cluster.Pools(), b.CIDR)
	}
	if node == "" {
		node = unknownNode
	}
	m.reclaimed.WithLabelValues(pool, node).Add(float64(n))
}

func poolOf(pools []cluster.Pool, cidr netip.Prefix) string {
	for _, p := range pools {
		if p.CIDR.IsValid() && p.CIDR.Bits() <= cidr.Bits() && p.CIDR.Contains(cidr.Addr()) {
			return p.Name
		}
	}
	return noPool
}

// Describe tells what there is.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range m.descs {
		to <- d
	}
}

// series is the labels of one series.
type series struct{ pool, node string }

// counts are of one scrape.
type counts struct{ inUse, borrowed, candidates, blocks map[series]int }

// Collect looks everything up.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	set := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	s := m.sources()
	if s.Cluster == nil {
		set(m.leader, 0)
		return
	}
	set(m.leader, 1)
	set(m.serviceFaults, float64(s.Services()))
	faults, reserved := s.PoolFaults(), s.Cluster.Reserved()
	pools := s.Cluster.Pools()
	for _, p := range pools {
		fault := 0.0
		if faults[p.Name] != "" {
			fault = 1
		}
		set(m.poolFaults, fault, p.Name)
		if p.CIDR.IsValid() {
			set(m.size, math.Pow(2, float64(p.CIDR.Addr().BitLen()-p.CIDR.Bits())), p.Name)
			set(m.reserved, Reserved(p.CIDR, reserved), p.Name)
		}
	}
	c := count(s, pools)
	allocated, borrowed, blocks := map[string]int{}, map[string]int{}, map[string]int{}
	for k, v := range c.inUse {
		set(m.inUse, float64(v), k.pool, k.node)
		allocated[k.node] += v
	}
	for k, v := range c.borrowed {
		set(m.borrowed, float64(v), k.pool, k.node)
		borrowed[k.node] += v
	}
	for k, v := range c.candidates {
		set(m.candidates, float64(v), k.pool, k.node)
	}
	for k, v := range c.blocks {
		set(m.blocks, float64(v), k.pool, k.node)
		blocks[k.node] += v
	}
	for d, of := range map[*prometheus.Desc]map[string]int{m.perNode: allocated, m.borrowedPerNode: borrowed, m.blocksPerNode: blocks} {
		for node, v := range of {
			set(d, float64(v), node)
		}
	}
}

// count counts allocations and blocks.
func count(s Sources, pools []cluster.Pool) counts {
	c := counts{inUse: map[series]int{}, borrowed: map[series]int{}, candidates: map[series]int{}, blocks: map[series]int{}}
	s.Cluster.State(func(state *collect.State) {
		for n := range state.Nodes() {
			for _, p := range pools {
				k := series{p.Name, n.Value()}
				c.inUse[k], c.borrowed[k], c.candidates[k] = 0, 0, 0
			}
		}
		for b := range state.Blocks() {
			owner := b.Owner()
			if owner == "" {
				owner = noAffinity
			}
			pool := poolOf(pools, b.CIDR)
			c.blocks[series{pool, owner}]++
			for i := range b.Allocs {
				a := &b.Allocs[i]
				if a.Handle == "" || a.Released != 0 {
					continue
				}
				k := series{pool, a.Node.Value()}
				if k.node == "" {
					k.node = unknownNode
				}
				c.inUse[k]++
				if k.node != unknownNode && k.node != owner {
					c.borrowed[k]++
				}
				if s.IsCandidate(a, b) {
					c.candidates[k]++
				}
			}
		}
	})
	return c
}

// Reserved says how many addresses of a network reservations cover; those that several cover count once.
func Reserved(cidr netip.Prefix, reserved []netip.Prefix) float64 {
	n := 0.0
	for i, r := range reserved {
		r = r.Masked()
		if !r.Overlaps(cidr) {
			continue
		}
		covered := false
		for j, other := range reserved {
			other = other.Masked()
			// Of two that overlap one holds the other; of two that are equal the first counts.
			covered = covered || i != j && other.Overlaps(r) && (other.Bits() < r.Bits() || other.Bits() == r.Bits() && j < i)
		}
		if !covered {
			n += math.Pow(2, float64(cidr.Addr().BitLen()-max(r.Bits(), cidr.Bits())))
		}
	}
	return n
}
