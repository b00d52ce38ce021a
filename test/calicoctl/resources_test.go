package calicoctl_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/margay-net/margay/pkg/kube"
)

// documents are those of testdata/resources.yaml: one of each kind that calicoctl writes.
func documents(c *tool) []*unstructured.Unstructured {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "resources.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	var all []*unstructured.Unstructured
	for _, text := range strings.Split(string(b), "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
			c.t.Fatal(err)
		}
		if _, knows := c.run("get", o.GetKind()); knows {
			all = append(all, o)
		} else {
			c.t.Logf("calicoctl %s does not know %s", c.version, o.GetKind())
		}
	}
	return all
}

// file writes a document for -f.
func file(c *tool, o *unstructured.Unstructured) string {
	c.t.Helper()
	b, err := yaml.Marshal(o.Object)
	if err != nil {
		c.t.Fatal(err)
	}
	path := filepath.Join(c.t.TempDir(), o.GetKind()+".yaml")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// where are the flags that say which namespace.
func where(o *unstructured.Unstructured) []string {
	if o.GetNamespace() == "" {
		return nil
	}
	return []string{"-n", o.GetNamespace()}
}

func kindOf(c *tool, o *unstructured.Unstructured) kube.Kind {
	c.t.Helper()
	k, ok := kube.KindOf(o.GetKind())
	if !ok {
		c.t.Fatalf("no kind %s", o.GetKind())
	}
	return k
}

// testResources: calicoctl creates, applies, replaces, patches, labels and deletes one of each kind, and we see it.
func testResources(c *tool) {
	for _, o := range documents(c) {
		c.in(o.GetKind()+"/"+o.GetName(), func(c *tool) { testResource(c, o) })
	}
}

func testResource(c *tool, o *unstructured.Unstructured) {
	k, path, name := kindOf(c, o), file(c, o), o.GetName()
	c.says("Successfully created 1 '"+o.GetKind()+"' resource(s)", "create", "-f", path)
	if out, ok := c.run("create", "-f", path); ok || !strings.Contains(out, "already exists") {
		c.t.Errorf("created twice: %t\n%s", ok, out)
	}
	have := func() *unstructured.Unstructured {
		c.t.Helper()
		got, err := c.Kube.GetResource(c.t.Context(), k, o.GetNamespace(), name)
		if err != nil {
			c.t.Fatal(err)
		}
		return got
	}
	got := have()
	if got.GetKind() != o.GetKind() || got.GetName() != name || got.GetAPIVersion() != kube.GroupV3 {
		c.t.Errorf("we see %s %s of %s", got.GetKind(), got.GetName(), got.GetAPIVersion())
	}
	for key, value := range o.GetLabels() {
		if got.GetLabels()[key] != value {
			c.t.Errorf("we see labels %v", got.GetLabels())
		}
	}
	within(c, "spec", o.Object["spec"], got.Object["spec"])
	same(c, k, got)

	c.says("Successfully applied 1 '"+o.GetKind()+"' resource(s)", "apply", "-f", path)
	c.says("Successfully replaced 1 '"+o.GetKind()+"' resource(s)", "replace", "-f", path)
	c.says("Successfully patched 1 '"+o.GetKind()+"' resource",
		append([]string{"patch", o.GetKind(), name, "-p", `{"metadata":{"annotations":{"patched":"yes"}}}`}, where(o)...)...)
	c.must(append([]string{"label", o.GetKind(), name, "labelled=yes"}, where(o)...)...)
	if got = have(); got.GetAnnotations()["patched"] != "yes" || got.GetLabels()["labelled"] != "yes" {
		c.t.Errorf("after patch and label we see %v, %v", got.GetAnnotations(), got.GetLabels())
	}

	// What we write, it sees: a label beside its own.
	labels := got.GetLabels()
	labels["ours"] = "too"
	got.SetLabels(labels)
	got, err := c.Kube.UpdateResource(c.t.Context(), k, got, false)
	if err != nil {
		c.t.Fatal(err)
	}
	same(c, k, got)

	c.says("Successfully deleted 1 '"+o.GetKind()+"' resource(s)", append([]string{"delete", o.GetKind(), name}, where(o)...)...)
	if _, err := c.Kube.GetResource(c.t.Context(), k, o.GetNamespace(), name); !apierrors.IsNotFound(err) {
		c.t.Errorf("after it was deleted: %v", err)
	}
}

// testOurs: what we create is read, changed and deleted by calicoctl.
func testOurs(c *tool) {
	for _, o := range documents(c) {
		k := kindOf(c, o)
		if _, err := c.Kube.CreateResource(c.t.Context(), k, o, false); err != nil {
			c.t.Errorf("create %s: %v", o.GetKind(), err)
			continue
		}
		at := where(o)
		name := o.GetName()
		if k.Kind == "NetworkPolicy" || k.Kind == "GlobalNetworkPolicy" {
			// Before v3.30 it looks for default.NAME: see what it lists.
			if !strings.Contains(c.must(append([]string{"get", k.Kind}, at...)...), name) {
				c.t.Errorf("%s %s is not listed", k.Kind, name)
			}
			if err := c.Kube.DeleteResource(c.t.Context(), k, o.GetNamespace(), name, metav1.DeleteOptions{}); err != nil {
				c.t.Error(err)
			}
			continue
		}
		c.must(append([]string{"patch", k.Kind, name, "-p", `{"metadata":{"annotations":{"patched":"yes"}}}`}, at...)...)
		got, err := c.Kube.GetResource(c.t.Context(), k, o.GetNamespace(), name)
		if err != nil {
			c.t.Error(err)
			continue
		}
		within(c, k.Kind, o.Object["spec"], got.Object["spec"])
		same(c, k, got)
		c.must(append([]string{"delete", k.Kind, name}, at...)...)
	}
}

// same compares an object as we see it with how calicoctl shows it: metadata in full, as far as it is a person's, and
// all of the spec that we see.
func same(c *tool, k kube.Kind, ours *unstructured.Unstructured) {
	c.t.Helper()
	out := c.must(append([]string{"get", k.Kind, ours.GetName(), "-o", "json"}, where(ours)...)...)
	theirs := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(out), &theirs.Object); err != nil {
		c.t.Fatalf("%v:\n%s", err, out)
	}
	labels := theirs.GetLabels()
	delete(labels, "projectcalico.org/tier") // shown, not stored, on policies
	want := ours.GetLabels()
	delete(want, "projectcalico.org/tier")
	if theirs.GetUID() != ours.GetUID() || theirs.GetResourceVersion() != ours.GetResourceVersion() || theirs.GetName() != ours.GetName() ||
		theirs.GetNamespace() != ours.GetNamespace() || len(labels)+len(want) > 0 && !reflect.DeepEqual(labels, want) ||
		len(theirs.GetAnnotations())+len(ours.GetAnnotations()) > 0 && !reflect.DeepEqual(theirs.GetAnnotations(), ours.GetAnnotations()) ||
		!theirs.GetCreationTimestamp().Time.Equal(ours.GetCreationTimestamp().Time) {
		c.t.Errorf("metadata: calicoctl shows %v, we %v", theirs.Object["metadata"], ours.Object["metadata"])
	}
	spec := ours.DeepCopy().Object["spec"]
	if m, ok := spec.(map[string]any); ok && c.ours {
		for _, newer := range []string{"assignmentMode", "serviceLoadBalancerAggregation", "tier"} { // than v3.28; made by the schema
			delete(m, newer)
		}
	}
	within(c, k.Kind+" spec", spec, theirs.Object["spec"])
}

// within says whether all of part is in whole, which may have defaults beside. Numbers count by their value.
func within(c *tool, what string, part, whole any) {
	c.t.Helper()
	switch part := part.(type) {
	case map[string]any:
		w, _ := whole.(map[string]any)
		for name, v := range part {
			if m, ok := v.(map[string]any); ok && len(m) == 0 {
				continue // {} is as good as nothing
			}
			within(c, what+"."+name, v, w[name])
		}
	case []any:
		w, _ := whole.([]any)
		if len(w) != len(part) {
			c.t.Errorf("%s: have %v, want %v", what, whole, part)
			return
		}
		for i := range part {
			within(c, what, part[i], w[i])
		}
	default:
		have, _ := json.Marshal(whole)
		want, _ := json.Marshal(part)
		if unset := whole == nil && reflect.ValueOf(part).IsZero(); string(have) != string(want) && !unset {
			c.t.Errorf("%s: have %s, want %s", what, have, want)
		}
	}
}

// testNode: labels and the annotations that Calico's Node is made of.
func testNode(c *tool) {
	c.must("label", "nodes", "node1", "calico-rr=true")
	c.must("patch", "node", "node1", "-p", `{"spec":{"bgp":{"routeReflectorClusterID":"224.0.0.1","asNumber":64513}}}`)
	n, err := c.Core.CoreV1().Nodes().Get(c.t.Context(), "node1", metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for key, want := range map[string]string{"RouteReflectorClusterID": "224.0.0.1", "ASNumber": "64513", "IPv4Address": "192.168.10.11/24"} {
		if have := n.Annotations["projectcalico.org/"+key]; have != want {
			c.t.Errorf("annotation %s of the node is %q, want %q", key, have, want)
		}
	}
	if have := n.Annotations["projectcalico.org/labels"]; have != `{"calico-rr":"true"}` { // beside Kubernetes' own
		c.t.Errorf("Calico's own labels of the node: %s", have)
	}
	c.must("label", "nodes", "node1", "calico-rr", "--remove")
}

// testGet: the looks of every table and format.
func testGet(c *tool) {
	c.prints("get-nodes.txt", "get", "nodes")
	c.prints("get-nodes-wide.txt", "get", "nodes", "-o", "wide")
	c.prints("get-node.yaml", "get", "node", "node2", "-o", "yaml")
	c.prints("get-ippool.txt", "get", "ippool")
	c.prints("get-ippool-wide.txt", "get", "ipp", "-o", "wide")
	c.prints("get-ippool.yaml", "get", "ippool", "default-ipv4-ippool", "-o", "yaml")
	c.prints("get-ippool.json", "get", "ippool", "-o", "json")
	c.prints("get-ippool-export.yaml", "get", "ippool", "default-ipv4-ippool", "-o", "yaml", "--export")
	c.prints("get-wep-wide.txt", "get", "wep", "-n", "default", "-o", "wide")
	c.prints("get-wep.yaml", "get", "wep", "-n", "default", "-o", "yaml")
	c.prints("get-profiles.txt", "get", "profiles")
	c.prints("get-clusterinfo.txt", "get", "clusterinfo")
	c.prints("get-ippool-columns.txt", "get", "ippool", "-o", "custom-columns=NAME,CIDR,NAT")
	c.prints("get-ippool-template.txt", "get", "ippool", "-o", `go-template={{range .}}{{range .Items}}{{.Name}} {{.Spec.CIDR}}{{"\n"}}{{end}}{{end}}`)
	for _, kind := range []string{"felixconfig", "bgpconfig", "bgppeer", "bgpfilter", "kubecontrollersconfig", "gnp", "np", "hep", "networkset", "globalnetworkset", "ipreservation"} {
		c.must("get", kind)
		c.must("get", kind, "-o", "wide")
		c.must("get", kind, "-o", "yaml")
	}
}
