package peering

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/margay-net/margay/pkg/bgp"
	"github.com/margay-net/margay/pkg/model"
)

// drawCluster draws a few nodes with any mixture of mesh, route reflectors, and BGPPeers between nodes. All passwords are the
// same, if there are any. manual says whether a BGPPeer may leave the other end to somebody else.
func drawCluster(t *rapid.T, manual bool) *cluster {
	c := empty()
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	password := ""
	if rapid.Bool().Draw(t, "password") {
		password = ", password: {secretKeyRef: {name: s, key: k}}"
		c.with(t, "secret s: {k: hush}", "config default: {nodeMeshPassword: {secretKeyRef: {name: s, key: k}}}")
	} else if pick("mesh", "on", "off") == "off" {
		c.with(t, off)
	}
	nodes := rapid.IntRange(2, 6).Draw(t, "nodes")
	for i := 7; i < 7+nodes; i++ { // on both sides of 9, where numbers and texts differ
		name := fmt.Sprintf("n%d", i)
		c.node(i).Labels = map[string]string{"name": name, "a": pick("a", "0", "1"), "b": pick("b", "0", "1")}
		c.with(t, fmt.Sprintf("node %s: {as: %s, cluster: %s, only: %s}", name,
			pick("as", "0", "0", "65001"), pick("cluster", "''", "''", "''", "224.0.0.1", "224.0.0.2"), pick("only", "0", "0", "0", "4", "6", "-1")))
		if spec := pick("own", "", "", "", "{nodeToNodeMeshEnabled: false}", "{listenPort: 1790}", "{asNumber: 65002}"); spec != "" {
			c.with(t, "config node."+name+": "+spec)
		}
	}
	side := func(label string) string {
		return pick(label, "a == '0'", "b == '1'", "all()", "name == 'n8'", "!has(a)")
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "peers") {
		spec := pick("near", "", "node: n7, ", "node: n99, ", `nodeSelector: "`+side("near")+`", `)
		if pick("far", "selector", "selector", "address") == "selector" {
			spec += `peerSelector: "` + side("far") + `"`
		} else {
			spec += "peerIP: '" + pick("peerIP", "192.168.10.8", "fd00:10::7", "192.168.10.10") + "'"
		}
		spec += pick("localAS", "", "", ", localASNumber: 65009") + password
		if manual {
			spec += pick("reverse", "", ", reversePeering: Manual", ", reversePeering: Auto")
		}
		c.with(t, fmt.Sprintf("peer p%d: {%s}", i, spec))
	}
	return c
}

// TestSymmetry: of any two nodes both have a session with the other one, or none; one connects, and one waits; and they agree
// on AS numbers, ports and password.
func TestSymmetry(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		manual := rapid.Bool().Draw(t, "manual")
		c := drawCluster(t, manual)
		confs := map[string]bgp.Config{}
		at := map[netip.Addr]string{}
		for name, m := range c.models {
			confs[name], _ = c.build(name)
			at[m.Addr4.Addr()], at[m.Addr6.Addr()] = name, name
		}
		for name, conf := range confs {
			for _, p := range conf.Peers {
				if at[p.Address] == "" {
					continue // a BGPPeer by address whose node is not there
				}
				other := confs[at[p.Address]]
				back := find(other, p.LocalAddress)
				if back == nil {
					if !manual || p.Passive {
						t.Fatalf("%s has %s, %s has no session with it", name, show(p, p.LocalAddress), at[p.Address])
					}
					continue
				}
				local := back.LocalAS
				if local == 0 {
					local = other.AS
				}
				if p.Passive == back.Passive || p.AS != local || p.Port != other.Port || p.Password != back.Password || (p.Kind == bgp.Mesh) != (back.Kind == bgp.Mesh) && !manual {
					t.Fatalf("%s has %s\n%s has %s, and AS %d", name, show(p, p.LocalAddress), at[p.Address], show(*back, p.Address), other.AS)
				}
				own := p.LocalAS
				if own == 0 {
					own = conf.AS
				}
				if p.Client && (p.ClusterID != c.nodes[name].ClusterID || p.AS != own) {
					t.Fatalf("%s has a client %s", name, show(p, p.LocalAddress))
				}
			}
		}
	})
}

func find(c bgp.Config, a netip.Addr) *bgp.Peer {
	for i := range c.Peers {
		if c.Peers[i].Address == a {
			return &c.Peers[i]
		}
	}
	return nil
}

// TestOrder: what is built does not depend on the order in which things came to be known, nor on what was there in between.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t, true)
		for i := range 4 {
			c.blocks = append(c.blocks, block(fmt.Sprintf("172.20.%d.0/26", i), rapid.SampledFrom([]string{"n7", "n8"}).Draw(t, "owner"), fmt.Sprintf("172.20.%d.1 n7", i), fmt.Sprintf("172.20.%d.2 n8", i)))
		}
		// Each is a fault, and some are in each other's way.
		c.with(t, "peer x: {peerIP: 192.168.42.1, filters: [f, g]}", "peer y: {peerIP: '192.168.42.1:1790', asNumber: 1}", "peer z: {nodeSelector: x}",
			"filter f: {importV4: [{priority: 1, action: Accept}], exportV6: [{action: x}], importV6: [{action: x}]}")
		for _, self := range []string{"n7", "n8"} {
			conf, faults := c.build(self)
			again, said := c.build(self)
			if !reflect.DeepEqual(conf, again) {
				t.Fatalf("%s: first\n%+v\nthen\n%+v", self, conf, again)
			}
			if strings.Join(faults, "\n") != strings.Join(said, "\n") {
				t.Fatalf("%s: first\n%q\nthen\n%q", self, faults, said)
			}
		}
	})
}

func TestDirectory(t *testing.T) {
	told := 0
	d := NewDirectory(func() { told++ })
	expect := func(what string, changes int, do func()) {
		t.Helper()
		before := told
		if do(); told-before != changes {
			t.Errorf("%s: told %d times, want %d", what, told-before, changes)
		}
	}
	w := empty().with(t, "peer p: {peerIP: 192.168.42.1, asNumber: 1, password: {secretKeyRef: {name: s, key: k}}}", "peer q: {peerIP: 192.168.42.2, asNumber: 1}",
		"config default: {nodeMeshPassword: {secretKeyRef: {name: m, key: k}}}", "config other: {}", "filter f: {}")
	for k := range model.BGPKinds {
		if d.InSync() {
			t.Errorf("in sync before kind %d", k)
		}
		expect("the first sync", 1, func() { d.Synced(k) })
		expect("another sync", 0, func() { d.Synced(k) })
	}
	if !d.InSync() || len(d.Secrets()) != 0 {
		t.Errorf("in sync %t, secrets %q", d.InSync(), d.Secrets())
	}
	for i := range 2 {
		n := 1 - i // the second time nothing is new
		expect("peer", n, func() { d.SetPeer("p", w.peers["p"].DeepCopy()) })
		expect("configuration", n, func() { d.SetConfiguration("default", w.configs["default"].DeepCopy()) })
		expect("filter", n, func() { d.SetFilter("f", w.filters["f"].DeepCopy()) })
		expect("node", n, func() { d.SetNode("n", &Node{Labels: map[string]string{"a": "b"}, AS: 1}) })
	}
	if d.InSync() || fmt.Sprint(d.Secrets()) != "[m s]" {
		t.Errorf("in sync %t, secrets %q", d.InSync(), d.Secrets())
	}
	expect("a Secret that is not there", 1, func() { d.SetSecret("s", nil) })
	expect("once more", 0, func() { d.SetSecret("s", nil) })
	expect("an empty one", 1, func() { d.SetSecret("s", map[string][]byte{}) })
	if d.InSync() {
		t.Error("in sync without Secret m")
	}
	expect("another", 1, func() { d.SetSecret("m", map[string][]byte{"k": []byte("x")}) })
	expect("the same", 0, func() { d.SetSecret("m", map[string][]byte{"k": []byte("x")}) })
	expect("another password", 1, func() { d.SetSecret("m", map[string][]byte{"k": []byte("y")}) })
	if !d.InSync() {
		t.Error("not in sync")
	}
	d.ForgetSecret("m")
	if d.InSync() {
		t.Error("in sync without Secret m")
	}
	d.Build(Input{})
	d.SetSecret("m", nil)
	if d.InSync() {
		t.Error("in sync after what was built without Secret m")
	}
	if d.Build(Input{}); !d.InSync() {
		t.Error("not in sync")
	}
	expect("labels", 1, func() { d.SetNode("n", &Node{Labels: map[string]string{"a": "c"}, AS: 1}) })
	expect("AS", 1, func() { d.SetNode("n", &Node{Labels: map[string]string{"a": "c"}, AS: 2}) })
	expect("cluster", 1, func() {
		d.SetNode("n", &Node{Labels: map[string]string{"a": "c"}, AS: 2, ClusterID: netip.MustParseAddr("224.0.0.1")})
	})
	for i := range 2 {
		n := 1 - i
		expect("no peer", n, func() { d.SetPeer("p", nil) })
		expect("no configuration", n, func() { d.SetConfiguration("default", nil) })
		expect("no filter", n, func() { d.SetFilter("f", nil) })
		expect("no node", n, func() { d.SetNode("n", nil) })
	}
	if !d.InSync() || len(d.Secrets()) != 0 {
		t.Errorf("in sync %t, secrets %q", d.InSync(), d.Secrets())
	}
}

// large is a cluster of many nodes, with reflectors, and BGPPeers that all look at labels.
func large(b *testing.B, nodes int, mesh bool) *cluster {
	c := empty()
	for i := range nodes {
		name := fmt.Sprintf("node-%04d.example.com", i)
		m := c.models[name]
		m.Name, m.Addr4 = name, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 12), byte(i >> 4), byte(i<<4 | 1)}), 16)
		c.models[name] = m
		labels := map[string]string{"rack": fmt.Sprint("r", i/40), "kubernetes.io/os": "linux", "kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64", "topology.kubernetes.io/zone": fmt.Sprint("z", i%3), "node.kubernetes.io/instance-type": "x"}
		c.nodes[name] = &Node{Labels: labels}
		if i < 6 {
			labels["calico-rr"] = "true"
			c.nodes[name].ClusterID = netip.MustParseAddr("224.0.0.1")
		}
		c.blocks = append(c.blocks, block(fmt.Sprintf("172.%d.%d.%d/26", 16+i>>10, i>>2&255, i&3*64), name))
	}
	if !mesh {
		c.with(b, off, "peer rr-to-node: {nodeSelector: '!has(calico-rr)', peerSelector: has(calico-rr)}", "peer rr-to-rr: {nodeSelector: has(calico-rr), peerSelector: has(calico-rr)}")
		for i := range 18 {
			c.with(b, fmt.Sprintf("peer tor-%d: {nodeSelector: \"rack == 'r%d' || topology.kubernetes.io/zone in {'z9', 'zz'}\", peerSelector: \"tor == 't%d' && !has(calico-rr)\"}", i, i, i))
		}
	}
	return c
}

func benchmarkBuild(b *testing.B, c *cluster, self string, peers int) {
	d, in := c.directory(), c.input(self)
	b.ReportAllocs()
	for b.Loop() {
		if conf, faults := d.Build(in); len(conf.Peers) != peers || faults != nil {
			b.Fatalf("%d peers, %q", len(conf.Peers), faults)
		}
	}
}

func BenchmarkNode(b *testing.B) {
	benchmarkBuild(b, large(b, 5000, false), "node-3000.example.com", 6)
}
func BenchmarkReflector(b *testing.B) {
	benchmarkBuild(b, large(b, 5000, false), "node-0003.example.com", 4999)
}

// BenchmarkMany has BGPPeers that each lead to nearly all nodes.
func BenchmarkMany(b *testing.B) {
	c := large(b, 5000, false)
	for i := range 18 {
		delete(c.peers, fmt.Sprint("tor-", i))
		c.with(b, fmt.Sprintf("peer many-%d: {nodeSelector: \"kubernetes.io/os == 'linux' && rack != 'r%d'\", peerSelector: \"topology.kubernetes.io/zone in {'z1', 'z2'} && rack != 'r%d'\"}", i, i+1000, i))
	}
	benchmarkBuild(b, c, "node-3000.example.com", 3335)
}

func BenchmarkMesh(b *testing.B) {
	benchmarkBuild(b, large(b, 200, true), "node-0100.example.com", 193)
}
