package check

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/margay-net/margay/pkg/ctl/manifest"
	"github.com/margay-net/margay/pkg/ctl/resource"
)

// inventory is what there would be once the items are written: lists of the cluster, read when they are first asked for,
// and the items in place of what they replace.
type inventory struct {
	ctx     context.Context
	cluster resource.Cluster
	items   []Item
	lists   map[string][]unstructured.Unstructured // of each kind, as they are stored
	errs    []error
}

// stored are the cluster's objects of a kind.
func (v *inventory) stored(name string) []unstructured.Unstructured {
	if have, ok := v.lists[name]; ok {
		return have
	}
	if v.lists == nil {
		v.lists = map[string][]unstructured.Unstructured{}
	}
	v.lists[name] = nil
	kind, err := resource.Find(name)
	if err != nil {
		v.errs = append(v.errs, err)
		return nil
	}
	l, err := kind.Open(v.cluster).List(v.ctx, "")
	if err != nil {
		v.errs = append(v.errs, err)
		return nil
	}
	v.lists[name] = l.Items
	return l.Items
}

// others are those that no item replaces.
func (v *inventory) others(name string) []unstructured.Unstructured {
	return slices.DeleteFunc(slices.Clone(v.stored(name)), func(o unstructured.Unstructured) bool {
		return slices.ContainsFunc(v.of(name), func(i Item) bool { return i.Object.GetName() == o.GetName() })
	})
}

// of are the items of a kind.
func (v *inventory) of(name string) []Item {
	return slices.DeleteFunc(slices.Clone(v.items), func(i Item) bool { return i.Kind.Kind.Kind != name })
}

// has says whether there would be an object of the name.
func (v *inventory) has(kind, name string) bool {
	return slices.ContainsFunc(v.of(kind), func(i Item) bool { return i.Object.GetName() == name }) ||
		slices.ContainsFunc(v.others(kind), func(o unstructured.Unstructured) bool { return o.GetName() == name })
}

// overlaps finds pools that share addresses, with another item's or with one in the cluster. The API server looks at one
// pool alone.
func overlaps(v *inventory) []*manifest.Problem {
	type pool struct {
		where string
		cidr  netip.Prefix
	}
	pools := v.of("IPPool")
	if len(pools) == 0 {
		return nil
	}
	var before []pool
	for _, o := range v.others("IPPool") {
		if cidr, ok := cidrOf(o.Object); ok {
			before = append(before, pool{"IPPool " + o.GetName() + " of the cluster", cidr})
		}
	}
	var problems []*manifest.Problem
	for _, item := range pools {
		cidr, ok := cidrOf(item.Object.Object)
		if !ok {
			continue // the API server says so
		}
		for _, b := range before {
			if b.cidr.Overlaps(cidr) {
				problems = append(problems, item.Problem("spec.cidr", fmt.Sprintf("%s overlaps with %s, %s: choose a network that no pool has", cidr, b.cidr, b.where)))
			}
		}
		before = append(before, pool{fmt.Sprintf("%s in %s:%d", item.Name(), item.File, item.Line), cidr})
	}
	return problems
}

// blockSizes finds new pools whose blocks would not have the size of blocks that are there, of a pool that was deleted.
func blockSizes(v *inventory) []*manifest.Problem {
	pools := slices.DeleteFunc(v.of("IPPool"), func(i Item) bool {
		return slices.ContainsFunc(v.stored("IPPool"), func(o unstructured.Unstructured) bool { return o.GetName() == i.Object.GetName() })
	})
	if len(pools) == 0 {
		return nil
	}
	var problems []*manifest.Problem
	for _, item := range pools {
		cidr, ok := cidrOf(item.Object.Object)
		if !ok {
			continue
		}
		size, found, _ := unstructured.NestedInt64(item.Object.Object, "spec", "blockSize")
		if !found || size == 0 {
			size = map[bool]int64{true: 26, false: 122}[cidr.Addr().Is4()]
		}
		for _, o := range v.stored("IPAMBlock") {
			block, ok := cidrOf(o.Object)
			gone, _, _ := unstructured.NestedBool(o.Object, "spec", "deleted")
			if ok && !gone && cidr.Overlaps(block) && block.Bits() != int(size) {
				problems = append(problems, item.Problem("spec.blockSize", fmt.Sprintf(
					"%d: there is still block %s, of another size: wait until the nodes have given it back (ipam show --show-blocks), or take blockSize %d", size, block, block.Bits())))
				break
			}
		}
	}
	return problems
}

func cidrOf(o map[string]any) (netip.Prefix, bool) {
	text, _, _ := unstructured.NestedString(o, "spec", "cidr")
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err == nil
}

// references warns of names that nobody has: it works once somebody has them.
func references(v *inventory) []*manifest.Problem {
	var warnings []*manifest.Problem
	want := func(item Item, field, kind, name string) {
		if name != "" && !v.has(kind, name) {
			warnings = append(warnings, item.Problem(field, fmt.Sprintf("there is no %s %s (yet): it has no effect until there is", kind, name)))
		}
	}
	for _, item := range v.items {
		kind, name := item.Kind.Kind.Kind, item.Object.GetName()
		text := func(field string) string {
			s, _, _ := unstructured.NestedString(item.Object.Object, "spec", field)
			return s
		}
		switch kind {
		case "BGPPeer":
			want(item, "spec.node", "Node", text("node"))
			filters, _, _ := unstructured.NestedStringSlice(item.Object.Object, "spec", "filters")
			for i, f := range filters {
				want(item, fmt.Sprintf("spec.filters[%d]", i), "BGPFilter", f)
			}
		case "FelixConfiguration", "BGPConfiguration":
			if node, ok := strings.CutPrefix(name, "node."); ok {
				want(item, "metadata.name", "Node", node)
			}
		case "CalicoNodeStatus", "HostEndpoint":
			want(item, "spec.node", "Node", text("node"))
		case "NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy":
			if tier := text("tier"); tier != "default" {
				want(item, "spec.tier", "Tier", tier)
			}
		}
	}
	return warnings
}
