package resource

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/margay-net/margay/pkg/kube"
)

// TestKinds: each name means one kind, each kind of package kube is there, and each heading of a table can be shown.
func TestKinds(t *testing.T) {
	seen := map[string]string{}
	var names []string
	for _, k := range Kinds() {
		names = append(names, k.Kind.Kind)
		if k.Plural == "" {
			t.Errorf("package kube does not know %s", k.Kind.Kind)
		}
		for _, name := range k.Names {
			if other := seen[name]; other != "" && other != k.Kind.Kind {
				t.Errorf("%s means %s and %s", name, other, k.Kind.Kind)
			}
			seen[name] = k.Kind.Kind
			if found, err := Find(strings.ToUpper(name)); err != nil || found != k {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := k.CheckHeadings(slices.Concat(k.Narrow, k.Wide)); err != nil {
			t.Error(k.Kind.Kind, err)
		}
		if len(k.Narrow) == 0 || slices.Contains(k.Headings(), "NAMESPACE") != k.Namespaced {
			t.Error(k.Kind.Kind, k.Headings())
		}
	}
	for _, k := range kube.Kinds {
		if !slices.Contains(names, k.Kind) {
			t.Errorf("%s is missing", k.Kind)
		}
	}
}

func TestFind(t *testing.T) {
	for typed, want := range map[string]string{
		"ipp": "IPPool", "IPPools": "IPPool", "bgpp": "BGPPeer", "gnp": "GlobalNetworkPolicy", "np": "NetworkPolicy", "wep": "WorkloadEndpoint", "heps": "HostEndpoint",
		"nodes": "Node", "clusterinfo": "ClusterInformation", "felixconfig": "FelixConfiguration", "kubecontrollersconfig": "KubeControllersConfiguration",
		"ipamconfig": "IPAMConfiguration", "blockaffinity": "BlockAffinity", "bgpconfig": "BGPConfiguration", "nodestatus": "CalicoNodeStatus",
		"ippol": "do you mean IPPool?", "globalnetworkpolcy": "do you mean GlobalNetworkPolicy?", "deployment": "known are BGPConfiguration, BGPFilter", "": "known are",
	} {
		k, err := Find(typed)
		have := fmt.Sprint(err)
		if err == nil {
			have = k.Kind.Kind
		}
		if !strings.Contains(have, want) {
			t.Errorf("%s: %s, want %s", typed, have, want)
		}
	}
}

// TestNodeBack: a Node that is read and written without a change writes what is stored, whatever valid annotations there
// are; and what is no valid value is not shown.
func TestNodeBack(t *testing.T) {
	values := map[string][]string{
		"IPv4Address": {"192.168.10.11/24"}, "IPv6Address": {"fd00::11/64"}, "IPv4IPIPTunnelAddr": {"10.0.0.1"}, "RouteReflectorClusterID": {"224.0.0.1"},
		"IPv4VXLANTunnelAddr": {"10.0.0.2"}, "VXLANTunnelMACAddr": {"66:00:00:00:00:01"}, "IPv6VXLANTunnelAddr": {"fd00::2"}, "VXLANTunnelMACAddrV6": {"66:00:00:00:00:02"},
		"IPv4WireguardInterfaceAddr": {"10.0.0.3"}, "IPv6WireguardInterfaceAddr": {"fd00::3"}, "WireguardPublicKey": {"key"}, "WireguardPublicKeyV6": {"key6"},
		"ASNumber": {"64512", "4294967295"}, "labels": {`{"rack":"a"}`}, "annotations": {`{"note":"b"}`}, "Interfaces": {`[{"name":"eth0","addresses":["192.168.10.11"]}]`},
	}
	names := slices.Sorted(maps.Keys(values))
	rapid.Check(t, func(t *rapid.T) {
		stored := map[string]string{"other.org/x": "y"}
		for _, name := range names {
			if rapid.Bool().Draw(t, name) {
				stored[prefix+name] = rapid.SampledFrom(values[name]).Draw(t, name)
			}
		}
		k := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: stored}}
		if rapid.Bool().Draw(t, "labels of Kubernetes") {
			k.Labels = map[string]string{"kubernetes.io/hostname": "n"}
		}
		o, err := readNode(k)
		if err != nil {
			t.Fatal(err)
		}
		n, err := parseNode(o)
		if err != nil {
			t.Fatal(err)
		}
		written, err := n.write()
		if err != nil {
			t.Fatal(err)
		}
		for key, v := range written {
			have, ok := stored[key]
			if ok != (v != nil) || ok && have != v {
				t.Fatalf("%s: stored %q, written %v", key, have, v)
			}
		}
	})
	for name, bad := range map[string]string{
		"IPv4Address": "192.168.10.11", "IPv6Address": "192.168.10.11/24", "RouteReflectorClusterID": "x", "IPv4VXLANTunnelAddr": "fd00::1",
		"VXLANTunnelMACAddr": "66-00-00-00-00-01", "IPv6VXLANTunnelAddr": "fe80::1%eth0", "ASNumber": "many", "labels": "x", "annotations": "[x", "Interfaces": "{",
	} {
		o, err := readNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: map[string]string{prefix + name: bad}}})
		if err != nil {
			t.Fatal(name, err)
		}
		if text := fmt.Sprint(o.Object["spec"]); strings.Contains(text, bad) || value(o.Object, "spec.bgp") != nil {
			t.Errorf("%s is shown: %s", name, text)
		}
	}
}

func TestMirrored(t *testing.T) {
	const uid = types.UID("5044dabe-405e-4c7d-903c-dc84e02bd2fa")
	// Bytes turned around bit by bit, but for the 7th and the 9th.
	if have := mirrored(uid); have != "0a225b7d-027a-4cbe-903c-3b2107d44b5f" {
		t.Error(have)
	}
	if mirrored(mirrored(uid)) != uid || mirrored("no uid") != "no uid" {
		t.Error("turned around twice it is another one")
	}
}

func TestEdits(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"abc", "abc", 0}, {"ippol", "ippool", 1}, {"kitten", "sitting", 3}} {
		if have := edits(test.a, test.b); have != test.want || edits(test.b, test.a) != have {
			t.Errorf("%s, %s: %d", test.a, test.b, have)
		}
	}
}

func TestIsMAC(t *testing.T) {
	for text, want := range map[string]bool{
		"66:00:aa:FF:00:01": true, "": false, "66:00:aa:FF:00:0": false, "66:00:aa:FF:00:zz": false, "66-00-aa-FF-00-01": false, "66:00:aa:FF:00:+1": false,
	} {
		if isMAC(text) != want {
			t.Error(text)
		}
	}
}
