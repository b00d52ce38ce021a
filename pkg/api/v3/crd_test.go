package v3_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/apiserver"
)

// refusal is an object that the API server must refuse, with an error that holds all of want: the field and a reason.
type refusal struct {
	name, resource, yaml string
	want                 []string
}

var refusals = []refusal{
	{"both modes", "ippools", "spec: {cidr: 10.0.0.0/16, vxlanMode: Always, ipipMode: CrossSubnet}",
		[]string{"spec.vxlanMode", "ipipMode and vxlanMode cannot both be enabled"}},
	{"no cidr", "ippools", "spec: {vxlanMode: Always}", []string{"spec.cidr", "Required value"}},
	{"no network", "ippools", "spec: {cidr: pods}", []string{"spec.cidr", "CIDR form"}},
	{"address without length", "ippools", "spec: {cidr: 10.0.0.0}", []string{"spec.cidr", "CIDR form"}},
	{"length too large", "ippools", "spec: {cidr: 10.0.0.0/33}", []string{"spec.cidr", "CIDR form"}},
	{"leading zero", "ippools", "spec: {cidr: 10.0.010.0/24}", []string{"spec.cidr", "CIDR form"}},
	{"host bits", "ippools", "spec: {cidr: 10.0.0.1/16}", []string{"spec.cidr", "host bits"}},
	{"host bits, IPv6", "ippools", "spec: {cidr: 'fd00::1/48'}", []string{"spec.cidr", "host bits"}},
	{"cidr is a number", "ippools", "spec: {cidr: 10}", []string{"spec.cidr", "must be of type string"}},
	{"cidr too long", "ippools", "spec: {cidr: '" + strings.Repeat("1", 44) + "'}", []string{"spec.cidr", "Too long"}},
	{"blocks too large", "ippools", "spec: {cidr: 10.0.0.0/8, blockSize: 19}", []string{"spec.blockSize", "from 20 to 32"}},
	{"blocks too small", "ippools", "spec: {cidr: 10.0.0.0/16, blockSize: 33}", []string{"spec.blockSize", "from 20 to 32"}},
	{"block size 0", "ippools", "spec: {cidr: 10.0.0.0/16, blockSize: 0}", []string{"spec.blockSize", "from 20 to 32"}},
	{"blocks too large, IPv6", "ippools", "spec: {cidr: 'fd00::/48', blockSize: 115}", []string{"spec.blockSize", "from 116 to 128"}},
	{"IPv4 block size, IPv6", "ippools", "spec: {cidr: 'fd00::/48', blockSize: 26}", []string{"spec.blockSize", "from 116 to 128"}},
	{"block larger than pool", "ippools", "spec: {cidr: 10.0.0.0/28, blockSize: 26}", []string{"spec.blockSize", "larger than the pool"}},
	{"default block larger than pool", "ippools", "spec: {cidr: 10.0.0.0/28}", []string{"spec.blockSize", "larger than the pool"}},
	{"block size is a string", "ippools", "spec: {cidr: 10.0.0.0/16, blockSize: '26'}", []string{"spec.blockSize", "must be of type integer"}},
	{"mode in lower case", "ippools", "spec: {cidr: 10.0.0.0/16, vxlanMode: always}", []string{"spec.vxlanMode", `"Never", "Always", "CrossSubnet"`}},
	{"unknown mode", "ippools", "spec: {cidr: 10.0.0.0/16, ipipMode: none}", []string{"spec.ipipMode", `"Never", "Always", "CrossSubnet"`}},
	{"unknown use", "ippools", "spec: {cidr: 10.0.0.0/16, allowedUses: [Workload, Pods]}", []string{"spec.allowedUses[1]", `"Workload", "Tunnel", "LoadBalancer"`}},
	{"use twice", "ippools", "spec: {cidr: 10.0.0.0/16, allowedUses: [Tunnel, Tunnel]}", []string{"spec.allowedUses[1]", "Duplicate value"}},
	{"unknown assignment", "ippools", "spec: {cidr: 10.0.0.0/16, assignmentMode: Auto}", []string{"spec.assignmentMode", `"Automatic", "Manual"`}},
	{"switch is a string", "ippools", "spec: {cidr: 10.0.0.0/16, natOutgoing: 'yes'}", []string{"spec.natOutgoing", "must be of type boolean"}},
	{"unknown field", "ippools", "spec: {cidr: 10.0.0.0/16, natOutgoin: true}", []string{`unknown field "spec.natOutgoin"`}},

	{"wrong name", "ipamconfigurations", "spec: {}", []string{"metadata.name must be default"}},
	{"no way to get a block", "ipamconfigurations", "metadata: {name: default}\nspec: {autoAllocateBlocks: false}",
		[]string{"spec", "autoAllocateBlocks must be true when strictAffinity is false"}},
	{"limit without strict affinity", "ipamconfigurations", "metadata: {name: default}\nspec: {maxBlocksPerHost: 4}",
		[]string{"spec", "maxBlocksPerHost above 0 needs strictAffinity"}},
	{"negative limit", "ipamconfigurations", "metadata: {name: default}\nspec: {strictAffinity: true, maxBlocksPerHost: -1}",
		[]string{"spec.maxBlocksPerHost", "greater than or equal to 0"}},
	{"long cooldown", "ipamconfigurations", "metadata: {name: default}\nspec: {ipCooldownSeconds: 1201}",
		[]string{"spec.ipCooldownSeconds", "less than or equal to 1200"}},

	{"log level", "felixconfigurations", "spec: {logSeverityScreen: loud}", []string{"spec.logSeverityScreen", "should match"}},
	{"VNI 0", "felixconfigurations", "spec: {vxlanVNI: 0}", []string{"spec.vxlanVNI", "greater than or equal to 1"}},
	{"port too large", "felixconfigurations", "spec: {vxlanPort: 65536}", []string{"spec.vxlanPort", "less than or equal to 65535"}},
	{"MTU is a string", "felixconfigurations", "spec: {vxlanMTU: auto}", []string{"spec.vxlanMTU", "must be of type integer"}},

	{"claim state", "blockaffinities", "spec: {cidr: 10.0.0.0/26, node: node-1, state: none}", []string{"spec.state", `"pending", "confirmed", "pendingDeletion"`}},
	{"block without allocations", "ipamblocks", "spec: {cidr: 10.0.0.0/26, unallocated: [], attributes: []}", []string{"spec.allocations", "Required value"}},
}

// TestCRDs checks the generated schema with the API server that has the last word on it.
func TestCRDs(t *testing.T) {
	cfg := apiserver.Start(t)
	apiserver.InstallCRDs(t, cfg)
	client := dynamic.NewForConfigOrDie(cfg)

	for _, r := range refusals {
		t.Run("refuse/"+r.resource+"/"+r.name, func(t *testing.T) {
			_, err := create(t.Context(), client, object(t, r.resource, r.yaml))
			checkRefused(t, err, r.want)
		})
	}
	for _, c := range []struct{ name, from, to string }{
		{"cidr", "{cidr: 10.0.0.0/16}", "{cidr: 10.1.0.0/16}"},
		{"blockSize", "{cidr: 10.0.0.0/16, blockSize: 26}", "{cidr: 10.0.0.0/16, blockSize: 27}"},
		{"blockSize", "{cidr: 10.0.0.0/16, blockSize: 27}", "{cidr: 10.0.0.0/16}"},
		{"blockSize", "{cidr: 10.0.0.0/16}", "{cidr: 10.0.0.0/16, blockSize: 27}"},
		{"blockSize", "{cidr: 'fd00::/48'}", "{cidr: 'fd00::/48', blockSize: 124}"},
	} {
		t.Run("refuse change/"+c.from+" to "+c.to, func(t *testing.T) {
			checkRefused(t, change(t, client, c.from, c.to), []string{"spec." + c.name, c.name + " cannot be changed"})
		})
	}
	for _, c := range []struct{ from, to string }{
		{"{cidr: 10.0.0.0/16}", "{cidr: 10.0.0.0/16, blockSize: 26}"},
		{"{cidr: 'fd00::/48', blockSize: 122}", "{cidr: 'fd00::/48'}"},
		{"{cidr: 10.0.0.0/16, vxlanMode: Always, ipipMode: Never}", "{cidr: 10.0.0.0/16, vxlanMode: Never, ipipMode: CrossSubnet, disabled: true, nodeSelector: all()}"},
		{"{cidr: 10.0.0.0/28, blockSize: 32}", "{cidr: 10.0.0.0/28, blockSize: 32, allowedUses: [Tunnel]}"},
	} {
		t.Run("allow change/"+c.from+" to "+c.to, func(t *testing.T) {
			if err := change(t, client, c.from, c.to); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("unknown parameters are kept", func(t *testing.T) { keepUnknown(t, client) })
	for _, o := range full() {
		t.Run("round trip/"+o.GetObjectKind().GroupVersionKind().Kind, func(t *testing.T) { roundTrip(t, client, o) })
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

// change makes a pool with one spec and updates it to the other.
func change(t *testing.T, client dynamic.Interface, from, to string) error {
	t.Helper()
	have, err := create(t.Context(), client, object(t, "ippools", "spec: "+from))
	if err != nil {
		t.Fatal(err)
	}
	pools := client.Resource(v3.GroupVersion.WithResource("ippools"))
	defer func() {
		if err := pools.Delete(t.Context(), have.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}()
	have.Object["spec"] = object(t, "ippools", "spec: "+to).Object["spec"]
	_, err = pools.Update(t.Context(), have, metav1.UpdateOptions{})
	return err
}

// keepUnknown writes parameters that this version does not read, as Calico's guides do.
func keepUnknown(t *testing.T, client dynamic.Interface) {
	want := object(t, "felixconfigurations", "metadata: {name: default}\nspec: {bpfEnabled: true, routeTableRanges: [{min: 1, max: 250}]}")
	have, err := create(t.Context(), client, want)
	if err != nil {
		t.Fatal(err)
	}
	if have, want := fmt.Sprint(have.Object["spec"]), fmt.Sprint(want.Object["spec"]); have != want {
		t.Fatalf("spec is %s, want %s", have, want)
	}
}

// full returns one object of each kind with what is hard to store: nulls, empty lists, large numbers.
func full() []runtime.Object {
	kind := func(k string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: k}
	}
	name := metav1.ObjectMeta{Name: "full"}
	now := metav1.Time{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Local()}
	zero, sequence := 0, uint64(1_800_000_000_123_456_789)
	affinity, handle := "host:node-1", "k8s-pod-network.c1"
	return []runtime.Object{
		&v3.IPAMBlock{TypeMeta: kind("IPAMBlock"), ObjectMeta: name, Spec: v3.IPAMBlockSpec{
			CIDR: "10.0.0.0/30", Affinity: &affinity, AffinityClaimTime: &now,
			Allocations: []*int{nil, &zero, nil, &zero}, Unallocated: []int{2, 0},
			Attributes: []v3.AllocationAttribute{{
				HandleID: &handle, Secondary: map[string]string{"pod": "p", "namespace": "n"}, ReleasedAt: &now,
			}},
			SequenceNumber: sequence, SequenceNumberForAllocation: map[string]uint64{"1": sequence - 1, "3": sequence},
		}},
		&v3.IPAMHandle{TypeMeta: kind("IPAMHandle"), ObjectMeta: name, Spec: v3.IPAMHandleSpec{
			HandleID: handle, Block: map[string]int{"10.0.0.0/30": 2},
		}},
		&v3.BlockAffinity{TypeMeta: kind("BlockAffinity"), ObjectMeta: name, Spec: v3.BlockAffinitySpec{
			State: v3.AffinityConfirmed, Node: "node-1", Type: "host", CIDR: "10.0.0.0/30",
		}},
		&v3.IPPool{TypeMeta: kind("IPPool"), ObjectMeta: name, Spec: v3.IPPoolSpec{
			CIDR: "172.20.0.0/16", BlockSize: 26, VXLANMode: v3.EncapAlways, IPIPMode: v3.EncapNever, NATOutgoing: true,
			NodeSelector: "all()", AllowedUses: []v3.PoolUse{v3.UseWorkload, v3.UseTunnel}, AssignmentMode: v3.AssignAutomatic,
		}},
		&v3.ClusterInformation{TypeMeta: kind("ClusterInformation"), ObjectMeta: name, Spec: v3.ClusterInformationSpec{
			ClusterGUID: "0123456789abcdef0123456789abcdef", ClusterType: "k8s", DatastoreReady: new(bool),
		}},
	}
}

// roundTrip writes the object and compares what it reads with what it wrote, but for what the API server adds.
func roundTrip(t *testing.T, client dynamic.Interface, want runtime.Object) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(want)
	if err != nil {
		t.Fatal(err)
	}
	o := &unstructured.Unstructured{Object: fields}
	unstructured.RemoveNestedField(o.Object, "metadata", "creationTimestamp")
	stored, err := create(t.Context(), client, o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(stored)
	if err != nil {
		t.Fatal(err)
	}
	have := reflect.New(reflect.TypeOf(want).Elem())
	if err := json.Unmarshal(b, have.Interface()); err != nil {
		t.Fatal(err)
	}
	spec := func(v reflect.Value) any { return v.Elem().FieldByName("Spec").Interface() }
	if have, want := spec(have), spec(reflect.ValueOf(want)); !reflect.DeepEqual(have, want) {
		t.Fatalf("have %+v\nwant %+v", have, want)
	}
}

var kinds = map[string]string{
	"ippools": "IPPool", "ipamblocks": "IPAMBlock", "ipamhandles": "IPAMHandle", "blockaffinities": "BlockAffinity",
	"ipamconfigurations": "IPAMConfiguration", "felixconfigurations": "FelixConfiguration",
	"clusterinformations": "ClusterInformation",
}

// object reads YAML and adds kind and, unless it has one, the name "test".
func object(t *testing.T, resource, text string) *unstructured.Unstructured {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	o := &unstructured.Unstructured{}
	if err := json.Unmarshal(b, &o.Object); err != nil {
		t.Fatal(err)
	}
	o.SetGroupVersionKind(v3.GroupVersion.WithKind(kinds[resource]))
	if o.GetName() == "" {
		o.SetName("test")
	}
	return o
}

// create writes as kubectl does: unknown fields are errors.
func create(ctx context.Context, client dynamic.Interface, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	for resource, kind := range kinds {
		if kind == o.GetKind() {
			return client.Resource(v3.GroupVersion.WithResource(resource)).
				Create(ctx, o, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		}
	}
	panic("no resource of kind " + o.GetKind())
}
