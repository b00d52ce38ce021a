package output

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/jsonpath"

	"github.com/margay-net/margay/pkg/ctl/resource"
	plain "github.com/margay-net/margay/pkg/ctl/table"
)

// table prints each object and each list as a table of its own, with an empty line behind it.
type table struct {
	Options
	wide     bool
	headings []string // instead of the kind's own
}

func (t table) print(w io.Writer, found []runtime.Object) error {
	for _, o := range found {
		kind, err := resource.Of(resource.APIVersion, strings.TrimSuffix(o.GetObjectKind().GroupVersionKind().Kind, "List"))
		if err != nil {
			return err
		}
		headings := t.headings
		switch {
		case headings != nil:
		case t.wide:
			headings = kind.Wide
		default:
			headings = kind.Narrow
		}
		if t.Namespaces && kind.Namespaced {
			headings = append([]string{"NAMESPACE"}, headings...)
		}
		if err := kind.CheckHeadings(headings); err != nil {
			return err
		}
		rows := [][]string{headings}
		err = each([]runtime.Object{o}, func(o *unstructured.Unstructured) error {
			row, err := kind.Row(o, headings, t.DefaultAS)
			rows = append(rows, row)
			return err
		})
		if err != nil {
			return err
		}
		if err := plain.Plain(w, rows); err != nil {
			return err
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
	}
	return nil
}

// columns are headings, and for those with a colon what stands under them: HEADING:.metadata.name, as in kubectl.
type columns struct {
	headings []string
	paths    []*jsonpath.JSONPath
}

// parseColumns reads A,B or A:.path,B:.path; of a file the headings in its first line and the paths in the second.
func parseColumns(text string, fromFile bool) (columns, error) {
	var c columns
	specs := strings.Split(text, ",")
	if lines := strings.Split(strings.TrimSpace(text), "\n"); fromFile && len(lines) > 1 {
		specs = nil
		paths := strings.Fields(lines[1])
		for i, h := range strings.Fields(lines[0]) {
			if i >= len(paths) {
				return c, fmt.Errorf("read custom columns: %s has no path below it", h)
			}
			specs = append(specs, h+":"+paths[i])
		}
	} else if fromFile {
		specs = strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })
	}
	for _, spec := range specs {
		heading, path, hasPath := strings.Cut(strings.TrimSpace(spec), ":")
		c.headings = append(c.headings, heading)
		if !hasPath {
			continue
		}
		if !strings.HasPrefix(path, "{") {
			path = "{." + strings.TrimPrefix(path, ".") + "}"
		}
		p := jsonpath.New(heading).AllowMissingKeys(true)
		if err := p.Parse(path); err != nil {
			return c, fmt.Errorf("read custom column %s: %w", spec, err)
		}
		c.paths = append(c.paths, p)
	}
	if c.paths != nil && len(c.paths) != len(c.headings) {
		return c, fmt.Errorf("read custom columns: all of them are HEADING:PATH, or none: %s", strings.TrimSpace(text))
	}
	return c, nil
}

// print writes one table of all objects.
func (c columns) print(w io.Writer, found []runtime.Object) error {
	rows := [][]string{c.headings}
	err := each(found, func(o *unstructured.Unstructured) error {
		var row []string
		for _, p := range c.paths {
			var cell bytes.Buffer
			if err := p.Execute(&cell, o.Object); err != nil {
				return fmt.Errorf("show %s: %w", o.GetName(), err)
			}
			if cell.Len() == 0 {
				cell.WriteString("<none>")
			}
			row = append(row, cell.String())
		}
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		return err
	}
	return plain.Plain(w, rows)
}
