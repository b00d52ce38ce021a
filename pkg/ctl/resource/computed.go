package resource

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"math/bits"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// computed refuses to write what is computed of other objects.
type computed struct {
	kind *Kind
	of   string
}

func (s computed) refuse(operation, name string) error {
	return fmt.Errorf("operation %s is not supported on %s(%s): it is computed of %s: change that with kubectl", operation, s.kind.Kind.Kind, name, s.of)
}

func (s computed) Create(_ context.Context, o *unstructured.Unstructured, _ bool) (*unstructured.Unstructured, error) {
	return nil, s.refuse("Create", o.GetName())
}

func (s computed) Update(_ context.Context, o *unstructured.Unstructured, _ bool) (*unstructured.Unstructured, error) {
	return nil, s.refuse("Update", o.GetName())
}

func (s computed) Delete(_ context.Context, _, name, _ string) error { return s.refuse("Delete", name) }

// profiles are computed of namespaces and service accounts: "kns.NAMESPACE" and "ksa.NAMESPACE.NAME". Their labels are what
// pods inherit. "projectcalico-default-allow" is there always.
type profiles struct {
	computed
	client corev1client.CoreV1Interface
}

const defaultAllow = "projectcalico-default-allow"

func openProfiles(c Cluster, k *Kind) Store {
	return profiles{computed{k, "a namespace or a service account"}, c.Core.CoreV1()}
}

func (s profiles) Get(ctx context.Context, _, name string) (*unstructured.Unstructured, error) {
	if name == defaultAllow {
		return allowing(name, metav1.ObjectMeta{}, nil), nil
	}
	if ns, ok := strings.CutPrefix(name, "kns."); ok {
		n, err := s.client.Namespaces().Get(ctx, ns, metav1.GetOptions{})
		if err != nil {
			return nil, s.kind.explain(err, "", name, "get")
		}
		return ofNamespace(n), nil
	}
	rest, ok := strings.CutPrefix(name, "ksa.")
	ns, account, dot := strings.Cut(rest, ".")
	if !ok || !dot {
		return nil, fmt.Errorf("resource does not exist: Profile(%s): names are kns.NAMESPACE, ksa.NAMESPACE.SERVICEACCOUNT and %s", name, defaultAllow)
	}
	a, err := s.client.ServiceAccounts(ns).Get(ctx, account, metav1.GetOptions{})
	if err != nil {
		return nil, s.kind.explain(err, "", name, "get")
	}
	return ofAccount(a), nil
}

func (s profiles) List(ctx context.Context, _ string) (*unstructured.UnstructuredList, error) {
	items := []unstructured.Unstructured{*allowing(defaultAllow, metav1.ObjectMeta{}, nil)}
	namespaces, err := s.client.Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, s.kind.explain(err, "", "", "list namespaces for")
	}
	for i := range namespaces.Items {
		items = append(items, *ofNamespace(&namespaces.Items[i]))
	}
	accounts, err := s.client.ServiceAccounts("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, s.kind.explain(err, "", "", "list service accounts for")
	}
	for i := range accounts.Items {
		items = append(items, *ofAccount(&accounts.Items[i]))
	}
	return s.kind.newList(namespaces.ResourceVersion+"/"+accounts.ResourceVersion, items), nil
}

func ofNamespace(n *corev1.Namespace) *unstructured.Unstructured {
	o := allowing("kns."+n.Name, n.ObjectMeta, labelled("pcns.", n.Labels, n.Name))
	o.SetResourceVersion(n.ResourceVersion + "/")
	return o
}

func ofAccount(a *corev1.ServiceAccount) *unstructured.Unstructured {
	o := profile("ksa."+a.Namespace+"."+a.Name, a.ObjectMeta)
	o.Object["spec"] = map[string]any{"labelsToApply": labelled("pcsa.", a.Labels, a.Name)}
	o.SetResourceVersion("/" + a.ResourceVersion)
	return o
}

// labelled are the labels under a prefix, and the name.
func labelled(prefix string, labels map[string]string, name string) map[string]any {
	out := map[string]any{prefix + "projectcalico.org/name": name}
	for key, v := range labels {
		out[prefix+key] = v
	}
	return out
}

// allowing is a profile that lets everything in and out.
func allowing(name string, of metav1.ObjectMeta, labels map[string]any) *unstructured.Unstructured {
	o := profile(name, of)
	rule := func() []any { return []any{map[string]any{"action": "Allow"}} }
	spec := map[string]any{"ingress": rule(), "egress": rule()}
	if labels != nil {
		spec["labelsToApply"] = labels
	}
	o.Object["spec"] = spec
	return o
}

func profile(name string, of metav1.ObjectMeta) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": APIVersion, "kind": "Profile", "metadata": map[string]any{"name": name}}}
	if of.UID != "" {
		o.SetCreationTimestamp(of.CreationTimestamp)
		o.SetUID(mirrored(of.UID))
	}
	return o
}

// mirrored is the UID of what is computed of an object: Calico turns the bits of each byte around, but for the two that
// say which kind of UUID it is, so that it is another one and always the same.
func mirrored(uid types.UID) types.UID {
	b, err := hex.DecodeString(strings.ReplaceAll(string(uid), "-", ""))
	if err != nil || len(b) != 16 {
		return uid
	}
	for i := range b {
		if i != 6 && i != 8 {
			b[i] = bits.Reverse8(b[i])
		}
	}
	return types.UID(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}

// merged are maps together, the later ones above the earlier.
func merged(of ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range of {
		maps.Copy(out, m)
	}
	return out
}
