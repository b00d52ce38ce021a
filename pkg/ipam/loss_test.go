package ipam_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/kube"
)

const tunnelHandle = "vxlan-tunnel-addr-node1"

func (n *node) tunnel() netip.Addr {
	n.t.Helper()
	addr, err := n.alloc.TunnelAddr(n.t.Context(), tunnelHandle, block.TypeVXLAN4, false)
	if err != nil {
		n.t.Fatal(err)
	}
	return addr
}

// eventually waits for what a watch has to tell first.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 600 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("not within 30 s: %s", what)
}

func holder(t *testing.T, c *kube.Client, cidr netip.Prefix, addr netip.Addr) string {
	b, err := c.GetBlock(t.Context(), block.Name(cidr))
	if err != nil {
		return err.Error()
	}
	for o, i := range b.Spec.Allocations {
		if i != nil && block.AddrAt(cidr, o) == addr && b.Spec.Attributes[*i].HandleID != nil {
			return *b.Spec.Attributes[*i].HandleID
		}
	}
	return ""
}

func ownBlock(t *testing.T, c *kube.Client, node string) *v3.IPAMBlock {
	t.Helper()
	affs, err := c.NodeAffinities(t.Context(), node)
	if err != nil || len(affs) == 0 {
		t.Fatalf("%s has no block: %v", node, err)
	}
	b, err := c.GetBlock(t.Context(), block.Name(netip.MustParsePrefix(affs[0].Spec.CIDR)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBlockDeletedByHand: the block is claimed again, with the pod's and the tunnel's address in it, and neither is given
// to anybody else meanwhile.
func TestBlockDeletedByHand(t *testing.T) {
	_, config, client := server(t)
	makePool(t, client, "one", "10.50.0.0/28", 28)
	n := newNode(t, "node1", config)
	tunnel := n.tunnel()
	ep, err := n.add("first")
	if err != nil {
		t.Fatal(err)
	}
	settle(t, n)
	b := ownBlock(t, client, "node1")
	cidr := netip.MustParsePrefix(b.Spec.CIDR)
	if err := client.DeleteBlock(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	eventually(t, "block made again, with both addresses", func() bool {
		return holder(t, client, cidr, tunnel) == tunnelHandle && holder(t, client, cidr, ep.Addrs[0]) == "k8s-pod-network.first"
	})
	seen := map[netip.Addr]bool{tunnel: true, ep.Addrs[0]: true}
	for i := range 14 {
		more, err := n.add(fmt.Sprintf("more%d", i))
		if err != nil {
			t.Fatal(err)
		}
		if seen[more.Addrs[0]] {
			t.Fatalf("%s is given twice", more.Addrs[0])
		}
		seen[more.Addrs[0]] = true
	}
	if _, err := n.add("one-too-many"); !errors.Is(err, ipam.ErrFull) {
		t.Errorf("17th address of a /28: %v", err)
	}
}

// TestClaimDeletedByHand: an agent that starts finds its block all the same, and claims it again.
func TestClaimDeletedByHand(t *testing.T) {
	_, config, client := server(t)
	makePool(t, client, "one", "10.50.0.0/28", 28)
	n := newNode(t, "node1", config)
	n.must("first")
	settle(t, n)
	n.crash()
	claims, err := client.NodeAffinities(t.Context(), "node1")
	if err != nil || len(claims) != 1 {
		t.Fatalf("claims %v, %v: want one", claims, err)
	}
	if err := client.DeleteAffinity(t.Context(), &claims[0]); err != nil {
		t.Fatal(err)
	}
	n.start()
	if st := n.alloc.Stats(); st.Blocks != 1 || st.Ready == 0 {
		t.Errorf("%+v after the start, want the block", st)
	}
	if claim, err := client.GetAffinity(t.Context(), claims[0].Name); err != nil || claim.Spec.State != v3.AffinityConfirmed {
		t.Errorf("claim %+v, %v: want it confirmed", claim, err)
	}
}

// TestBlockTaken: another node made the block anew while ours was gone. We give nothing of it any more.
func TestBlockTaken(t *testing.T) {
	_, config, client := server(t)
	makePool(t, client, "two", "10.50.0.0/27", 28)
	n := newNode(t, "node1", config)
	tunnel := n.tunnel()
	settle(t, n)
	n.stop() // its watch and settle loop are away
	n.done.Wait()
	b := ownBlock(t, client, "node1")
	cidr := netip.MustParsePrefix(b.Spec.CIDR)
	if err := client.DeleteBlock(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	theirs, err := client.CreateBlock(t.Context(), block.New(cidr, "node2", time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	n.alloc.Observe(theirs, false)
	ep, err := n.add("pod")
	if err != nil {
		t.Fatal(err)
	}
	if cidr.Contains(ep.Addrs[0]) {
		t.Errorf("%s is of node2's block", ep.Addrs[0])
	}
	if got := holder(t, client, cidr, tunnel); got != "" {
		t.Errorf("tunnel address %s was written into node2's block: %s", tunnel, got)
	}
}

// TestTunnelReleasedByOther: a tunnel's address that somebody releases is taken again, and never given to a pod.
func TestTunnelReleasedByOther(t *testing.T) {
	_, config, client := server(t)
	makePool(t, client, "one", "10.50.0.0/29", 29)
	n := newNode(t, "node1", config)
	tunnel := n.tunnel()
	settle(t, n)
	b := ownBlock(t, client, "node1").DeepCopy()
	b.Spec.Allocations[0], b.Spec.Attributes = nil, []v3.AllocationAttribute{}
	b.Spec.Unallocated = append(b.Spec.Unallocated, 0)
	b.Spec.SequenceNumber++
	if _, err := client.UpdateBlock(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	cidr := netip.MustParsePrefix(b.Spec.CIDR)
	eventually(t, "tunnel address taken again", func() bool { return holder(t, client, cidr, tunnel) == tunnelHandle })
	for i := range 7 {
		ep, err := n.add(fmt.Sprintf("c%d", i))
		if err != nil || ep.Addrs[0] == tunnel {
			t.Fatalf("ADD %d: %v, %v", i, ep.Addrs, err)
		}
	}
	n.crash()
	n.start()
	if again := n.tunnel(); again != tunnel {
		t.Errorf("after a restart the tunnel has %s, before %s", again, tunnel)
	}
}

// TestTunnelsOfBothKinds: tunl0 has an address of its own beside the VXLAN device's, in the same block, and keeps it.
func TestTunnelsOfBothKinds(t *testing.T) {
	_, config, client := server(t)
	makePool(t, client, "one", "10.50.0.0/28", 28)
	n := newNode(t, "node1", config)
	const handle = "ipip-tunnel-addr-node1"
	ipip := func() netip.Addr {
		addr, err := n.alloc.TunnelAddr(t.Context(), handle, block.TypeIPIP, false)
		if err != nil {
			t.Fatal(err)
		}
		return addr
	}
	vxlan, own := n.tunnel(), ipip()
	if vxlan == own || own != ipip() {
		t.Errorf("tunnel addresses %s and %s", vxlan, own)
	}
	settle(t, n)
	b := ownBlock(t, client, "node1")
	cidr := netip.MustParsePrefix(b.Spec.CIDR)
	if got := holder(t, client, cidr, own); got != handle {
		t.Errorf("%s has handle %q", own, got)
	}
	types := map[string]bool{}
	for _, a := range b.Spec.Attributes {
		types[a.Secondary[block.AttrType]] = a.Secondary[block.AttrNode] == "node1"
	}
	if len(types) != 2 || !types["ipipTunnelAddress"] || !types["vxlanTunnelAddress"] {
		t.Errorf("attributes %+v", b.Spec.Attributes)
	}
	if _, err := client.GetHandle(t.Context(), handle); err != nil {
		t.Error(err)
	}
	n.crash()
	n.start()
	if a, b := n.tunnel(), ipip(); a != vxlan || b != own {
		t.Errorf("after a restart %s and %s, before %s and %s", a, b, vxlan, own)
	}
}

// TestNoTunnelPool: without a pool for tunnels nothing is claimed in vain, and the error says what to change.
func TestNoTunnelPool(t *testing.T) {
	_, config, client := server(t)
	err := client.CreatePool(t.Context(), &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "pods"}, Spec: v3.IPPoolSpec{
		CIDR: "10.50.0.0/24", BlockSize: 28, AllowedUses: []v3.PoolUse{v3.UseWorkload}}})
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t, "node1", config)
	for range 3 {
		if _, err := n.alloc.TunnelAddr(t.Context(), tunnelHandle, block.TypeVXLAN4, false); err == nil || !strings.Contains(err.Error(), "spec.allowedUses") {
			t.Errorf("tunnel address of a pool without tunnels: %v", err)
		}
	}
	settle(t, n)
	if st := n.alloc.Stats(); st.Blocks > 1 {
		t.Errorf("%d blocks were claimed", st.Blocks)
	}
}

// TestPoolMigration: the old pool is disabled while a pod lives in it; the new pool's block, claimed ahead, stays.
func TestPoolMigration(t *testing.T) {
	_, config, client := server(t)
	makePool(t, client, "old", "10.50.0.0/26", 26)
	n := newNode(t, "node1", config)
	if _, err := n.add("stays"); err != nil {
		t.Fatal(err)
	}
	settle(t, n)
	if err := client.DisablePool(t.Context(), "old"); err != nil {
		t.Fatal(err)
	}
	makePool(t, client, "young", "10.60.0.0/26", 26)
	var first netip.Addr
	eventually(t, "an address of the new pool", func() bool {
		ep, err := n.add(fmt.Sprintf("c%d", time.Now().UnixNano()))
		if err != nil {
			return false
		}
		first = ep.Addrs[0]
		n.del(ep)
		return netip.MustParsePrefix("10.60.0.0/26").Contains(first)
	})
	settleAll(t, []*node{n})
	if st := n.alloc.Stats(); st.Blocks != 2 {
		t.Errorf("%d blocks, want the old one with its pod and the new one", st.Blocks)
	}
}

// TestTwoInterfaces: a container's handle counts all its interfaces, and lives as long as one of them.
func TestTwoInterfaces(t *testing.T) {
	_, config, client := server(t)
	makePool(t, client, "one", "10.50.0.0/26", 26)
	n := newNode(t, "node1", config)
	a, err := n.add("c")
	if err != nil {
		t.Fatal(err)
	}
	b := a
	b.IfName, b.HostVeth, b.Addrs = "net1", "calinet1", nil
	b, err = n.alloc.Assign(t.Context(), ipam.Request{Endpoint: b})
	if err == nil {
		err = n.alloc.Activate(b.Key())
	}
	if err != nil {
		t.Fatal(err)
	}
	settle(t, n)
	count := func() int {
		h, err := client.GetHandle(t.Context(), "k8s-pod-network.c")
		if err != nil {
			return 0
		}
		return h.Spec.Block["10.50.0.0/26"]
	}
	if count() != 2 {
		t.Errorf("handle counts %d addresses, want 2", count())
	}
	n.alloc.Release(b.Key())
	settle(t, n)
	if count() != 1 {
		t.Errorf("after DEL of one interface the handle counts %d addresses, want 1", count())
	}
	n.del(a)
	settle(t, n)
	if count() != 0 {
		t.Errorf("after DEL of both the handle counts %d", count())
	}
}
