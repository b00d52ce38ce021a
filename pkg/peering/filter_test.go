package peering

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/margay-net/margay/pkg/bgp"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// filters builds what a peer of n1 that names filter f has of it.
func filters(t *testing.T, spec string) (bgp.Config, []string) {
	t.Helper()
	return three().with(t, off, "peer p: {peerIP: 192.168.42.1, asNumber: 65000, filters: [f]}", "filter f: "+spec).build("n1")
}

func TestFilterRules(t *testing.T) {
	for _, c := range []struct {
		rule string
		want []bgp.Rule // of importV4
	}{
		{"{action: Accept}", []bgp.Rule{{Action: bgp.Accept}}},
		{"{action: Reject}", []bgp.Rule{{Action: bgp.Reject}}},
		{"{cidr: 10.0.0.0/8, matchOperator: Equal, action: Reject}", []bgp.Rule{{CIDR: prefix("10.0.0.0/8"), Operator: bgp.Equal, Action: bgp.Reject}}},
		{"{cidr: 10.0.0.0/8, matchOperator: NotEqual, action: Reject}", []bgp.Rule{{CIDR: prefix("10.0.0.0/8"), Operator: bgp.NotEqual, Action: bgp.Reject}}},
		{"{cidr: 10.0.0.0/8, matchOperator: In, action: Reject}", []bgp.Rule{{CIDR: prefix("10.0.0.0/8"), Operator: bgp.In, Action: bgp.Reject}}},
		{"{cidr: 10.0.0.0/8, matchOperator: NotIn, action: Reject}", []bgp.Rule{{CIDR: prefix("10.0.0.0/8"), Operator: bgp.NotIn, Action: bgp.Reject}}},
		{"{cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 16, max: 24}, action: Accept}", []bgp.Rule{{CIDR: prefix("10.0.0.0/8"), Operator: bgp.In, Lengths: bgp.Lengths{Min: 16, Max: 24}, Action: bgp.Accept}}},
		{"{cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 16}, action: Accept}", []bgp.Rule{{CIDR: prefix("10.0.0.0/8"), Operator: bgp.In, Lengths: bgp.Lengths{Min: 16}, Action: bgp.Accept}}},
		{"{cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {max: 7}, action: Accept}", nil},
		{"{cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 25, max: 24}, action: Accept}", nil},
		{"{cidr: 10.0.0.0/8, matchOperator: NotIn, prefixLength: {max: 7}, action: Accept}", []bgp.Rule{{Action: bgp.Accept}}},
		{"{cidr: 0.0.0.0/0, matchOperator: In, prefixLength: {max: 0}, action: Accept}", []bgp.Rule{{CIDR: prefix("0.0.0.0/0"), Operator: bgp.Equal, Action: bgp.Accept}}},
		{"{cidr: 0.0.0.0/0, matchOperator: NotIn, prefixLength: {max: 0}, action: Accept}", []bgp.Rule{{CIDR: prefix("0.0.0.0/0"), Operator: bgp.NotEqual, Action: bgp.Accept}}},
		{"{source: RemotePeers, peerType: eBGP, action: Reject}", []bgp.Rule{{RemotePeers: true, PeerType: bgp.EBGP, Action: bgp.Reject}}},
		{"{peerType: iBGP, action: Reject}", []bgp.Rule{{PeerType: bgp.IBGP, Action: bgp.Reject}}},
		{"{communities: {values: ['1:2']}, action: Reject}", []bgp.Rule{{Community: "1:2", Action: bgp.Reject}}},
		{"{communities: {values: ['1:2:3']}, action: Reject}", []bgp.Rule{{Community: "1:2:3", Action: bgp.Reject}}},
		{"{asPathPrefix: [65000, '1.10'], action: Reject}", []bgp.Rule{{ASPathPrefix: []uint32{65000, 65546}, Action: bgp.Reject}}},
		{"{action: Accept, operations: [{addCommunity: {value: '1:2'}}, {addCommunity: {value: '1:2:3'}}, {setPriority: {value: 512}}, {prependASPath: {prefix: [1, 2]}}, {prependASPath: {prefix: [3]}}]}",
			[]bgp.Rule{{Action: bgp.Accept, AddCommunities: []bgp.Community{"1:2", "1:2:3"}, SetPreference: 1<<31 - 1 - 512, Prepend: []uint32{3, 1, 2}}}},
	} {
		conf, faults := filters(t, "{importV4: ["+c.rule+"]}")
		if have := conf.Filters["f"].Import4; faults != nil || !reflect.DeepEqual(have, c.want) {
			t.Errorf("%s is %+v, %q\nwant %+v", c.rule, have, faults, c.want)
		}
	}
	conf, faults := filters(t, "{importV4: [{action: Accept}], exportV4: [{interface: '*.calico', action: Reject}, {cidr: 10.0.0.0/8, matchOperator: In, action: Accept}], importV6: [{action: Reject}], exportV6: [{cidr: 'fd00::/8', matchOperator: In, prefixLength: {min: 9, max: 128}, action: Accept}]}")
	want := bgp.Filter{
		Import4: []bgp.Rule{{Action: bgp.Accept}}, Import6: []bgp.Rule{{Action: bgp.Reject}},
		Export4: []bgp.Rule{{Interface: "*.calico", Action: bgp.Reject}, {CIDR: prefix("10.0.0.0/8"), Operator: bgp.In, Action: bgp.Accept}},
		Export6: []bgp.Rule{{CIDR: prefix("fd00::/8"), Operator: bgp.In, Lengths: bgp.Lengths{Min: 9, Max: 128}, Action: bgp.Accept}},
	}
	if faults != nil || !reflect.DeepEqual(conf.Filters, map[string]bgp.Filter{"f": want}) {
		t.Errorf("filters are %+v, %q", conf.Filters, faults)
	}
}

func TestFilterFaults(t *testing.T) {
	for spec, want := range map[string]string{
		"{importV4: [{action: Accept}, {priority: 512, action: Reject}]}":             "spec.importV4[1].priority is not supported as a condition: take it out",
		"{importV4: [{interface: eth1, action: Reject}]}":                             "spec.importV4[0].interface is not supported on import",
		"{exportV6: [{source: Anywhere, action: Reject}]}":                            `spec.exportV6[0].source "Anywhere": want RemotePeers`,
		"{exportV6: [{cidr: x, matchOperator: In, action: Reject}]}":                  `spec.exportV6[0].cidr "x" is no network: write it`,
		"{exportV6: [{cidr: 10.0.0.0/8, matchOperator: In, action: Reject}]}":         "spec.exportV6[0]: cidr 10.0.0.0/8 is of the other family",
		"{exportV4: [{cidr: 'fd00::/8', matchOperator: In, action: Reject}]}":         "spec.exportV4[0]: cidr fd00::/8 is of the other family",
		"{importV6: [{cidr: 'fd00::/8', action: Reject}]}":                            "spec.importV6[0]: cidr \"fd00::/8\" with matchOperator",
		"{importV6: [{action: Drop}]}":                                                `spec.importV6[0]: action "Drop": want`,
		"{importV6: [{action: Reject, peerType: other}]}":                             `spec.importV6[0]: peerType "other": want`,
		"{importV6: [{action: Reject, communities: {values: ['1:2', '1:3']}}]}":       "spec.importV6[0].communities.values has 2 values: want one",
		"{importV6: [{action: Reject, communities: {values: ['1:99999']}}]}":          `spec.importV6[0]: parse community "1:99999"`,
		"{importV6: [{action: Accept, operations: [{addCommunity: {value: x}}]}]}":    `spec.importV6[0]: parse community "x"`,
		"{importV6: [{action: Accept, operations: [{setPriority: {value: 1}}, {}]}]}": "spec.importV6[0].operations[1] is none of",
		"{importV6: [{action: Reject, operations: [{setPriority: {value: 1}}]}]}":     "spec.importV6[0]: operations need action Accept",
	} {
		conf, faults := filters(t, spec)
		if conf.Filters != nil || len(faults) != 1 || !strings.HasPrefix(faults[0], "BGPFilter f: "+want) || !strings.HasSuffix(faults[0], "peers that name it have no session until then") {
			t.Errorf("%s: %+v\n%q\nwant %s", spec, conf.Filters, faults, want)
		}
		if len(conf.Peers) != 1 || len(conf.Peers[0].Filters) != 1 {
			t.Errorf("%s: the speaker can't refuse %+v", spec, conf.Peers)
		}
	}
	conf, faults := filters(t, "{exportV4: [{interface: eth1, action: Accept}]}")
	if len(conf.Filters) != 1 || len(faults) != 1 || !strings.HasPrefix(faults[0], "BGPFilter f: spec.exportV4[0].interface: no route that a node tells of") {
		t.Errorf("%+v, %q", conf.Filters, faults)
	}
	// Of filters that no session of the node has nothing is said.
	conf, faults = three().with(t, "filter f: {importV4: [{priority: 1, action: Accept}]}", "peer p: {node: n2, peerIP: 192.168.42.1, filters: [f]}").build("n1")
	if conf.Filters != nil || faults != nil {
		t.Errorf("%+v, %q", conf.Filters, faults)
	}
}
