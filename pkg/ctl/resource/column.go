package resource

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// column is one column that a kind can show.
type column struct {
	heading string
	cell    func(o map[string]any, defaultAS func() string) string
}

// Headings are all that the kind can show, for -o custom-columns.
func (k *Kind) Headings() []string {
	var all []string
	for _, c := range k.columns {
		all = append(all, c.heading)
	}
	return all
}

// CheckHeadings says which heading the kind does not have.
func (k *Kind) CheckHeadings(headings []string) error {
	for _, h := range headings {
		if !slices.ContainsFunc(k.columns, func(c column) bool { return c.heading == h }) {
			return fmt.Errorf("unknown heading %s, valid values are: %s", h, strings.Join(k.Headings(), ", "))
		}
	}
	return nil
}

// Row returns an object's cells under the headings. defaultAS tells the AS number of nodes that have none of their own,
// and is asked only when a cell needs it.
func (k *Kind) Row(o *unstructured.Unstructured, headings []string, defaultAS func() string) ([]string, error) {
	if err := k.CheckHeadings(headings); err != nil {
		return nil, err
	}
	var row []string
	for _, h := range headings {
		i := slices.IndexFunc(k.columns, func(c column) bool { return c.heading == h })
		row = append(row, k.columns[i].cell(o.Object, defaultAS))
	}
	return row, nil
}

// value returns what stands at a path such as spec.cidr, or nil.
func value(o map[string]any, path string) any {
	v, _, _ := unstructured.NestedFieldNoCopy(o, strings.Split(path, ".")...)
	return v
}

// at shows a field, or otherwise where there is none or an empty one.
func at(heading, path, otherwise string) column {
	return column{heading, func(o map[string]any, _ func() string) string {
		if v := value(o, path); v != nil && v != "" {
			return fmt.Sprint(v)
		}
		return otherwise
	}}
}

// asn shows an AS number, of either form as a number.
func asn(heading, path, otherwise string) column {
	return column{heading, func(o map[string]any, _ func() string) string {
		v := value(o, path)
		if v == nil {
			return otherwise
		}
		if n, err := v3.ParseASNumber(fmt.Sprint(v)); err == nil {
			return fmt.Sprint(uint32(n))
		}
		return fmt.Sprint(v)
	}}
}

// count shows how many entries a list has.
func count(heading, path string) column {
	return column{heading, func(o map[string]any, _ func() string) string {
		l, _ := value(o, path).([]any)
		return fmt.Sprint(len(l))
	}}
}

// list shows a list or a map with commas, cut to so many characters unless that is 0.
func list(heading, path string, most int) column {
	return column{heading, func(o map[string]any, _ func() string) string {
		var all []string
		switch v := value(o, path).(type) {
		case []any:
			for _, e := range v {
				all = append(all, fmt.Sprint(e))
			}
		case map[string]any:
			for key, e := range v {
				all = append(all, fmt.Sprintf("%s=%v", key, e))
			}
			slices.Sort(all)
		}
		text := strings.Join(all, ",")
		if most > 0 && len(text) > most {
			text = text[:most-3] + "..."
		}
		return text
	}}
}

func peerNode(o map[string]any, _ func() string) string {
	for _, path := range []string{"spec.node", "spec.nodeSelector"} {
		if v, _ := value(o, path).(string); v != "" {
			return v
		}
	}
	return "(global)"
}

// orderOf writes an order as calicoctl does, which has it as a fraction: large ones get an exponent.
func orderOf(o map[string]any, _ func() string) string {
	switch v := value(o, "spec.order").(type) {
	case nil:
		return "<nil>"
	case int64:
		return fmt.Sprint(float64(v))
	default:
		return fmt.Sprint(v)
	}
}

func allocated(o map[string]any, _ func() string) string {
	l, _ := value(o, "spec.allocations").([]any)
	return fmt.Sprint(len(l) - countOf(l, nil))
}

func countOf(l []any, of any) int {
	n := 0
	for _, e := range l {
		if e == of {
			n++
		}
	}
	return n
}

// podSelector writes a Kubernetes label selector as kubectl does.
func podSelector(o map[string]any, _ func() string) string {
	var s metav1.LabelSelector
	if raw, err := json.Marshal(value(o, "spec.podSelector")); err == nil {
		_ = json.Unmarshal(raw, &s) // what the schema has let in
	}
	return metav1.FormatLabelSelector(&s)
}

func nodeASN(o map[string]any, defaultAS func() string) string {
	if value(o, "spec.bgp") == nil {
		return ""
	}
	if v := value(o, "spec.bgp.asNumber"); v != nil {
		return fmt.Sprint(v)
	}
	return "(" + defaultAS() + ")"
}

// nats writes each pair as Go does: {inside outside}.
func nats(o map[string]any, _ func() string) string {
	var all []string
	l, _ := value(o, "spec.ipNATs").([]any)
	for _, e := range l {
		if m, ok := e.(map[string]any); ok {
			all = append(all, fmt.Sprintf("{%v %v}", m["internalIP"], m["externalIP"]))
		}
	}
	return strings.Join(all, ",")
}
