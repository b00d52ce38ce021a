package resource

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/kube"
)

// Cluster is where the objects are.
type Cluster = *connect.Cluster

// objects keeps a kind that has a resource definition.
type objects struct {
	client *kube.Client
	kind   *Kind
}

func openObjects(c Cluster, k *Kind) Store { return objects{c.Kube, k} }

func (s objects) Get(ctx context.Context, namespace, name string) (*unstructured.Unstructured, error) {
	o, err := s.client.GetResource(ctx, s.kind.Kind, namespace, name)
	if err != nil {
		return nil, s.kind.explain(err, namespace, name, "get")
	}
	return s.read(o), nil
}

func (s objects) List(ctx context.Context, namespace string) (*unstructured.UnstructuredList, error) {
	l, err := s.client.ListResources(ctx, s.kind.Kind, namespace, metav1.ListOptions{})
	if err != nil {
		return nil, s.kind.explain(err, namespace, "", "list")
	}
	for i := range l.Items {
		s.read(&l.Items[i])
	}
	if s.kind.Kind.Kind == "Tier" {
		slices.SortStableFunc(l.Items, byOrder)
	}
	out := s.kind.newList(l.GetResourceVersion(), l.Items)
	return out, nil
}

func (s objects) Create(ctx context.Context, o *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	o, err := s.writable(o, "create or apply")
	if err != nil {
		return nil, err
	}
	out, err := s.client.CreateResource(ctx, s.kind.Kind, o, dryRun)
	return out, s.kind.explain(err, o.GetNamespace(), o.GetName(), "create")
}

func (s objects) Update(ctx context.Context, o *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	o, err := s.writable(o, "apply or replace")
	if err != nil {
		return nil, err
	}
	out, err := s.client.UpdateResource(ctx, s.kind.Kind, o, dryRun)
	return out, s.kind.explain(err, o.GetNamespace(), o.GetName(), "update")
}

func (s objects) Delete(ctx context.Context, namespace, name, version string) error {
	if s.kind.Kind.Kind == "ClusterInformation" {
		return s.kind.refuse("delete")
	}
	options := metav1.DeleteOptions{}
	if version != "" {
		options.Preconditions = &metav1.Preconditions{ResourceVersion: &version}
	}
	return s.kind.explain(s.client.DeleteResource(ctx, s.kind.Kind, namespace, name, options), namespace, name, "delete")
}

// read takes away what the API server keeps for itself, and fills in what an IPPool means by leaving fields out, as
// calicoctl shows it.
func (s objects) read(o *unstructured.Unstructured) *unstructured.Unstructured {
	o.SetManagedFields(nil)
	o.SetGeneration(0)
	o.SetSelfLink("")
	if s.kind.Kind.Kind == "IPPool" {
		fillPool(o)
	}
	return o
}

// writable returns a copy to be written.
func (s objects) writable(o *unstructured.Unstructured, operation string) (*unstructured.Unstructured, error) {
	if s.kind.Kind.Kind == "ClusterInformation" {
		return nil, s.kind.refuse(operation)
	}
	o = o.DeepCopy()
	if s.kind.Kind.Kind == "IPPool" {
		fillPool(o)
	}
	return o, nil
}

func (k *Kind) refuse(operation string) error {
	return fmt.Errorf("operation %s is not supported on %s: the agents write it; \"datastore lock\" and \"datastore unlock\" change spec.datastoreReady", operation, k.Kind.Kind)
}

// explain turns an API server's refusal into a sentence. What Is... functions say of the error stays true.
func (k *Kind) explain(err error, namespace, name, verb string) error {
	id := k.ID(namespace, name)
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return fmt.Errorf("resource does not exist: %s with error: %w", id, err)
	case apierrors.IsAlreadyExists(err):
		return fmt.Errorf("resource already exists: %s with error: %w: apply or replace changes it", id, err)
	case apierrors.IsConflict(err):
		return fmt.Errorf("update conflict: %s: somebody has changed it meanwhile: get it again, and put your change into that: %w", id, err)
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s %s: the API server does not let you: %w", verb, id, err)
	default:
		return fmt.Errorf("%s %s: %w", verb, id, err)
	}
}

// resourceOf names the kind in an API server's errors.
func resourceOf(k *Kind) schema.GroupResource {
	return schema.GroupResource{Group: "projectcalico.org", Resource: k.Plural}
}

func byOrder(a, b unstructured.Unstructured) int {
	x, y := value(a.Object, "spec.order"), value(b.Object, "spec.order")
	switch {
	case x == nil && y == nil:
		return 0
	case x == nil: // without an order a tier comes last
		return 1
	case y == nil:
		return -1
	}
	if d := number(x) - number(y); d != 0 {
		return int(d / abs(d))
	}
	return 0
}

func number(v any) float64 {
	switch n := v.(type) {
	case int64:
		return float64(n)
	case float64:
		return n
	}
	return 0
}

func abs(f float64) float64 { return max(f, -f) }

// fillPool writes into an IPPool what it means by leaving a field out. Calico's tools write pools so.
func fillPool(o *unstructured.Unstructured) {
	spec, ok := o.Object["spec"].(map[string]any)
	if !ok {
		return
	}
	set := func(field string, v any) {
		if have := spec[field]; have == nil || have == "" || have == int64(0) {
			spec[field] = v
		}
	}
	if text, _ := spec["cidr"].(string); text != "" {
		if cidr, err := netip.ParsePrefix(text); err == nil {
			set("blockSize", map[bool]int64{true: 26, false: 122}[cidr.Addr().Is4()])
		}
	}
	set("ipipMode", "Never")
	set("vxlanMode", "Never")
	set("nodeSelector", "all()")
	set("assignmentMode", "Automatic")
	if uses, isList := spec["allowedUses"].([]any); spec["allowedUses"] == nil || isList && len(uses) == 0 {
		spec["allowedUses"] = []any{"Workload", "Tunnel"}
	}
}
