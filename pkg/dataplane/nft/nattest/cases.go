package nattest

import (
	"net/netip"
	"testing"

	"github.com/margay-net/margay/pkg/model"
)

// Prefixes parses.
func Prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// Pools are natOutgoing for the lab's pods in both families, with the same changes.
func Pools(change ...func(*model.NAT)) (v4, v6 *model.NAT) {
	v4 = &model.NAT{Sources: Prefixes("172.20.0.0/16"), Spared: Prefixes("172.20.0.0/16")}
	v6 = &model.NAT{Sources: Prefixes("fd00:20::/64"), Spared: Prefixes("fd00:20::/64")}
	for _, f := range change {
		f(v4)
		f(v6)
	}
	return v4, v6
}

// FamilyOf tells which of Families a value of Pools is for.
func FamilyOf(n *model.NAT) int {
	if n.Sources[0].Addr().Is6() {
		return 1
	}
	return 0
}

// Sees fails the test unless an address's owner sees who asks it as want.
func (h *Host) Sees(t testing.TB, network, to, want string) netip.AddrPort {
	t.Helper()
	return h.SeesFrom(t, network, "", to, want)
}

// SeesFrom is Sees from a chosen local address.
func (h *Host) SeesFrom(t testing.TB, network, from, to, want string) netip.AddrPort {
	t.Helper()
	seen, c, err := h.AskFrom(network, from, to)
	if err != nil || seen.Addr().String() != want {
		t.Errorf("%s from %q to %s: seen as %s, want %s (%v)", network, from, to, seen, want, err)
	}
	if err == nil {
		c.Close()
	}
	return seen
}

func (l *Lab) pinged(t *testing.T, to, want string) {
	t.Helper()
	if seen, err := l.Outside.Pinged(t, l.Pod, to); err != nil || seen.String() != want {
		t.Errorf("ping to %s seen from %s, want %s (%v)", to, seen, want, err)
	}
}

// EachFamily runs f for both, with the family's index.
func EachFamily(t *testing.T, f func(t *testing.T, i int)) {
	for i, name := range Families {
		t.Run(name, func(t *testing.T) { f(t, i) })
	}
}

// Set has something masqueraded, and returns when the kernel has it.
type Set func(t testing.TB, v4, v6 *model.NAT)

// Masquerades tests who sees which address, with all that a model.NAT can say. Nothing is masqueraded before or after.
func Masquerades(t *testing.T, l *Lab, set Set) {
	bare := func(t *testing.T, i int) { l.Pod.Sees(t, "tcp", OutsideAddr[i], PodAddr[i]) }
	EachFamily(t, bare)
	// Second addresses, that the kernel does not choose by itself.
	l.Node.Exec(t, "ip addr add 192.0.2.77/24 dev eth0", "ip addr add 2001:db8:1::77/128 dev eth0 nodad preferred_lft 0")
	for _, c := range cases(l) {
		t.Run(c.name, func(t *testing.T) {
			v4, v6 := Pools(c.change...)
			set(t, v4, v6)
			EachFamily(t, c.look)
		})
	}
	set(t, nil, nil)
	EachFamily(t, bare)
}

type testCase struct {
	name   string
	change []func(*model.NAT)
	look   func(t *testing.T, i int)
}

func cases(l *Lab) []testCase {
	address := [2]string{"192.0.2.77", "2001:db8:1::77"}
	spare := func(n *model.NAT) { n.Spared = append(n.Spared, Prefixes("203.0.113.5/32", "2001:db8:99::5/128")...) }
	ports := func(n *model.NAT) { n.Ports = model.PortRange{Min: 31000, Max: 31003} }
	fixed := func(n *model.NAT) { n.Address = netip.MustParseAddr(address[FamilyOf(n)]) }
	foreign := func(n *model.NAT) { n.Address = netip.MustParseAddr(address[1-FamilyOf(n)]) }
	leaving := func(dev string) func(*model.NAT) { return func(n *model.NAT) { n.Interface = dev } }
	inRange := func(t *testing.T, seen netip.AddrPort) {
		if seen.Port() < 31000 || seen.Port() > 31003 {
			t.Errorf("port %d", seen.Port())
		}
	}
	outside := func(want [2]string) func(*testing.T, int) {
		return func(t *testing.T, i int) { l.Pod.Sees(t, "tcp", OutsideAddr[i], want[i]) }
	}
	return []testCase{
		{"pools", nil, func(t *testing.T, i int) {
			for _, network := range []string{"tcp", "udp"} {
				l.Pod.Sees(t, network, OutsideAddr[i], NodeAddr[i])
				l.Pod.Sees(t, network, Other[i], NodeAddr[i])
				l.Pod.Sees(t, network, FarAddr[i], NodeFar[i])
				l.Pod.Sees(t, network, RemotePod[i], PodAddr[i])
				l.Far.Sees(t, network, OutsideAddr[i], FarAddr[i]) // not ours
			}
			l.pinged(t, OutsideAddr[i], NodeAddr[i])
			l.pinged(t, RemotePod[i], PodAddr[i])
		}},
		{"spared address", []func(*model.NAT){spare}, func(t *testing.T, i int) {
			l.Pod.Sees(t, "tcp", Other[i], PodAddr[i])
			l.Pod.Sees(t, "tcp", OutsideAddr[i], NodeAddr[i])
		}},
		{"port range", []func(*model.NAT){ports}, func(t *testing.T, i int) {
			inRange(t, l.Pod.Sees(t, "tcp", OutsideAddr[i], NodeAddr[i]))
			inRange(t, l.Pod.Sees(t, "udp", OutsideAddr[i], NodeAddr[i]))
			l.pinged(t, OutsideAddr[i], NodeAddr[i])
		}},
		{"address", []func(*model.NAT){fixed}, func(t *testing.T, i int) {
			l.Pod.Sees(t, "tcp", OutsideAddr[i], address[i])
			l.Pod.Sees(t, "udp", OutsideAddr[i], address[i])
			l.pinged(t, OutsideAddr[i], address[i])
		}},
		{"address and port range", []func(*model.NAT){fixed, ports}, func(t *testing.T, i int) {
			inRange(t, l.Pod.Sees(t, "tcp", OutsideAddr[i], address[i]))
			inRange(t, l.Pod.Sees(t, "udp", OutsideAddr[i], address[i]))
		}},
		{"address of the other family", []func(*model.NAT){foreign}, outside(NodeAddr)},
		{"interface", []func(*model.NAT){leaving("eth1")}, func(t *testing.T, i int) {
			l.Pod.Sees(t, "tcp", OutsideAddr[i], PodAddr[i])
			l.Pod.Sees(t, "tcp", FarAddr[i], NodeFar[i])
		}},
		{"interfaces", []func(*model.NAT){leaving("eth+")}, func(t *testing.T, i int) {
			l.Pod.Sees(t, "tcp", OutsideAddr[i], NodeAddr[i])
			l.Pod.Sees(t, "tcp", FarAddr[i], NodeFar[i])
		}},
		{"any interface", []func(*model.NAT){leaving("+")}, outside(NodeAddr)},
		{"other interfaces", []func(*model.NAT){leaving("ens+")}, outside(PodAddr)},
	}
}

// Tunnels tests that the node's own packets to pods behind a tunnel carry the tunnel's address, whatever the process bound
// to, and other packets what they carried.
func Tunnels(t *testing.T, l *Lab, set Set) {
	remote := NewHost(t)
	for _, dev := range []string{"vxlan.calico", "vxlan-v6.calico"} {
		Link(t, l.Node, dev, remote.NS, dev)
	}
	l.Node.Exec(t, "ip addr add 172.20.0.0/32 dev vxlan.calico", "ip addr add fd00:20::1/128 dev vxlan-v6.calico nodad",
		"ip route add 172.20.5.0/26 dev vxlan.calico", "ip route add fd00:20::5:0/112 dev vxlan-v6.calico",
		"ip route add 10.96.0.0/12 via 192.0.2.2") // Services, by way of the uplink
	remote.Exec(t, "ip addr add 172.20.5.1/32 dev vxlan.calico", "ip addr add fd00:20::5:1/128 dev vxlan-v6.calico nodad",
		"ip route add default via 172.20.0.0 dev vxlan.calico onlink", "ip route add default via fd00:20::1 dev vxlan-v6.calico onlink")
	remotePod, tunnel := [2]string{"172.20.5.1", "fd00:20::5:1"}, [2]string{"172.20.0.0", "fd00:20::1"}
	node := hostOf(t, l.Node)
	EachFamily(t, func(t *testing.T, i int) {
		node.Reach(t, remotePod[i])
		node.SeesFrom(t, "tcp", NodeAddr[i], remotePod[i], NodeAddr[i])
	})
	v4, v6 := Pools()
	v4.Tunnels, v6.Tunnels = []string{"vxlan.calico"}, []string{"vxlan-v6.calico"}
	for _, name := range []string{"with sources", "tunnels alone"} {
		t.Run(name, func(t *testing.T) {
			set(t, v4, v6)
			EachFamily(t, func(t *testing.T, i int) {
				for _, network := range []string{"tcp", "udp"} {
					node.SeesFrom(t, network, NodeAddr[i], remotePod[i], tunnel[i])
					node.Sees(t, network, remotePod[i], tunnel[i])
					l.Pod.Sees(t, network, remotePod[i], PodAddr[i])
					node.SeesFrom(t, network, NodeFar[i], OutsideAddr[i], NodeFar[i]) // not a tunnel
				}
			})
		})
		v4.Sources, v6.Sources = nil, nil
	}
	// A Service: the destination becomes a pod's after the source was chosen.
	l.Node.Exec(t, "nft add table ip services", "nft add chain ip services output { type nat hook output priority -100 ; }",
		"nft add rule ip services output ip daddr 10.96.0.9 dnat to 172.20.5.1")
	node.Sees(t, "tcp", "10.96.0.9", tunnel[0])
	set(t, nil, nil)
	node.Sees(t, "tcp", "10.96.0.9", NodeAddr[0])
}
