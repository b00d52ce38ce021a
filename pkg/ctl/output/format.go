package output

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// Format prints what was found: objects (*unstructured.Unstructured) and lists (*unstructured.UnstructuredList).
type Format func(w io.Writer, found []runtime.Object) error

// Options say how tables look.
type Options struct {
	Namespaces bool          // tables begin with the namespace
	DefaultAS  func() string // the AS number of nodes that have none of their own
}

// Formats are the values of -o, for people.
const Formats = "ps, wide, yaml, json, name, custom-columns=..., custom-columns-file=..., go-template=..., go-template-file=..."

// Parse returns the format that a value of -o names.
func Parse(output string, o Options) (Format, error) {
	key, rest, _ := strings.Cut(output, "=")
	text, fromFile, err := argument(key, rest)
	if err != nil {
		return nil, err
	}
	switch key {
	case "yaml", "yml":
		return yaml, nil
	case "json":
		return json, nil
	case "name":
		return names, nil
	case "ps", "wide":
		return table{o, key == "wide", nil}.print, nil
	case "custom-columns", "custom-columns-file":
		columns, err := parseColumns(text, fromFile)
		if err != nil {
			return nil, err
		}
		if columns.paths != nil {
			return columns.print, nil
		}
		return table{o, false, columns.headings}.print, nil
	case "go-template", "go-template-file":
		return parseTemplate(text, o)
	}
	return nil, fmt.Errorf("unrecognized output format '%s': it is one of %s", output, Formats)
}

// argument is what stands behind the '=', or in the file that it names.
func argument(key, rest string) (text string, fromFile bool, err error) {
	base, fromFile := strings.CutSuffix(key, "-file")
	what := map[string]string{"custom-columns": "at least one column", "go-template": "a template"}[base]
	switch {
	case what == "":
		return "", false, nil
	case rest == "" && fromFile:
		return "", false, fmt.Errorf("need to specify a file: -o %s=FILE", key)
	case rest == "":
		return "", false, errors.New("need to specify " + what + ": -o " + key + "=...")
	case !fromFile:
		return rest, false, nil
	}
	b, err := os.ReadFile(rest)
	if err != nil {
		return "", true, fmt.Errorf("read -o %s: %w", key, err)
	}
	return string(b), true, nil
}
