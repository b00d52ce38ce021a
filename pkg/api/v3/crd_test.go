package v3_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/margay-net/margay/test/apiserver"
)

// good is a document that the API server must take as it is: nearly all are those of Calico's reference pages. The name
// is "test", or "default" where only that counts, unless the document has another.
type good struct{ name, resource, yaml string }

// refusal is an object that the API server must refuse, with an error that holds all of want: the field and a reason.
type refusal struct {
	name, resource, yaml string
	want                 []string
}

// TestCRDs checks the generated schemas of both groups with the API server that has the last word on them.
func TestCRDs(t *testing.T) {
	cfg := apiserver.Start(t)
	cfg.QPS = -1
	t.Run("v3", func(t *testing.T) {
		apiserver.InstallCRDs(t, cfg)
		testGroup(t, cfg, false)
	})
	t.Run("v1", func(t *testing.T) {
		apiserver.InstallCRDsV1(t, cfg)
		testGroup(t, cfg, true)
		deletedIsString(t, api{dynamic.NewForConfigOrDie(cfg), true})
	})
}

func testGroup(t *testing.T, cfg *rest.Config, v1 bool) {
	a := api{dynamic.NewForConfigOrDie(cfg), v1}
	for _, g := range slices.Concat(ipamGood, configGood, bgpGood, policyGood) {
		t.Run("accept/"+g.resource+"/"+g.name, func(t *testing.T) { a.accept(t, g) })
	}
	for _, r := range slices.Concat(ipamRefusals, configRefusals, bgpRefusals, policyRefusals) {
		t.Run("refuse/"+r.resource+"/"+r.name, func(t *testing.T) {
			_, err := a.create(t.Context(), a.object(t, r.resource, r.yaml), r.resource)
			checkRefused(t, err, r.want)
		})
	}
	t.Run("nothing is stored", func(t *testing.T) {
		for resource := range kinds {
			list, err := a.client.Resource(a.gvr(resource)).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range list.Items {
				t.Errorf("%s %s is stored", resource, o.GetName())
			}
		}
	})
	testChanges(t, a)
	t.Run("unknown parameters are kept", func(t *testing.T) { a.keepUnknown(t) })
	if !v1 {
		for _, o := range full() {
			t.Run("round trip/"+o.GetObjectKind().GroupVersionKind().Kind, func(t *testing.T) { a.roundTrip(t, o) })
		}
	}
}

// deletedIsString: crd.projectcalico.org/v1 has a BlockAffinity's deleted as "true" or "false".
func deletedIsString(t *testing.T, a api) {
	const spec = "spec: {cidr: 10.0.0.0/26, node: node-1, state: confirmed, deleted: %s}"
	o, err := a.create(t.Context(), a.object(t, "blockaffinities", fmt.Sprintf(spec, "'false'")), "blockaffinities")
	if err != nil {
		t.Fatal(err)
	}
	a.remove(t, "blockaffinities", o)
	_, err = a.create(t.Context(), a.object(t, "blockaffinities", fmt.Sprintf(spec, "false")), "blockaffinities")
	checkRefused(t, err, []string{"spec.deleted", "must be of type string"})
}

// accept writes a good document, compares what is stored with what was written, and reads it into its Go type. An unknown
// field in it is an error.
func (a api) accept(t *testing.T, g good) {
	want := a.object(t, g.resource, g.yaml)
	have, err := a.create(t.Context(), want, g.resource)
	if err != nil {
		t.Fatal(err)
	}
	defer a.remove(t, g.resource, have)
	for _, part := range []string{"spec", "status"} {
		if !within(want.Object[part], have.Object[part]) {
			t.Errorf("%s is stored as %v, want %v", part, have.Object[part], want.Object[part])
		}
	}
	typed(t, g.resource, have)
	if g.resource == "felixconfigurations" {
		return // keeps them, see keepUnknown
	}
	unknown := want.DeepCopy()
	unknown.SetName("unknown")
	if err := unstructured.SetNestedField(unknown.Object, "x", "spec", "colour"); err != nil {
		t.Fatal(err)
	}
	_, err = a.create(t.Context(), unknown, g.resource)
	checkRefused(t, err, []string{`unknown field "spec.colour"`})
}

// within says whether have has all of want; the API server may have filled in more.
func within(want, have any) bool {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		for k := range w {
			ok = ok && within(w[k], h[k])
		}
		return ok
	case []any:
		h, ok := have.([]any)
		return ok && slices.EqualFunc(w, h, within)
	default:
		return fmt.Sprint(want) == fmt.Sprint(have)
	}
}

func checkRefused(t *testing.T, err error, want []string) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	t.Log(err)
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error does not say %q", w)
		}
	}
}

// roundTrip writes the object and compares what it reads with what it wrote, but for what the API server adds.
func (a api) roundTrip(t *testing.T, want runtime.Object) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(want)
	if err != nil {
		t.Fatal(err)
	}
	o := &unstructured.Unstructured{Object: fields}
	unstructured.RemoveNestedField(o.Object, "metadata", "creationTimestamp")
	resource := ""
	for r, k := range kinds {
		if k.name == o.GetKind() {
			resource = r
		}
	}
	stored, err := a.create(t.Context(), o, resource)
	if err != nil {
		t.Fatal(err)
	}
	defer a.remove(t, resource, stored)
	spec := func(o runtime.Object) any { return reflect.ValueOf(o).Elem().FieldByName("Spec").Interface() }
	if have, want := spec(typed(t, resource, stored)), spec(want); !reflect.DeepEqual(have, want) {
		t.Fatalf("have %+v\nwant %+v", have, want)
	}
}

// TestCRDSizes keeps each definition small enough for kubectl apply, which notes it in an annotation of 262,144 bytes at
// most.
func TestCRDSizes(t *testing.T) {
	objects, err := apiserver.Objects()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 200_000 {
			t.Errorf("%s %s has %d bytes, want 200,000 at most", o.GetKind(), o.GetName(), len(b))
		}
	}
}
