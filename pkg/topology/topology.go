package topology

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/margay-net/margay/pkg/model"
)

// Names of the tunnel devices (Calico's; tunl0 is the kernel's own).
const (
	VXLAN4 = "vxlan.calico"
	VXLAN6 = "vxlan-v6.calico"
	IPIP4  = "tunl0"
)

// Underlay is what the node's own network is for one family.
type Underlay struct {
	Parent string // device that carries the node's address
	MTU    int    // of the VXLAN device on it, bytes
}

// Input is everything that Build looks at.
type Input struct {
	Self   string
	Nodes  map[string]model.Node // by name, with Self
	Pools  []model.Pool
	Blocks []model.Block
	V4, V6 Underlay
	VNI    int
	Port   int // UDP
	// Checksum says who computes those of what leaves by a VXLAN device.
	Checksum model.Checksum
	NAT      NATOptions
	// PodPeers are the devices of the pods with which this node speaks BGP, by the pod's address.
	PodPeers map[netip.Addr]string
	// Former are the routes of the plan before, if there was one, in any order.
	Former []model.Route

	// BGP distributes the routes to blocks of pools without VXLAN: they come from Learned. With ClusterRoutes
	// (programClusterRoutes) they come from Blocks all the same, and BGP's are for what is not in a pool.
	BGP, ClusterRoutes bool
	Learned            []Learned
	// Resolve says by which device, and which router on it, the node's kernel reaches an address beyond its subnet.
	Resolve func(netip.Addr) (model.Hop, bool)
	IPIPMTU int // of tunl0, bytes
}

// Learned is a prefix that BGP peers have told of, with its equally good next hops in address order.
type Learned struct {
	Dst  netip.Prefix
	Vias []netip.Addr
}

// NATOptions is what people set of masquerading beside the pools' natOutgoing.
type NATOptions struct {
	SpareNodes bool // nodes' addresses are reached with the pods' own
	Address    netip.Addr
	Ports      model.PortRange
	Interface  string
	Floating   []model.Floating // of both families, sorted
}

// Wanted is what one node's kernel should hold. The slices are sorted by their keys.
type Wanted struct {
	VXLAN  []model.VXLAN
	IPIP   *model.IPIP // nil: no pool needs it
	Routes []model.Route
	// Learned are the routes that BGP has told of, of protocol ProtoBIRD.
	Learned []model.Route
	Neighs  []model.Neigh
	FDB     []model.FDB
	// NAT4 and NAT6 say what is masqueraded; nil: nothing.
	NAT4, NAT6 *model.NAT
	// Conflicts has one line for each block, address or MAC that two nodes claim, sorted. The node whose name comes first
	// keeps it, but this node always keeps its own addresses; the other's routes are left out.
	Conflicts []string
	// Shared has those of Conflicts that say that another node claims this node's own address.
	Shared []string
}

// Build computes the wanted state.
func Build(in Input) Wanted {
	w := Wanted{Routes: make([]model.Route, 0, len(in.Blocks))}
	blocks := w.owned(in.Blocks)
	for _, six := range []bool{false, true} {
		f := newFamily(in, six)
		f.claim(&w)
		if f.tunnel {
			w.VXLAN = append(w.VXLAN, f.device())
		}
		for _, b := range blocks {
			if b.CIDR.Addr().Is4() == six {
				continue
			}
			if r, ok := f.route(b); ok {
				w.Routes = append(w.Routes, r)
			}
			w.Routes = append(w.Routes, f.loans(b)...)
		}
		w.Learned = append(w.Learned, f.learned(blocks)...)
		if f.ipip.IsValid() {
			w.IPIP = &model.IPIP{Name: IPIP4, MTU: in.IPIPMTU, Addr: f.ipip}
		}
		f.entries(&w)
		if six {
			w.NAT6 = f.nat()
		} else {
			w.NAT4 = f.nat()
		}
	}
	slices.Sort(w.Conflicts)
	return w
}

// owned returns the blocks that have an owner, or addresses in use without one, sorted by CIDR, each once.
func (w *Wanted) owned(in []model.Block) []model.Block {
	blocks := make([]model.Block, 0, len(in))
	for _, b := range in {
		if l := b.Loans.List(); len(l) == 1 && b.CIDR.IsSingleIP() {
			b.Node, b.Loans = l[0].Node, "" // one destination has one route
		}
		if (b.Node != "" || b.Loans != "") && b.CIDR.IsValid() {
			blocks = append(blocks, model.Block{CIDR: b.CIDR.Masked(), Node: b.Node, Loans: b.Loans})
		}
	}
	slices.SortFunc(blocks, func(a, b model.Block) int {
		return cmp.Or(a.CIDR.Compare(b.CIDR), cmp.Compare(a.Node, b.Node))
	})
	return slices.CompactFunc(blocks, func(kept, b model.Block) bool {
		if kept.CIDR != b.CIDR {
			return false
		}
		if kept.Node != b.Node {
			w.Conflicts = append(w.Conflicts, fmt.Sprintf("block %s is claimed by nodes %s and %s: %[2]s keeps it", b.CIDR, kept.Node, b.Node))
		}
		return true
	})
}
