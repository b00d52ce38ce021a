package peering

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// off is what most tables begin with: no mesh, three nodes with IPv4 alone.
const off = "config default: {nodeToNodeMeshEnabled: false}"

func TestRouters(t *testing.T) {
	const tor = "192.168.42.1"
	for _, c := range []struct {
		name string
		add  []string
		want []string // of n2
		bad  []string
	}{
		{"global", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512}"}, []string{"Global " + tor}, nil},
		{"another AS", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 65000}"}, []string{"Global " + tor + " AS 65000"}, nil},
		{"this node", []string{"peer p: {node: n2, peerIP: 192.168.42.1, asNumber: 64512}"}, []string{"Node " + tor}, nil},
		{"another node", []string{"peer p: {node: n1, peerIP: 192.168.42.1, asNumber: 64512}"}, nil, nil},
		{"selected", []string{"peer p: {nodeSelector: 'rack == \"a\"', peerIP: 192.168.42.1, asNumber: 64512}", "labels n2: {rack: a}"}, []string{"Node " + tor}, nil},
		{"not selected", []string{"peer p: {nodeSelector: 'rack == \"b\"', peerIP: 192.168.42.1, asNumber: 64512}", "labels n2: {rack: a}"}, nil, nil},
		{"port", []string{"peer p: {peerIP: '192.168.42.1:1790', asNumber: 64512}"}, []string{"Global " + tor + " port 1790"}, nil},
		{"IPv6", []string{"peer p: {peerIP: 'fd00::1', asNumber: 64512}"}, []string{"Global fd00::1"}, nil},
		{"IPv6 and port", []string{"peer p: {peerIP: '[fd00::1]:1790', asNumber: 64512}"}, []string{"Global fd00::1 port 1790"}, nil},
		{"local AS", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 65000, localASNumber: 65001}"}, []string{"Global " + tor + " AS 65000 as 65001"}, nil},
		{"source", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, sourceAddress: None}"}, []string{"Global " + tor + " from any"}, nil},
		{"the usual source", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, sourceAddress: UseNodeIP}"}, []string{"Global " + tor}, nil},
		{"times and numbers", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, maxRestartTime: 10m, keepaliveTime: 5s, numAllowedLocalASNumbers: 3, ttlSecurity: 2}"},
			[]string{"Global " + tor + " ttl 2 keepalive 5s restart 10m0s own AS 3"}, nil},
		{"more than there can be", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, numAllowedLocalASNumbers: 300}"}, []string{"Global " + tor + " own AS 255"}, nil},
		{"keep", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, nextHopMode: Keep}"}, []string{"Global " + tor + " next hop Keep"}, nil},
		{"self", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, nextHopMode: Self}"}, []string{"Global " + tor + " next hop Self"}, nil},
		{"auto", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 65000, nextHopMode: Auto, keepOriginalNextHop: true}"}, []string{"Global " + tor + " AS 65000"}, nil},
		{"keep the original", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 65000, keepOriginalNextHop: true}"}, []string{"Global " + tor + " AS 65000 next hop Keep"}, nil},
		{"keep the original counts between ASes", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, keepOriginalNextHop: true}"}, []string{"Global " + tor}, nil},
		{"keep the original with a local AS", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, localASNumber: 65001, keepOriginalNextHop: true}"}, []string{"Global " + tor + " as 65001 next hop Keep"}, nil},
		{"password", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, password: {secretKeyRef: {name: s, key: k}}}", "secret s: {k: hush}"}, []string{"Global " + tor + " password hush"}, nil},
		{"filters", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, filters: [g, f]}", "filter f: {}", "filter g: {}"}, []string{"Global " + tor + " filters [g f]"}, nil},
		{"its client", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512}", "node n2: {cluster: 224.0.0.1, only: 4}"}, []string{"Global " + tor + " client of 224.0.0.1"}, nil},
		{"of another AS is no client", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 65000}", "node n2: {cluster: 224.0.0.1, only: 4}"}, []string{"Global " + tor + " AS 65000"}, nil},
		{"local AS makes it a client", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 65000, localASNumber: 65000}", "node n2: {cluster: 224.0.0.1, only: 4}"}, []string{"Global " + tor + " AS 65000 as 65000 client of 224.0.0.1"}, nil},
		// Precedence.
		{"global first", []string{"peer a: {node: n2, peerIP: 192.168.42.1, asNumber: 65001}", "peer b: {peerIP: 192.168.42.1, asNumber: 65002}"}, []string{"Global " + tor + " AS 65002"}, nil},
		{"then by name", []string{"peer b: {node: n2, peerIP: 192.168.42.1, asNumber: 65001}", "peer a: {nodeSelector: all(), peerIP: 192.168.42.1, asNumber: 65002}"}, []string{"Node " + tor + " AS 65002"}, nil},
		{"two ports", []string{"peer a: {peerIP: 192.168.42.1, asNumber: 65001}", "peer b: {peerIP: '192.168.42.1:1790', asNumber: 65001}"}, []string{"Global " + tor + " AS 65001"},
			[]string{"BGPPeer b: spec.peerIP 192.168.42.1:1790 has no session, since BGPPeer a has one"}},
		// Faults.
		{"no AS", []string{"peer p: {peerIP: 192.168.42.1}"}, []string{"Global " + tor + " AS 0"}, []string{"BGPPeer p: spec.asNumber is missing, and 192.168.42.1 is no node's address: set it"}},
		{"no address", []string{"peer p: {peerIP: router, asNumber: 1}"}, nil, []string{`BGPPeer p: spec.peerIP "router" is no address: write it such as`}},
		{"nothing", []string{"peer p: {asNumber: 1}"}, nil, []string{`BGPPeer p: spec.peerIP "" is no address`}},
		{"no port", []string{"peer p: {peerIP: '192.168.42.1:0', asNumber: 1}"}, nil, []string{`BGPPeer p: spec.peerIP "192.168.42.1:0" is no address`}},
		{"unspecified", []string{"peer p: {peerIP: 0.0.0.0, asNumber: 1}"}, nil, []string{`BGPPeer p: spec.peerIP "0.0.0.0" is no address`}},
		{"link-local", []string{"peer p: {peerIP: 'fe80::1%eth0', asNumber: 64512}"}, []string{"Global fe80::1%eth0"}, []string{"BGPPeer p: spec.peerIP fe80::1%eth0 is a link-local address"}},
		{"of another node's concern", []string{"peer p: {node: n1, peerIP: router, asNumber: 1}", "peer q: {node: n1, peerSelector: 'x =', asNumber: 1}", "peer r: {node: n1, localWorkloadSelector: all(), asNumber: 1}",
			"peer s: {node: n1, peerIP: 192.168.42.1, asNumber: 1, filters: [x], password: {secretKeyRef: {name: s, key: k}}}"}, nil, nil},
		{"node selector", []string{"peer p: {nodeSelector: 'x =', peerIP: 192.168.42.1, asNumber: 1}"}, nil, []string{`BGPPeer p: spec.nodeSelector does not parse, so no node has this session: selector "x =", character 3: want an operator`}},
		{"peer selector", []string{"peer p: {peerSelector: 'x ='}"}, nil, []string{`BGPPeer p: spec.peerSelector does not parse, so there is no session: selector "x =", character 3`}},
		{"node twice", []string{"peer p: {node: n2, nodeSelector: all(), peerIP: 192.168.42.1, asNumber: 1}"}, nil, []string{"BGPPeer p: spec.node and spec.nodeSelector cannot both be set"}},
		{"peer twice", []string{"peer p: {peerSelector: all(), peerIP: 192.168.42.1, asNumber: 1}"}, nil, []string{"BGPPeer p: spec.peerIP and spec.peerSelector cannot both be set"}},
		{"pods, of which there are none", []string{"peer p: {localWorkloadSelector: all(), asNumber: 1}"}, nil, nil},
		{"pods' selector", []string{"peer p: {localWorkloadSelector: 'x =', asNumber: 1}"}, nil, []string{"BGPPeer p: spec.localWorkloadSelector does not parse, so there is no session"}},
		{"pods and a router", []string{"peer p: {localWorkloadSelector: all(), peerIP: 192.168.42.1, asNumber: 1}"}, nil, []string{"BGPPeer p: spec.localWorkloadSelector cannot be set beside spec.peerIP or spec.peerSelector"}},
		{"pods without AS", []string{"peer p: {localWorkloadSelector: all()}"}, nil, []string{"BGPPeer p: spec.asNumber is missing"}},
		{"no Secret", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 1, password: {secretKeyRef: {name: s, key: k}}}"}, nil, []string{"BGPPeer p: spec.password: there is no Secret s"}},
		{"no key", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 1, password: {secretKeyRef: {name: s, key: k}}}", "secret s: {K: hush}"}, nil, []string{"BGPPeer p: spec.password: the Secret s has no key k"}},
		{"an empty key", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 1, password: {secretKeyRef: {name: s, key: k}}}", "secret s: {k: ''}"}, nil, []string{"BGPPeer p: spec.password: the Secret s has no key k, or nothing in it"}},
		{"a long one", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, password: {secretKeyRef: {name: s, key: k}}}", "secret s: {k: " + strings.Repeat("x", 81) + "}"},
			[]string{"Global " + tor + " password " + strings.Repeat("x", 81)}, []string{"BGPPeer p: spec.password has 81 bytes"}},
		{"no reference", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 1, password: {}}"}, nil, []string{"BGPPeer p: spec.password: secretKeyRef names no key"}},
		{"no filter", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, filters: [f, g]}", "filter f: {}"}, []string{"Global " + tor + " filters [f g]"}, []string{"BGPPeer p: spec.filters[1]: there is no BGPFilter g"}},
		{"restart time", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, maxRestartTime: 2h}"}, []string{"Global " + tor + " restart 2h0m0s"}, []string{"BGPPeer p: spec.maxRestartTime 2h0m0s is more than BGP can tell"}},
		{"keepalive time", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, keepaliveTime: 90s}"}, []string{"Global " + tor}, []string{"BGPPeer p: spec.keepaliveTime 1m30s is not used"}},
		{"no keepalive time", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, keepaliveTime: 0s}"}, []string{"Global " + tor}, []string{"BGPPeer p: spec.keepaliveTime 0s is not used"}},
		{"next hop mode", []string{"peer p: {peerIP: 192.168.42.1, asNumber: 64512, nextHopMode: keep}"}, []string{"Global " + tor + " next hop keep"}, []string{`BGPPeer p: spec.nextHopMode "keep": want Auto, Self or Keep`}},
		{"no address of the family", []string{"peer p: {peerIP: 'fd00::1', asNumber: 64512}", "node n2: {only: 4}"}, nil, []string{"BGPPeer p: spec.peerIP fd00::1 has no session with node n2, which has no address of this family"}},
		{"a bad one stops no other", []string{"peer a: {peerIP: x, asNumber: 1}", "peer b: {peerIP: 192.168.42.1, asNumber: 64512, nextHopMode: Self}"}, []string{"Global " + tor + " next hop Self"}, []string{"BGPPeer a: spec.peerIP"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			three().with(t, off).with(t, c.add...).check(t, "n2", c.want, c.bad)
		})
	}
}

// Sessions between nodes by BGPPeers: what n2 has, and what n1.
func TestNodes(t *testing.T) {
	for _, c := range []struct {
		name   string
		add    []string
		n2, n1 []string
		bad    []string // of n2
	}{
		{"both ends by one selector", []string{"peer p: {nodeSelector: all(), peerSelector: all()}"},
			[]string{"Node 192.168.10.1", "Node 192.168.10.3 passive"}, []string{"Node 192.168.10.2 passive", "Node 192.168.10.3 passive"}, nil},
		{"the other end by itself", []string{"peer p: {node: n2, peerSelector: 'name == \"n1\"'}"}, []string{"Node 192.168.10.1"}, []string{"Node 192.168.10.2 passive"}, nil},
		{"not by itself", []string{"peer p: {node: n2, peerSelector: 'name == \"n1\"', reversePeering: Manual}"}, []string{"Node 192.168.10.1"}, nil, nil},
		{"by hand", []string{"peer p: {node: n2, peerSelector: 'name == \"n1\"', reversePeering: Manual}", "peer q: {node: n1, peerIP: 192.168.10.2, nextHopMode: Self, reversePeering: Manual}"},
			[]string{"Node 192.168.10.1"}, []string{"Node 192.168.10.2 passive next hop Self"}, nil},
		{"who is alone is not passive", []string{"peer p: {node: n1, peerSelector: 'name == \"n2\"', reversePeering: Manual}"}, nil, []string{"Node 192.168.10.2"}, nil},
		{"global", []string{"peer p: {peerSelector: 'name == \"n1\"'}"}, []string{"Global 192.168.10.1"}, []string{"Node 192.168.10.2 passive", "Node 192.168.10.3 passive"}, nil},
		{"by address", []string{"peer p: {node: n2, peerIP: 192.168.10.1}"}, []string{"Node 192.168.10.1"}, []string{"Node 192.168.10.2 passive"}, nil},
		{"by address, of all", []string{"peer p: {peerIP: 192.168.10.1, asNumber: 64512}"}, []string{"Global 192.168.10.1"}, []string{"Node 192.168.10.2 passive", "Node 192.168.10.3 passive"}, nil},
		{"by address and AS", []string{"peer p: {node: n2, peerIP: 192.168.10.1, asNumber: 65001}", "node n1: {as: 65001, only: 4}"}, []string{"Node 192.168.10.1 AS 65001"}, []string{"Node 192.168.10.2 passive"}, nil},
		{"another AS is something else there", []string{"peer p: {node: n2, peerIP: 192.168.10.1, asNumber: 65001}"}, []string{"Node 192.168.10.1 AS 65001"}, nil,
			[]string{"BGPPeer p: spec.asNumber 65001 is not that of node n1, whose address spec.peerIP 192.168.10.1 is: leave it out, or set it to 64512"}},
		{"another AS on another port", []string{"peer p: {node: n2, peerIP: '192.168.10.1:1790', asNumber: 65001}"}, []string{"Node 192.168.10.1 port 1790 AS 65001"}, nil, nil},
		{"by address and port", []string{"peer p: {node: n2, peerIP: '192.168.10.1:179'}"}, []string{"Node 192.168.10.1"}, []string{"Node 192.168.10.2 passive"}, nil},
		{"another port is something else there", []string{"peer p: {node: n2, peerIP: '192.168.10.1:1790'}"}, []string{"Node 192.168.10.1 port 1790"}, nil, nil},
		{"ports that nodes listen on", []string{"peer p: {node: n2, peerIP: '192.168.10.1'}", "config node.n1: {listenPort: 1791}", "config node.n2: {listenPort: 1792}"},
			[]string{"Node 192.168.10.1 port 1791"}, []string{"Node 192.168.10.2 port 1792 passive"}, nil},
		{"AS of the nodes", []string{"peer p: {node: n2, peerSelector: 'name == \"n1\"'}", "node n1: {as: 65001, only: 4}", "node n2: {as: 65002, only: 4}"},
			[]string{"Node 192.168.10.1 AS 65001"}, []string{"Node 192.168.10.2 AS 65002 passive"}, nil},
		{"local AS", []string{"peer p: {node: n2, peerSelector: 'name == \"n1\"', localASNumber: 65002}"}, []string{"Node 192.168.10.1 as 65002"}, []string{"Node 192.168.10.2 AS 65002 passive"}, nil},
		{"local AS at both ends", []string{"peer p: {nodeSelector: 'name in {\"n1\", \"n2\"}', peerSelector: 'name in {\"n1\", \"n2\"}', localASNumber: 65002}"},
			[]string{"Node 192.168.10.1 AS 65002 as 65002"}, []string{"Node 192.168.10.2 AS 65002 as 65002 passive"}, nil},
		{"the settings are those of both ends", []string{"peer p: {node: n2, peerSelector: 'name == \"n1\"', keepaliveTime: 5s, maxRestartTime: 60s, ttlSecurity: 1, sourceAddress: None, filters: [f], nextHopMode: Self, password: {secretKeyRef: {name: s, key: k}}}", "filter f: {}", "secret s: {k: hush}"},
			[]string{"Node 192.168.10.1 from any password hush next hop Self ttl 1 keepalive 5s restart 1m0s filters [f]"},
			[]string{"Node 192.168.10.2 from any passive password hush next hop Self ttl 1 keepalive 5s restart 1m0s filters [f]"}, nil},
		{"its own comes before the other end's", []string{"peer a: {node: n1, peerSelector: 'name == \"n2\"', keepaliveTime: 1s}", "peer b: {node: n2, peerSelector: 'name == \"n1\"', keepaliveTime: 2s}"},
			[]string{"Node 192.168.10.1 keepalive 2s"}, []string{"Node 192.168.10.2 passive keepalive 1s"}, nil},
		{"that of all comes first", []string{"peer a: {node: n2, peerSelector: 'name == \"n1\"', keepaliveTime: 1s}", "peer b: {peerSelector: 'name == \"n1\"', keepaliveTime: 2s}"},
			[]string{"Global 192.168.10.1 keepalive 2s"}, []string{"Node 192.168.10.2 passive keepalive 2s", "Node 192.168.10.3 passive keepalive 2s"}, nil},
		{"nobody", []string{"peer p: {peerSelector: 'name == \"n9\"'}"}, nil, nil, nil},
		{"itself", []string{"peer p: {node: n2, peerIP: 192.168.10.2}", "peer q: {node: n2, peerSelector: 'name == \"n2\"'}"}, nil, nil, nil},
		{"nodes without address", []string{"peer p: {node: n2, peerSelector: all()}", "node n1: {only: -1}", "node n3: {only: -1}"}, nil, nil,
			[]string{"BGPPeer p: spec.peerSelector selects nodes such as n1, of which none has an address of a family that this node has: see"}},
		{"one node without address", []string{"peer p: {node: n2, peerSelector: all()}", "node n3: {only: -1}"}, []string{"Node 192.168.10.1"}, []string{"Node 192.168.10.2 passive"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := three().only4().with(t, off).with(t, c.add...)
			w.check(t, "n2", c.n2, c.bad)
			w.check(t, "n1", c.n1, nil)
		})
	}
	// Of nodes that share an address the one whose name comes first has it, and they have no session with each other.
	w := three().only4().with(t, "config default: {asNumber: 65000}", "node n1: {as: 1}", "node n2: {as: 2}")
	w.models["n2"] = w.models["n1"]
	for range 10 {
		w.check(t, "n3", []string{"Mesh 192.168.10.1 AS 1"}, nil)
	}
	w.check(t, "n1", []string{"Mesh 192.168.10.3 AS 65000 passive"}, nil)
	w.check(t, "n2", []string{"Mesh 192.168.10.3 AS 65000 passive"}, nil)
	// A selector leads to both families, an address to its own.
	three().with(t, off, "peer p: {node: n2, peerSelector: 'name == \"n1\"'}").check(t, "n1", []string{"Node 192.168.10.2 passive", "Node fd00:10::2 passive"}, nil)
	three().with(t, off, "peer p: {node: n2, peerIP: 'fd00:10::1'}").check(t, "n1", []string{"Node fd00:10::2 passive"}, nil)
}

// Walkthrough 10, one AS: a reflector, or two that share a cluster.
func TestReflectorsOfOneAS(t *testing.T) {
	c := empty()
	for i := 1; i <= 4; i++ {
		c.node(i)
	}
	c.only4().with(t, off, "peer rr-to-node: {nodeSelector: '!has(calico-rr)', peerSelector: has(calico-rr)}", "peer rr-to-rr: {nodeSelector: has(calico-rr), peerSelector: has(calico-rr)}",
		"labels n1: {calico-rr: 'true'}", "node n1: {cluster: 224.0.0.1}")
	c.check(t, "n1", []string{
		"Node 192.168.10.2 passive client of 224.0.0.1 paths", "Node 192.168.10.3 passive client of 224.0.0.1 paths", "Node 192.168.10.4 passive client of 224.0.0.1 paths",
	}, nil)
	for _, n := range []string{"n2", "n3", "n4"} {
		c.check(t, n, []string{"Node 192.168.10.1 paths"}, nil)
	}
	c.with(t, "labels n2: {calico-rr: 'true'}", "node n2: {cluster: 224.0.0.1}")
	c.check(t, "n1", []string{
		"Node 192.168.10.2 passive paths", "Node 192.168.10.3 passive client of 224.0.0.1 paths", "Node 192.168.10.4 passive client of 224.0.0.1 paths",
	}, nil)
	c.check(t, "n2", []string{
		"Node 192.168.10.1 paths", "Node 192.168.10.3 passive client of 224.0.0.1 paths", "Node 192.168.10.4 passive client of 224.0.0.1 paths",
	}, nil)
	c.check(t, "n4", []string{"Node 192.168.10.1 paths", "Node 192.168.10.2 paths"}, nil)
	// Of two clusters each reflector is the other's client.
	c.with(t, "node n2: {cluster: 224.0.0.2}")
	c.check(t, "n2", []string{
		"Node 192.168.10.1 client of 224.0.0.2 paths", "Node 192.168.10.3 passive client of 224.0.0.2 paths", "Node 192.168.10.4 passive client of 224.0.0.2 paths",
	}, nil)
}

// Walkthrough 10, two ASes of three nodes each, with a reflector.
func TestReflectorsOfTwoASes(t *testing.T) {
	c := empty()
	for i := 1; i <= 6; i++ {
		c.node(i)
	}
	c.only4().with(t, off,
		// calico-rr says whose clients nodes are, calico-group which reflectors there are.
		"labels n1: {calico-rr: rr1, calico-group: rr1}", "labels n2: {calico-rr: rr1}", "labels n3: {calico-rr: rr1}",
		"labels n4: {calico-rr: rr2, calico-group: rr2}", "labels n5: {calico-rr: rr2}", "labels n6: {calico-rr: rr2}",
		"node n1: {as: 64512, cluster: 224.0.0.1}", "node n2: {as: 64512}", "node n3: {as: 64512}",
		"node n4: {as: 64513, cluster: 224.0.0.2}", "node n5: {as: 64513}", "node n6: {as: 64513}",
		"peer rr1: {nodeSelector: \"calico-rr == 'rr1'\", peerSelector: \"calico-group == 'rr1'\"}",
		"peer rr2: {nodeSelector: \"calico-rr == 'rr2'\", peerSelector: \"calico-group == 'rr2'\"}",
		"peer rr1-rr2: {nodeSelector: \"calico-group == 'rr1'\", peerSelector: \"calico-group == 'rr2'\"}")
	c.check(t, "n1", []string{"Node 192.168.10.2 passive client of 224.0.0.1 paths", "Node 192.168.10.3 passive client of 224.0.0.1 paths", "Node 192.168.10.4 AS 64513 passive"}, nil)
	c.check(t, "n2", []string{"Node 192.168.10.1 paths"}, nil)
	c.check(t, "n3", []string{"Node 192.168.10.1 paths"}, nil)
	c.check(t, "n4", []string{"Node 192.168.10.1", "Node 192.168.10.5 AS 64513 passive client of 224.0.0.2 paths", "Node 192.168.10.6 AS 64513 passive client of 224.0.0.2 paths"}, nil)
	c.check(t, "n5", []string{"Node 192.168.10.4 AS 64513 paths"}, nil)
	c.check(t, "n6", []string{"Node 192.168.10.4 AS 64513 paths"}, nil)
}

// TestWorkloads: sessions with pods of the node, which open them.
func TestWorkloads(t *testing.T) {
	c := three().with(t, "peer p: {localWorkloadSelector: bgp == 'yes', asNumber: 65001, localASNumber: 65010, sourceAddress: None}",
		"peer q: {node: n1, localWorkloadSelector: has(bgp), asNumber: 65002}", "peer r: {node: n2, localWorkloadSelector: all(), asNumber: 65003}",
		"config default: {nodeToNodeMeshEnabled: false, localWorkloadPeeringIPV4: 169.254.77.1}")
	in := c.input("n1")
	pod := func(bgp string, addrs ...string) {
		w := Workload{Labels: map[string]string{"bgp": bgp}}
		for _, a := range addrs {
			w.Addrs = append(w.Addrs, netip.MustParseAddr(a))
		}
		in.Workloads = append(in.Workloads, w)
	}
	pod("yes", "172.20.0.1")
	pod("no", "172.20.0.2", "fd00:20::2")
	d := c.directory()
	conf, faults := d.Build(in)
	var have []string
	for _, p := range conf.Peers {
		have = append(have, fmt.Sprintf("%s %s AS %d of %d passive %t from %v", p.Kind, p.Address, p.AS, p.LocalAS, p.Passive, p.LocalAddress.IsValid()))
	}
	want := []string{"Global 172.20.0.1 AS 65001 of 65010 passive true from false", "Node 172.20.0.2 AS 65002 of 0 passive true from false"}
	if !slices.Equal(have, want) {
		t.Errorf("peers are\n%s", strings.Join(have, "\n"))
	}
	if len(faults) != 1 || !strings.Contains(faults[0], "BGPPeer q: ") || !strings.Contains(faults[0], "set spec.localWorkloadPeeringIPV6 of BGPConfiguration default") {
		t.Errorf("faults are %q", faults)
	}
	if a, six := d.PeeringAddr("n1", false), d.PeeringAddr("n1", true); a.String() != "169.254.77.1" || six.IsValid() || !d.WithPods() {
		t.Errorf("the node's addresses are %s and %s", a, six)
	}
}
