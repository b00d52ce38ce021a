package address

import (
	"math"
	"net/netip"
	"slices"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// Usage counts addresses. InUse and Reserved share those that were in use before they were reserved; Free has those that
// are neither. The counts are floats: a pool of IPv6 has more addresses than an int holds.
type Usage struct {
	Total, InUse, Reserved, Free float64
}

// BlockUsage is one block's.
type BlockUsage struct {
	CIDR  netip.Prefix
	Block *v3.IPAMBlock
	Usage
}

// PoolUsage is one pool's, with its blocks'. Pool is nil for the blocks that lie in no pool; then there are no sums.
type PoolUsage struct {
	CIDR   netip.Prefix
	Pool   *v3.IPPool
	Blocks []BlockUsage
	Usage
}

// Count counts all pools and blocks. The blocks outside of all pools come last.
func (s *Snapshot) Count() []PoolUsage {
	var out []PoolUsage
	for i := range s.Pools {
		if cidr, err := netip.ParsePrefix(s.Pools[i].Spec.CIDR); err == nil {
			out = append(out, PoolUsage{CIDR: cidr.Masked(), Pool: &s.Pools[i]})
		}
	}
	out = append(out, PoolUsage{})
	for i := range s.Blocks {
		b := &s.Blocks[i]
		cidr, err := netip.ParsePrefix(b.Spec.CIDR)
		if err != nil || b.Spec.Deleted {
			continue
		}
		at := slices.IndexFunc(out, func(p PoolUsage) bool { return p.Pool == nil || p.CIDR.Overlaps(cidr) })
		out[at].Blocks = append(out[at].Blocks, BlockUsage{CIDR: cidr.Masked(), Block: b, Usage: blockUsage(b, cidr.Masked(), s.Reserved)})
	}
	for i := range out {
		if p := &out[i]; p.Pool != nil {
			p.sum(s.Reserved)
		}
	}
	return out
}

func blockUsage(b *v3.IPAMBlock, cidr netip.Prefix, reserved []netip.Prefix) Usage {
	total := size(cidr)
	u := Usage{Total: total, InUse: total - float64(len(b.Spec.Unallocated)), Reserved: total - left(cidr, reserved)}
	for _, o := range b.Spec.Unallocated {
		a := block.AddrAt(cidr, o)
		if !slices.ContainsFunc(reserved, func(p netip.Prefix) bool { return p.Contains(a) }) {
			u.Free++
		}
	}
	return u
}

// sum adds up a pool: its blocks, and what no block covers yet.
func (p *PoolUsage) sum(reserved []netip.Prefix) {
	p.Total = size(p.CIDR)
	p.Reserved = p.Total - left(p.CIDR, reserved)
	covered := slices.Clone(reserved)
	for _, b := range p.Blocks {
		p.InUse += b.InUse
		p.Free += b.Free
		covered = append(covered, b.CIDR)
	}
	p.Free += left(p.CIDR, covered)
}

func size(p netip.Prefix) float64 { return math.Ldexp(1, p.Addr().BitLen()-p.Bits()) }

// left counts the addresses of p that none of the prefixes covers: they may overlap and lie in each other.
func left(p netip.Prefix, covered []netip.Prefix) float64 {
	var inside []netip.Prefix
	for _, c := range covered {
		if !c.Overlaps(p) {
			continue
		}
		if c.Bits() <= p.Bits() {
			return 0
		}
		inside = append(inside, c)
	}
	if len(inside) == 0 {
		return size(p)
	}
	low := netip.PrefixFrom(p.Addr(), p.Bits()+1).Masked()
	return left(low, inside) + left(block.Nth(p, p.Bits()+1, 1), inside)
}
