package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

// What the API server does for projectcalico.org/v3 and can not do in crd.projectcalico.org/v1, since it does not know
// the metadata that people see there: selecting by label, patching.

// selectHere takes a label selector out of o when the API server can not apply it: labels that are not Calico's own
// are inside an annotation. What it returns tells which objects to keep; nil: all.
func (c *Client) selectHere(o *metav1.ListOptions) (func(*unstructured.Unstructured) bool, error) {
	if !c.v1.Load() || o.LabelSelector == "" {
		return nil, nil
	}
	s, err := labels.Parse(o.LabelSelector)
	if err != nil {
		return nil, fmt.Errorf("read label selector %q: %w", o.LabelSelector, err)
	}
	o.LabelSelector, o.Limit = "", 0
	return func(obj *unstructured.Unstructured) bool { return s.Matches(labels.Set(obj.GetLabels())) }, nil
}

// patchHere reads, patches and writes, until nobody wrote in between.
func (c *Client) patchHere(ctx context.Context, k Kind, namespace, name string, pt types.PatchType, patch []byte, dryRun bool) (*unstructured.Unstructured, error) {
	for try := 1; ; try++ {
		obj, err := c.GetResource(ctx, k, namespace, name)
		if err != nil {
			return nil, err
		}
		if obj, err = patched(obj, pt, patch); err != nil {
			return nil, fmt.Errorf("patch %s %s: %w", k.Kind, name, err)
		}
		out, err := c.UpdateResource(ctx, k, obj, dryRun)
		if !apierrors.IsConflict(err) || try == 10 {
			return out, err
		}
	}
}

func patched(obj *unstructured.Unstructured, pt types.PatchType, patch []byte) (*unstructured.Unstructured, error) {
	doc, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	switch pt {
	case types.MergePatchType:
		doc, err = jsonpatch.MergePatch(doc, patch)
	case types.JSONPatchType:
		var p jsonpatch.Patch
		if p, err = jsonpatch.DecodePatch(patch); err == nil {
			doc, err = p.Apply(doc)
		}
	default:
		err = errStrategic
	}
	if err != nil {
		return nil, err
	}
	out := &unstructured.Unstructured{}
	return out, out.UnmarshalJSON(doc)
}

// legacy is the name that Calico before 3.30 gave a policy of the default tier in v1, "" where there is none such.
func (c *Client) legacy(k Kind, name string) string {
	if !c.v1.Load() || !k.tiered() || strings.HasPrefix(name, defaultTier) {
		return ""
	}
	return defaultTier + name
}

const defaultTier = "default."
