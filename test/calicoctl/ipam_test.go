package calicoctl_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/margay-net/margay/pkg/ctl/ctltest"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/kube"
)

// testIPAM: what calicoctl says of addresses that our allocators gave out, and what becomes of those that it releases.
func testIPAM(c *tool, nodes []*ctltest.Node) {
	describe(c.t, c.Kube)
	c.prints("ipam-show.txt", "ipam", "show")
	c.prints("ipam-show-blocks.txt", "ipam", "show", "--show-blocks")
	c.prints("ipam-show-borrowed.txt", "ipam", "show", "--show-borrowed")
	c.prints("ipam-check.txt", "ipam", "check")
	c.says("found 0 problems", "ipam", "check", "--show-all-ips", "--show-problem-ips")
	d := nodes[0].Pod("d")[0].String()
	for _, line := range []string{"IP " + d + " is in use", "pod: d", "namespace: default", "node: node1", "timestamp: 20"} { // in no order
		c.says(line, "ipam", "show", "--ip="+d)
	}
	c.says("is not assigned", "ipam", "show", "--ip=10.244.250.250")

	c.in("configure", testConfigure)
	c.in("leak", func(c *tool) { testLeak(c, nodes) })
	c.in("report", func(c *tool) { testReport(c, nodes) })
	c.in("stolen", func(c *tool) { testStolen(c, nodes) })
}

// describe makes what margay-controller makes at its start: newer calicoctls ask for it before they check.
func describe(t *testing.T, client *kube.Client) {
	t.Helper()
	k, _ := kube.KindOf("KubeControllersConfiguration")
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": kube.GroupV3, "kind": k.Kind, "metadata": map[string]any{"name": "default"},
		"spec": map[string]any{"controllers": map[string]any{"node": map[string]any{}}},
	}}
	if _, err := client.CreateResource(t.Context(), k, o, false); err != nil {
		t.Fatal(err)
	}
}

// testConfigure: the switch is written where the agents read it.
func testConfigure(c *tool) {
	k, _ := kube.KindOf("IPAMConfiguration")
	for _, strict := range []string{"true", "false"} {
		c.says("Successfully set StrictAffinity to: "+strict, "ipam", "configure", "--strictaffinity="+strict)
		got, err := c.Kube.GetResource(c.t.Context(), k, "", "default")
		if err != nil {
			c.t.Fatal(err)
		}
		have, _, err := unstructured.NestedBool(got.Object, "spec", "strictAffinity")
		if err != nil || have != (strict == "true") {
			c.t.Errorf("strictAffinity is %t, want %s: %v", have, strict, err)
		}
	}
	c.prints("ipam-show-configuration.txt", "ipam", "show", "--show-configuration")
}

// testLeak: an address without a pod is found and released, and its node's allocator lives with that.
func testLeak(c *tool, nodes []*ctltest.Node) {
	leaked := nodes[0].Pod("leaked")[0]
	if err := c.Core.CoreV1().Pods("default").Delete(c.t.Context(), "leaked", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		c.t.Fatal(err)
	}
	c.says("found 1 problems", "ipam", "check")
	c.says("Successfully released IP address "+leaked.String(), "ipam", "release", "--ip="+leaked.String())
	c.says("is not assigned", "ipam", "show", "--ip="+leaked.String())
	c.says("found 0 problems", "ipam", "check")
	nodes[0].Release("leaked") // kubelet's DEL, late
	c.says("found 0 problems", "ipam", "check")
	c.sound(leaked)
}

// testReport: releases of a report that ipam check wrote, which need the datastore locked.
func testReport(c *tool, nodes []*ctltest.Node) {
	leaked := nodes[1].Pod("reported")[0]
	if err := c.Core.CoreV1().Pods("default").Delete(c.t.Context(), "reported", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		c.t.Fatal(err)
	}
	c.must("datastore", "migrate", "lock")
	report := filepath.Join(c.t.TempDir(), "report.json")
	c.says("found 1 problems", "ipam", "check", "-o", report)
	b, err := os.ReadFile(report)
	if err != nil {
		c.t.Fatal(err)
	}
	var parsed struct{ Version, ClusterGUID string }
	if err := json.Unmarshal(b, &parsed); err != nil || parsed.ClusterGUID == "" {
		c.t.Errorf("report of %q, cluster %q: %v", parsed.Version, parsed.ClusterGUID, err)
	}
	c.must("ipam", "release", "--from-report="+report)
	c.must("datastore", "migrate", "unlock")
	c.says("is not assigned", "ipam", "show", "--ip="+leaked.String())
	nodes[1].Release("reported")
	c.says("found 0 problems", "ipam", "check")
	c.sound(leaked)
}

// testStolen: a living pod's address is released by mistake. The audit takes it again, and nobody else gets it meanwhile.
func testStolen(c *tool, nodes []*ctltest.Node) {
	addr := nodes[1].Pod("alive")[0]
	c.must("ipam", "release", "--ip="+addr.String())
	c.says("found 1 problems", "ipam", "check")
	for range 3 {
		if _, err := nodes[1].Alloc.Audit(c.t.Context(), func(string) bool { return true }); err != nil {
			c.t.Fatal(err)
		}
		nodes[1].Settle()
		if strings.Contains(c.must("ipam", "show", "--ip="+addr.String()), "in use") {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	c.says("pod: alive", "ipam", "show", "--ip="+addr.String())
	c.says("found 0 problems", "ipam", "check")
	if next := nodes[1].Pod("next")[0]; next == addr {
		c.t.Errorf("%s was given to a second pod", addr)
	}
	c.sound(addr)
}

// sound looks at the block of an address after others have written it.
func (c *tool) sound(a netip.Addr) {
	c.t.Helper()
	p, err := a.Prefix(26)
	if err != nil {
		c.t.Fatal(err)
	}
	b, err := c.Kube.GetBlock(c.t.Context(), block.Name(p))
	if err == nil {
		err = block.Check(b)
	}
	if err != nil {
		c.t.Error(err)
	}
}

// testLock: what calicoctl locks for a migration is locked for us.
func testLock(c *tool) {
	k, _ := kube.KindOf("ClusterInformation")
	ready := func() bool {
		o, err := c.Kube.GetResource(c.t.Context(), k, "", "default")
		if err != nil {
			c.t.Fatal(err)
		}
		b, _, _ := unstructured.NestedBool(o.Object, "spec", "datastoreReady")
		return b
	}
	c.must("datastore", "migrate", "lock")
	if ready() {
		c.t.Error("locked, and datastoreReady is true")
	}
	c.must("datastore", "migrate", "unlock")
	if !ready() {
		c.t.Error("unlocked, and datastoreReady is false")
	}
}
