package block

import (
	"net/netip"
	"strconv"
	"strings"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// Annotations of an IPAMBlock by which its owner and those who borrow of it come to terms. Calico does not know them; a
// block without them reads as with half of it kept.
const (
	// annKept is how many ordinals at the FIFO's head are the owner's alone, at most Kept. Only the owner writes it.
	annKept = "projectcalico.org/margay-kept"
	// annWanted asks the owner to keep less: "NODE", or "NODE ADDRESS" for just that address. The owner removes it.
	annWanted = "projectcalico.org/margay-wanted"
	// annRouted is the sequence number up to which the owner's kernel has routes to what others borrowed. Only the owner
	// writes it.
	annRouted = "projectcalico.org/margay-routed"
)

// KeptOf returns how many ordinals at the head of b's FIFO belong to its owner alone: none when nobody owns it.
func KeptOf(b *v3.IPAMBlock) int {
	if b.Spec.Affinity == nil {
		return 0
	}
	half := Kept(len(b.Spec.Allocations))
	if n, err := strconv.Atoi(b.Annotations[annKept]); err == nil && n >= 0 && n < half {
		return n
	}
	return half
}

// SetKept notes how many ordinals the owner keeps; see KeptOf.
func SetKept(b *v3.IPAMBlock, n int) {
	if n >= Kept(len(b.Spec.Allocations)) {
		delete(b.Annotations, annKept)
		return
	}
	annotate(b, annKept, strconv.Itoa(max(n, 0)))
}

// Wanted returns which node asks the owner to keep less, and for which address (not valid: any); "" when none does.
func Wanted(b *v3.IPAMBlock) (node string, addr netip.Addr) {
	node, text, _ := strings.Cut(b.Annotations[annWanted], " ")
	addr, _ = netip.ParseAddr(text)
	return node, addr
}

// Ask notes that a node wants an address, any or just this one, that the owner keeps.
func Ask(b *v3.IPAMBlock, node string, addr netip.Addr) {
	if addr.IsValid() {
		node += " " + addr.String()
	}
	annotate(b, annWanted, node)
}

// Answered removes what Ask noted.
func Answered(b *v3.IPAMBlock) { delete(b.Annotations, annWanted) }

// Routed returns the sequence number up to which the owner has routes to what others borrowed.
func Routed(b *v3.IPAMBlock) uint64 {
	n, _ := strconv.ParseUint(b.Annotations[annRouted], 10, 64)
	return n
}

// SetRouted notes what Routed returns.
func SetRouted(b *v3.IPAMBlock, seq uint64) { annotate(b, annRouted, strconv.FormatUint(seq, 10)) }

func annotate(b *v3.IPAMBlock, key, value string) {
	if b.Annotations == nil {
		b.Annotations = map[string]string{}
	}
	b.Annotations[key] = value
}

// Same says whether the annotations of this file are the same in both.
func Same(x, y *v3.IPAMBlock) bool {
	for _, key := range []string{annKept, annWanted, annRouted} {
		if x.Annotations[key] != y.Annotations[key] {
			return false
		}
	}
	return true
}

// Lends says whether nodes may take addresses of b at all: it is a host's, or nobody's.
func Lends(b *v3.IPAMBlock) bool {
	return !b.Spec.Deleted && (b.Spec.Affinity == nil || strings.HasPrefix(*b.Spec.Affinity, "host:"))
}

// Loan is an allocation of a node that does not own the block.
type Loan struct {
	Ordinal int
	Node    string // that borrowed
	Seq     uint64 // of the allocation
}

// Loans returns what other nodes than the owner hold of b, in the order of ordinals.
func Loans(b *v3.IPAMBlock) (out []Loan) {
	owner := Owner(b)
	for o := range b.Spec.Allocations {
		a := Attr(b, o)
		if a == nil || a.HandleID == nil || a.Secondary[AttrNode] == "" || a.Secondary[AttrNode] == owner {
			continue
		}
		out = append(out, Loan{Ordinal: o, Node: a.Secondary[AttrNode], Seq: Seq(b, o)})
	}
	return out
}

// Seq returns the sequence number at which an ordinal was allocated, 0 when that is not known.
func Seq(b *v3.IPAMBlock, ordinal int) uint64 {
	return b.Spec.SequenceNumberForAllocation[strconv.Itoa(ordinal)]
}
