package check

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// checkHandles compares handles with the addresses that refer to them.
func (c *checker) checkHandles() {
	for _, id := range slices.Sorted(maps.Keys(c.handles)) {
		h := c.handles[id]
		if c.held[id] != nil {
			c.GoodHandles++
			if !maps.Equal(counted(h.Spec.Block), c.held[id]) {
				c.found(BadCount, id, "counts %s, but the blocks hold %s.", counts(h.Spec.Block), counts(c.held[id]))
			}
			continue
		}
		uid := string(h.UID)
		c.IdleHandles = append(c.IdleHandles, Handle{ID: id, UID: &uid, Revision: h.ResourceVersion})
		c.found(IdleHandle, id, "doesn't have any active IPs.")
	}
	for _, id := range slices.Sorted(maps.Keys(c.held)) {
		if c.handles[id] == nil {
			c.found(NoHandle, id, "is in use in a block but doesn't exist.")
		}
	}
}

// counted leaves blocks of which a handle holds nothing out.
func counted(m map[string]int) map[string]int {
	out := maps.Clone(m)
	maps.DeleteFunc(out, func(_ string, n int) bool { return n == 0 })
	return out
}

// checkBlocks looks at each block alone, and for blocks that share addresses.
func (c *checker) checkBlocks() {
	var seen []netip.Prefix
	for i := range c.Blocks {
		b := &c.Blocks[i]
		if err := block.Check(b); err != nil {
			c.found(Damaged, b.Name, "is invalid: %s", strings.TrimPrefix(err.Error(), "block "+b.Name+": "))
		} else if line := c.attributes(b); line != "" {
			c.found(Damaged, b.Name, "is invalid: %s", line)
		}
		cidr, err := netip.ParsePrefix(b.Spec.CIDR)
		if err != nil {
			continue
		}
		if want := block.Name(cidr.Masked()); b.Name != want {
			c.found(Damaged, b.Name, "is invalid: an object of spec.cidr %s has the name %s", cidr, want)
		}
		seen = append(seen, cidr.Masked())
	}
	// Sorted, a block that shares addresses with another comes right after one that does.
	slices.SortFunc(seen, netip.Prefix.Compare)
	for i := 1; i < len(seen); i++ {
		if seen[i].Overlaps(seen[i-1]) {
			c.found(Overlap, seen[i].String(), "shares addresses with block %s.", seen[i-1])
		}
	}
}

// attributes says what is wrong with a block's attributes, "" for nothing.
func (c *checker) attributes(b *v3.IPAMBlock) string {
	used := make([]bool, len(b.Spec.Attributes))
	for _, i := range b.Spec.Allocations {
		if i != nil {
			used[*i] = true
		}
	}
	for i, at := range b.Spec.Attributes {
		if !used[i] {
			return "spec.attributes has an entry that no allocation points at"
		}
		// Times are stored in whole seconds, rounded up.
		if at.ReleasedAt != nil && at.ReleasedAt.After(c.state.Now.Add(2*time.Second)) {
			return "spec.attributes has an entry that was released in the future: compare the nodes' clocks"
		}
	}
	return ""
}

// checkClaims compares the nodes' claims with the blocks' owners.
func (c *checker) checkClaims() {
	claims := map[string][]*v3.BlockAffinity{} // by CIDR; of those that are confirmed
	for i := range c.state.Affinities {
		a := &c.state.Affinities[i]
		if !a.Spec.Deleted && a.Spec.State == v3.AffinityConfirmed {
			claims[a.Spec.CIDR] = append(claims[a.Spec.CIDR], a)
		}
	}
	for i := range c.Blocks {
		b := &c.Blocks[i]
		list := claims[b.Spec.CIDR]
		delete(claims, b.Spec.CIDR)
		owner := "nobody"
		if b.Spec.Affinity != nil {
			owner = *b.Spec.Affinity
		}
		mine := false
		for _, a := range list {
			if who := claimant(a); who != owner {
				c.found(DoubleClaim, a.Name, "claims block %s for %s, but its owner is %s.", b.Spec.CIDR, who, owner)
			} else {
				mine = true
			}
		}
		node := block.Owner(b)
		switch {
		case node != "" && !slices.Contains(c.state.Nodes, node):
			c.found(Unclaimed, b.Spec.CIDR, "belongs to node %s, which does not exist.", node)
		case !mine && owner != "nobody":
			c.found(Unclaimed, b.Spec.CIDR, "belongs to %s, which has no confirmed BlockAffinity for it.", owner)
		}
	}
	for _, cidr := range slices.Sorted(maps.Keys(claims)) {
		for _, a := range claims[cidr] {
			c.found(DoubleClaim, a.Name, "claims block %s for %s, but there is no such block.", cidr, claimant(a))
		}
	}
}

// claimant is the owner that a claim names, in the form of a block's affinity.
func claimant(a *v3.BlockAffinity) string {
	kind := a.Spec.Type
	if kind == "" {
		kind = "host"
	}
	return kind + ":" + a.Spec.Node
}

func counts(m map[string]int) string {
	if len(m) == 0 {
		return "nothing"
	}
	var parts []string
	for _, cidr := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, plural(m[cidr])+" of "+cidr)
	}
	return strings.Join(parts, ", ")
}
