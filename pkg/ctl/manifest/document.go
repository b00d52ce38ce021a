package manifest

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Document is one resource of a file.
type Document struct {
	File   string // as it was named; "standard input" for -
	Line   int    // of its first line, counted from 1
	Object *unstructured.Unstructured

	node   *yaml.Node
	offset int // lines of the file before those that node counts
}

// Name is KIND/NAME or KIND/NAMESPACE/NAME, for people.
func (d *Document) Name() string {
	kind, name := d.Object.GetKind(), d.Object.GetName()
	if ns := d.Object.GetNamespace(); ns != "" {
		name = ns + "/" + name
	}
	switch {
	case kind == "":
		return ""
	case name == "":
		return kind
	default:
		return kind + "/" + name
	}
}

// Problem says that a field is wrong, on the field's line; where the document lacks the field, on that of the nearest one
// around it. Fields are written as the API server writes them: spec.ports[0].name, or spec.ports[https].
func (d *Document) Problem(field, message string) *Problem {
	return &Problem{File: d.File, Line: d.LineOf(field), Object: d.Name(), Field: field, Message: message}
}

// LineOf returns the line of a field's name.
func (d *Document) LineOf(field string) int {
	line, n := d.Line, d.node
	for _, step := range steps(field) {
		key, value := lookup(n, step)
		if value == nil {
			break
		}
		line, n = key.Line+d.offset, value
	}
	return line
}

// lookup returns what names a member, and the member: a key and its value, or an item twice.
func lookup(n *yaml.Node, step string) (key, value *yaml.Node) {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil {
		return nil, nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i], n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i]
		}
	}
	return nil, nil
}

// steps takes a path apart: a.b[0].c and a.b[x.y/z] are a, b, 0, c and a, b, x.y/z.
func steps(path string) []string {
	var out []string
	for path != "" {
		if rest, ok := strings.CutPrefix(path, "["); ok {
			step, after, _ := strings.Cut(rest, "]")
			out, path = append(out, strings.Trim(step, `"'`)), strings.TrimPrefix(after, ".")
			continue
		}
		i := strings.IndexAny(path, ".[")
		if i < 0 {
			return append(out, path)
		}
		if i > 0 {
			out = append(out, path[:i])
		}
		if path[i] == '.' {
			i++
		}
		path = path[i:]
	}
	return out
}
