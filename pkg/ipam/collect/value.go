package collect

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unique"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// Name is a name that occurs often, of a node or namespace: equal ones share their memory.
type Name = unique.Handle[string]

// NameOf makes a Name.
func NameOf(s string) Name { return unique.Make(s) }

// Kind says what an address is for.
type Kind uint8

// Values of Kind. A Foreign address has attributes that nobody here knows; a Reserved one is Windows's.
const (
	Foreign Kind = iota
	Pod
	Service
	Reserved
	TunnelIPIP
	TunnelVXLAN4
	TunnelVXLAN6
	TunnelWireguard4
	TunnelWireguard6

	tunnels = 5 // kinds of tunnels
)

// tunnelTypes are the values of the attribute "type" (Calico's).
var tunnelTypes = map[string]Kind{
	block.TypeIPIP: TunnelIPIP, block.TypeVXLAN4: TunnelVXLAN4, block.TypeVXLAN6: TunnelVXLAN6,
	"wireguardTunnelAddress": TunnelWireguard4, "wireguardV6TunnelAddress": TunnelWireguard6,
}

// attrService is the attribute that names a Service; reservedHandle holds what Windows keeps of a block (Calico's names).
const (
	attrService    = "service"
	reservedHandle = "windows-reserved-ipam-handle"
)

// Tunnel says whether k is one of a node's tunnels.
func (k Kind) Tunnel() bool { return k >= TunnelIPIP }

// Alloc is an ordinal of a block that is not free.
type Alloc struct {
	Ordinal   int32
	Kind      Kind
	Seq       uint64 // the sequence number it was taken at; 0: an old writer's, who wrote none
	Released  int64  // Unix seconds: since when it cools down; 0: it is in use
	Handle    string // "" when there is none, as while it cools down
	Name      string // of its pod or Service
	Namespace Name
	Node      Name // NameOf("") when no node is named
}

// Block is what counts of an IPAMBlock.
type Block struct {
	Name     string
	UID      string
	CIDR     netip.Prefix
	Affinity string // as stored, such as host:node1; "" when nobody owns it
	Size     int
	Seq      uint64
	Deleted  bool // its deletion was begun: nobody uses it, and nothing of it counts
	Allocs   []Alloc
	sum      uint64 // of its CIDR: see Handle
}

// Owner returns the node that owns the block, "" when none does.
func (b *Block) Owner() string {
	node, _ := strings.CutPrefix(b.Affinity, "host:")
	if node == b.Affinity {
		return ""
	}
	return node
}

// Addr returns the address of an allocation.
func (b *Block) Addr(a *Alloc) netip.Addr { return block.AddrAt(b.CIDR, int(a.Ordinal)) }

// ReadBlock takes what counts of a block. A damaged block is an error that names the field.
func ReadBlock(obj *v3.IPAMBlock) (Block, error) {
	if err := block.Check(obj); err != nil {
		return Block{}, err
	}
	cidr, _ := netip.ParsePrefix(obj.Spec.CIDR) // Check has read it
	b := Block{Name: obj.Name, UID: string(obj.UID), CIDR: cidr, Size: len(obj.Spec.Allocations), Seq: obj.Spec.SequenceNumber}
	if obj.Spec.Deleted {
		b.Deleted = true
		return b, nil
	}
	if obj.Spec.Affinity != nil {
		b.Affinity = *obj.Spec.Affinity
	}
	used := b.Size - len(obj.Spec.Unallocated)
	if used > 0 {
		b.Allocs = make([]Alloc, 0, used)
	}
	// Of the ordinals that share an attribute the strings are shared, too.
	read := make([]*Alloc, len(obj.Spec.Attributes))
	for o, i := range obj.Spec.Allocations {
		if i == nil {
			continue
		}
		if read[*i] == nil {
			a := readAttr(&obj.Spec.Attributes[*i])
			read[*i] = &a
		}
		a := *read[*i]
		a.Ordinal = int32(o)
		a.Seq = obj.Spec.SequenceNumberForAllocation[strconv.Itoa(o)]
		b.Allocs = append(b.Allocs, a)
	}
	return b, nil
}

func readAttr(at *v3.AllocationAttribute) Alloc {
	a := Alloc{Namespace: NameOf(at.Secondary[block.AttrNamespace]), Node: NameOf(at.Secondary[block.AttrNode])}
	if at.HandleID != nil {
		a.Handle = strings.Clone(*at.HandleID)
	}
	if at.ReleasedAt != nil {
		a.Released = at.ReleasedAt.Unix()
	}
	pod, service, ns := at.Secondary[block.AttrPod], at.Secondary[attrService], at.Secondary[block.AttrNamespace]
	switch {
	case strings.EqualFold(a.Handle, reservedHandle):
		a.Kind = Reserved
	case tunnelTypes[at.Secondary[block.AttrType]] != Foreign:
		a.Kind = tunnelTypes[at.Secondary[block.AttrType]]
	case pod != "" && ns != "":
		a.Kind, a.Name = Pod, strings.Clone(pod)
	case service != "" && ns != "":
		a.Kind, a.Name = Service, strings.Clone(service)
	}
	return a
}

// Count is how many addresses of a block a handle has.
type Count struct {
	CIDR netip.Prefix
	N    int
}

// Handle is what counts of an IPAMHandle.
type Handle struct {
	ID      string
	Version string // of the object: another version is another thing to look at
	Counts  []Count
	Deleted bool // marked so; its deletion was cut short

	// Sums over the addresses of sum(CIDR of their block): as the handle says, and as the blocks do. They are equal when
	// the counts fit, and hardly ever else; what is done about a difference looks at the blocks themselves.
	want, have uint64
}

// ReadHandle takes what counts of a handle. What is no CIDR in it counts as an address that no block has.
func ReadHandle(obj *v3.IPAMHandle) Handle {
	h := Handle{ID: strings.Clone(obj.Spec.HandleID), Version: obj.ResourceVersion, Deleted: obj.Spec.Deleted}
	for text, n := range obj.Spec.Block {
		cidr, _ := netip.ParsePrefix(text)
		h.Counts = append(h.Counts, Count{cidr, n})
		h.want += sum(cidr) * uint64(n)
	}
	slices.SortFunc(h.Counts, func(x, y Count) int { return x.CIDR.Addr().Compare(y.CIDR.Addr()) })
	return h
}

// sum spreads a CIDR over 64 bits (FNV-1a); it is never 0, so that an address too many is seen.
func sum(cidr netip.Prefix) uint64 {
	h := uint64(14695981039346656037)
	addr := cidr.Addr().As16()
	for _, b := range addr {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return (h^uint64(cidr.Bits()&0xff))*1099511628211 | 1
}

// Affinity is what counts of a BlockAffinity.
type Affinity struct {
	Name, Node, Type string
	CIDR             netip.Prefix
}

// Node is what counts of a Node.
type Node struct {
	UID     string
	Silent  bool                // kubelet has stopped reporting: its condition Ready is Unknown
	Tunnels [tunnels]netip.Addr // what it says its tunnels' addresses are, by Kind from TunnelIPIP on
}

// SetTunnel notes the address of one of the node's tunnels.
func (n *Node) SetTunnel(k Kind, a netip.Addr) { n.Tunnels[k-TunnelIPIP] = a }

// PodState is what counts of a Pod.
type PodState struct {
	Node    Name         // NameOf("") while it is bound to none
	Addrs   []netip.Addr // as it reports them; none until kubelet knows
	Evicted bool         // by kubelet: it never runs again
}

// PodKey names a pod.
type PodKey struct {
	Namespace Name
	Name      string
}
