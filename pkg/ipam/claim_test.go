package ipam_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// TestReservedHalf: of an IPv6 pool all but an eighth is reserved; the walk over its 2^58 blocks goes on behind what is.
func TestReservedHalf(t *testing.T) {
	_, config, client := server(t)
	reserve(t, config, nil, "fd00:77::/65", "fd00:77::8000:0:0:0/66", "fd00:77::c000:0:0:0/67")
	makePool(t, client, "six", "fd00:77::/64", 122)
	free := netip.MustParsePrefix("fd00:77::e000:0:0:0/67")
	var nodes []*node
	for i := range 4 { // which start at different places
		nodes = append(nodes, newNode(t, fmt.Sprintf("half%d", i), config))
	}
	has, start := truth{}, time.Now()
	for _, n := range nodes {
		ep := n.must("pod-" + n.name)
		has.take(t, ep)
		if !free.Contains(ep.Addrs[0]) {
			t.Errorf("%s: %s is reserved", n.name, ep.Addrs[0])
		}
	}
	t.Logf("four nodes have claimed after %v", time.Since(start))
}

// TestMaxBlocksOfEachFamily: the limit is each family's own.
func TestMaxBlocksOfEachFamily(t *testing.T) {
	_, config, client := server(t)
	makePool(t, client, "four", "10.60.0.0/24", 30)
	makePool(t, client, "six", "fd00:78::/120", 126)
	n := newNode(t, "node1", config)
	configure(t, config, v3.IPAMConfigurationSpec{StrictAffinity: true, AutoAllocateBlocks: true, MaxBlocksPerHost: 1}, n)
	if ep := n.must("a"); len(ep.Addrs) != 2 {
		t.Errorf("addresses %v, want one of each family", ep.Addrs)
	}
}

// TestClaimCutShort: the link is cut at each of a claim's three writes, and when it is back the pool is gone, so that nobody asks
// for that block again. Claim and block go all the same.
func TestClaimCutShort(t *testing.T) {
	for at := 1; at <= 3; at++ {
		t.Run(fmt.Sprintf("write %d", at), func(t *testing.T) {
			_, config, client := server(t)
			l := &link{}
			n := newNode(t, "node1", l.over(config))
			makePool(t, client, "first", "10.50.0.0/26", 28)
			eventually(t, "the pool at the node", func() bool { return len(n.store.Pools()) == 1 })
			l.cutAt(at)
			if _, err := n.add("a"); !errors.Is(err, errCut) {
				t.Fatalf("ADD: %v, want it cut off", err)
			}
			if left, err := client.NodeAffinities(t.Context(), "node1"); err != nil || len(left) != 1 {
				t.Fatalf("claims %v, %v: want one", left, err)
			}
			if err := objects(t, config, "ippools").Delete(t.Context(), "first", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			l.set(false)
			eventually(t, "no pool at the node", func() bool { return len(n.store.Pools()) == 0 })
			eventually(t, "no claim and no block", func() bool {
				n.ahead.Add(int64(70 * time.Second))
				if _, err := n.alloc.Audit(t.Context(), func(string) bool { return false }); err != nil {
					t.Log(err)
				}
				claims, err := client.NodeAffinities(t.Context(), "node1")
				if err != nil {
					t.Fatal(err)
				}
				blocks, err := objects(t, config, "ipamblocks").List(t.Context(), metav1.ListOptions{})
				if err != nil {
					t.Fatal(err)
				}
				return len(claims)+len(blocks.Items) == 0
			})
		})
	}
}

// TestClaimLate: a claim of an agent that died comes to pass when the next one has read its claims already.
func TestClaimLate(t *testing.T) {
	_, config, client := server(t)
	makePool(t, client, "first", "10.50.0.0/26", 28)
	n := newNode(t, "node1", config)
	cidr := netip.MustParsePrefix("10.50.0.16/28")
	aff := &v3.BlockAffinity{
		TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "BlockAffinity"},
		ObjectMeta: metav1.ObjectMeta{Name: block.AffinityName("node1", cidr), Labels: block.AffinityLabels(block.HostAffinity("node1"), false)},
		Spec:       v3.BlockAffinitySpec{State: v3.AffinityPending, Node: "node1", Type: "host", CIDR: cidr.String()},
	}
	if _, err := client.CreateAffinity(t.Context(), aff); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no claim that is pending", func() bool {
		if _, err := n.alloc.Audit(t.Context(), func(string) bool { return false }); err != nil {
			t.Fatal(err)
		}
		claims, err := client.NodeAffinities(t.Context(), "node1")
		pending := func(a v3.BlockAffinity) bool { return a.Spec.State != v3.AffinityConfirmed }
		return err == nil && len(claims) > 0 && !slices.ContainsFunc(claims, pending)
	})
}
