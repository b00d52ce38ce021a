package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/margay-net/margay/pkg/ctl/manifest"
	"github.com/margay-net/margay/pkg/selector"
)

// selectors parses every selector of an item: texts whose field's name ends with "elector", at any depth. Kubernetes'
// label selectors, as of a StagedKubernetesNetworkPolicy, are no texts.
func selectors(item Item) []*manifest.Problem {
	var problems []*manifest.Problem
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, inner := range v {
				walk(path+"."+key, inner)
			}
		case []any:
			for i, inner := range v {
				walk(fmt.Sprintf("%s[%d]", path, i), inner)
			}
		case string:
			if !strings.HasSuffix(path, "elector") || v == "" {
				return
			}
			if _, err := selector.Parse(v); err != nil {
				problems = append(problems, item.Problem(path, err.Error()))
			}
		}
	}
	walk("spec", item.Object.Object["spec"])
	slices.SortFunc(problems, func(a, b *manifest.Problem) int { return a.Line - b.Line })
	return problems
}
