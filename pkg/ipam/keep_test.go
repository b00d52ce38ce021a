package ipam_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/margay-net/margay/pkg/ipam"
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
