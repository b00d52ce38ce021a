package resource

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Verb is a way to write an object.
type Verb string

// Ways to write: a new object, a new or an existing one, an existing one.
const (
	Create  Verb = "create"
	Apply   Verb = "apply"
	Replace Verb = "replace"
)

// Write writes an object. Labels, annotations, spec and status become those that are given; what else is in the metadata
// stays as it is stored. An object with a resource version is written only if the stored one has it, too: otherwise the
// error says that there is a conflict.
func (k *Kind) Write(ctx context.Context, s Store, verb Verb, o *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	if verb == Replace {
		return k.replace(ctx, s, o, dryRun)
	}
	fresh := metadataOf(o)
	if verb == Apply {
		fresh.SetResourceVersion("")
	}
	out, err := s.Create(ctx, fresh, dryRun)
	if verb == Apply && apierrors.IsAlreadyExists(err) {
		return k.replace(ctx, s, o, dryRun)
	}
	return out, err
}

// attempts bound how often an object without a resource version is read again when somebody else writes it meanwhile.
const attempts = 5

func (k *Kind) replace(ctx context.Context, s Store, o *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	version := o.GetResourceVersion()
	var out *unstructured.Unstructured
	once := func() error {
		have, err := s.Get(ctx, o.GetNamespace(), o.GetName())
		if err != nil {
			return err
		}
		if version != "" && version != have.GetResourceVersion() {
			return k.outdated(o, have)
		}
		out, err = s.Update(ctx, onto(have, o), dryRun)
		return err
	}
	if version != "" {
		err := once()
		return out, err
	}
	err := Retry(once)
	return out, err
}

func (k *Kind) outdated(o, have *unstructured.Unstructured) error {
	id := k.ID(o.GetNamespace(), o.GetName())
	return &conflict{apierrors.NewConflict(resourceOf(k), o.GetName(), nil), fmt.Sprintf(
		"update conflict: %s: resource version '%s' is out of date (latest: %s): get it again, and put your change into that; or leave metadata.resourceVersion out, to overwrite",
		id, o.GetResourceVersion(), have.GetResourceVersion())}
}

// conflict is the API server's error, in other words.
type conflict struct {
	error
	text string
}

func (c *conflict) Error() string { return c.text }
func (c *conflict) Unwrap() error { return c.error }

// Retry calls change, which reads an object, changes and writes it, again when somebody else has written it meanwhile.
func Retry(change func() error) error {
	err := change()
	for n := 1; n < attempts && apierrors.IsConflict(err); n++ {
		time.Sleep(rand.N(time.Duration(n) * 100 * time.Millisecond)) // not all of them at once again
		err = change()
	}
	return err
}

// metadataOf returns a copy whose metadata holds just what its author says.
func metadataOf(o *unstructured.Unstructured) *unstructured.Unstructured {
	out := &unstructured.Unstructured{Object: maps.Clone(o.Object)}
	out.Object["metadata"] = map[string]any{}
	out.SetName(o.GetName())
	out.SetNamespace(o.GetNamespace())
	out.SetResourceVersion(o.GetResourceVersion())
	out.SetLabels(o.GetLabels())
	out.SetAnnotations(o.GetAnnotations())
	return out.DeepCopy()
}

// onto returns o with the metadata that is stored, but for labels and annotations.
func onto(have, o *unstructured.Unstructured) *unstructured.Unstructured {
	out := o.DeepCopy()
	out.Object["metadata"] = have.DeepCopy().Object["metadata"]
	out.SetLabels(o.GetLabels())
	out.SetAnnotations(o.GetAnnotations())
	return out
}

// alreadyExists is what the API server says of an object that it has.
func alreadyExists(k *Kind, name string) error {
	return apierrors.NewAlreadyExists(resourceOf(k), name)
}
