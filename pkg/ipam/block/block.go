// Package block is the codec of an IPAMBlock: how addresses are taken from one and given back, in Calico's storage
// format. It changes objects in memory and knows neither API nor kernel.
package block

import (
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// ErrTaken means that an ordinal is allocated to somebody else.
var ErrTaken = errors.New("address is allocated to another handle")

// Names of a block's attributes, and of what they hold for tunnels (Calico's).
const (
	AttrPod       = "pod"
	AttrNamespace = "namespace"
	AttrNode      = "node"
	AttrType      = "type"
	AttrTimestamp = "timestamp"

	TypeIPIP   = "ipipTunnelAddress"
	TypeVXLAN4 = "vxlanTunnelAddress"
	TypeVXLAN6 = "vxlanV6TunnelAddress"
)

// Kept is how many ordinals at the head of a block's FIFO belong to its owner alone, given the number of the block's
// addresses: half of them, at least one.
func Kept(size int) int { return max(size/2, 1) }

// New returns an empty block of an affinity, such as HostAffinity.
func New(cidr netip.Prefix, affinity string, now time.Time) *v3.IPAMBlock {
	size := Size(cidr)
	b := &v3.IPAMBlock{
		TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "IPAMBlock"},
		ObjectMeta: metav1.ObjectMeta{Name: Name(cidr)},
		Spec: v3.IPAMBlockSpec{
			CIDR:              cidr.String(),
			Affinity:          &affinity,
			AffinityClaimTime: &metav1.Time{Time: now},
			Allocations:       make([]*int, size),
			Unallocated:       make([]int, size),
			Attributes:        []v3.AllocationAttribute{},
			SequenceNumber:    uint64(now.UnixNano()),
		},
	}
	for i := range size {
		b.Spec.Unallocated[i] = i
	}
	return b
}

// Size returns the number of a block's addresses.
func Size(cidr netip.Prefix) int { return 1 << (cidr.Addr().BitLen() - cidr.Bits()) }

// Nth returns the nth block of bits prefix length in pool.
func Nth(pool netip.Prefix, bits int, n uint64) netip.Prefix {
	b := pool.Masked().Addr().AsSlice()
	shift := pool.Addr().BitLen() - bits
	for i := len(b) - 1; i >= 0 && n > 0; i-- {
		// Bits of this byte that belong to the block number begin at position shift.
		if shift >= 8 {
			shift -= 8
			continue
		}
		v := uint64(b[i]) | (n<<shift)&0xff
		b[i] = byte(v)
		n >>= 8 - shift
		shift = 0
	}
	addr, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(addr, bits)
}

// AddrAt returns the address of an ordinal of cidr.
func AddrAt(cidr netip.Prefix, ordinal int) netip.Addr {
	b := cidr.Masked().Addr().AsSlice()
	n := new(big.Int).SetBytes(b)
	n.Add(n, big.NewInt(int64(ordinal)))
	n.FillBytes(b)
	a, _ := netip.AddrFromSlice(b)
	return a
}

// OrdinalOf returns the ordinal of an address inside cidr.
func OrdinalOf(cidr netip.Prefix, a netip.Addr) int {
	n := new(big.Int).SetBytes(a.AsSlice())
	n.Sub(n, new(big.Int).SetBytes(cidr.Masked().Addr().AsSlice()))
	return int(n.Int64())
}

// Check returns an error that names what is wrong with b's structure; a block that fails it is neither used nor written.
func Check(b *v3.IPAMBlock) error {
	s := &b.Spec
	cidr, err := netip.ParsePrefix(s.CIDR)
	if err != nil {
		return fmt.Errorf("block %s: spec.cidr %q is no CIDR", b.Name, s.CIDR)
	}
	if cidr != cidr.Masked() || cidr.Addr().BitLen()-cidr.Bits() > 16 {
		return fmt.Errorf("block %s: spec.cidr %s has host bits or more than 65,536 addresses", b.Name, s.CIDR)
	}
	if len(s.Allocations) != Size(cidr) {
		return fmt.Errorf("block %s: spec.allocations has %d entries, want %d", b.Name, len(s.Allocations), Size(cidr))
	}
	free := make([]bool, len(s.Allocations))
	for _, o := range s.Unallocated {
		if o < 0 || o >= len(free) || free[o] || s.Allocations[o] != nil {
			return fmt.Errorf("block %s: spec.unallocated has ordinal %d twice, out of range, or allocated", b.Name, o)
		}
		free[o] = true
	}
	for o, i := range s.Allocations {
		if i == nil && !free[o] {
			return fmt.Errorf("block %s: ordinal %d is neither allocated nor unallocated", b.Name, o)
		}
		if i != nil && (*i < 0 || *i >= len(s.Attributes)) {
			return fmt.Errorf("block %s: spec.allocations[%d] points at attribute %d of %d", b.Name, o, *i, len(s.Attributes))
		}
	}
	return nil
}

// Attr returns the attribute of an ordinal, nil when it is free.
func Attr(b *v3.IPAMBlock, ordinal int) *v3.AllocationAttribute {
	if i := b.Spec.Allocations[ordinal]; i != nil {
		return &b.Spec.Attributes[*i]
	}
	return nil
}

// Handle returns the handle that holds an ordinal, "" when it is free or cooling down.
func Handle(b *v3.IPAMBlock, ordinal int) string {
	if a := Attr(b, ordinal); a != nil && a.HandleID != nil {
		return *a.HandleID
	}
	return ""
}

// Take allocates an ordinal to a handle. It does nothing when the handle has it already; ErrTaken when another has.
func Take(b *v3.IPAMBlock, ordinal int, handle string, secondary map[string]string) error {
	if b.Spec.Allocations[ordinal] != nil {
		if Handle(b, ordinal) == handle {
			return nil
		}
		return ErrTaken
	}
	b.Spec.Unallocated = slices.DeleteFunc(b.Spec.Unallocated, func(o int) bool { return o == ordinal })
	i := slices.IndexFunc(b.Spec.Attributes, func(a v3.AllocationAttribute) bool {
		return a.HandleID != nil && *a.HandleID == handle && a.ReleasedAt == nil && maps.Equal(a.Secondary, secondary)
	})
	if i < 0 {
		i = len(b.Spec.Attributes)
		b.Spec.Attributes = append(b.Spec.Attributes, v3.AllocationAttribute{HandleID: &handle, Secondary: secondary})
	}
	b.Spec.Allocations[ordinal] = &i
	if b.Spec.SequenceNumberForAllocation == nil {
		b.Spec.SequenceNumberForAllocation = map[string]uint64{}
	}
	b.Spec.SequenceNumberForAllocation[strconv.Itoa(ordinal)] = b.Spec.SequenceNumber
	return nil
}

// Retire ends the use of an ordinal by a handle: it goes to the FIFO's tail, at once or when reap finds its cooldown
// passed. It does nothing when somebody else holds the ordinal, nor when nobody does, unless unseen: the handle used the
// ordinal for a while that the datastore never saw.
func Retire(b *v3.IPAMBlock, ordinal int, handle string, unseen bool, cooldown time.Duration, now time.Time) {
	held := b.Spec.Allocations[ordinal] != nil
	if held && Handle(b, ordinal) != handle || !held && !unseen {
		return
	}
	b.Spec.Unallocated = slices.DeleteFunc(b.Spec.Unallocated, func(o int) bool { return o == ordinal })
	if cooldown <= 0 {
		free(b, ordinal)
		return
	}
	i := len(b.Spec.Attributes)
	released := metav1.Time{Time: now.Add(time.Second - 1).Truncate(time.Second)} // it is stored in whole seconds
	b.Spec.Attributes = append(b.Spec.Attributes, v3.AllocationAttribute{ReleasedAt: &released})
	b.Spec.Allocations[ordinal] = &i
	delete(b.Spec.SequenceNumberForAllocation, strconv.Itoa(ordinal))
	dropUnused(b)
}

// free moves an ordinal that is not in the FIFO to its tail.
func free(b *v3.IPAMBlock, ordinal int) {
	b.Spec.Allocations[ordinal] = nil
	b.Spec.Unallocated = append(b.Spec.Unallocated, ordinal)
	delete(b.Spec.SequenceNumberForAllocation, strconv.Itoa(ordinal))
	dropUnused(b)
}

// Reap frees the ordinals whose cooldown has passed. It returns when the next one will have, zero when none waits.
func Reap(b *v3.IPAMBlock, cooldown time.Duration, now time.Time) (next time.Time) {
	for o := range b.Spec.Allocations {
		a := Attr(b, o)
		if a == nil || a.ReleasedAt == nil {
			continue
		}
		until := a.ReleasedAt.Add(cooldown)
		// A clock that jumped back must not keep an address for ever; borrowers' clocks differ a little.
		if !until.After(now) || until.Sub(now) > cooldown+time.Minute {
			free(b, o)
		} else if next.IsZero() || until.Before(next) {
			next = until
		}
	}
	return next
}

// dropUnused removes the attributes that no allocation points at.
func dropUnused(b *v3.IPAMBlock) {
	index := make([]int, len(b.Spec.Attributes))
	for i := range index {
		index[i] = -1
	}
	kept := make([]v3.AllocationAttribute, 0, len(b.Spec.Attributes))
	for _, p := range b.Spec.Allocations {
		if p == nil {
			continue
		}
		if index[*p] < 0 {
			index[*p] = len(kept)
			kept = append(kept, b.Spec.Attributes[*p])
		}
	}
	for o, p := range b.Spec.Allocations {
		if p != nil {
			n := index[*p]
			b.Spec.Allocations[o] = &n
		}
	}
	b.Spec.Attributes = kept
}

// Empty says whether nothing of b is allocated.
func Empty(b *v3.IPAMBlock) bool { return len(b.Spec.Unallocated) == len(b.Spec.Allocations) }
