package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/margay-net/margay/pkg/ctl/manifest"
	"github.com/margay-net/margay/pkg/ctl/resource"
)

// identify returns the kind of a document that says enough to be found: apiVersion, kind and metadata.name.
func identify(d *manifest.Document) (*resource.Kind, *manifest.Problem) {
	for _, field := range []string{"apiVersion", "kind"} {
		switch v := d.Object.Object[field].(type) {
		case string:
			if v == "" {
				return nil, d.Problem(field, "is empty: write "+example[field])
			}
		case nil:
			return nil, d.Problem(field, "is missing: write "+example[field])
		default:
			return nil, d.Problem(field, fmt.Sprintf("is %v, no text: write %s", v, example[field]))
		}
	}
	kind, err := resource.Of(d.Object.GetAPIVersion(), d.Object.GetKind())
	if err != nil {
		return nil, d.Problem("kind", err.Error())
	}
	if p := metadata(d); p != nil {
		return nil, p
	}
	if d.Object.GetName() == "" {
		return nil, d.Problem("metadata.name", "is missing or empty: each resource has a name")
	}
	if spec, ok := d.Object.Object["spec"]; ok && spec != nil {
		if _, ok := spec.(map[string]any); !ok {
			return nil, d.Problem("spec", fmt.Sprintf("is %v: want fields, a line each, below it", spec))
		}
	}
	return kind, nil
}

var example = map[string]string{"apiVersion": resource.APIVersion, "kind": "the kind of the resource, such as IPPool"}

// metadata reads the metadata strictly: its author's part of it is written by itself, so that the API server would not
// see what is wrong with the rest.
func metadata(d *manifest.Document) *manifest.Problem {
	meta, ok := d.Object.Object["metadata"]
	if !ok || meta == nil {
		return d.Problem("metadata", "is missing: write metadata: {name: NAME}")
	}
	fields, ok := meta.(map[string]any)
	if !ok {
		return d.Problem("metadata", fmt.Sprintf("is %v: write metadata: {name: NAME}", meta))
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		return d.Problem("metadata", err.Error())
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(&metav1.ObjectMeta{})
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		field := "metadata." + wrong.Field
		// Of a map's value the decoder knows just the map.
		if m, ok := fields[wrong.Field].(map[string]any); ok {
			for key, v := range m {
				if _, ok := v.(string); !ok {
					field += "[" + key + "]"
					break
				}
			}
		}
		return d.Problem(field, fmt.Sprintf("is a %s: want text (put it in quotes, as YAML takes numbers, yes, no, on and off for something else)", wrong.Value))
	}
	if err != nil {
		if quoted, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			if field, e := strconv.Unquote(quoted); e == nil {
				return d.Problem("metadata."+field, "unknown field: correct its name or leave it out; people write name, namespace, labels and annotations")
			}
		}
		return d.Problem("metadata", err.Error())
	}
	return nil
}
