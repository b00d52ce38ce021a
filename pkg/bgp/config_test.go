package bgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestRules(t *testing.T) {
	for _, tc := range []struct {
		rule     Rule
		yes, not string
	}{
		{Rule{}, "10.0.0.0/8 0.0.0.0/0", ""},
		{Rule{CIDR: prefix("10.1.0.0/16"), Operator: Equal}, "10.1.0.0/16", "10.1.0.0/17 10.0.0.0/8 10.1.0.0/24"},
		{Rule{CIDR: prefix("10.1.0.0/16"), Operator: NotEqual}, "10.1.0.0/17 10.0.0.0/8 10.1.0.0/24", "10.1.0.0/16"},
		{Rule{CIDR: prefix("10.1.0.0/16"), Operator: In}, "10.1.0.0/16 10.1.2.0/24 10.1.2.3/32", "10.0.0.0/8 10.2.0.0/16"},
		{Rule{CIDR: prefix("10.1.0.0/16"), Operator: NotIn}, "10.0.0.0/8 10.2.0.0/16", "10.1.0.0/16 10.1.2.0/24 10.1.2.3/32"},
		{Rule{CIDR: prefix("10.1.0.0/16"), Operator: In, Lengths: Lengths{24, 26}}, "10.1.2.0/24 10.1.2.0/26", "10.1.0.0/16 10.1.2.0/27 10.2.2.0/24"},
		{Rule{CIDR: prefix("10.1.0.0/16"), Operator: In, Lengths: Lengths{Min: 8, Max: 20}}, "10.1.0.0/16 10.1.0.0/20", "10.0.0.0/8 10.1.0.0/21"},
		{Rule{CIDR: prefix("10.1.0.0/16"), Operator: In, Lengths: Lengths{Min: 32}}, "10.1.2.3/32", "10.1.0.0/31"},
		{Rule{CIDR: prefix("10.1.0.0/16"), Operator: NotIn, Lengths: Lengths{24, 26}}, "10.1.0.0/16 10.1.2.0/27 10.2.2.0/24", "10.1.2.0/24"},
		{Rule{CIDR: prefix("10.1.0.0/16"), Operator: Equal, Lengths: Lengths{24, 26}}, "10.1.0.0/16", "10.1.2.0/24"},
		{Rule{CIDR: prefix("fd00:1::/32"), Operator: In}, "fd00:1::/122 fd00:1:2::1/128", "fd00:2::/122"},
	} {
		for want, list := range map[bool]string{true: tc.yes, false: tc.not} {
			for _, p := range strings.Fields(list) {
				if got := tc.rule.matches(&route{prefix: prefix(p)}, false, true); got != want {
					t.Errorf("%+v on %s: %t", tc.rule, p, got)
				}
			}
		}
	}
	x := &route{prefix: prefix("10.1.0.0/24"), local: true, device: "cali12", communities: []Community{"1:2", "1:2:3"}, asPath: []uint32{65000, 65001, 65002}}
	for _, tc := range []struct {
		rule             Rule
		external, export bool
		want             bool
	}{
		{Rule{PeerType: EBGP}, true, true, true},
		{Rule{PeerType: EBGP}, false, true, false},
		{Rule{PeerType: IBGP}, false, false, true},
		{Rule{RemotePeers: true}, true, true, false},
		{Rule{RemotePeers: true}, true, false, true},
		{Rule{Community: "1:2"}, true, true, true},
		{Rule{Community: "1:2:3"}, true, true, true},
		{Rule{Community: "1:3"}, true, true, false},
		{Rule{ASPathPrefix: []uint32{65000, 65001}}, true, true, true},
		{Rule{ASPathPrefix: []uint32{65001}}, true, true, false},
		{Rule{ASPathPrefix: []uint32{65000, 65001, 65002, 65003}}, true, true, false},
		{Rule{Interface: "cali12"}, true, true, true},
		{Rule{Interface: "cali1"}, true, true, false},
		{Rule{Interface: "cali*"}, true, true, true},
		{Rule{Interface: "eth*"}, true, true, false},
	} {
		if got := tc.rule.matches(x, tc.external, tc.export); got != tc.want {
			t.Errorf("%+v, external %t, export %t: %t", tc.rule, tc.external, tc.export, got)
		}
	}
}

func TestBadRules(t *testing.T) {
	for want, r := range map[string]Rule{
		"other family":           {CIDR: prefix("fd00::/8"), Operator: In, Action: Accept},
		"want both or none":      {CIDR: prefix("10.0.0.0/8"), Action: Accept},
		"matchOperator \"Like\"": {CIDR: prefix("10.0.0.0/8"), Operator: "Like", Action: Accept},
		"want Accept or Reject":  {Action: "accept"},
		"operations need":        {Action: Reject, Prepend: []uint32{1}},
		"peerType":               {Action: Reject, PeerType: "bgp"},
		"aa:nn":                  {Action: Accept, Community: "7"},
		"16 bits":                {Action: Accept, AddCommunities: []Community{"1:65536"}},
	} {
		if err := r.Check(false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", r, err, want)
		}
	}
	for _, c := range []Community{"0:0", "65535:65535", "4294967295:4294967295:4294967295"} {
		r := Rule{Action: Accept, Community: c}
		if err := r.Check(true); err != nil {
			t.Error(err)
		}
	}
}

// What a peer is told where no filter says otherwise.
func TestExports(t *testing.T) {
	c := Config{AS: 64512, Announce: []Announcement{{Prefix: prefix("10.1.0.0/26")}}, Transit: []netip.Prefix{prefix("10.0.0.0/8")}, Withhold: []netip.Prefix{prefix("10.9.0.0/16")}}
	in, out := peer4(12, 64512), peer4(13, 65000)
	for _, tc := range []struct {
		route              string
		local              bool
		internal, external bool
	}{
		{"10.1.0.0/26", true, true, true},
		{"10.1.0.5/32", false, true, false}, // borrowed from us: other ASes have the whole block from us
		{"10.2.0.0/26", false, true, true},
		{"192.168.0.0/24", false, false, false},
		{"192.168.0.0/24", true, true, true},
		{"10.9.1.0/26", true, false, false},
		{"10.9.1.0/26", false, false, false},
	} {
		x := &route{prefix: prefix(tc.route), local: tc.local}
		if a, b := c.exports(&in, x, c.own()), c.exports(&out, x, c.own()); a != tc.internal || b != tc.external {
			t.Errorf("%s, local %t: internal %t, external %t", tc.route, tc.local, a, b)
		}
	}
}

func TestConfig(t *testing.T) {
	if _, err := (Config{}).settle(); err == nil || !strings.Contains(err.Error(), "asNumber") {
		t.Error(err)
	}
	if _, err := (Config{AS: 1, RouterID: addr("::1")}).settle(); err == nil || !strings.Contains(err.Error(), "CALICO_ROUTER_ID") {
		t.Error(err)
	}
	c, err := node(11).settle()
	if err != nil || c.Port != 179 || c.Hold != 90*time.Second || c.Keepalive != 30*time.Second || c.RestartTime != 2*time.Minute {
		t.Errorf("%+v %v", c, err)
	}
	c.Filters = map[string]Filter{"bad": {Import6: []Rule{{CIDR: prefix("10.0.0.0/8"), Operator: In, Action: Accept}}}}
	for want, p := range map[string]Peer{
		"no address":              {AS: 1},
		"no AS number":            {Address: addr("10.0.0.1")},
		"link-local":              {Address: addr("fe80::1%eth0"), AS: 1},
		"takes 80":                {Address: addr("10.0.0.1"), AS: 1, Password: strings.Repeat("x", 81)},
		"other family":            {Address: addr("10.0.0.1"), AS: 1, LocalAddress: addr("::2")},
		"client has its":          {Address: addr("10.0.0.1"), AS: 1, Client: true},
		"next hop mode":           {Address: addr("10.0.0.1"), AS: 1, NextHop: "self"},
		"1h8m15s":                 {Address: addr("10.0.0.1"), AS: 1, RestartTime: 2 * time.Hour},
		"routeReflectorClusterID": {Address: addr("10.0.0.1"), AS: 1, LocalAS: 1, Client: true},
		"filter bad":              {Address: addr("10.0.0.1"), AS: 1, Filters: []string{"bad"}},
		`no BGPFilter "f"`:        {Address: addr("10.0.0.1"), AS: 1, Filters: []string{"f"}},
	} {
		if err := p.check(&c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", p, err, want)
		}
	}
	// As Calico's nodes have it: printf %s NAME | sha256sum.
	if got := fmt.Sprint(HashID("node1"), HashID("node2"), HashID("vm-0")); got != "202.18.243.27 21.177.138.114 214.14.162.23" {
		t.Error(got)
	}
	if Preference(1024) != 2147482623 || Preference(512) != 2147483135 {
		t.Error(Preference(1024), Preference(512))
	}
	// Equal configurations compile to the same policy, in whatever order they came.
	c.Peers = []Peer{peer4(12, 65000), peer4(13, 64512)}
	c.Peers[0].NextHop, c.Peers[1].NextHop = NextHopSelf, NextHopKeep
	first := digest(compile(&c, pointers(c.Peers)).request())
	for range 20 {
		if digest(compile(&c, pointers(c.Peers)).request()) != first {
			t.Fatal("policy differs")
		}
	}
}
