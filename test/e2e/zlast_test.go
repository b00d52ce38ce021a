package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// mustMargayctl runs margayctl and returns what it prints.
func (c *cluster) mustMargayctl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := command(context.Background(), stdin, cmp.Or(os.Getenv("MARGAYCTL"), "margayctl"), args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// TestWalkthrough11BlockSize changes the block size of each family's pool as people do it, with all pods of the cluster
// moving to a temporary pool and back. It leaves the new size behind: files sort, so it comes last.
func TestWalkthrough11BlockSize(t *testing.T) {
	c := several(t)
	c.each(t, func(t *testing.T, f family) {
		was := c.mustCtl(t, "get", "ippool", f.pool(), "-o", "jsonpath={.spec.cidr} {.spec.natOutgoing}")
		cidr, nat, _ := strings.Cut(was, " ")
		temporary := pick(f, "172.31.0.0/16", "fd00:31::/48")
		c.changeBlockSize(t, f, cidr, nat, temporary, f.bits()-7)
	})
}

// changeBlockSize moves all pods of a family to a temporary pool, makes the default pool anew, and moves them back.
func (c *cluster) changeBlockSize(t *testing.T, f family, cidr, nat, temporary string, bits int) {
	t.Helper()
	name := "temporary-" + strings.ToLower(f.String())
	pool := func(name, cidr string, bits int) string {
		return fmt.Sprintf(`{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: %s},
			spec: {cidr: %q, blockSize: %d, vxlanMode: Always, natOutgoing: %s, nodeSelector: all()}}`, name, cidr, bits, cmp.Or(nat, "false"))
	}
	disable := func(name string) {
		out := c.mustMargayctl(t, "", "patch", "ippool", name, "-p", `{"spec": {"disabled": true}}`)
		wantLine(t, "margayctl patch", out, `Successfully patched 1 'IPPool' resource`)
	}
	remove := func(name, cidr string) {
		out := c.mustMargayctl(t, "", "delete", "ippool", name)
		wantLine(t, "margayctl delete", out, `Successfully deleted 1 'IPPool' resource\(s\)`)
		took := eventually(t, 3*time.Minute, func() error { return c.noBlocks(cidr) })
		t.Logf("%s: the blocks of pool %s were given back %.0f s after it was deleted", f, name, took.Seconds())
	}
	out := c.mustMargayctl(t, pool(name, temporary, f.bits()-6), "create", "-f", "-")
	wantLine(t, "margayctl create", out, `Successfully created 1 'IPPool' resource\(s\)`)
	disable(f.pool())
	c.movePods(t, f, temporary)
	remove(f.pool(), cidr)
	c.mustMargayctl(t, pool(f.pool(), cidr, bits), "create", "-f", "-")
	disable(name)
	c.movePods(t, f, cidr)
	out = c.mustMargayctl(t, "", "ipam", "show", "--show-blocks")
	wantLine(t, "margayctl ipam show", out, `\| IP Pool \| `+cidr+` \|.*`)
	wantLine(t, "margayctl ipam show", out, fmt.Sprintf(`\| Block \| [0-9a-f.:]+/%d \| %d \|.*`, bits, 1<<(f.bits()-bits)))
	remove(name, temporary)
	out = c.mustMargayctl(t, "", "ipam", "check")
	wantLine(t, "margayctl ipam check", out, `Check complete; found 0 problems\.`)
	if err := c.read(t.Context()); err != nil && t.Context().Err() == nil {
		t.Error(err)
	}
}

// movePods deletes all pods that have an address of the cluster's pools, and waits until those that take their place have
// addresses of cidr and are ready.
func (c *cluster) movePods(t *testing.T, f family, cidr string) {
	t.Helper()
	ctx, network := context.Background(), netip.MustParsePrefix(cidr)
	pods, err := c.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pods.Items {
		if p.Spec.HostNetwork {
			continue
		}
		zero := int64(0)
		if err := c.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("testdata/pods.yaml") // the pod slow has nobody who makes it anew
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, func() error { return c.applyPods(ctx, string(b)) })
	took := eventually(t, 3*time.Minute, func() error {
		pods, err := c.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		var errs []error
		for _, p := range pods.Items {
			if !p.Spec.HostNetwork {
				errs = append(errs, moved(p, f, network))
			}
		}
		return errors.Join(errs...)
	})
	t.Logf("%s: %d pods moved to %s in %.1f s", f, len(pods.Items), cidr, took.Seconds())
}

// moved returns why a pod is not ready with an address of network.
func moved(p corev1.Pod, f family, network netip.Prefix) error {
	ready := false
	for _, cond := range p.Status.Conditions {
		ready = ready || cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue
	}
	if addr := readPod(p).addr[f]; !ready || !network.Contains(addr) || p.DeletionTimestamp != nil {
		return fmt.Errorf("pod %s/%s: ready %v, address %s, want one of %s", p.Namespace, p.Name, ready, addr, network)
	}
	return nil
}

// noBlocks returns an error when there are blocks in a network.
func (c *cluster) noBlocks(cidr string) error {
	network := netip.MustParsePrefix(cidr)
	blocks, err := list[v3.IPAMBlockList](context.Background(), c, "ipamblocks")
	if err != nil {
		return err
	}
	for _, b := range blocks.Items {
		if p, err := netip.ParsePrefix(b.Spec.CIDR); err == nil && network.Overlaps(p) {
			return fmt.Errorf("block %s of pool %s is still there (owner %v)", b.Spec.CIDR, cidr, *b.Spec.Affinity)
		}
	}
	return nil
}
