package peering

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/bgp"
	"github.com/margay-net/margay/pkg/model"
)

// Input is what Build looks at beside the directory.
type Input struct {
	Self   string
	Nodes  map[string]model.Node // by name, with Self
	Pools  []model.Pool
	Blocks []model.Block
	// RouterID is what CALICO_ROUTER_ID says; not valid: the node's IPv4 address, or made of its name where it has none.
	RouterID netip.Addr
	Hold     time.Duration // of all sessions; 0: bgp.DefaultHold
	AS       uint32        // of the environment; 0: none. The other nodes know it once it is in the node's annotation
	// Services are the addresses of Services that this node announces.
	Services []bgp.Announcement
	// Workloads are the node's pods. Those that a BGPPeer's localWorkloadSelector selects have a session with the node.
	Workloads []Workload
	// Ranges are the networks that Services' addresses are announced of, by any node: a route reflector passes on what it learns in them.
	Ranges []netip.Prefix
}

// Workload is a pod of this node.
type Workload struct {
	Labels map[string]string
	Addrs  []netip.Addr
}

// Build says what the node's speaker should do, and what is wrong with the resources that it follows from, a line each, sorted.
// A peer that the speaker refuses, such as one without AS, is in both. A password or a filter that earlier calls have seen stays
// in use while it is gone, or cannot be used: a session that has it is to stay, and must not come up without it.
func (d *Directory) Build(in Input) (bgp.Config, []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unread = !d.secretsRead()
	d.forget()
	b := d.builder(in)
	b.speaker()
	b.neighbors()
	b.announce()
	slices.Sort(b.faults)
	return b.out, slices.Compact(b.faults)
}

// Gateways are the routers by which peers are reached that name one in reachableBy: each wants a route to the peer's address
// alone.
func (d *Directory) Gateways(in Input) map[netip.Addr]netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.peers {
		if p.ReachableBy != "" {
			b := d.builder(in)
			b.neighbors()
			return b.gateways
		}
	}
	return nil
}

// builder builds one Config.
type builder struct {
	*Directory
	in       Input
	conf     v3.BGPConfigurationSpec
	self     int // index in nodes; -1: the node is not known
	nodes    []node
	byAddr   map[netip.Addr]int
	peerings []*peering
	out      bgp.Config
	gateways map[netip.Addr]netip.Addr
	faults   []string
}

// node is what a session with a node depends on.
type node struct {
	name         string
	addr4, addr6 netip.Addr
	as           uint32
	port         uint16
	cluster      netip.Addr // valid: it is a route reflector
	mesh         bool       // it is part of the mesh, if there is one for it
	labels       map[string]string
}

func (n *node) addr(six bool) netip.Addr {
	if six {
		return n.addr6
	}
	return n.addr4
}

func (d *Directory) builder(in Input) *builder {
	b := &builder{Directory: d, in: in, conf: d.config(in.Self), self: -1, byAddr: map[netip.Addr]int{}, gateways: map[netip.Addr]netip.Addr{}}
	b.readNodes()
	b.readPeers()
	return b
}

func (b *builder) fault(kind, name, format string, args ...any) {
	b.faults = append(b.faults, kind+" "+name+": "+fmt.Sprintf(format, args...))
}

// readNodes puts together what is known of all nodes.
func (b *builder) readNodes() {
	all := b.config("")
	b.nodes = make([]node, 0, len(b.in.Nodes))
	for name, m := range b.in.Nodes {
		n := node{name: name, addr4: m.Addr4.Addr(), addr6: m.Addr6.Addr()}
		conf := &all
		if b.configs[nodePrefix+name] != nil {
			own := b.config(name)
			conf = &own
		}
		n.as, n.port, n.mesh = uint32(*conf.ASNumber), conf.ListenPort, *conf.NodeToNodeMeshEnabled
		if name == b.in.Self {
			b.self = len(b.nodes)
			n.as = cmp.Or(b.in.AS, n.as)
		}
		if known := b.Directory.nodes[name]; known != nil {
			n.labels, n.cluster, n.as = known.Labels, known.ClusterID, cmp.Or(known.AS, n.as)
			n.mesh = n.mesh && !n.cluster.IsValid()
		}
		b.nodes = append(b.nodes, n)
	}
	for i := range b.nodes {
		for _, a := range []netip.Addr{b.nodes[i].addr4, b.nodes[i].addr6} {
			// Of nodes that share an address the one whose name comes first has it.
			if j, taken := b.byAddr[a]; a.IsValid() && (!taken || b.nodes[i].name < b.nodes[j].name) {
				b.byAddr[a] = i
			}
		}
	}
}

// speaker fills in what is not about peers.
func (b *builder) speaker() {
	b.out.Hold = b.in.Hold
	b.out.AS, b.out.RouterID, b.out.Port = b.as(b.in.Self, b.in.AS), b.in.RouterID, b.conf.ListenPort
	own := b.in.Nodes[b.in.Self]
	if !b.out.RouterID.IsValid() {
		b.out.RouterID = own.Addr4.Addr()
	}
	if !b.out.RouterID.IsValid() {
		b.out.RouterID = bgp.HashID(b.in.Self)
	}
	if *b.conf.BindMode == v3.BindNodeIP {
		for _, p := range []netip.Prefix{own.Addr4, own.Addr6} {
			if p.IsValid() {
				b.out.Listen = append(b.out.Listen, p.Addr())
			}
		}
	}
}

// owner is the name of the BGPConfiguration that a setting comes from.
func (b *builder) owner(sets func(*v3.BGPConfigurationSpec) bool) string {
	if c := b.configs[nodePrefix+b.in.Self]; c != nil && sets(c) {
		return nodePrefix + b.in.Self
	}
	return defaultName
}
