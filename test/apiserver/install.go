package apiserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"
)

// Manifest is the path of the install manifest below the repository's top directory.
const Manifest = "manifests/margay.yaml"

// ManifestV1 is the path of the resource definitions of crd.projectcalico.org/v1.
const ManifestV1 = "manifests/crds-v1.yaml"

// CRDs is the kind of our resource definitions, for Install.
const CRDs = "CustomResourceDefinition"

// InstallCRDs creates the resource definitions of the install manifest and returns when all of them are served.
func InstallCRDs(t testing.TB, cfg *rest.Config) {
	t.Helper()
	if err := Install(t.Context(), cfg, CRDs); err != nil {
		t.Fatal(err)
	}
}

// InstallCRDsV1 creates the resource definitions of crd.projectcalico.org/v1, which older clusters have, in their place.
func InstallCRDsV1(t testing.TB, cfg *rest.Config) {
	t.Helper()
	if err := InstallV1(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// InstallV1 is InstallCRDsV1 for TestMain.
func InstallV1(ctx context.Context, cfg *rest.Config) error {
	return install(ctx, cfg, ManifestV1, CRDs)
}

// Install creates the install manifest's objects of the given kinds, all of them when none is given, in the manifest's
// order. It waits for each resource definition to be served. Objects that exist are left as they are.
func Install(ctx context.Context, cfg *rest.Config, kinds ...string) error {
	return install(ctx, cfg, Manifest, kinds...)
}

func install(ctx context.Context, cfg *rest.Config, manifest string, kinds ...string) error {
	objects, err := read(manifest)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return err
	}
	groups, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return err
	}
	resources, err := restmapper.GetAPIGroupResources(groups)
	if err != nil {
		return fmt.Errorf("discover resources: %w", err)
	}
	mapper := restmapper.NewDiscoveryRESTMapper(resources)
	var crds []*unstructured.Unstructured
	for _, o := range objects {
		if len(kinds) > 0 && !slices.Contains(kinds, o.GetKind()) {
			continue
		}
		gvk := o.GroupVersionKind()
		mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			return fmt.Errorf("map %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		var target dynamic.ResourceInterface = client.Resource(mapping.Resource)
		if ns := o.GetNamespace(); ns != "" {
			target = client.Resource(mapping.Resource).Namespace(ns)
		}
		_, err = target.Create(ctx, o, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		if o.GetKind() == CRDs {
			crds = append(crds, o)
		}
	}
	for _, crd := range crds {
		if err := waitServed(ctx, client, crd); err != nil {
			return err
		}
	}
	return nil
}

// Objects are the install manifest's objects, in its order.
func Objects() ([]*unstructured.Unstructured, error) {
	return read(Manifest)
}

func read(manifest string) ([]*unstructured.Unstructured, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(root, manifest))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var objects []*unstructured.Unstructured
	for r := utilyaml.NewYAMLReader(bufio.NewReader(f)); ; {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", manifest, err)
		}
		o := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(doc, &o.Object); err != nil {
			return nil, fmt.Errorf("read %s: %w", manifest, err)
		}
		if len(o.Object) > 0 {
			objects = append(objects, o)
		}
	}
}

// waitServed lists the defined resource until the API server knows it: a definition's condition Established comes a
// little before that.
func waitServed(ctx context.Context, client dynamic.Interface, crd *unstructured.Unstructured) error {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	if len(versions) == 0 {
		return fmt.Errorf("definition %s has no versions", crd.GetName())
	}
	version, _, _ := unstructured.NestedString(versions[0].(map[string]any), "name")
	gvr := schema.GroupVersionResource{Group: group, Version: version, Resource: plural}
	var last error
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		_, last = client.Resource(gvr).List(ctx, metav1.ListOptions{Limit: 1})
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w", crd.GetName(), errors.Join(err, last))
	}
	return nil
}
