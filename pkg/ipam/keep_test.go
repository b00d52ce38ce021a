package ipam_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/model"
)

// TestKeep: an address that a pod brought along is given to no other pod of the node, also after a restart, until it goes.
func TestKeep(t *testing.T) {
	_, config, client := server(t)
	makePool(t, client, "one", "10.50.0.0/29", 29)
	n := newNode(t, "node1", config)
	pods := []model.Endpoint{n.must("first")}
	addr := netip.MustParseAddr("10.50.0.1")
	brought := model.Endpoint{ContainerID: "brought", IfName: "eth0", HostVeth: "calibrought", Addrs: []netip.Addr{addr}}
	n.alloc.Keep(brought)
	n.links[brought.HostVeth], n.routes[addr] = true, brought.HostVeth
	for i := range 6 {
		pods = append(pods, n.must(fmt.Sprintf("p%d", i)))
		if i == 2 {
			n.crash()
			n.start()
		}
	}
	for _, ep := range pods {
		if ep.Addrs[0] == addr {
			t.Errorf("%s has %s", ep.Pod, addr)
		}
	}
	if ep, err := n.add("eighth"); !errors.Is(err, ipam.ErrFull) {
		t.Errorf("the 8th of a /29: %v, %v", ep.Addrs, err)
	}
	if _, err := n.ask("static", static(addr.String())); !errors.Is(err, ipam.ErrInUse) {
		t.Errorf("asked for by name: %v", err)
	}
	n.alloc.Unkeep(brought)
	if ep := n.must("last"); ep.Addrs[0] != addr {
		t.Errorf("got %v, want what is free again", ep.Addrs)
	}
}

// TestLongestFreeFirst: what is released together is given again in the order in which it was released.
func TestLongestFreeFirst(t *testing.T) {
	_, config, client := server(t)
	makePool(t, client, "one", "10.50.0.0/26", 26)
	n := newNode(t, "node1", config)
	var pods []model.Endpoint
	for i := range 20 {
		pods = append(pods, n.must(fmt.Sprint(i)))
	}
	settle(t, n)
	var order []int
	for _, i := range rand.Perm(len(pods)) {
		n.del(pods[i])
		order = append(order, block.OrdinalOf(netip.MustParsePrefix("10.50.0.0/26"), pods[i].Addrs[0]))
	}
	settle(t, n)
	b, err := client.GetBlock(t.Context(), "10-50-0-0-26")
	if err != nil {
		t.Fatal(err)
	}
	if free := b.Spec.Unallocated; !slices.Equal(free[len(free)-len(order):], order) {
		t.Errorf("released %v; the block's free addresses are %v", order, free)
	}
}
