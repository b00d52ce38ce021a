package ipam_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
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
