package peering

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/margay-net/margay/pkg/bgp"
	"github.com/margay-net/margay/pkg/model"
)

func block(cidr, node string, loans ...string) model.Block {
	b := model.Block{CIDR: netip.MustParsePrefix(cidr), Node: node}
	var list []model.Loan
	for _, l := range loans {
		addr, to, _ := strings.Cut(l, " ")
		list = append(list, model.Loan{Addr: netip.MustParseAddr(addr), Node: to, Seq: 1})
	}
	b.Loans = model.MakeLoans(list)
	return b
}

func TestAnnounce(t *testing.T) {
	c := three().with(t, "config default: {ipv6NormalRoutePriority: 2000, serviceExternalIPs: [{cidr: 192.168.60.0/24}]}",
		"config node.n1: {serviceExternalIPs: [{cidr: 192.168.61.0/24}]}") // what Services may have is in Ranges
	c.pools = []model.Pool{
		{Name: "a", CIDR: netip.MustParsePrefix("172.20.0.0/16"), VXLAN: model.EncapAlways},
		{Name: "b", CIDR: netip.MustParsePrefix("172.21.0.0/16"), IPIP: model.EncapCrossSubnet, Disabled: true},
		{Name: "c", CIDR: netip.MustParsePrefix("172.22.0.0/16"), DisableBGPExport: true},
		{Name: "d", CIDR: netip.MustParsePrefix("fd00:20::/48")},
	}
	c.blocks = []model.Block{
		block("172.20.1.0/26", "n1", "172.20.1.7 n2"), // what is lent is the borrower's to tell
		block("172.20.2.0/26", "n2", "172.20.2.9 n1", "172.20.2.10 n3", "172.20.2.11 n11"),
		block("172.20.3.0/26", "", "172.20.3.5 n1"),   // of a node that is gone
		block("172.21.1.0/26", "n1"),                  // of a disabled pool
		block("172.22.1.0/26", "n1"),                  // is withheld
		block("172.30.1.0/26", "n1"),                  // its pool is gone
		block("172.20.4.1/32", "n1", "172.20.4.1 n2"), // all of it is lent
		block("172.20.4.2/32", "n2", "172.20.4.2 n1"),
		block("172.20.4.3/32", "n1"),
		block("fd00:20::/122", "n1"),
		block("fd00:20::40/122", "n2", "fd00:20::41 n1"),
	}
	in := c.input("n1")
	in.Ranges = []netip.Prefix{prefix("10.96.0.0/12"), prefix("192.168.50.0/24"), prefix("fd00:5::/64")}
	in.Services = []bgp.Announcement{
		{Prefix: netip.MustParsePrefix("10.96.0.10/32"), Communities: []bgp.Community{"1:2"}}, {Prefix: netip.MustParsePrefix("10.96.0.9/32"), Preference: 7},
		{Prefix: netip.MustParsePrefix("172.20.1.0/26"), Preference: 8}, // a pool's block is told as that
	}
	conf, faults := c.directory().Build(in)
	if faults != nil {
		t.Errorf("faults %q", faults)
	}
	want := "10.96.0.9/32 10.96.0.10/32 172.20.1.0/26 172.20.2.9/32 172.20.3.5/32 172.20.4.2/32 172.20.4.3/32 172.21.1.0/26 172.22.1.0/26 172.30.1.0/26 fd00:20::/122 fd00:20::41/128"
	var have []string
	for _, a := range conf.Announce {
		have = append(have, a.Prefix.String())
		preference := bgp.Preference(1024)
		switch {
		case a.Prefix.String() == "10.96.0.9/32":
			preference = 7
		case a.Prefix.Addr().Is6():
			preference = bgp.Preference(2000)
		}
		if a.Preference != preference || a.NextHop.IsValid() {
			t.Errorf("announcement %+v", a)
		}
	}
	if strings.Join(have, " ") != want {
		t.Errorf("announced are\n%s\nwant\n%s", strings.Join(have, " "), want)
	}
	if fmt.Sprint(conf.Withhold) != "[172.22.0.0/16]" || fmt.Sprint(conf.Transit) != "[172.20.0.0/16 172.21.0.0/16 fd00:20::/48]" {
		t.Errorf("withheld are %s, passed on %s", conf.Withhold, conf.Transit)
	}
	// A reflector passes Services' addresses on, too.
	conf, _ = c.with(t, "node n1: {cluster: 224.0.0.1}").directory().Build(in)
	if fmt.Sprint(conf.Transit) != "[10.96.0.0/12 172.20.0.0/16 172.21.0.0/16 192.168.50.0/24 fd00:5::/64 fd00:20::/48]" {
		t.Errorf("a reflector passes on %s", conf.Transit)
	}
}

func TestTags(t *testing.T) {
	c := three().with(t, `config default: {communities: [{name: a, value: '64512:1'}, {name: b, value: '1:2:3'}], prefixAdvertisements: [
		{cidr: 172.20.0.0/16, communities: [b, a, '64512:9', a]}, {cidr: 'fd00::/48', communities: [a]}, {cidr: bad, communities: [a]}, {cidr: 10.0.0.0/8, communities: [x, '1:99999']}]}`)
	conf, faults := c.build("n1")
	want := []bgp.Tag{
		{Within: netip.MustParsePrefix("172.20.0.0/16"), Communities: []bgp.Community{"1:2:3", "64512:1", "64512:9"}},
		{Within: netip.MustParsePrefix("fd00::/48"), Communities: []bgp.Community{"64512:1"}},
	}
	if !reflect.DeepEqual(conf.Tags, want) {
		t.Errorf("tags are %+v", conf.Tags)
	}
	for i, begin := range []string{
		`BGPConfiguration default: spec.prefixAdvertisements[2].cidr "bad" is no network: write it such as`,
		`BGPConfiguration default: spec.prefixAdvertisements[3].communities: parse community "1:99999"`,
		`BGPConfiguration default: spec.prefixAdvertisements[3].communities: there is no "x" in spec.communities: add it`,
	} {
		if i >= len(faults) || !strings.HasPrefix(faults[i], begin) {
			t.Fatalf("faults are %q, want %q", faults, begin)
		}
	}
	// A node's own list takes the place of that of all, whose names it may use.
	c.with(t, "config node.n1: {prefixAdvertisements: [{cidr: 172.21.0.0/16, communities: [b]}, {cidr: x, communities: [b]}]}")
	conf, faults = c.build("n1")
	if want := []bgp.Tag{{Within: netip.MustParsePrefix("172.21.0.0/16"), Communities: []bgp.Community{"1:2:3"}}}; !reflect.DeepEqual(conf.Tags, want) {
		t.Errorf("the node's tags are %+v", conf.Tags)
	}
	if len(faults) != 1 || !strings.HasPrefix(faults[0], "BGPConfiguration node.n1: ") {
		t.Errorf("faults are %q", faults)
	}
}

func TestGateways(t *testing.T) {
	c := three().with(t, off,
		"peer a: {node: n1, peerIP: '192.168.42.1:1790', asNumber: 1, reachableBy: 192.168.10.254}", "peer b: {peerIP: 'fd00::1', asNumber: 1, reachableBy: 'fd00:10::fe'}",
		"peer c: {peerIP: 192.168.42.2, asNumber: 1, reachableBy: 'fd00:10::fe'}", "peer d: {peerIP: 192.168.42.3, asNumber: 1, reachableBy: router}")
	want := map[netip.Addr]netip.Addr{netip.MustParseAddr("fd00::1"): netip.MustParseAddr("fd00:10::fe")}
	if have := c.directory().Gateways(c.input("n2")); !reflect.DeepEqual(have, want) {
		t.Errorf("n2 has %v", have)
	}
	want[netip.MustParseAddr("192.168.42.1")] = netip.MustParseAddr("192.168.10.254")
	if have := c.directory().Gateways(c.input("n1")); !reflect.DeepEqual(have, want) {
		t.Errorf("n1 has %v", have)
	}
	_, faults := c.build("n1")
	if len(faults) != 2 || !strings.HasPrefix(faults[0], `BGPPeer c: spec.reachableBy "fd00:10::fe" has no effect: write`) || !strings.HasPrefix(faults[1], `BGPPeer d: spec.reachableBy "router"`) {
		t.Errorf("faults are %q", faults)
	}
}
