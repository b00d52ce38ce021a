package fault

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// board is the part of a Grafana dashboard that tests look at.
type board struct {
	SchemaVersion int `json:"schemaVersion"`
	Templating    struct {
		List []struct {
			Name, Type string
			Definition string
		}
	}
	Panels []panel
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               source
	GridPos                  struct{ H, W, X, Y int } `json:"gridPos"`
	Targets                  []struct {
		Expr       string
		RefID      string `json:"refId"`
		Datasource source
	}
}

type source struct{ Type, UID string }

func readBoard(t *testing.T) (b board) {
	t.Helper()
	raw, err := os.ReadFile("../../manifests/grafana/margay.json")
	if err == nil {
		err = json.Unmarshal(raw, &b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// queries are all of a dashboard's, by panel.
func (b board) queries() map[string][]string {
	out := map[string][]string{}
	for _, v := range b.Templating.List {
		if inner, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
			name, _, _ := strings.Cut(inner, ",")
			out["variable "+v.Name] = []string{name}
		}
	}
	for _, p := range b.Panels {
		for _, q := range p.Targets {
			out[p.Title] = append(out[p.Title], q.Expr)
		}
	}
	return out
}

var (
	promStrip    = regexp.MustCompile(`\[[^]]*\]|\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	promSelector = regexp.MustCompile(`([$a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?\s*(\()?`)
	promMatcher  = regexp.MustCompile(`(\w+)(=~|!=|!~|=)"([^"]*)"`)
)

// selectors are the series that a query reads: each name, with the labels that the query fixes.
func selectors(expr string) map[string][]string {
	out := map[string][]string{}
	for _, m := range promSelector.FindAllStringSubmatch(promStrip.ReplaceAllString(expr, " "), -1) {
		name, labels, call := m[1], m[2], m[3] != ""
		if call || name[0] == '$' || slices.Contains([]string{"and", "or", "unless", "bool", "offset"}, name) {
			continue
		}
		out[name] = nil
		for _, l := range promMatcher.FindAllStringSubmatch(labels, -1) {
			if l[2] == "=" && !strings.Contains(l[3], "$") {
				out[name] = append(out[name], fmt.Sprintf("%s=%q", l[1], l[3]))
			}
		}
	}
	return out
}

func TestSelectors(t *testing.T) {
	got := selectors(`topk($top, histogram_quantile(0.99, sum by (le, instance) (rate(a_bucket{verb="ADD",instance=~"$instance"}[$__rate_interval])))) / on (x) group_left () b:c > bool 3 or vector(0)`)
	if len(got) != 2 || !slices.Equal(got["a_bucket"], []string{`verb="ADD"`}) || got["b:c"] != nil {
		t.Errorf("%v", got)
	}
}

// TestDashboard looks at the file alone; TestMetrics has a real agent serve what it asks for.
func TestDashboard(t *testing.T) {
	b := readBoard(t)
	if b.SchemaVersion < 39 {
		t.Errorf("schemaVersion %d: older than Grafana 11", b.SchemaVersion)
	}
	var variables []string
	for _, v := range b.Templating.List {
		variables = append(variables, v.Name+" "+v.Type)
	}
	if want := []string{"datasource datasource", "instance query", "top custom"}; !slices.Equal(variables, want) {
		t.Errorf("variables %v, want %v", variables, want)
	}
	variable, ids, where := source{"prometheus", "${datasource}"}, map[int]bool{}, map[[2]int]string{}
	for _, p := range b.Panels {
		if ids[p.ID] || p.ID == 0 {
			t.Errorf("panel %q: id %d is used twice", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, taken := where[at]; taken || at[0] >= 24 {
					t.Fatalf("panel %q lies over %q, or beyond the edge, at %v", p.Title, other, at)
				}
				where[at] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.Description == "" || len(p.Targets) == 0 || p.Datasource != variable {
			t.Errorf("panel %q lacks a title, a description, a query or the data source's variable", p.Title)
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if refs[q.RefID] || q.Datasource != variable || len(selectors(q.Expr)) == 0 {
				t.Errorf("panel %q, query %q: its ID is used twice, its data source is fixed, or it reads nothing: %s", p.Title, q.RefID, q.Expr)
			}
			refs[q.RefID] = true
		}
	}
}
