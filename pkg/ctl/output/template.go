package output

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/template"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// parseTemplate returns a format that executes a Go template. People write them in two ways. As for calicoctl: over a
// list of what was found, with the names of Go's fields, as in {{range .}}{{.ObjectMeta.Name}}{{end}}. As for kubectl: over
// what was found, with the names that YAML has, as in {{range .items}}{{.metadata.name}}{{end}}. The first way is tried
// first: it fails at the first name that it does not know.
func parseTemplate(text string, o Options) (Format, error) {
	t, err := template.New("get").Funcs(template.FuncMap{
		"join":            func(items any, separator string) string { return join(items, separator, 0) },
		"joinAndTruncate": join,
		"config": func(name string) (string, error) {
			if !strings.EqualFold(name, "asnumber") {
				return "", fmt.Errorf("config %q is unknown: there is asnumber", name)
			}
			return o.DefaultAS(), nil
		},
	}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	return func(w io.Writer, found []runtime.Object) error {
		var out bytes.Buffer
		first := t.Execute(&out, typed(found))
		if first == nil {
			_, err := out.WriteTo(w)
			return err
		}
		out.Reset()
		if second := t.Execute(&out, content(found)); second != nil {
			if second.Error() == first.Error() {
				return fmt.Errorf("execute template: %w", first)
			}
			return fmt.Errorf("execute template: %w", errors.Join(first, second))
		}
		_, err := out.WriteTo(w)
		return err
	}, nil
}

// typed are the objects as Go structs where the kind has one, else as they are.
func typed(found []runtime.Object) []any {
	scheme := runtime.NewScheme()
	if err := v3.AddToScheme(scheme); err != nil {
		scheme = runtime.NewScheme() // then no kind has one
	}
	var all []any
	for _, o := range found {
		all = append(all, typedOne(scheme, o))
	}
	return all
}

func typedOne(scheme *runtime.Scheme, o runtime.Object) any {
	u, ok := o.(runtime.Unstructured)
	if !ok {
		return o
	}
	as, err := scheme.New(o.GetObjectKind().GroupVersionKind())
	if err != nil {
		return generic(o)
	}
	raw, err := stdjson.Marshal(u.UnstructuredContent())
	if err != nil || stdjson.Unmarshal(raw, as) != nil {
		return generic(o)
	}
	return as
}

// meta and spec are of a kind without a Go struct: Node, Profile, WorkloadEndpoint. Templates for calicoctl reach its name.
type (
	generalMeta struct {
		Name, Namespace     string
		Labels, Annotations map[string]string
	}
	general struct {
		ObjectMeta generalMeta
		Spec       any
	}
	generalList struct{ Items []general }
)

func generic(o runtime.Object) any {
	one := func(u *unstructured.Unstructured) general {
		return general{generalMeta{u.GetName(), u.GetNamespace(), u.GetLabels(), u.GetAnnotations()}, u.Object["spec"]}
	}
	switch o := o.(type) {
	case *unstructured.Unstructured:
		return one(o)
	case *unstructured.UnstructuredList:
		var l generalList
		for i := range o.Items {
			l.Items = append(l.Items, one(&o.Items[i]))
		}
		return l
	}
	return o
}

// join writes a list, or a map as KEY=VALUE in order, with separators, cut to so many characters unless that is 0.
func join(items any, separator string, most int) string {
	var all []string
	switch v := reflect.ValueOf(items); v.Kind() {
	case reflect.Invalid:
	case reflect.Map:
		for _, key := range v.MapKeys() {
			all = append(all, fmt.Sprintf("%v=%v", key, v.MapIndex(key)))
		}
		slices.Sort(all)
	case reflect.Slice:
		for i := range v.Len() {
			all = append(all, fmt.Sprint(v.Index(i)))
		}
	default:
		all = []string{fmt.Sprint(items)}
	}
	text := strings.Join(all, separator)
	if most > 3 && len(text) > most {
		text = text[:most-3] + "..."
	}
	return text
}
