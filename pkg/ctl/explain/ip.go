package explain

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/address"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/ipam/check"
)

// timestamp is how an allocation's time is written (Calico's).
const timestamp = "2006-01-02 15:04:05.999999999 -0700 MST"

// subject is one address with all that is known of it.
type subject struct {
	*address.Snapshot
	facts
	addr   netip.Addr
	result *check.Result
	alloc  *check.Allocation // nil: none
	pool   *v3.IPPool        // nil: in none
	block  *v3.IPAMBlock     // nil: in none
	cidr   netip.Prefix      // of block
	uses   []check.Use
}

func explainIP(out io.Writer, s *address.Snapshot, addr netip.Addr) error {
	x := subjectOf(s, check.Run(s.State), addr)
	x.add("Address", "%s", addr)
	x.who()
	x.allocation()
	x.place()
	for _, p := range x.result.Problems {
		if p.About == addr.String() || x.alloc != nil && x.alloc.Handle != "" && p.About == x.alloc.Handle {
			x.add("Problem", "%s", p.Line)
			x.add("", "%s", check.WaysOut([]check.Problem{p})[0])
		}
	}
	return x.print(out)
}

// subjectOf finds all that is known of an address; r is the comparison of s.
func subjectOf(s *address.Snapshot, r *check.Result, addr netip.Addr) *subject {
	x := &subject{Snapshot: s, addr: addr, result: r}
	x.uses = x.result.InUse[addr]
	for _, a := range x.result.Allocations {
		if a.Addr == addr {
			x.alloc = a
		}
	}
	for _, p := range s.Count() {
		if p.Pool != nil && p.CIDR.Contains(addr) {
			x.pool = p.Pool
		}
		for _, b := range p.Blocks {
			if b.CIDR.Contains(addr) {
				x.block, x.cidr = b.Block, b.CIDR
			}
		}
	}
	return x
}

// who says what has the address.
func (x *subject) who() {
	said := false
	say := func(format string, args ...any) {
		x.add("Is", format, args...)
		said = true
	}
	for _, u := range x.uses {
		switch u.Kind {
		case check.Pod:
			say("pod %s/%s on node %s", u.Namespace, u.Name, u.Node)
		case check.Service:
			say("load balancer address of Service %s/%s", u.Namespace, u.Name)
		case check.Node:
			say("tunnel address of node %s (%s)", u.Name, u.Tunnel)
		default:
			say("%s", u.Label)
		}
	}
	for i := range x.NodeList {
		if what := nodeAddr(&x.NodeList[i], x.addr); what != "" {
			say("%s of node %s", what, x.NodeList[i].Name)
		}
	}
	for i := range x.ServiceList {
		svc := &x.ServiceList[i]
		if slices.Contains(svc.Spec.ClusterIPs, x.addr.String()) {
			say("cluster address of Service %s/%s: no device has it, each node translates it", svc.Namespace, svc.Name)
		}
		if slices.Contains(svc.Spec.ExternalIPs, x.addr.String()) {
			say("external address of Service %s/%s", svc.Namespace, svc.Name)
		}
	}
	switch {
	case said:
	case x.alloc == nil:
		x.add("Is", "nobody's")
	case x.alloc.CoolingDown:
		x.add("Is", "nobody's any more: it cools down")
	default:
		x.add("Is", "allocated, but nothing that has it was found")
	}
}

// cooled is when a released address may be given out again.
func (x *subject) cooled() string {
	until := x.alloc.Attr.ReleasedAt.Add(time.Duration(x.Config.IPCooldownSeconds) * time.Second)
	return until.UTC().Format("2006-01-02 15:04:05 UTC")
}

// nodeAddr says which address of a node it is.
func nodeAddr(n *corev1.Node, a netip.Addr) string {
	for _, key := range []string{"projectcalico.org/IPv4Address", "projectcalico.org/IPv6Address"} {
		if p, err := netip.ParsePrefix(n.Annotations[key]); err == nil && p.Addr() == a {
			return "the address"
		}
	}
	for _, at := range n.Status.Addresses {
		if at.Address == a.String() {
			return "the " + string(at.Type)
		}
	}
	return ""
}

// allocation says by what right.
func (x *subject) allocation() {
	a := x.alloc
	if a == nil {
		return
	}
	if a.CoolingDown {
		x.add("Released", "at %s; free again at %s", a.Attr.ReleasedAt.UTC().Format("2006-01-02 15:04:05 UTC"), x.cooled())
		return
	}
	owner := "node " + cmp.Or(a.Node, "(unknown)")
	if a.Pod != "" {
		owner = fmt.Sprintf("pod %s/%s on %s", a.Namespace, a.Pod, owner)
	} else if a.Type != "" {
		owner = a.Type + " of " + owner
	}
	x.add("Allocated", "to %s%s", owner, since(a.CreationTimestamp, x.Now))
	x.add("Handle", "%s", cmp.Or(a.Handle, "none"))
	if a.Borrowed && block.Owner(x.block) != "" {
		x.add("Borrowed", "%s has it of a block of %s, since it had no free address in a block of its own", a.Node, block.Owner(x.block))
	} else if a.Borrowed && x.block.Spec.Affinity == nil {
		x.add("Borrowed", "%s has it of a block that nobody owns", a.Node)
	}
}

func since(text string, now time.Time) string {
	t, err := time.Parse(timestamp, text)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(", since %s (%s)", t.UTC().Format("2006-01-02 15:04:05 UTC"), now.Sub(t).Round(time.Second))
}

// place says in which block and pool the address lies.
func (x *subject) place() {
	if x.block != nil {
		used := len(x.block.Spec.Allocations) - len(x.block.Spec.Unallocated)
		affinity := "nobody"
		if x.block.Spec.Affinity != nil {
			_, affinity, _ = strings.Cut(*x.block.Spec.Affinity, ":")
		}
		x.add("Block", "%s of %s: %d of %d in use", x.cidr, affinity, used, len(x.block.Spec.Allocations))
		x.queue(affinity)
	} else if x.pool != nil {
		x.add("Block", "none yet: a node that needs addresses may claim the one around it")
	}
	switch {
	case x.pool != nil:
		x.add("Pool", "%s %s%s", x.pool.Name, x.pool.Spec.CIDR, notes(x.pool))
	default:
		x.add("Pool", "none has this address")
	}
	for _, r := range x.Reserved {
		if r.Contains(x.addr) {
			x.add("Reserved", "by an IPReservation of %s: it is not given out by itself", r)
		}
	}
}

// queue says when a free address of a block is given out.
func (x *subject) queue(affinity string) {
	at := slices.Index(x.block.Spec.Unallocated, block.OrdinalOf(x.cidr, x.addr))
	switch {
	case at < 0:
	case at < block.KeptOf(x.block):
		x.add("Free", "place %d of the block's queue: one of those that %s gives out without asking anybody", at+1, affinity)
	default:
		x.add("Free", "place %d of the block's queue", at+1)
	}
}

func notes(p *v3.IPPool) string {
	var out string
	switch {
	case p.Spec.VXLANMode != "" && p.Spec.VXLANMode != v3.EncapNever:
		out = ", VXLAN " + string(p.Spec.VXLANMode)
	case p.Spec.IPIPMode != "" && p.Spec.IPIPMode != v3.EncapNever:
		out = ", IPIP " + string(p.Spec.IPIPMode)
	default:
		out = ", not encapsulated"
	}
	if p.Spec.NATOutgoing {
		out += ", masqueraded to the outside"
	}
	if p.Spec.Disabled {
		out += ", disabled: it gives out no addresses"
	}
	return out
}
