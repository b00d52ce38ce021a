package output

import (
	stdjson "encoding/json"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	k8syaml "sigs.k8s.io/yaml"
)

// content is one value for one object or list, and a list of values for several.
func content(found []runtime.Object) any {
	var all []any
	for _, o := range found {
		switch o := o.(type) {
		case *unstructured.Unstructured:
			all = append(all, o.Object)
		case *unstructured.UnstructuredList:
			l := o.UnstructuredContent()
			if len(o.Items) == 0 {
				l["items"] = []any{}
			}
			all = append(all, l)
		}
	}
	if len(all) == 1 {
		return all[0]
	}
	return all
}

func yaml(w io.Writer, found []runtime.Object) error {
	b, err := k8syaml.Marshal(content(found))
	if err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	_, err = w.Write(b)
	return err
}

func json(w io.Writer, found []runtime.Object) error {
	b, err := stdjson.MarshalIndent(content(found), "", "  ")
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// names prints KIND.GROUP/NAME as kubectl does, which takes them as arguments.
func names(w io.Writer, found []runtime.Object) error {
	return each(found, func(o *unstructured.Unstructured) error {
		group, _, _ := strings.Cut(o.GetAPIVersion(), "/")
		_, err := fmt.Fprintf(w, "%s.%s/%s\n", strings.ToLower(o.GetKind()), group, o.GetName())
		return err
	})
}

// each calls f with all objects, those of lists, too.
func each(found []runtime.Object, f func(*unstructured.Unstructured) error) error {
	for _, o := range found {
		if meta.IsListType(o) {
			l, ok := o.(*unstructured.UnstructuredList)
			for i := range l.Items {
				if err := f(&l.Items[i]); ok && err != nil {
					return err
				}
			}
			continue
		}
		if u, ok := o.(*unstructured.Unstructured); ok {
			if err := f(u); err != nil {
				return err
			}
		}
	}
	return nil
}
