package v3_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

var ipamGood = []good{
	{"reference", "ippools", `
metadata: {name: my.ippool-1}
spec:
  cidr: 10.1.0.0/16
  ipipMode: CrossSubnet
  natOutgoing: true
  disabled: false
  nodeSelector: all()
  allowedUses: [Workload, Tunnel]`},
	{"IPv6", "ippools", "spec: {cidr: 'fd00:10:96::/48', blockSize: 122, vxlanMode: Always, ipipMode: Never, natOutgoing: true}"},
	{"load balancer", "ippools", "spec: {cidr: 192.210.0.0/20, blockSize: 24, natOutgoing: true, disabled: false, assignmentMode: Automatic, allowedUses: [LoadBalancer]}"},
	{"by hand", "ippools", "spec: {cidr: 192.168.0.0/24, assignmentMode: Manual, disableBGPExport: true}"},
	{"of namespaces", "ippools", `spec: {cidr: 192.168.0.0/18, namespaceSelector: 'environment == "production"', allowedUses: [Workload], nodeSelector: zone == "a"}`},
	{"too small, but disabled", "ippools", "spec: {cidr: 10.0.0.0/28, disabled: true}"},

	{"reference", "ipreservations", "metadata: {name: my-ipreservation-1}\nspec: {reservedCIDRs: [192.168.2.3, 10.0.2.3/32, 'cafe:f00d::/123']}"},
	{"host bits", "ipreservations", "spec: {reservedCIDRs: [10.0.2.3/24]}"},

	{"reference", "ipamconfigurations", "spec: {strictAffinity: false, maxBlocksPerHost: 0, autoAllocateBlocks: true}"},
	{"strict", "ipamconfigurations", "spec: {strictAffinity: true, maxBlocksPerHost: 4, autoAllocateBlocks: false, ipCooldownSeconds: 30, kubeVirtVMAddressPersistence: Enabled}"},

	{"reference", "blockaffinities", "metadata: {name: node-1-10-0-0-0-26}\nspec: {cidr: 10.0.0.0/26, node: node-1, state: confirmed, type: host}"},
	{"reference", "ipamhandles", "metadata: {name: k8s-pod-network.c1}\nspec: {handleID: k8s-pod-network.C1, block: {10.0.0.0/26: 2}, deleted: false}"},
	{"reference", "ipamblocks", `
metadata: {name: 10-0-0-0-30}
spec:
  cidr: 10.0.0.0/30
  affinity: host:node-1
  affinityClaimTime: 2026-01-02T03:04:05Z
  allocations: [null, 0, null, null]
  unallocated: [0, 2, 3]
  attributes: [{handle_id: h, secondary: {node: node-1}, alternateOwnerAttrs: {node: node-2}}]
  sequenceNumber: 1800000000123456789
  sequenceNumberForAllocation: {"1": 1800000000123456788}
  strictAffinity: false
  deleted: false`},
}

var ipamRefusals = []refusal{
	{"both modes", "ippools", "spec: {cidr: 10.0.0.0/16, vxlanMode: Always, ipipMode: CrossSubnet}",
		[]string{"spec.vxlanMode", "ipipMode and vxlanMode cannot both be enabled"}},
	{"no cidr", "ippools", "spec: {vxlanMode: Always}", []string{"spec.cidr", "Required value"}},
	{"no network", "ippools", "spec: {cidr: pods}", []string{"spec.cidr", "CIDR form"}},
	{"address without length", "ippools", "spec: {cidr: 10.0.0.0}", []string{"spec.cidr", "CIDR form"}},
	{"length too large", "ippools", "spec: {cidr: 10.0.0.0/33}", []string{"spec.cidr", "CIDR form"}},
	{"leading zero", "ippools", "spec: {cidr: 10.0.010.0/24}", []string{"spec.cidr", "CIDR form"}},
	{"host bits", "ippools", "spec: {cidr: 10.0.0.1/16}", []string{"spec.cidr", "host bits"}},
	{"host bits, IPv6", "ippools", "spec: {cidr: 'fd00::1/48'}", []string{"spec.cidr", "host bits"}},
	{"link-local", "ippools", "spec: {cidr: 169.254.5.0/24}", []string{"spec.cidr", "link-local"}},
	{"link-local inside", "ippools", "spec: {cidr: 169.0.0.0/8}", []string{"spec.cidr", "link-local"}},
	{"link-local, IPv6", "ippools", "spec: {cidr: 'fe80::/64'}", []string{"spec.cidr", "link-local"}},
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
	{"IPIP, IPv6", "ippools", "spec: {cidr: 'fd00::/48', ipipMode: Always}", []string{"spec.ipipMode", "IPIP is for IPv4"}},
	{"unknown use", "ippools", "spec: {cidr: 10.0.0.0/16, allowedUses: [Workload, Pods]}", []string{"spec.allowedUses[1]", `"Workload", "Tunnel", "LoadBalancer"`}},
	{"use twice", "ippools", "spec: {cidr: 10.0.0.0/16, allowedUses: [Tunnel, Tunnel]}", []string{"spec.allowedUses[1]", "Duplicate value"}},
	{"load balancer and pods", "ippools", "spec: {cidr: 10.0.0.0/16, allowedUses: [LoadBalancer, Workload]}", []string{"spec.allowedUses", "make a pool for each"}},
	{"load balancer and VXLAN", "ippools", "spec: {cidr: 10.0.0.0/16, allowedUses: [LoadBalancer], vxlanMode: Always}", []string{"spec.allowedUses", "must be Never"}},
	{"load balancer and IPIP", "ippools", "spec: {cidr: 10.0.0.0/16, allowedUses: [LoadBalancer], ipipMode: CrossSubnet}", []string{"spec.allowedUses", "must be Never"}},
	{"load balancer, not announced", "ippools", "spec: {cidr: 10.0.0.0/16, allowedUses: [LoadBalancer], disableBGPExport: true}", []string{"spec.disableBGPExport", "must be false"}},
	{"load balancer of nodes", "ippools", "spec: {cidr: 10.0.0.0/16, allowedUses: [LoadBalancer], nodeSelector: has(zone)}", []string{"spec.nodeSelector", "must be all()"}},
	{"tunnel of namespaces", "ippools", "spec: {cidr: 10.0.0.0/16, allowedUses: [Tunnel, Workload], namespaceSelector: has(x)}", []string{"spec.namespaceSelector", "tunnels are in no namespace"}},
	{"global nodes", "ippools", "spec: {cidr: 10.0.0.0/16, nodeSelector: global()}", []string{"spec.nodeSelector", "use all()"}},
	{"global namespaces", "ippools", "spec: {cidr: 10.0.0.0/16, namespaceSelector: global()}", []string{"spec.namespaceSelector", "leave namespaceSelector out"}},
	{"long selector", "ippools", "spec: {cidr: 10.0.0.0/16, nodeSelector: '" + strings.Repeat("x", 1025) + "'}", []string{"spec.nodeSelector", "Too long"}},
	{"unknown assignment", "ippools", "spec: {cidr: 10.0.0.0/16, assignmentMode: Auto}", []string{"spec.assignmentMode", `"Automatic", "Manual"`}},
	{"switch is a string", "ippools", "spec: {cidr: 10.0.0.0/16, natOutgoing: 'yes'}", []string{"spec.natOutgoing", "must be of type boolean"}},
	{"unknown field", "ippools", "spec: {cidr: 10.0.0.0/16, natOutgoin: true}", []string{`unknown field "spec.natOutgoin"`}},
	{"bad name", "ippools", "metadata: {name: my_pool}\nspec: {cidr: 10.0.0.0/16}", []string{"metadata.name", "RFC 1123"}},

	{"no network", "ipreservations", "spec: {reservedCIDRs: [10.0.2.3/32, office]}", []string{"spec.reservedCIDRs[1]", "must be a network or an address"}},
	{"length too large", "ipreservations", "spec: {reservedCIDRs: [10.0.2.3/33]}", []string{"spec.reservedCIDRs[0]", "must be a network or an address"}},
	{"twice", "ipreservations", "spec: {reservedCIDRs: [10.0.2.3/32, 10.0.2.3/32]}", []string{"spec.reservedCIDRs[1]", "Duplicate value"}},
	{"one string", "ipreservations", "spec: {reservedCIDRs: 10.0.2.3/32}", []string{"spec.reservedCIDRs", "must be of type array"}},

	{"wrong name", "ipamconfigurations", "metadata: {name: mine}\nspec: {}", []string{"metadata", "metadata.name must be default"}},
	{"no way to get a block", "ipamconfigurations", "spec: {autoAllocateBlocks: false}",
		[]string{"spec.autoAllocateBlocks", "autoAllocateBlocks must be true when strictAffinity is false"}},
	{"limit without strict affinity", "ipamconfigurations", "spec: {maxBlocksPerHost: 4}",
		[]string{"spec.maxBlocksPerHost", "maxBlocksPerHost above 0 needs strictAffinity"}},
	{"negative limit", "ipamconfigurations", "spec: {strictAffinity: true, maxBlocksPerHost: -1}",
		[]string{"spec.maxBlocksPerHost", "greater than or equal to 0"}},
	{"long cooldown", "ipamconfigurations", "spec: {ipCooldownSeconds: 1201}",
		[]string{"spec.ipCooldownSeconds", "less than or equal to 1200"}},
	{"negative cooldown", "ipamconfigurations", "spec: {ipCooldownSeconds: -1}",
		[]string{"spec.ipCooldownSeconds", "greater than or equal to 0"}},

	{"claim state", "blockaffinities", "spec: {cidr: 10.0.0.0/26, node: node-1, state: none}", []string{"spec.state", `"pending", "confirmed", "pendingDeletion"`}},
	{"no node", "blockaffinities", "spec: {cidr: 10.0.0.0/26, state: confirmed}", []string{"spec.node", "Required value"}},
	{"block without allocations", "ipamblocks", "spec: {cidr: 10.0.0.0/26, unallocated: [], attributes: []}", []string{"spec.allocations", "Required value"}},
	{"handle without blocks", "ipamhandles", "spec: {handleID: h}", []string{"spec.block", "Required value"}},
}

// testChanges changes pools in the ways that are, and are not, possible.
func testChanges(t *testing.T, a api) {
	for _, c := range []struct{ name, from, to string }{
		{"cidr", "{cidr: 10.0.0.0/16}", "{cidr: 10.1.0.0/16}"},
		{"blockSize", "{cidr: 10.0.0.0/16, blockSize: 26}", "{cidr: 10.0.0.0/16, blockSize: 27}"},
		{"blockSize", "{cidr: 10.0.0.0/16, blockSize: 27}", "{cidr: 10.0.0.0/16}"},
		{"blockSize", "{cidr: 10.0.0.0/16}", "{cidr: 10.0.0.0/16, blockSize: 27}"},
		{"blockSize", "{cidr: 'fd00::/48'}", "{cidr: 'fd00::/48', blockSize: 124}"},
	} {
		t.Run("refuse change/"+c.from+" to "+c.to, func(t *testing.T) {
			checkRefused(t, a.change(t, c.from, c.to), []string{"spec." + c.name, c.name + " cannot be changed"})
		})
	}
	for _, c := range []struct{ from, to string }{
		{"{cidr: 10.0.0.0/16}", "{cidr: 10.0.0.0/16, blockSize: 26}"},
		{"{cidr: 'fd00::/48', blockSize: 122}", "{cidr: 'fd00::/48'}"},
		{"{cidr: 10.0.0.0/16, vxlanMode: Always, ipipMode: Never}", "{cidr: 10.0.0.0/16, vxlanMode: Never, ipipMode: CrossSubnet, disabled: true, nodeSelector: all()}"},
		{"{cidr: 10.0.0.0/28, blockSize: 32}", "{cidr: 10.0.0.0/28, blockSize: 32, allowedUses: [Tunnel]}"},
	} {
		t.Run("allow change/"+c.from+" to "+c.to, func(t *testing.T) {
			if err := a.change(t, c.from, c.to); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// change makes a pool with one spec and updates it to the other.
func (a api) change(t *testing.T, from, to string) error {
	t.Helper()
	have, err := a.create(t.Context(), a.object(t, "ippools", "spec: "+from), "ippools")
	if err != nil {
		t.Fatal(err)
	}
	defer a.remove(t, "ippools", have)
	have.Object["spec"] = a.object(t, "ippools", "spec: "+to).Object["spec"]
	_, err = a.client.Resource(a.gvr("ippools")).Update(t.Context(), have, metav1.UpdateOptions{})
	return err
}

// keepUnknown writes parameters that this version does not read, as Calico's guides do.
func (a api) keepUnknown(t *testing.T) {
	want := a.object(t, "felixconfigurations", "spec: {bpfEnabled: true, routeTableRanges: [{min: 1, max: 250}]}")
	have, err := a.create(t.Context(), want, "felixconfigurations")
	if err != nil {
		t.Fatal(err)
	}
	defer a.remove(t, "felixconfigurations", have)
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
	as, port := v3.ASNumber(4_200_000_000), 9094
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
		&v3.ClusterInformation{TypeMeta: kind("ClusterInformation"), ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v3.ClusterInformationSpec{
			ClusterGUID: "0123456789abcdef0123456789abcdef", ClusterType: "k8s", DatastoreReady: new(bool),
		}},
		&v3.KubeControllersConfiguration{TypeMeta: kind("KubeControllersConfiguration"), ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v3.KubeControllersConfigurationSpec{
			HealthChecks: v3.Enabled, PrometheusMetricsPort: &port,
			Controllers: v3.ControllersConfig{Node: &v3.NodeControllerConfig{
				ReconcilerPeriod: &metav1.Duration{Duration: 90 * time.Second}, LeakGracePeriod: &metav1.Duration{},
			}},
		}},
		&v3.BGPPeer{TypeMeta: kind("BGPPeer"), ObjectMeta: name, Spec: v3.BGPPeerSpec{
			PeerIP: "[fd00::1]:1790", ASNumber: &as, KeepaliveTime: &metav1.Duration{Duration: 1500 * time.Millisecond},
		}},
	}
}
