package v3_test

import (
	"context"
	"encoding/json"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// kind is what the tests must know of a resource beside its plural.
type kind struct {
	name       string
	namespaced bool
	single     bool   // the one named "default" counts
	v1         string // plural and kind in crd.projectcalico.org, where they differ
	v1Name     string
}

var kinds = map[string]kind{
	"ippools":                         {name: "IPPool"},
	"ipreservations":                  {name: "IPReservation"},
	"ipamblocks":                      {name: "IPAMBlock"},
	"ipamhandles":                     {name: "IPAMHandle"},
	"blockaffinities":                 {name: "BlockAffinity"},
	"ipamconfigurations":              {name: "IPAMConfiguration", single: true, v1: "ipamconfigs", v1Name: "IPAMConfig"},
	"felixconfigurations":             {name: "FelixConfiguration", single: true},
	"clusterinformations":             {name: "ClusterInformation", single: true},
	"kubecontrollersconfigurations":   {name: "KubeControllersConfiguration", single: true},
	"bgpconfigurations":               {name: "BGPConfiguration", single: true},
	"bgppeers":                        {name: "BGPPeer"},
	"bgpfilters":                      {name: "BGPFilter"},
	"caliconodestatuses":              {name: "CalicoNodeStatus"},
	"hostendpoints":                   {name: "HostEndpoint"},
	"tiers":                           {name: "Tier"},
	"globalnetworksets":               {name: "GlobalNetworkSet"},
	"networksets":                     {name: "NetworkSet", namespaced: true},
	"globalnetworkpolicies":           {name: "GlobalNetworkPolicy"},
	"networkpolicies":                 {name: "NetworkPolicy", namespaced: true},
	"stagedglobalnetworkpolicies":     {name: "StagedGlobalNetworkPolicy"},
	"stagednetworkpolicies":           {name: "StagedNetworkPolicy", namespaced: true},
	"stagedkubernetesnetworkpolicies": {name: "StagedKubernetesNetworkPolicy", namespaced: true},
}

// api is one of the two groups on an API server.
type api struct {
	client dynamic.Interface
	v1     bool
}

// gvr names the resource in the API's group.
func (a api) gvr(resource string) schema.GroupVersionResource {
	if !a.v1 {
		return v3.GroupVersion.WithResource(resource)
	}
	if v1 := kinds[resource].v1; v1 != "" {
		resource = v1
	}
	return schema.GroupVersionResource{Group: "crd.projectcalico.org", Version: "v1", Resource: resource}
}

// object reads YAML and adds kind and, unless it has them, name and namespace.
func (a api) object(t *testing.T, resource, text string) *unstructured.Unstructured {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	o := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(b, &o.Object); err != nil { // whole numbers are int64
		t.Fatal(err)
	}
	k := kinds[resource]
	name := k.name
	if a.v1 && k.v1Name != "" {
		name = k.v1Name
	}
	o.SetGroupVersionKind(a.gvr(resource).GroupVersion().WithKind(name))
	if o.GetName() == "" {
		o.SetName(map[bool]string{false: "test", true: "default"}[k.single])
	}
	if k.namespaced {
		o.SetNamespace(metav1.NamespaceDefault)
	}
	return o
}

// create writes as kubectl does: unknown fields are errors.
func (a api) create(ctx context.Context, o *unstructured.Unstructured, resource string) (*unstructured.Unstructured, error) {
	return a.client.Resource(a.gvr(resource)).Namespace(o.GetNamespace()).
		Create(ctx, o, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
}

func (a api) remove(t *testing.T, resource string, o *unstructured.Unstructured) {
	t.Helper()
	err := a.client.Resource(a.gvr(resource)).Namespace(o.GetNamespace()).Delete(t.Context(), o.GetName(), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Error(err)
	}
}

// typed reads a stored object into the Go type of its kind.
func typed(t *testing.T, resource string, o *unstructured.Unstructured) runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v3.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	out, err := scheme.New(v3.GroupVersion.WithKind(kinds[resource].name))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, out); err != nil {
		t.Error(err)
	}
	return out
}
