package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// TestIPAMAgrees makes and deletes many pods; with all of them, and without them, the addresses must agree.
func TestIPAMAgrees(t *testing.T) {
	c := ready(t)
	const burst = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: burst, namespace: ` + namespace + `}
spec:
  replicas: 30
  selector: {matchLabels: {app: burst}}
  template:
    metadata: {labels: {app: burst}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: pause, image: TOOLS, imagePullPolicy: IfNotPresent, command: [sleep, "1000000"]}]
`
	image := c.mustCtl(t, "-n", namespace, "get", "pod", c.slow.name, "-o", "jsonpath={.spec.containers[0].image}")
	if _, err := c.apply(t.Context(), strings.ReplaceAll(burst, "TOOLS", image)); err != nil {
		t.Fatal(err)
	}
	defer c.ctl(context.Background(), "-n", namespace, "delete", "deployment", "burst", "--ignore-not-found", "--timeout=120s")
	start := time.Now()
	c.mustCtl(t, "-n", namespace, "rollout", "status", "deployment/burst", "--timeout=180s")
	t.Logf("30 pods ready after %.1f s", time.Since(start).Seconds())
	c.mustAgree(t, t.Context(), nil)
	c.mustCtl(t, "-n", namespace, "delete", "deployment", "burst", "--cascade=foreground", "--timeout=120s")
	c.mustAgree(t, t.Context(), nil)
}

// ipam is the cluster's addresses as the API server has them.
type ipam struct {
	pools      []v3.IPPool
	blocks     []v3.IPAMBlock
	handles    []v3.IPAMHandle
	affinities []v3.BlockAffinity
	want       map[netip.Addr]string // who has it: pod namespace/name, tunnel handle, or a handle of the test
	nodes      map[string]bool
}

// mustAgree fails the test unless within a while blocks, handles, affinities, nodes and pods agree exactly. extra are
// addresses that neither pod nor node has, with their handles.
func (c *cluster) mustAgree(t *testing.T, ctx context.Context, extra map[netip.Addr]string) {
	t.Helper()
	count := 0
	took := eventually(t, 60*time.Second, func() error {
		i, err := c.readIPAM(ctx)
		if err != nil {
			return err
		}
		maps.Copy(i.want, extra)
		count = len(i.want)
		return i.check()
	})
	t.Logf("%d addresses: blocks, handles, affinities, nodes and pods agree (after %.1f s)", count, took.Seconds())
}

func (c *cluster) readIPAM(ctx context.Context) (*ipam, error) {
	pools, err1 := list[v3.IPPoolList](ctx, c, "ippools")
	blocks, err2 := list[v3.IPAMBlockList](ctx, c, "ipamblocks")
	handles, err3 := list[v3.IPAMHandleList](ctx, c, "ipamhandles")
	affinities, err4 := list[v3.BlockAffinityList](ctx, c, "blockaffinities")
	pods, err5 := c.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	nodes, err6 := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return nil, err
	}
	out := &ipam{
		pools: pools.Items, blocks: blocks.Items, handles: handles.Items, affinities: affinities.Items,
		want: map[netip.Addr]string{}, nodes: map[string]bool{},
	}
	for _, p := range pods.Items {
		if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, ip := range p.Status.PodIPs {
			a, err := netip.ParseAddr(ip.IP)
			if err != nil {
				return nil, err
			}
			who := p.Namespace + "/" + p.Name
			if other, twice := out.want[a]; twice {
				return nil, fmt.Errorf("address %s is that of pod %s and of pod %s", a, other, who)
			}
			out.want[a] = who
		}
	}
	for _, n := range nodes.Items {
		out.nodes[n.Name] = true
		for key, prefix := range map[string]string{"IPv4VXLANTunnelAddr": "vxlan-tunnel-addr-", "IPv6VXLANTunnelAddr": "vxlan-v6-tunnel-addr-"} {
			if a, err := netip.ParseAddr(n.Annotations["projectcalico.org/"+key]); err == nil {
				out.want[a] = prefix + n.Name
			}
		}
	}
	return out, nil
}

// check compares everything with everything, and returns all that does not agree.
func (i *ipam) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	held := map[string]map[string]int{} // handle -> block -> addresses
	have := map[netip.Addr]bool{}
	for _, b := range i.blocks {
		for _, err := range checkBlock(b.Spec, b.Name) {
			bad("block %s: %w", b.Spec.CIDR, err)
		}
		i.checkOwner(b.Spec, bad)
		first := netip.MustParsePrefix(b.Spec.CIDR).Addr()
		for _, index := range b.Spec.Allocations {
			addr := first
			first = first.Next()
			if index == nil || *index < 0 || *index >= len(b.Spec.Attributes) {
				continue
			}
			handle, who := whose(b.Spec.Attributes[*index])
			have[addr] = true
			if held[handle] == nil {
				held[handle] = map[string]int{}
			}
			held[handle][b.Spec.CIDR]++
			if i.want[addr] != who && i.want[addr] != handle {
				bad("address %s is %s's (handle %s) by its block, but %q has it", addr, who, handle, i.want[addr])
			}
		}
	}
	for addr, who := range i.want {
		if !have[addr] {
			bad("address %s of %s is in no block", addr, who)
		}
	}
	i.checkHandles(held, bad)
	return errors.Join(errs...)
}

// whose returns the handle and, for a pod's address, namespace/name.
func whose(a v3.AllocationAttribute) (handle, pod string) {
	if a.HandleID != nil {
		handle = *a.HandleID
	}
	return handle, a.Secondary["namespace"] + "/" + a.Secondary["pod"]
}

// checkBlock checks a block's own structure.
func checkBlock(b v3.IPAMBlockSpec, name string) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	cidr, err := netip.ParsePrefix(b.CIDR)
	if err != nil || cidr.Masked() != cidr {
		return []error{fmt.Errorf("it is no network: %s", b.CIDR)}
	}
	if want := cidrName(b.CIDR); name != want {
		bad("its name is %s, want %s", name, want)
	}
	if size := 1 << (cidr.Addr().BitLen() - cidr.Bits()); len(b.Allocations) != size {
		bad("it has %d ordinals, want %d", len(b.Allocations), size)
	}
	used := make([]int, len(b.Attributes))
	seen := make([]int, len(b.Allocations))
	for ordinal, index := range b.Allocations {
		_, numbered := b.SequenceNumberForAllocation[strconv.Itoa(ordinal)]
		if numbered != (index != nil) {
			bad("ordinal %d: allocated is %v, has a sequence number is %v", ordinal, index != nil, numbered)
		}
		switch {
		case index == nil:
		case *index < 0 || *index >= len(used):
			bad("ordinal %d points at attribute %d of %d", ordinal, *index, len(used))
		default:
			used[*index]++
			seen[ordinal]++
		}
	}
	for _, ordinal := range b.Unallocated {
		if ordinal < 0 || ordinal >= len(seen) {
			bad("free list has ordinal %d", ordinal)
			continue
		}
		seen[ordinal]++
	}
	for ordinal, n := range seen {
		if n != 1 {
			bad("ordinal %d is %d times allocated or free, want once", ordinal, n)
		}
	}
	if i := slices.Index(used, 0); i >= 0 {
		bad("nothing points at attribute %d", i)
	}
	return errs
}

// checkOwner checks that a block has a pool, and an owner that says the same.
func (i *ipam) checkOwner(b v3.IPAMBlockSpec, bad func(string, ...any)) {
	cidr := netip.MustParsePrefix(b.CIDR)
	if !slices.ContainsFunc(i.pools, func(p v3.IPPool) bool {
		pool, err := netip.ParsePrefix(p.Spec.CIDR)
		return err == nil && pool.Contains(cidr.Addr()) && pool.Bits() <= cidr.Bits()
	}) {
		bad("block %s is in no pool", b.CIDR)
	}
	if b.Affinity == nil {
		bad("block %s has no owner", b.CIDR)
		return
	}
	owner := strings.TrimPrefix(*b.Affinity, "host:")
	if !i.nodes[owner] {
		bad("block %s is owned by %s, which is no node", b.CIDR, *b.Affinity)
	}
	n := 0
	for _, a := range i.affinities {
		if a.Spec.CIDR != b.CIDR {
			continue
		}
		n++
		if a.Spec.Node != owner || a.Spec.State != v3.AffinityConfirmed || a.Spec.Deleted || a.Name != owner+"-"+cidrName(b.CIDR) {
			bad("block %s of %s: affinity %s is %s of %s", b.CIDR, owner, a.Name, a.Spec.State, a.Spec.Node)
		}
	}
	if n != 1 {
		bad("block %s has %d affinities", b.CIDR, n)
	}
}

// checkHandles compares the handles with what the blocks say of them, and affinities with blocks.
func (i *ipam) checkHandles(held map[string]map[string]int, bad func(string, ...any)) {
	for _, h := range i.handles {
		want := held[h.Spec.HandleID]
		if !maps.Equal(h.Spec.Block, want) || h.Spec.Deleted || h.Name != strings.ToLower(h.Spec.HandleID) {
			bad("handle %s holds %v (deleted %v), the blocks say %v", h.Name, h.Spec.Block, h.Spec.Deleted, want)
		}
		delete(held, h.Spec.HandleID)
	}
	for handle, blocks := range held {
		bad("handle %s does not exist, the blocks %v have it", handle, blocks)
	}
	for _, a := range i.affinities {
		if !slices.ContainsFunc(i.blocks, func(b v3.IPAMBlock) bool { return b.Spec.CIDR == a.Spec.CIDR }) {
			bad("affinity %s has no block", a.Name)
		}
	}
}

// cidrName is the name of a block.
func cidrName(cidr string) string {
	return strings.NewReplacer(".", "-", ":", "-", "/", "-").Replace(cidr)
}
