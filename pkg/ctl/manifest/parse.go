package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	k8syaml "sigs.k8s.io/yaml"
)

// maxSize bounds a file: the API server takes no object that is larger than a few megabytes.
const maxSize = 64 << 20

// maxDepth bounds how deep lists stand within lists.
const maxDepth = 4

// Parse reads the resources of one file's text. name is for messages. What is wrong is an error of Problems; the
// documents that are right are returned all the same.
func Parse(name string, text []byte) ([]*Document, error) {
	if len(text) > maxSize {
		return nil, &Problem{File: name, Message: fmt.Sprintf("is larger than %d MiB: split it", maxSize>>20)}
	}
	var docs []*Document
	var errs []error
	for _, part := range split(text) {
		found, err := parsePart(name, part)
		docs = append(docs, found...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	return docs, errors.Join(errs...)
}

// part is one document's text.
type part struct {
	text   []byte
	offset int // lines before it
}

// split cuts a text where a line begins with "---" as YAML has it: alone, or before a blank.
func split(text []byte) []part {
	var parts []part
	start, offset, line := 0, 0, 0
	for at := 0; at < len(text); line++ {
		end := len(text)
		if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		if row := text[at:end]; bytes.HasPrefix(row, []byte("---")) && (len(row) == 3 || strings.ContainsRune(" \t\r\n", rune(row[3]))) {
			parts = append(parts, part{text[start:at], offset})
			start, offset = at+3, line // what follows the dashes is the document's
		}
		at = end
	}
	return append(parts, part{text[start:], offset})
}

func parsePart(name string, p part) ([]*Document, error) {
	fail := func(line int, message string) error { return &Problem{File: name, Line: line, Message: message} }
	if isJSON(p.text) {
		// Tabs are blanks in JSON, and cannot be in its strings; YAML's reader would stumble over them.
		p.text = bytes.ReplaceAll(p.text, []byte("\t"), []byte(" "))
	}
	var root yaml.Node
	if err := yaml.Unmarshal(p.text, &root); err != nil {
		line, message := syntax(err)
		return nil, fail(line+p.offset, message)
	}
	if len(root.Content) == 0 {
		return nil, nil // nothing but comments
	}
	n := root.Content[0]
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil, nil
	}
	if key := double(n, 0); key != nil {
		return nil, fail(key.Line+p.offset, fmt.Sprintf("key %q stands there twice: leave one of the two out", key.Value))
	}
	raw, err := k8syaml.YAMLToJSON(p.text)
	if err != nil {
		line, message := syntax(err)
		return nil, fail(line+p.offset, message)
	}
	return expand(name, p.offset, n, raw, 0)
}

// isJSON says whether a text is JSON.
func isJSON(text []byte) bool {
	text = bytes.TrimSpace(text)
	return len(text) > 0 && (text[0] == '{' || text[0] == '[') && json.Valid(text)
}

var atLine = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:\s+)?line (\d+): `)

// syntax returns the line and the text of a YAML reader's error.
func syntax(err error) (int, string) {
	text, line := strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), 0
	if m := atLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	return line, "no YAML: " + strings.TrimPrefix(text, "yaml: ")
}

// double returns a key that a mapping has already. The reader of values would take the last one without a word.
func double(n *yaml.Node, depth int) *yaml.Node {
	if depth > 1000 {
		return nil
	}
	if n.Kind == yaml.MappingNode {
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if key := n.Content[i]; key.Kind == yaml.ScalarNode && seen[key.Value] {
				return key
			}
			seen[n.Content[i].Value] = true
		}
	}
	for _, inner := range n.Content {
		if key := double(inner, depth+1); key != nil {
			return key
		}
	}
	return nil
}

// expand makes documents of a value: of one resource, of a list of a kind that ends with List, of a bare list.
func expand(name string, offset int, n *yaml.Node, raw []byte, depth int) ([]*Document, error) {
	line := n.Line + offset
	fail := func(message string) error { return &Problem{File: name, Line: line, Message: message} }
	if depth > maxDepth {
		return nil, fail("lists within lists within lists: write the resources one after another, with --- between")
	}
	switch raw[0] {
	case '[':
		var items []json.RawMessage
		if err := json.Unmarshal(raw, &items); err != nil {
			return nil, fail(err.Error())
		}
		return expandItems(name, offset, n, items, depth+1)
	case '{':
	default:
		return nil, fail("is no resource: want apiVersion, kind, metadata and spec")
	}
	var head struct {
		APIVersion any               `json:"apiVersion"`
		Kind       any               `json:"kind"`
		Items      []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fail("items is no list of resources")
	}
	if kind, ok := head.Kind.(string); ok && strings.HasSuffix(kind, "List") {
		_, items := lookup(n, "items")
		docs, err := expandItems(name, offset, items, head.Items, depth+1)
		for _, d := range docs {
			inherit(d.Object, strings.TrimSuffix(kind, "List"), head.APIVersion)
		}
		return docs, err
	}
	var content map[string]any
	if err := utiljson.Unmarshal(raw, &content); err != nil { // whole numbers stay whole
		return nil, fail(err.Error())
	}
	return []*Document{{File: name, Line: line, Object: &unstructured.Unstructured{Object: content}, node: n, offset: offset}}, nil
}

// inherit gives an item of a typed list, as the API server writes them, the list's type.
func inherit(o *unstructured.Unstructured, kind string, apiVersion any) {
	if _, ok := o.Object["kind"]; ok || kind == "" {
		return
	}
	o.Object["kind"] = kind
	if _, ok := o.Object["apiVersion"]; !ok && apiVersion != nil {
		o.Object["apiVersion"] = apiVersion
	}
}

func expandItems(name string, offset int, n *yaml.Node, items []json.RawMessage, depth int) ([]*Document, error) {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	var docs []*Document
	var errs []error
	for i, raw := range items {
		if n == nil || i >= len(n.Content) {
			break
		}
		found, err := expand(name, offset, n.Content[i], raw, depth)
		docs = append(docs, found...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	return docs, errors.Join(errs...)
}
