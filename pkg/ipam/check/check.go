package check

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// windowsReserved is the handle of the addresses that Calico keeps for Windows in each block of such a node.
const windowsReserved = "windows-reserved-ipam-handle"

// Result is what a comparison found.
type Result struct {
	Blocks      []v3.IPAMBlock // those that are not marked deleted
	Allocations []*Allocation  // in the order of the blocks
	InUse       map[netip.Addr][]Use
	GoodHandles int // handles that addresses refer to
	IdleHandles []Handle
	Problems    []Problem // by fault, then in the order of what they are about
}

// checker is the work on one state.
type checker struct {
	Result
	state   State
	at      map[netip.Addr][]*Allocation
	ofPod   map[string][]*Allocation // by namespace/name
	handles map[string]*v3.IPAMHandle
	held    map[string]map[string]int // handle → block → addresses
}

// Run compares.
func Run(s State) *Result {
	c := &checker{state: s, at: map[netip.Addr][]*Allocation{}, ofPod: map[string][]*Allocation{}, handles: map[string]*v3.IPAMHandle{}, held: map[string]map[string]int{}}
	c.InUse = map[netip.Addr][]Use{}
	c.readBlocks()
	for _, u := range s.Uses {
		switch {
		case u.Own:
		case !u.Addr.IsValid():
			c.starting(u)
		default:
			c.use(u)
		}
	}
	for i := range s.Handles {
		if h := &s.Handles[i]; !h.Spec.Deleted {
			c.handles[h.Spec.HandleID] = h
		}
	}
	c.allocated()
	c.used()
	c.checkHandles()
	c.checkBlocks()
	c.checkClaims()
	slices.SortStableFunc(c.Problems, func(x, y Problem) int { return cmp.Compare(x.Fault, y.Fault) })
	return &c.Result
}

func (c *checker) found(f Fault, about, format string, args ...any) {
	c.Problems = append(c.Problems, Problem{Fault: f, About: about, Line: about + " " + fmt.Sprintf(format, args...)})
}

// use notes that something has an address.
func (c *checker) use(u Use) {
	c.InUse[u.Addr] = append(c.InUse[u.Addr], u)
	for _, a := range c.at[u.Addr] {
		a.InUse, a.Owners = true, append(a.Owners, u.Label)
	}
}

// starting takes the allocations of a pod whose addresses Kubernetes does not know yet for its own.
func (c *checker) starting(u Use) {
	for _, a := range c.ofPod[u.Namespace+"/"+u.Name] {
		if a.Node == u.Node {
			a.InUse, a.Owners = true, append(a.Owners, u.Label)
		}
	}
}

// readBlocks takes the allocations of all blocks, as far as they can be read.
func (c *checker) readBlocks() {
	for i := range c.state.Blocks {
		b := &c.state.Blocks[i]
		if b.Spec.Deleted {
			continue
		}
		c.Blocks = append(c.Blocks, *b)
		cidr, err := netip.ParsePrefix(b.Spec.CIDR)
		if err != nil {
			continue // checkBlocks says so
		}
		for o, at := range b.Spec.Allocations {
			if at != nil {
				c.allocation(b, cidr.Masked(), o)
			}
		}
	}
}

func (c *checker) allocation(b *v3.IPAMBlock, cidr netip.Prefix, ordinal int) {
	addr, owner := block.AddrAt(cidr, ordinal), block.Owner(b)
	seq := b.Spec.SequenceNumberForAllocation[strconv.Itoa(ordinal)]
	a := &Allocation{IP: addr.String(), Addr: addr, Block: cidr, Node: owner, SequenceNumber: &seq}
	if i := *b.Spec.Allocations[ordinal]; i >= 0 && i < len(b.Spec.Attributes) {
		a.Attr = &b.Spec.Attributes[i]
		about := a.Attr.Secondary
		a.Pod, a.Namespace, a.Type = about[block.AttrPod], about[block.AttrNamespace], about[block.AttrType]
		a.CreationTimestamp = about[block.AttrTimestamp]
		a.Node = cmp.Or(about[block.AttrNode], owner)
		a.CoolingDown = a.Attr.ReleasedAt != nil
		if id := a.Attr.HandleID; id != nil && strings.EqualFold(*id, windowsReserved) {
			c.InUse[addr] = append(c.InUse[addr], Use{Addr: addr, Label: "Reserved for Windows"})
			a.InUse, a.Owners = true, []string{"Reserved for Windows"}
		} else if id != nil {
			a.Handle = *id
			if c.held[a.Handle] == nil {
				c.held[a.Handle] = map[string]int{}
			}
			c.held[a.Handle][b.Spec.CIDR]++
		}
	}
	a.Borrowed = a.Node != owner
	c.Allocations = append(c.Allocations, a)
	c.at[addr] = append(c.at[addr], a)
	if a.Pod != "" {
		pod := a.Namespace + "/" + a.Pod
		c.ofPod[pod] = append(c.ofPod[pod], a)
	}
}

// allocated looks from the allocations at who uses them.
func (c *checker) allocated() {
	for _, a := range c.Allocations {
		switch {
		case !a.InUse && !a.CoolingDown:
			c.found(Leaked, a.IP, "leaked; attrs %s", a.Attrs())
		case a.InUse:
			c.compareOwner(a)
		}
	}
}

// compareOwner compares whom an allocation names with who has the address.
func (c *checker) compareOwner(a *Allocation) {
	for _, u := range c.InUse[a.Addr] {
		switch {
		case a.CoolingDown:
			c.found(OtherOwner, a.IP, "in use by %s, but it was released and cools down: somebody else gets it soon", u.Label)
		case u.Kind == Node && (a.Type != u.Tunnel || a.Node != u.Name):
			c.found(BadTunnel, a.IP, "is the tunnel address of %s, but it is allocated to %s", u.Label, a.Attrs())
		case u.Kind == Pod && a.Pod != "" && (a.Pod != u.Name || a.Namespace != u.Namespace):
			c.found(OtherOwner, a.IP, "in use by %s, but it is allocated to pod %s/%s", u.Label, a.Namespace, a.Pod)
		case u.Kind == Pod && a.Type != "":
			c.found(OtherOwner, a.IP, "in use by %s, but it is allocated as %s of node %s", u.Label, a.Type, a.Node)
		}
	}
}

// used looks from who has an address at the allocations.
func (c *checker) used() {
	for _, addr := range slices.SortedFunc(maps.Keys(c.InUse), netip.Addr.Compare) {
		owners := c.InUse[addr]
		labels := make([]string, len(owners))
		for i, u := range owners {
			labels[i] = u.Label
		}
		if len(owners) > 1 {
			c.found(Shared, addr.String(), "has multiple owners: %s.", strings.Join(labels, ", "))
		}
		if len(c.at[addr]) > 0 {
			continue
		}
		if slices.ContainsFunc(c.state.Active, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			c.found(Unallocated, addr.String(), "in use by %s and in active IPAM pool but has no IPAM allocation.", strings.Join(labels, ", "))
		} else {
			c.found(Outside, addr.String(), "in use by %s is not in any active IP pool.", strings.Join(labels, ", "))
		}
	}
}

// Attrs describes an allocation's attribute as calicoctl does: Main:HANDLE Extra:key=value,…
func (a *Allocation) Attrs() string {
	if a.Attr == nil {
		return "<missing>"
	}
	main := "<none>"
	if a.Attr.HandleID != nil {
		main = *a.Attr.HandleID
	}
	pairs := make([]string, 0, len(a.Attr.Secondary))
	for _, k := range slices.Sorted(maps.Keys(a.Attr.Secondary)) {
		pairs = append(pairs, k+"="+a.Attr.Secondary[k])
	}
	return "Main:" + main + " Extra:" + strings.Join(pairs, ",")
}
