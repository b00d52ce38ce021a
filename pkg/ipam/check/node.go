package check

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
)

// NodeCount is how many allocations a node has.
type NodeCount struct {
	Node  string
	Count int
}

// ByNode counts the allocations of each node, the largest count first.
func (r *Result) ByNode() []NodeCount {
	n := map[string]int{}
	for _, a := range r.Allocations {
		n[a.Node]++
	}
	var out []NodeCount
	for _, node := range slices.Sorted(maps.Keys(n)) {
		out = append(out, NodeCount{node, n[node]})
	}
	slices.SortStableFunc(out, func(x, y NodeCount) int { return cmp.Compare(y.Count, x.Count) })
	return out
}

func plural(n int) string {
	if n == 1 {
		return "1 address"
	}
	return strconv.Itoa(n) + " addresses"
}
