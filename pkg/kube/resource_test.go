package kube

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/store"
	"github.com/margay-net/margay/test/apiserver"
)

// TestGroups goes the way of a cluster's life: without our definitions, with those of v1, with those of v3 too.
func TestGroups(t *testing.T) {
	config := apiserver.Start(t)
	for _, group := range []string{"", GroupV1, GroupV3} {
		_, err := Connect(t.Context(), config, group)
		if err == nil || !strings.Contains(err.Error(), "manifests/margay.yaml") {
			t.Errorf("without definitions, asked for %q: %v", group, err)
		}
	}
	if _, err := Connect(t.Context(), config, "projectcalico.org/v1"); err == nil || !strings.Contains(err.Error(), "CALICO_API_GROUP") {
		t.Errorf("an unknown group: %v", err)
	}

	apiserver.InstallCRDsV1(t, config)
	connect := func(asked, want string, both bool) *Client {
		t.Helper()
		c, err := Connect(t.Context(), config, asked)
		if err != nil {
			t.Fatal(err)
		}
		if c.Group() != want || c.Both(t.Context()) != both {
			t.Fatalf("asked for %q: group is %s, both %t; want %s, %t", asked, c.Group(), c.Both(t.Context()), want, both)
		}
		return c
	}
	c := connect("", GroupV1, false)
	t.Run("v1", func(t *testing.T) {
		t.Run("kinds", func(t *testing.T) { testKinds(t, c) })
		t.Run("resources", func(t *testing.T) { testResources(t, c) })
		t.Run("stored", func(t *testing.T) { testStored(t, c, config) })
		t.Run("legacy policy", func(t *testing.T) { testLegacyPolicy(t, c, config) })
		t.Run("typed", func(t *testing.T) { testTyped(t, c) })
		t.Run("node statuses", func(t *testing.T) { testNodeStatuses(t, c) })
		t.Run("watcher", func(t *testing.T) { testWatcher(t, c) })
		t.Run("BGP", func(t *testing.T) { testBGP(t, c) })
	})

	apiserver.InstallCRDs(t, config)
	connect("", GroupV3, true)
	connect("CRD.projectcalico.org/v1", GroupV1, true)
	c = connect("projectcalico.org/v3", GroupV3, true)
	t.Run("v3", func(t *testing.T) {
		t.Run("annotations", func(t *testing.T) { testAnnotate(t, c) })
		t.Run("kinds", func(t *testing.T) { testKinds(t, c) })
		t.Run("resources", func(t *testing.T) { testResources(t, c) })
		t.Run("typed", func(t *testing.T) { testTyped(t, c) })
		t.Run("node statuses", func(t *testing.T) { testNodeStatuses(t, c) })
		t.Run("watcher", func(t *testing.T) { testWatcher(t, c) })
		t.Run("BGP", func(t *testing.T) { testBGP(t, c) })
	})
	t.Run("services", func(t *testing.T) { testServices(t, config) })
	t.Run("forbidden Secret", func(t *testing.T) { testForbiddenSecret(t, config) })
}

// testKinds asks for every kind: the table's plurals and scopes are those of the definitions.
func testKinds(t *testing.T, c *Client) {
	for _, k := range Kinds {
		all, err := c.ListResources(t.Context(), k, "", metav1.ListOptions{})
		if err != nil {
			t.Errorf("list %s: %v", k.Plural, err)
			continue
		}
		if all.GetAPIVersion() != GroupV3 || all.GetKind() != k.Kind+"List" {
			t.Errorf("list %s is a %s of %s", k.Plural, all.GetKind(), all.GetAPIVersion())
		}
		if !k.Namespaced {
			continue
		}
		if _, err := c.ListResources(t.Context(), k, "default", metav1.ListOptions{}); err != nil {
			t.Errorf("list %s of a namespace: %v", k.Plural, err)
		}
	}
}

func document(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

const poolText = `
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: a, labels: {zone: east}, annotations: {note: first}}
spec: {cidr: 10.10.0.0/16, vxlanMode: Always, natOutgoing: true}
`

func kindOf(t *testing.T, name string) Kind {
	t.Helper()
	k, ok := KindOf(name)
	if !ok {
		t.Fatalf("no kind %s", name)
	}
	return k
}

// testResources: create, get, list by label, watch, update, patch, delete; what is refused, and that nothing is stored.
func testResources(t *testing.T, c *Client) {
	ctx, pools := t.Context(), kindOf(t, "ipp")
	w, err := c.WatchResources(ctx, pools, "", metav1.ListOptions{LabelSelector: "zone=east"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()

	if _, err := c.CreateResource(ctx, pools, document(t, poolText), true); err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetResource(ctx, pools, "", "a"); !apierrors.IsNotFound(err) {
		t.Fatalf("a dry run must store nothing: %v", err)
	}
	bad := document(t, strings.Replace(poolText, "natOutgoing", "natOutgiong", 1))
	if _, err := c.CreateResource(ctx, pools, bad, false); err == nil || !strings.Contains(err.Error(), "natOutgiong") {
		t.Errorf("an unknown field: %v", err)
	}
	made, err := c.CreateResource(ctx, pools, document(t, poolText), false)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.GetResource(ctx, pools, "", "a")
	if err != nil {
		t.Fatal(err)
	}
	if got.GetAPIVersion() != GroupV3 || got.GetKind() != "IPPool" || got.GetLabels()["zone"] != "east" || got.GetAnnotations()["note"] != "first" ||
		got.GetUID() != made.GetUID() || len(got.GetAnnotations()) != 1 || got.GetCreationTimestamp().Time.IsZero() {
		t.Errorf("read back: %v", got.Object)
	}
	for selector, want := range map[string]int{"zone=east": 1, "zone=west": 0, "": 1} {
		all, err := c.ListResources(ctx, pools, "", metav1.ListOptions{LabelSelector: selector})
		if err != nil || len(all.Items) != want {
			t.Errorf("list by %q: %d, want %d: %v", selector, len(all.Items), want, err)
		}
	}

	got.SetLabels(map[string]string{"zone": "west"})
	if err := unstructured.SetNestedField(got.Object, true, "spec", "disabled"); err != nil {
		t.Fatal(err)
	}
	updated, err := c.UpdateResource(ctx, pools, got, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpdateResource(ctx, pools, got, false); !apierrors.IsConflict(err) {
		t.Errorf("an old resourceVersion must be a conflict: %v", err)
	}
	if updated.GetLabels()["zone"] != "west" {
		t.Errorf("updated: %v", updated.Object)
	}
	next := func(want watch.EventType) {
		t.Helper()
		select {
		case e := <-w.ResultChan():
			obj, ok := e.Object.(*unstructured.Unstructured)
			if e.Type != want || !ok || obj.GetAPIVersion() != GroupV3 || obj.GetName() != "a" {
				t.Fatalf("watch tells %s %v, want %s", e.Type, e.Object, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("watch tells nothing, want %s", want)
		}
	}
	next(watch.Added)
	next(watch.Deleted) // it is in the west now

	patched, err := c.PatchResource(ctx, pools, "", "a", types.MergePatchType, []byte(`{"metadata":{"labels":{"zone":"east"}},"spec":{"disabled":false}}`), false)
	if err != nil {
		t.Fatal(err)
	}
	if disabled, _, _ := unstructured.NestedBool(patched.Object, "spec", "disabled"); disabled || patched.GetLabels()["zone"] != "east" {
		t.Errorf("patched: %v", patched.Object)
	}
	patched, err = c.PatchResource(ctx, pools, "", "a", types.JSONPatchType, []byte(`[{"op":"replace","path":"/metadata/annotations/note","value":"second"}]`), false)
	if err != nil || patched.GetAnnotations()["note"] != "second" {
		t.Errorf("patched by JSON: %v, %v", patched, err)
	}
	if _, err := c.PatchResource(ctx, pools, "", "a", types.MergePatchType, []byte(`{"spec":{"natOutgiong":true}}`), false); err == nil || !strings.Contains(err.Error(), "natOutgiong") {
		t.Errorf("a patch with an unknown field: %v", err)
	}
	if _, err := c.PatchResource(ctx, pools, "", "a", types.StrategicMergePatchType, []byte(`{}`), false); err == nil {
		t.Error("a strategic merge patch must be refused")
	}

	uid := types.UID("11111111-1111-4111-8111-111111111111")
	if err := c.DeleteResource(ctx, pools, "", "a", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); !apierrors.IsConflict(err) {
		t.Errorf("deleted with another UID: %v", err)
	}
	uid = made.GetUID()
	if err := c.DeleteResource(ctx, pools, "", "a", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil {
		t.Error(err)
	}
	if err := c.DeleteResource(ctx, pools, "", "a", metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("deleted twice: %v", err)
	}

	ic := kindOf(t, "ipamconfig")
	if _, err := c.CreateResource(ctx, ic, document(t, `{apiVersion: projectcalico.org/v3, kind: IPAMConfiguration, metadata: {name: default}, spec: {strictAffinity: true, autoAllocateBlocks: true}}`), false); err != nil {
		t.Fatal(err)
	}
	if got, err := c.GetResource(ctx, ic, "", "default"); err != nil || got.GetKind() != "IPAMConfiguration" {
		t.Errorf("IPAM configuration: %v, %v", got, err)
	}
}

// stored is the door that kubectl has: no form is turned.
func storedDoor(t *testing.T, config *rest.Config, plural string) dynamic.NamespaceableResourceInterface {
	t.Helper()
	d, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return d.Resource(schema.GroupVersionResource{Group: "crd.projectcalico.org", Version: "v1", Resource: plural})
}

// testStored: what is in the datastore is what Calico's tools put there.
func testStored(t *testing.T, c *Client, config *rest.Config) {
	ctx, pools := t.Context(), kindOf(t, "ippool")
	made, err := c.CreateResource(ctx, pools, document(t, poolText), false)
	if err != nil {
		t.Fatal(err)
	}
	have, err := storedDoor(t, config, "ippools").Get(ctx, "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(have.GetLabels()) != 0 || len(have.GetAnnotations()) != 1 || have.GetUID() == made.GetUID() ||
		!strings.Contains(have.GetAnnotations()[metadataAnnotation], `"labels":{"zone":"east"}`) {
		t.Errorf("stored: %v", have.Object["metadata"])
	}
	if err := c.DeleteResource(ctx, pools, "", "a", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := storedDoor(t, config, "ipamconfigs").Get(ctx, "default", metav1.GetOptions{}); err != nil {
		t.Errorf("IPAM configuration is stored under its name in v1: %v", err)
	}
}

// testLegacyPolicy: a policy that Calico before 3.30 wrote goes by the name that people know.
func testLegacyPolicy(t *testing.T, c *Client, config *rest.Config) {
	ctx, policies := t.Context(), kindOf(t, "np")
	_, err := storedDoor(t, config, "networkpolicies").Namespace("default").Create(ctx, document(t, `
apiVersion: crd.projectcalico.org/v1
kind: NetworkPolicy
metadata: {name: default.p, namespace: default, annotations: {projectcalico.org/metadata: '{"creationTimestamp":"2026-01-01T00:00:00Z"}'}}
spec: {selector: all()}
`), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.GetResource(ctx, policies, "default", "p")
	if err != nil || p.GetName() != "p" {
		t.Fatalf("%v, %v", p, err)
	}
	p.SetLabels(map[string]string{"seen": "yes"})
	if p, err = c.UpdateResource(ctx, policies, p, false); err != nil || p.GetName() != "p" || p.GetLabels()["seen"] != "yes" {
		t.Fatalf("%v, %v", p, err)
	}
	if err := c.DeleteResource(ctx, policies, "default", "p", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if err := c.DeleteResource(ctx, policies, "default", "p", metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("deleted twice: %v", err)
	}
}

// testTyped is what the agent does: blocks, handles and affinities by compare-and-swap.
func testTyped(t *testing.T, c *Client) {
	ctx, cidr := t.Context(), netip.MustParsePrefix("10.20.0.0/26")
	b, err := c.CreateBlock(ctx, block.New(cidr, block.HostAffinity("n1"), time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	sequence := b.Spec.SequenceNumber
	stale := b.DeepCopy()
	if err := block.Take(b, 0, "h", map[string]string{"pod": "p"}); err != nil {
		t.Fatal(err)
	}
	if b, err = c.UpdateBlock(ctx, b); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpdateBlock(ctx, stale); !apierrors.IsConflict(err) {
		t.Errorf("update of an old revision: %v", err)
	}
	read, err := c.GetBlock(ctx, block.Name(cidr))
	if err != nil || block.Check(read) != nil || block.Handle(read, 0) != "h" || read.Spec.SequenceNumber < sequence || read.UID != b.UID {
		t.Errorf("read back: %+v, %v", read, err)
	}
	if err := c.DeleteBlock(ctx, stale); !apierrors.IsConflict(err) {
		t.Errorf("delete of an old revision: %v", err)
	}
	if err := c.DeleteBlock(ctx, b); err != nil {
		t.Error(err)
	}

	meta := func(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: GroupV3, Kind: kind} }
	spec := v3.BlockAffinitySpec{State: v3.AffinityConfirmed, Node: "n1", Type: "host", CIDR: "10.20.0.0/26"}
	affinity := &v3.BlockAffinity{TypeMeta: meta("BlockAffinity"), ObjectMeta: metav1.ObjectMeta{Name: block.AffinityName("n1", cidr), Labels: block.AffinityLabels("host:n1", false)}, Spec: spec}
	if affinity, err = c.CreateAffinity(ctx, affinity); err != nil {
		t.Fatal(err)
	}
	// One of older Calico, without labels; and others that are not the node's.
	for i, s := range []v3.BlockAffinitySpec{{Node: "n1", Type: ""}, {Node: "n10", Type: "host"}, {Node: "n1", Type: "virtual"}} {
		s.State, s.CIDR = v3.AffinityConfirmed, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 20, byte(i + 1), 0}), 26).String()
		old := &v3.BlockAffinity{TypeMeta: meta("BlockAffinity"), ObjectMeta: metav1.ObjectMeta{Name: block.AffinityName(s.Node, netip.MustParsePrefix(s.CIDR))}, Spec: s}
		if _, err := c.CreateAffinity(ctx, old); err != nil {
			t.Fatal(err)
		}
	}
	claims, err := c.NodeAffinities(ctx, "n1")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range claims {
		names = append(names, a.Name)
	}
	if want := []string{"n1-10-20-0-0-26", "n1-10-20-1-0-26"}; !slices.Equal(names, want) {
		t.Errorf("claims of n1: %v, want %v", names, want)
	}
	affinity.Spec.Deleted = true
	if affinity, err = c.UpdateAffinity(ctx, affinity); err != nil || !affinity.Spec.Deleted {
		t.Fatalf("%+v, %v", affinity, err)
	}
	if err := c.DeleteAffinity(ctx, affinity); err != nil {
		t.Error(err)
	}

	h, err := c.CreateHandle(ctx, &v3.IPAMHandle{TypeMeta: meta("IPAMHandle"), ObjectMeta: metav1.ObjectMeta{Name: "h"}, Spec: v3.IPAMHandleSpec{HandleID: "H", Block: map[string]int{"10.20.0.0/26": 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteHandle(ctx, h); err != nil {
		t.Error(err)
	}
}

// testWatcher: the store is filled, and follows.
func testWatcher(t *testing.T, c *Client) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := c.CreatePool(ctx, &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "w"}, Spec: v3.IPPoolSpec{CIDR: "10.30.0.0/16", VXLANMode: "Always"}}); err != nil {
		t.Fatal(err)
	}
	if err := c.EnsureClusterInformation(ctx, v3.ClusterInformationSpec{ClusterType: "k8s"}); err != nil {
		t.Fatal(err)
	}
	s, done := store.New(), make(chan error)
	go func() { done <- NewWatcher(c, s, nil, slog.New(slog.DiscardHandler)).Run(ctx) }()
	eventually(t, "the store is in sync", s.InSync)
	pool := func() *model.Pool {
		for _, p := range s.Pools() {
			if p.Name == "w" {
				return &p
			}
		}
		return nil
	}
	if p := pool(); p == nil || p.CIDR.String() != "10.30.0.0/16" || p.Disabled {
		t.Errorf("pools: %+v", s.Pools())
	}
	if !s.Config().StrictAffinity {
		t.Errorf("IPAM configuration: %+v", s.Config())
	}
	if err := c.DisablePool(ctx, "w"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the store hears of the pool", func() bool { p := pool(); return p != nil && p.Disabled })
	if err := c.DeleteResource(ctx, kindOf(t, "ippool"), "", "w", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the store forgets the pool", func() bool { return pool() == nil })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("%s: not after 30 s", what)
}
