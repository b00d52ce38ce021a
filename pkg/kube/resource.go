package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// Connect returns a client whose group is settled: see Use.
func Connect(ctx context.Context, config *rest.Config, group string) (*Client, error) {
	c, err := New(config)
	if err != nil {
		return nil, err
	}
	return c, c.Use(ctx, group)
}

// Use settles which group the cluster keeps our resources in: GroupV3, GroupV1, or with "" the one whose resource
// definitions are there, GroupV3 when both are. It is an error when they are not there. Callers see the form of GroupV3
// in either case. Before Use it is GroupV3.
func (c *Client) Use(ctx context.Context, group string) error {
	switch {
	case group == "", strings.EqualFold(group, GroupV3), strings.EqualFold(group, GroupV1):
	default:
		return fmt.Errorf("choose API group: CALICO_API_GROUP %q is unknown: it is %s or %s, or not set", group, GroupV3, GroupV1)
	}
	for _, g := range []string{GroupV3, GroupV1} {
		if group != "" && !strings.EqualFold(group, g) {
			continue
		}
		served, err := c.serves(ctx, g)
		if err != nil {
			return fmt.Errorf("ask the API server for group %s: %w", g, err)
		}
		if served {
			c.v1.Store(g == GroupV1)
			return nil
		}
	}
	if group == "" {
		group = "neither " + GroupV3 + " nor " + GroupV1
	} else {
		group = "no " + group
	}
	return fmt.Errorf("%w: the API server has %s: apply manifests/margay.yaml", ErrNotInstalled, group)
}

// ErrNotInstalled: the API server has answered, and has no definitions of our resources.
var ErrNotInstalled = errors.New("resource definitions are missing")

// Both says whether the cluster has the resource definitions of both groups, so that Use("") has chosen.
func (c *Client) Both(ctx context.Context) bool {
	v3, err3 := c.serves(ctx, GroupV3)
	v1, err1 := c.serves(ctx, GroupV1)
	return err3 == nil && err1 == nil && v3 && v1
}

// Group is the group that the cluster keeps our resources in.
func (c *Client) Group() string {
	if c.v1.Load() {
		return GroupV1
	}
	return GroupV3
}

// Dynamic is an untyped client for all kinds, of which it shows ours in the form of GroupV3.
func (c *Client) Dynamic() dynamic.Interface { return c.dynamic }

// serves looks for blocks: Calico's own API server has a projectcalico.org/v3 without them, in front of v1.
func (c *Client) serves(ctx context.Context, group string) (bool, error) {
	b, err := c.core.Get().AbsPath("/apis/"+group).SetHeader("Accept", "application/json").MaxRetries(0).Timeout(requestTimeout).Do(ctx).Raw()
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var list metav1.APIResourceList
	if err := json.Unmarshal(b, &list); err != nil {
		return false, err
	}
	for _, r := range list.APIResources {
		if r.Name == blocks {
			return true, nil
		}
	}
	return false, nil
}

// resource is the door to one kind in one namespace; "" is none, or all.
func (c *Client) resource(k Kind, namespace string) dynamic.ResourceInterface {
	r := c.dynamic.Resource(schema.GroupVersionResource{Group: v3.GroupVersion.Group, Version: v3.GroupVersion.Version, Resource: k.Plural})
	if k.Namespaced && namespace != "" {
		return r.Namespace(namespace)
	}
	return r
}

// GetResource returns one object. This and the following methods take and return the form of projectcalico.org/v3;
// errors are those of k8s.io/apimachinery/pkg/api/errors.
func (c *Client) GetResource(ctx context.Context, k Kind, namespace, name string) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	obj, err := c.resource(k, namespace).Get(ctx, name, metav1.GetOptions{})
	if legacy := c.legacy(k, name); legacy != "" && apierrors.IsNotFound(err) {
		if old, err := c.resource(k, namespace).Get(ctx, legacy, metav1.GetOptions{}); err == nil {
			return old, nil
		}
	}
	return obj, err
}

// ListResources returns the objects of a namespace, or of all with "".
func (c *Client) ListResources(ctx context.Context, k Kind, namespace string, o metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	keep, err := c.selectHere(&o)
	if err != nil {
		return nil, err
	}
	all, err := c.resource(k, namespace).List(ctx, o)
	if err != nil || keep == nil {
		return all, err
	}
	var some []unstructured.Unstructured
	for i := range all.Items {
		if keep(&all.Items[i]) {
			some = append(some, all.Items[i])
		}
	}
	all.Items = some
	return all, nil
}

// CreateResource creates an object, strictly checked; with dryRun it is only checked.
func (c *Client) CreateResource(ctx context.Context, k Kind, obj *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return c.resource(k, obj.GetNamespace()).Create(ctx, obj, metav1.CreateOptions{DryRun: dry(dryRun), FieldValidation: metav1.FieldValidationStrict})
}

// UpdateResource replaces an object, strictly checked; with dryRun it is only checked. Its resourceVersion is that of
// the object that it replaces.
func (c *Client) UpdateResource(ctx context.Context, k Kind, obj *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	o := metav1.UpdateOptions{DryRun: dry(dryRun), FieldValidation: metav1.FieldValidationStrict}
	out, err := c.resource(k, obj.GetNamespace()).Update(ctx, obj, o)
	if legacy := c.legacy(k, obj.GetName()); legacy != "" && apierrors.IsNotFound(err) {
		old := obj.DeepCopy()
		old.SetName(legacy)
		return c.resource(k, obj.GetNamespace()).Update(ctx, old, o)
	}
	return out, err
}

// PatchResource changes an object by a patch of type JSON or merge, strictly checked; with dryRun it is only checked.
func (c *Client) PatchResource(ctx context.Context, k Kind, namespace, name string, pt types.PatchType, patch []byte, dryRun bool) (*unstructured.Unstructured, error) {
	if c.v1.Load() {
		return c.patchHere(ctx, k, namespace, name, pt, patch, dryRun)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return c.resource(k, namespace).Patch(ctx, name, pt, patch, metav1.PatchOptions{DryRun: dry(dryRun), FieldValidation: metav1.FieldValidationStrict})
}

// DeleteResource deletes an object.
func (c *Client) DeleteResource(ctx context.Context, k Kind, namespace, name string, o metav1.DeleteOptions) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := c.resource(k, namespace).Delete(ctx, name, o)
	if legacy := c.legacy(k, name); legacy != "" && apierrors.IsNotFound(err) {
		if c.resource(k, namespace).Delete(ctx, legacy, o) == nil {
			return nil
		}
	}
	return err
}

// WatchResources tells of changes until ctx ends or the API server ends the watch.
func (c *Client) WatchResources(ctx context.Context, k Kind, namespace string, o metav1.ListOptions) (watch.Interface, error) {
	keep, err := c.selectHere(&o)
	if err != nil {
		return nil, err
	}
	w, err := c.resource(k, namespace).Watch(ctx, o)
	if err != nil || keep == nil {
		return w, err
	}
	return watch.Filter(w, func(e watch.Event) (watch.Event, bool) {
		obj, ok := e.Object.(*unstructured.Unstructured)
		switch {
		case !ok || e.Type == watch.Error || e.Type == watch.Bookmark || keep(obj):
			return e, true
		case e.Type == watch.Modified: // no longer one of them, if it was
			e.Type = watch.Deleted
			return e, true
		default:
			return e, false
		}
	}), nil
}

func dry(run bool) []string {
	if run {
		return []string{metav1.DryRunAll}
	}
	return nil
}

var errStrategic = errors.New("a strategic merge patch is not possible on these resources: use type merge or json")
