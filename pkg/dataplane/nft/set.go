package nft

import (
	"cmp"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// span is a range of addresses: from is in it, to is the first one behind it. Where the family's addresses end with the
// range, to is not valid.
type span struct{ from, to netip.Addr }

func compareSpans(a, b span) int { return a.from.Compare(b.from) }

// spansOf returns the prefixes of a family as sorted spans that do not overlap. Prefixes are either apart from each other
// or one in the other, so it is enough to leave out the inner ones.
func spansOf(prefixes []netip.Prefix, six bool) []span {
	sorted := make([]netip.Prefix, 0, len(prefixes))
	for _, p := range prefixes {
		if p.IsValid() && p.Addr().Is6() == six {
			sorted = append(sorted, p.Masked())
		}
	}
	slices.SortFunc(sorted, func(a, b netip.Prefix) int { return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits()) })
	var out []span
	var outer netip.Prefix
	for _, p := range sorted {
		if outer.IsValid() && outer.Contains(p.Addr()) {
			continue
		}
		outer = p
		out = append(out, span{p.Addr(), last(p).Next()})
	}
	return out
}

// last returns the last address of a masked prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < p.Addr().BitLen(); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// element is what the kernel keeps in a set.
type element struct {
	key   []byte
	flags uint32 // unix.NFT_SET_ELEM_*
}

// elements returns what the kernel keeps of spans: an element at the start of each, and one at its end with a flag.
func elements(spans []span) []element {
	out := make([]element, 0, 2*len(spans))
	for _, s := range spans {
		out = append(out, element{key: s.from.AsSlice()})
		if s.to.IsValid() {
			out = append(out, element{key: s.to.AsSlice(), flags: unix.NFT_SET_ELEM_INTERVAL_END})
		}
	}
	return out
}

// edge is the start or the end of a span.
type edge struct {
	at  netip.Addr
	end bool
}

// rank puts the end of a span before the start of the one that follows at once.
func (e edge) rank() int {
	if e.end {
		return 0
	}
	return 1
}

// spansFrom is the reverse of elements, in whatever order the kernel lists them; not ok when they are not the starts and
// ends of spans.
func spansFrom(elements []element) (out []span, ok bool) {
	edges := make([]edge, 0, len(elements))
	for _, e := range elements {
		a, ok := netip.AddrFromSlice(e.key)
		if !ok || e.flags&^unix.NFT_SET_ELEM_INTERVAL_END != 0 {
			return nil, false
		}
		edges = append(edges, edge{a, e.flags != 0})
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(a.at.Compare(b.at), a.rank()-b.rank()) })
	open := false
	for _, e := range edges {
		if e.end != open {
			return nil, false
		}
		if open = !e.end; open {
			out = append(out, span{from: e.at})
		} else {
			out[len(out)-1].to = e.at
		}
	}
	return out, true
}

// diff returns what must go and what must come to make have into want.
func diff(have, want []span) (remove, add []span) {
	missing := func(from, in []span) (out []span) {
		for _, s := range from {
			if i, found := slices.BinarySearchFunc(in, s, compareSpans); !found || in[i] != s {
				out = append(out, s)
			}
		}
		return out
	}
	return missing(have, want), missing(want, have)
}
