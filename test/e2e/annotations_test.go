package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// asking is the namespaces, pools and pods of TestAnnotations; PLAIN is the tests' own namespace.
const asking = `
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: e2e-named-FAMILY}
spec: {cidr: "NAMED", assignmentMode: Manual, vxlanMode: Always, disabled: false}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: e2e-team-FAMILY}
spec: {cidr: "TEAM", vxlanMode: Always, namespaceSelector: "e2e-team in {'blue', 'green'}", disabled: false}
---
apiVersion: v1
kind: Namespace
metadata:
  name: PLAIN-asks
  annotations: {cni.projectcalico.org/POOLS: '["e2e-named-FAMILY"]'}
---
apiVersion: v1
kind: Namespace
metadata:
  name: PLAIN-blue
  labels: {e2e-team: blue}
`

// askingPod is a pod that does nothing.
const askingPod = `
---
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: SPACE, labels: {app: asking}, annotations: {ANNOTATIONS}}
spec:
  terminationGracePeriodSeconds: 0
  nodeName: NODE
  tolerations: [{operator: Exists}]
  containers: [{name: c, image: "IMAGE", imagePullPolicy: IfNotPresent, command: [sleep, "1000000"]}]
`

// TestAnnotations: pods get what they and their namespaces ask for, and are reached by it from all nodes; who asks for what
// there is not gets an event that says so, and no address. The two pools stay behind disabled, since their empty blocks are
// given back minutes later.
func TestAnnotations(t *testing.T) {
	c := ready(t)
	c.each(t, func(t *testing.T, f family) {
		named, team := pick(f, "10.77.0.0/24", "fd00:77::/120"), pick(f, "10.78.0.0/24", "fd00:78::/120")
		static := pick(f, "10.77.0.200", "fd00:77::c8")
		name := strings.ToLower(f.String())
		fill := strings.NewReplacer("FAMILY", name, "NAMED", named, "TEAM", team, "POOLS", pick(f, "ipv4pools", "ipv6pools"),
			"IMAGE", c.mustCtl(t, "-n", namespace, "get", "pod", c.slow.name, "-o", "jsonpath={.spec.containers[0].image}"))
		t.Cleanup(func() { c.endAsking(t, name) })
		if _, err := c.apply(t.Context(), strings.ReplaceAll(fill.Replace(asking), "PLAIN", namespace)); err != nil {
			t.Fatal(err)
		}
		asks := func(space, name, annotations string) {
			t.Helper()
			yaml := strings.NewReplacer("NAME", name, "SPACE", space, "ANNOTATIONS", annotations, "NODE", c.nodes[0].name).Replace(askingPod)
			eventually(t, 60*time.Second, func() error { // a new namespace has no service account at first
				_, err := c.apply(t.Context(), fill.Replace(yaml))
				return err
			})
		}
		asks(namespace, "plain", "")
		asks(namespace, "by-name", `cni.projectcalico.org/POOLS: '["e2e-named-FAMILY"]'`)
		asks(namespace, "by-cidr", `cni.projectcalico.org/POOLS: '["NAMED"]'`)
		asks(namespace, "static", `cni.projectcalico.org/ipAddrs: '["`+static+`"]'`)
		asks(namespace, "hardware", `cni.projectcalico.org/hwAddr: "1c:0c:0a:c0:ff:ee"`)
		asks(namespace, "bad", `cni.projectcalico.org/POOLS: '["e2e-nowhere"]', cni.projectcalico.org/hwAddr: "01:00:00:00:00:00"`)
		asks(namespace+"-asks", "by-namespace", "")
		for who, network := range map[[2]string]string{
			{namespace, "by-name"}: named, {namespace, "by-cidr"}: named, {namespace + "-asks", "by-namespace"}: named,
			{namespace, "static"}: fmt.Sprintf("%s/%d", static, f.bits()), {namespace, "plain"}: "", {namespace, "hardware"}: "",
		} {
			c.hasAddress(t, f, who[0], who[1], network, team)
		}
		if out := c.mustSh(t, pod{name: "hardware"}, "cat /sys/class/net/eth0/address"); strings.TrimSpace(out) != "1c:0c:0a:c0:ff:ee" {
			t.Errorf("hwAddr: eth0 has %s", out)
		}
		c.mustTellOfBad(t)

		// With the default pool disabled only who is selected gets an address of the other one.
		if err := c.patchPool(t.Context(), f, "disabled", "true"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.patchPool(context.Background(), f, "disabled", "false"); err != nil {
				t.Error(err)
			}
		})
		asks(namespace+"-blue", "selected", "")
		for try := 0; try < 5 && !netip.MustParsePrefix(team).Contains(c.addressOf(t, f, namespace+"-blue", "selected")); try++ {
			// The agent had not heard of it yet.
			c.mustCtl(t, "-n", namespace+"-blue", "delete", "pod", "selected", "--timeout=120s")
			asks(namespace+"-blue", "selected", "")
		}
		c.hasAddress(t, f, namespace+"-blue", "selected", team, "")
	})
}

// addressOf waits until a pod runs, and returns its address.
func (c *cluster) addressOf(t *testing.T, f family, space, name string) (addr netip.Addr) {
	t.Helper()
	eventually(t, 2*time.Minute, func() error {
		p, err := c.client.CoreV1().Pods(space).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if addr = readPod(*p).addr[f]; p.Status.Phase != corev1.PodRunning || !addr.IsValid() {
			return fmt.Errorf("pod %s/%s is %s with address %s", space, name, p.Status.Phase, addr)
		}
		return nil
	})
	return addr
}

// hasAddress waits until a pod runs, and fails the test unless its address is of network (if that is not "") and not of
// other, and answers on all nodes.
func (c *cluster) hasAddress(t *testing.T, f family, space, name, network, other string) {
	t.Helper()
	addr := c.addressOf(t, f, space, name)
	if network != "" && !netip.MustParsePrefix(network).Contains(addr) || other != "" && netip.MustParsePrefix(other).Contains(addr) {
		t.Errorf("pod %s/%s has %s, want one of %q, not of %q", space, name, addr, network, other)
	}
	for _, n := range c.nodes {
		if out, err := c.sh(t.Context(), n.tools, fmt.Sprintf("for i in 1 2 3 4 5; do ping -n -c 1 -W 2 %s && exit; done; exit 1", addr)); err != nil {
			t.Errorf("pod %s/%s at %s does not answer on %s: %v\n%s", space, name, addr, n.name, err, out)
		}
	}
}

// mustTellOfBad fails the test unless the pod bad has an event that names all that is wrong with it, and no address.
func (c *cluster) mustTellOfBad(t *testing.T) {
	t.Helper()
	eventually(t, 2*time.Minute, func() error {
		text, err := c.ctl(t.Context(), "-n", namespace, "get", "events", "--field-selector=involvedObject.name=bad", "-o", "jsonpath={.items[*].message}")
		for _, says := range []string{"annotation cni.projectcalico.org/hwAddr of pod " + namespace + "/bad, value 01:00:00:00:00:00", `"e2e-nowhere" is neither the name nor the CIDR of an IP pool`} {
			if !strings.Contains(text, says) {
				err = errors.Join(err, fmt.Errorf("no event says %s: %s", says, text))
			}
		}
		return err
	})
	if ip := c.mustCtl(t, "-n", namespace, "get", "pod", "bad", "-o", "jsonpath={.status.podIP}"); ip != "" {
		t.Errorf("the pod that asks for what there is not has address %s", ip)
	}
}

// endAsking takes away what a family's part of TestAnnotations made, but the pools.
func (c *cluster) endAsking(t *testing.T, name string) {
	t.Helper()
	ctx := context.Background()
	_, err := c.ctl(ctx, "-n", namespace, "delete", "pods", "-l", "app=asking", "--ignore-not-found", "--timeout=120s")
	for _, space := range []string{namespace + "-asks", namespace + "-blue"} {
		_, more := c.ctl(ctx, "delete", "namespace", space, "--ignore-not-found", "--timeout=120s")
		err = errors.Join(err, more)
	}
	for _, pool := range []string{"e2e-named-" + name, "e2e-team-" + name} {
		cidr, more := c.ctl(ctx, "get", "ippool", pool, "-o", "jsonpath={.spec.cidr}")
		_, gone := c.ctl(ctx, "delete", "ippool", pool)
		if err = errors.Join(err, more, gone); more == nil {
			took := eventually(t, 2*time.Minute, func() error { return c.noBlocks(cidr) })
			t.Logf("the blocks of pool %s were given back %.1f s after it was deleted", pool, took.Seconds())
		}
	}
	if err != nil {
		t.Error(err)
	}
}
