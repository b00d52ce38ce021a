package address

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/margay-net/margay/pkg/ipam/block"
)

// blocks lists a pool's blocks, a character for each address, in rows as wide as the terminal.
func (p *picture) blocks(u PoolUsage) {
	list := slices.SortedFunc(slices.Values(u.Blocks), func(x, y BlockUsage) int { return x.CIDR.Compare(y.CIDR) })
	more := 0
	if !p.all && len(list) > mapBlocks {
		more = len(list) - mapBlocks
		list = list[:mapBlocks]
	}
	for _, b := range list {
		owner := "nobody's"
		if a := b.Block.Spec.Affinity; a != nil {
			_, owner, _ = strings.Cut(*a, ":")
		}
		node := block.Owner(b.Block)
		p.line("  %-20s %s  %.5g of %.5g in use", b.CIDR, p.paint(node, owner), b.InUse, b.Total)
		if len(b.Block.Spec.Allocations) != block.Size(b.CIDR) {
			p.line("    damaged: see margayctl ipam check")
			continue
		}
		text := p.addresses(b)
		for width := max(min(p.width-4, 64), 16); len(text) > 0; {
			n := min(width, len(text))
			p.line("    %s", p.paint(node, string(text[:n])))
			text = text[n:]
		}
	}
	if more > 0 {
		p.line("  and %d more blocks: use --all", more)
	}
}

// maxAddresses of a block are drawn one by one; larger blocks are drawn a character for several.
const maxAddresses = 512

// addresses draws a block's addresses.
func (p *picture) addresses(b BlockUsage) []rune {
	total := block.Size(b.CIDR)
	per := max(total/maxAddresses, 1)
	kept := map[int]bool{}
	for i, o := range b.Block.Spec.Unallocated {
		kept[o] = i < block.KeptOf(b.Block)
	}
	out := make([]rune, 0, total/per)
	for o := 0; o < total; o += per {
		best := '.'
		for n := o; n < o+per; n++ {
			best = stronger(best, p.address(b, n, kept[n]))
		}
		out = append(out, best)
	}
	return out
}

// order of the characters: where one stands for several addresses, the first of these shows.
const order = "#TSb~r-."

func stronger(x, y rune) rune {
	if strings.IndexRune(order, y) < strings.IndexRune(order, x) {
		return y
	}
	return x
}

func (p *picture) address(b BlockUsage, ordinal int, kept bool) rune {
	at := block.Attr(b.Block, ordinal)
	if at == nil {
		a := block.AddrAt(b.CIDR, ordinal)
		switch {
		case slices.ContainsFunc(p.Reserved, func(r netip.Prefix) bool { return r.Contains(a) }):
			return 'r'
		case kept:
			return '-'
		}
		return '.'
	}
	node := cmp.Or(at.Secondary[block.AttrNode], block.Owner(b.Block))
	switch {
	case at.ReleasedAt != nil:
		return '~'
	case strings.HasSuffix(at.Secondary[block.AttrType], "TunnelAddress"):
		return 'T'
	case b.Block.Spec.Affinity != nil && *b.Block.Spec.Affinity == block.LoadBalancer:
		return 'S'
	case node != block.Owner(b.Block):
		return 'b'
	}
	return '#'
}
