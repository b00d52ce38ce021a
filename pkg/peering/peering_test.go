package peering

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/bgp"
	"github.com/margay-net/margay/pkg/model"
)

// cluster is what a directory and Input are filled with.
type cluster struct {
	configs map[string]*v3.BGPConfigurationSpec
	peers   map[string]*v3.BGPPeerSpec
	filters map[string]*v3.BGPFilterSpec
	nodes   map[string]*Node
	secrets map[string]map[string][]byte
	models  map[string]model.Node
	pools   []model.Pool
	blocks  []model.Block
}

func empty() *cluster {
	return &cluster{
		configs: map[string]*v3.BGPConfigurationSpec{}, peers: map[string]*v3.BGPPeerSpec{}, filters: map[string]*v3.BGPFilterSpec{},
		nodes: map[string]*Node{}, secrets: map[string]map[string][]byte{}, models: map[string]model.Node{},
	}
}

// three has nodes n1, n2, n3 with addresses of both families that end in their number.
func three() *cluster {
	c := empty()
	for i := 1; i <= 3; i++ {
		c.node(i)
	}
	return c
}

func (c *cluster) node(i int) *Node {
	name := fmt.Sprintf("n%d", i)
	c.models[name] = model.Node{
		Name: name, Addr4: netip.MustParsePrefix(fmt.Sprintf("192.168.10.%d/24", i)), Addr6: netip.MustParsePrefix(fmt.Sprintf("fd00:10::%d/64", i)),
	}
	c.nodes[name] = &Node{Labels: map[string]string{"name": name}}
	return c.nodes[name]
}

// only4 takes the IPv6 addresses away, so that there is less to read.
func (c *cluster) only4() *cluster {
	for name, n := range c.models {
		n.Addr6 = netip.Prefix{}
		c.models[name] = n
	}
	return c
}

// fataler is a test of any kind.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// with adds resources: "KIND NAME: {SPEC}", a line each.
func (c *cluster) with(t fataler, lines ...string) *cluster {
	t.Helper()
	for _, line := range lines {
		head, spec, ok := strings.Cut(line, ": ")
		kind, name, ok2 := strings.Cut(head, " ")
		if !ok || !ok2 {
			t.Fatalf("bad line %q", line)
		}
		var err error
		read := func(to any) { err = yaml.UnmarshalStrict([]byte(spec), to) }
		switch kind {
		case "config":
			c.configs[name] = &v3.BGPConfigurationSpec{}
			read(c.configs[name])
		case "peer":
			c.peers[name] = &v3.BGPPeerSpec{}
			read(c.peers[name])
		case "filter":
			c.filters[name] = &v3.BGPFilterSpec{}
			read(c.filters[name])
		case "secret":
			text := map[string]string{}
			read(&text)
			c.secrets[name] = map[string][]byte{}
			for k, v := range text {
				c.secrets[name][k] = []byte(v)
			}
		case "labels":
			read(&c.nodes[name].Labels)
		case "node":
			var n struct {
				AS      uint32
				Cluster string
				Only    int
			}
			read(&n)
			c.nodes[name].AS = n.AS
			if n.Cluster != "" {
				c.nodes[name].ClusterID = netip.MustParseAddr(n.Cluster)
			}
			m := c.models[name]
			switch n.Only {
			case 4:
				m.Addr6 = netip.Prefix{}
			case 6:
				m.Addr4 = netip.Prefix{}
			case -1:
				m.Addr4, m.Addr6 = netip.Prefix{}, netip.Prefix{}
			}
			c.models[name] = m
		default:
			t.Fatalf("bad kind in %q", line)
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	return c
}

// directory fills a directory in random order, with detours.
func (c *cluster) directory() *Directory {
	d := NewDirectory(nil)
	var puts []func()
	for name, x := range c.configs {
		puts = append(puts, func() { d.SetConfiguration(name, x) })
	}
	for name, x := range c.peers {
		puts = append(puts, func() { d.SetPeer(name, &v3.BGPPeerSpec{PeerIP: "10.9.9.9"}); d.SetPeer(name, x) })
	}
	for name, x := range c.filters {
		puts = append(puts, func() { d.SetFilter(name, x) })
	}
	for name, x := range c.nodes {
		puts = append(puts, func() { d.SetNode(name, nil); d.SetNode(name, &Node{AS: 7}); d.SetNode(name, x) })
	}
	for name, x := range c.secrets {
		puts = append(puts, func() { d.SetSecret(name, nil); d.SetSecret(name, x) })
	}
	puts = append(puts, func() { d.SetPeer("passing", &v3.BGPPeerSpec{PeerIP: "x"}); d.SetPeer("passing", nil) })
	rand.Shuffle(len(puts), func(i, j int) { puts[i], puts[j] = puts[j], puts[i] })
	for _, put := range puts {
		put()
	}
	return d
}

func (c *cluster) input(self string) Input {
	shuffled := func(n int, swap func(i, j int)) { rand.Shuffle(n, swap) }
	pools, blocks := slices.Clone(c.pools), slices.Clone(c.blocks)
	shuffled(len(pools), func(i, j int) { pools[i], pools[j] = pools[j], pools[i] })
	shuffled(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	return Input{Self: self, Nodes: maps.Clone(c.models), Pools: pools, Blocks: blocks}
}

func (c *cluster) build(self string) (bgp.Config, []string) {
	return c.directory().Build(c.input(self))
}

// show writes what a peer is, without what is as usual: its AS is 64512, its own address the source, the port 179.
func show(p bgp.Peer, own ...netip.Addr) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", p.Kind, p.Address)
	add := func(is bool, format string, args ...any) {
		if is {
			fmt.Fprintf(&b, " "+format, args...)
		}
	}
	add(p.Port != 179 && p.Port != 0, "port %d", p.Port)
	add(p.AS != 64512, "AS %d", p.AS)
	add(p.LocalAS != 0, "as %d", p.LocalAS)
	add(!p.LocalAddress.IsValid(), "from any")
	add(p.LocalAddress.IsValid() && !slices.Contains(own, p.LocalAddress), "from %s", p.LocalAddress)
	add(p.Passive, "passive")
	add(p.Password != "", "password %s", p.Password)
	add(p.Client, "client of %s", p.ClusterID)
	add(!p.Client && p.ClusterID.IsValid(), "cluster %s", p.ClusterID)
	add(p.NextHop != "", "next hop %s", p.NextHop)
	add(p.TTLSecurity != 0, "ttl %d", p.TTLSecurity)
	add(p.Keepalive != 0, "keepalive %s", p.Keepalive)
	add(p.RestartTime != 0, "restart %s", p.RestartTime)
	add(p.AllowOwnAS != 0, "own AS %d", p.AllowOwnAS)
	add(p.AddPaths, "paths")
	add(len(p.Filters) > 0, "filters %s", p.Filters)
	add(p.IPv4 || p.IPv6, "families")
	return b.String()
}

func (c *cluster) peersOf(self string) (out, faults []string) {
	conf, faults := c.build(self)
	m := c.models[self]
	for _, p := range conf.Peers {
		out = append(out, show(p, m.Addr4.Addr(), m.Addr6.Addr()))
	}
	return out, faults
}

// check compares the sessions and faults of a node; faults are recognized by what they begin with.
func (c *cluster) check(t *testing.T, self string, want, faults []string) {
	t.Helper()
	have, said := c.peersOf(self)
	if !slices.Equal(have, want) {
		t.Errorf("%s has sessions\n  %s\nwant\n  %s", self, strings.Join(have, "\n  "), strings.Join(want, "\n  "))
	}
	same := len(said) == len(faults)
	for i := range min(len(said), len(faults)) {
		same = same && strings.HasPrefix(said[i], faults[i])
	}
	if !same {
		t.Errorf("%s has faults\n  %s\nwant\n  %s", self, strings.Join(said, "\n  "), strings.Join(faults, "\n  "))
	}
}

func TestMesh(t *testing.T) {
	for _, c := range []struct {
		name string
		add  []string
		self string
		want []string
		bad  []string
	}{
		{"both families", nil, "n2", []string{"Mesh 192.168.10.1", "Mesh 192.168.10.3 passive", "Mesh fd00:10::1", "Mesh fd00:10::3 passive"}, nil},
		{"a node of one family", []string{"node n1: {only: 4}", "node n3: {only: 6}"}, "n2", []string{"Mesh 192.168.10.1", "Mesh fd00:10::3 passive"}, nil},
		{"this node of one family", []string{"node n2: {only: 6}"}, "n2", []string{"Mesh fd00:10::1", "Mesh fd00:10::3 passive"}, nil},
		{"a node without address", []string{"node n1: {only: -1}", "node n2: {only: 4}"}, "n2", []string{"Mesh 192.168.10.3 passive"}, nil},
		{"this node without address", []string{"node n2: {only: -1}"}, "n2", nil, nil},
		{"switched off", []string{"config default: {nodeToNodeMeshEnabled: false}"}, "n2", nil, nil},
		{"switched on", []string{"config default: {nodeToNodeMeshEnabled: true}", "node n2: {only: 4}"}, "n2", []string{"Mesh 192.168.10.1", "Mesh 192.168.10.3 passive"}, nil},
		{"without one node", []string{"config node.n1: {nodeToNodeMeshEnabled: false}", "node n2: {only: 4}"}, "n2", []string{"Mesh 192.168.10.3 passive"}, nil},
		{"without this node", []string{"config node.n2: {nodeToNodeMeshEnabled: false}"}, "n2", nil, nil},
		{"this node reflects", []string{"node n2: {cluster: 224.0.0.1}"}, "n2", nil, nil},
		{"another reflects", []string{"node n3: {cluster: 224.0.0.1}", "node n2: {only: 4}"}, "n2", []string{"Mesh 192.168.10.1"}, nil},
		{"AS", []string{"config default: {asNumber: 65000}", "node n1: {as: 65001}", "config node.n3: {asNumber: 65003}", "node n2: {only: 4}"}, "n2",
			[]string{"Mesh 192.168.10.1 AS 65001", "Mesh 192.168.10.3 AS 65003 passive"}, nil},
		{"AS of an annotation first", []string{"node n1: {as: 65001}", "config node.n1: {asNumber: 65002}", "node n2: {only: 4}"}, "n2",
			[]string{"Mesh 192.168.10.1 AS 65001", "Mesh 192.168.10.3 passive"}, nil},
		{"ports", []string{"config default: {listenPort: 1790}", "config node.n3: {listenPort: 1793}", "node n2: {only: 4}"}, "n2",
			[]string{"Mesh 192.168.10.1 port 1790", "Mesh 192.168.10.3 port 1793 passive"}, nil},
		{"password", []string{"config default: {nodeMeshPassword: {secretKeyRef: {name: s, key: k}}}", "secret s: {k: hush}", "node n2: {only: 4}"}, "n2",
			[]string{"Mesh 192.168.10.1 password hush", "Mesh 192.168.10.3 passive password hush"}, nil},
		{"password of a node's configuration is none", []string{"config node.n2: {nodeMeshPassword: {secretKeyRef: {name: s, key: k}}}", "secret s: {k: hush}", "node n2: {only: 4}"}, "n2",
			[]string{"Mesh 192.168.10.1", "Mesh 192.168.10.3 passive"}, nil},
		{"no Secret", []string{"config default: {nodeMeshPassword: {secretKeyRef: {name: s, key: k}}}"}, "n2", nil,
			[]string{"BGPConfiguration default: spec.nodeMeshPassword: there is no Secret s, or the agent may not read it: create it"}},
		{"no key", []string{"config default: {nodeMeshPassword: {secretKeyRef: {name: s, key: k}}}", "secret s: {other: hush}"}, "n2", nil,
			[]string{"BGPConfiguration default: spec.nodeMeshPassword: the Secret s has no key k"}},
		{"no name", []string{"config default: {nodeMeshPassword: {secretKeyRef: {key: k}}}"}, "n2", nil,
			[]string{"BGPConfiguration default: spec.nodeMeshPassword: secretKeyRef names no key of a Secret"}},
		{"restart time", []string{"config default: {nodeMeshMaxRestartTime: 200s}", "node n2: {only: 4}"}, "n2",
			[]string{"Mesh 192.168.10.1 restart 3m20s", "Mesh 192.168.10.3 passive restart 3m20s"}, nil},
		{"more than BGP can tell", []string{"config default: {nodeMeshMaxRestartTime: 2h}", "node n1: {only: -1}", "node n2: {only: 4}"}, "n2", []string{"Mesh 192.168.10.3 passive restart 1h8m15s"},
			[]string{"BGPConfiguration default: spec.nodeMeshMaxRestartTime 2h0m0s is more than BGP can tell, and counts as 1h8m15s"}},
		{"a long password", []string{"config default: {nodeMeshPassword: {secretKeyRef: {name: s, key: k}}}", "secret s: {k: " + strings.Repeat("x", 81) + "}", "node n1: {only: -1}", "node n2: {only: 4}"}, "n2",
			[]string{"Mesh 192.168.10.3 passive password " + strings.Repeat("x", 81)}, []string{"BGPConfiguration default: spec.nodeMeshPassword has 81 bytes"}},
		{"a peer takes its place", []string{"peer p: {peerIP: 192.168.10.3, keepaliveTime: 10s}", "node n2: {only: 4}"}, "n2",
			[]string{"Mesh 192.168.10.1", "Global 192.168.10.3 passive keepalive 10s"}, nil},
		{"the order is that of texts", []string{"node n1: {only: -1}"}, "n2", []string{"Mesh 192.168.10.3 passive", "Mesh fd00:10::3 passive"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) { three().with(t, c.add...).check(t, c.self, c.want, c.bad) })
	}
	// As texts .10 comes before .9.
	c := empty()
	c.node(9)
	c.node(10)
	c.only4().check(t, "n9", []string{"Mesh 192.168.10.10"}, nil)
	c.check(t, "n10", []string{"Mesh 192.168.10.9 passive"}, nil)
}

func TestConfig(t *testing.T) {
	d := three().directory()
	c := d.Config("n1")
	if *c.ASNumber != 64512 || c.ListenPort != 179 || !*c.NodeToNodeMeshEnabled || *c.BindMode != v3.BindNone || c.LogSeverityScreen != "Info" ||
		*c.ServiceLoadBalancerAggregation != v3.Enabled || *c.IPv4NormalRoutePriority != 1024 || *c.IPv6NormalRoutePriority != 1024 || d.ClusterRoutes("n1") {
		t.Errorf("defaults are %+v", c)
	}
	all := `{asNumber: 1, listenPort: 2, nodeToNodeMeshEnabled: false, bindMode: NodeIP, logSeverityScreen: Debug, serviceLoadBalancerAggregation: Disabled,
		ipv4NormalRoutePriority: 3, ipv6NormalRoutePriority: 4, programClusterRoutes: Disabled, ignoredInterfaces: [a], serviceClusterIPs: [{cidr: 10.0.0.0/8}],
		serviceExternalIPs: [{cidr: 11.0.0.0/8}], serviceLoadBalancerIPs: [{cidr: 12.0.0.0/8}], localWorkloadPeeringIPV4: 169.254.1.2, localWorkloadPeeringIPV6: 'fe80::1',
		communities: [{name: a, value: '1:2'}], prefixAdvertisements: [{cidr: 13.0.0.0/8, communities: [a]}], nodeMeshMaxRestartTime: 5s}`
	w := three().with(t, "config default: "+all)
	if have := w.directory().Config("n1"); !reflect.DeepEqual(have, *w.configs["default"]) {
		t.Errorf("of what is all set\n%+v\ncounts\n%+v", *w.configs["default"], have)
	}
	if !w.directory().ClusterRoutes("n1") {
		t.Error("programClusterRoutes Disabled: routes come from the API")
	}
	// What a node's own sets counts, but for what is default's alone.
	w = three().with(t, "config node.n1: "+all)
	have, other := w.directory().Config("n1"), w.directory().Config("n2")
	want := *w.configs["node.n1"]
	want.ServiceLoadBalancerAggregation, want.NodeMeshMaxRestartTime = other.ServiceLoadBalancerAggregation, nil
	want.ServiceClusterIPs, want.ServiceExternalIPs, want.ServiceLoadBalancerIPs = nil, nil, nil
	if !reflect.DeepEqual(have, want) {
		t.Errorf("of what the node sets\n%+v\ncounts\n%+v", want, have)
	}
	if *other.ASNumber != 64512 {
		t.Error("a node's configuration is another one's")
	}
	w.with(t, "config default: {asNumber: 9, communities: [{name: a, value: '3:4'}, {name: b, value: '5:6'}]}")
	if have := w.directory().Config("n1"); *have.ASNumber != 1 || len(have.Communities) != 3 || have.Communities[0].Value != "1:2" {
		t.Errorf("of both counts %+v", have)
	}
}

func TestSpeaker(t *testing.T) {
	c := three().with(t, "config default: {bindMode: NodeIP, listenPort: 1790, asNumber: 65000}")
	conf, faults := c.build("n1")
	if conf.AS != 65000 || conf.Port != 1790 || conf.RouterID.String() != "192.168.10.1" || fmt.Sprint(conf.Listen) != "[192.168.10.1 fd00:10::1]" || faults != nil {
		t.Errorf("speaker is %+v, %q", conf, faults)
	}
	in := c.input("n1")
	in.AS, in.RouterID = 65001, netip.MustParseAddr("1.2.3.4")
	if conf, _ := c.directory().Build(in); conf.AS != 65001 || conf.RouterID != in.RouterID {
		t.Errorf("with the environment it is %+v", conf)
	}
	c.with(t, "peer p: {peerIP: 192.168.42.1, asNumber: 65001}", "node n1: {cluster: 224.0.0.1}")
	if conf, _ := c.directory().Build(in); len(conf.Peers) != 1 || !conf.Peers[0].Client {
		t.Errorf("with the environment a peer of its AS is %+v", conf.Peers)
	}
	delete(c.peers, "p")
	c.with(t, "node n1: {as: 65002, only: 6}", "config node.n1: {bindMode: None}")
	conf, faults = c.directory().Build(Input{Self: "n1", Nodes: c.models, AS: 65001})
	if conf.AS != 65002 || conf.RouterID != bgp.HashID("n1") || conf.Listen != nil {
		t.Errorf("speaker is %+v", conf)
	}
	if len(faults) != 0 {
		t.Errorf("faults are %q", faults)
	}
}
