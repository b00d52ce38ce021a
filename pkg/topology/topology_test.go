package topology

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/margay-net/margay/pkg/model"
)

// fam makes the tests' addresses in one family: node i is in subnet i/10.
type fam struct{ six bool }

func (f fam) addr(i int) netip.Prefix {
	if f.six {
		return netip.MustParsePrefix(fmt.Sprintf("2001:db8:%x::%x/64", i/10, i+1))
	}
	return netip.MustParsePrefix(fmt.Sprintf("192.168.%d.%d/24", i/10, i%10+1))
}

func (f fam) block(i int) netip.Prefix {
	if f.six {
		return netip.MustParsePrefix(fmt.Sprintf("fd00:20:0:%x::/122", i))
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 20 + byte(i>>8), byte(i), 0}), 26)
}

func (f fam) pool() netip.Prefix {
	if f.six {
		return netip.MustParsePrefix("fd00:20::/32")
	}
	return netip.MustParsePrefix("172.0.0.0/8")
}

func (f fam) node(i int) model.Node {
	n := model.Node{Name: name(i)}
	if f.six {
		n.Addr6, n.VXLANAddr6, n.VXLANMAC6 = f.addr(i), f.block(i).Addr(), model.TunnelMAC(n.Name, true)
	} else {
		n.Addr4, n.VXLANAddr4, n.VXLANMAC4 = f.addr(i), f.block(i).Addr(), model.TunnelMAC(n.Name, false)
	}
	return n
}

func (f fam) dev() string {
	if f.six {
		return VXLAN6
	}
	return VXLAN4
}

func name(i int) string { return fmt.Sprintf("node-%d", i) }

// input has nodes 0 (self), 1 (same subnet) and 11 (another one), each with one block.
func (f fam) input(vxlan, ipip model.Encap) Input {
	in := Input{Self: name(0), Nodes: map[string]model.Node{}, V4: Underlay{"eth0", 1450}, V6: Underlay{"eth0", 1430}, VNI: 4096, Port: 4789}
	in.Pools = []model.Pool{{Name: "p", CIDR: f.pool(), VXLAN: vxlan, IPIP: ipip}}
	for _, i := range []int{0, 1, 11} {
		in.Nodes[name(i)] = f.node(i)
		in.Blocks = append(in.Blocks, model.Block{CIDR: f.block(i), Node: name(i)})
	}
	return in
}

func (f fam) tunnel(i int) model.Route {
	return model.Route{Dst: f.block(i), Dev: f.dev(), Via: f.block(i).Addr(), OnLink: true, Proto: 80}
}

func (f fam) plain(i int) model.Route {
	return model.Route{Dst: f.block(i), Dev: "eth0", Via: f.addr(i).Addr(), Proto: 80}
}

func (f fam) hole(i int) model.Route {
	return model.Route{Dst: f.block(i), Kind: model.RouteBlackhole, Proto: 80}
}

func both(t *testing.T, test func(*testing.T, fam)) {
	t.Run("IPv4", func(t *testing.T) { test(t, fam{}) })
	t.Run("IPv6", func(t *testing.T) { test(t, fam{six: true}) })
}

func TestModes(t *testing.T) {
	both(t, func(t *testing.T, f fam) {
		for _, c := range []struct {
			vxlan, ipip model.Encap
			routes      []model.Route
			tunnels     int
			device      bool
		}{
			{"Always", "Never", []model.Route{f.hole(0), f.tunnel(1), f.tunnel(11)}, 2, true},
			{"CrossSubnet", "Never", []model.Route{f.hole(0), f.plain(1), f.tunnel(11)}, 1, true},
			{"Never", "Never", []model.Route{f.hole(0), f.plain(1)}, 0, false},
			{"Never", "Always", []model.Route{f.hole(0)}, 0, false},
			{"Never", "CrossSubnet", []model.Route{f.hole(0)}, 0, false},
		} {
			w := Build(f.input(c.vxlan, c.ipip))
			if !reflect.DeepEqual(w.Routes, c.routes) {
				t.Errorf("VXLAN %s, IPIP %s: have %v, want %v", c.vxlan, c.ipip, w.Routes, c.routes)
			}
			if len(w.Neighs) != c.tunnels || len(w.FDB) != c.tunnels || (len(w.VXLAN) == 1) != c.device || len(w.Conflicts) != 0 {
				t.Errorf("VXLAN %s, IPIP %s: %+v", c.vxlan, c.ipip, w)
			}
		}
	})
}

func TestEntries(t *testing.T) {
	both(t, func(t *testing.T, f fam) {
		in := f.input("CrossSubnet", "Never")
		in.Blocks = append(in.Blocks, model.Block{CIDR: f.block(40), Node: name(11)}) // a second block: still one entry
		w := Build(in)
		mac := model.TunnelMAC(name(11), f.six)
		if want := []model.Neigh{{Dev: f.dev(), IP: f.block(11).Addr(), MAC: mac}}; !reflect.DeepEqual(w.Neighs, want) {
			t.Errorf("neighbours %v", w.Neighs)
		}
		if want := []model.FDB{{Dev: f.dev(), MAC: mac, Dst: f.addr(11).Addr()}}; !reflect.DeepEqual(w.FDB, want) {
			t.Errorf("forwarding entries %v", w.FDB)
		}
		mtu := map[bool]int{false: 1450, true: 1430}[f.six]
		dev := model.VXLAN{Name: f.dev(), VNI: 4096, Port: 4789, Parent: "eth0", Local: f.addr(0).Addr(), MAC: model.TunnelMAC(name(0), f.six), MTU: mtu, Addr: f.block(0).Addr()}
		if want := []model.VXLAN{dev}; !reflect.DeepEqual(w.VXLAN, want) {
			t.Errorf("device %+v, want %+v", w.VXLAN, want)
		}
	})
}

// What is left out harms nothing else.
func TestLeftOut(t *testing.T) {
	both(t, func(t *testing.T, f fam) {
		edit := func(in *Input, i int, set func(*model.Node)) {
			n := in.Nodes[name(i)]
			set(&n)
			in.Nodes[name(i)] = n
		}
		for what, change := range map[string]func(*Input){
			"no tunnel address yet": func(in *Input) {
				edit(in, 11, func(n *model.Node) { n.VXLANAddr4, n.VXLANAddr6 = netip.Addr{}, netip.Addr{} })
			},
			"no MAC yet": func(in *Input) {
				edit(in, 11, func(n *model.Node) { n.VXLANMAC4, n.VXLANMAC6 = model.MAC{}, model.MAC{} })
			},
			"no address": func(in *Input) {
				edit(in, 11, func(n *model.Node) { n.Addr4, n.Addr6 = netip.Prefix{}, netip.Prefix{} })
			},
			"unknown node": func(in *Input) { delete(in.Nodes, name(11)) },
			"no owner":     func(in *Input) { in.Blocks[2].Node = "" },
			"no CIDR":      func(in *Input) { in.Blocks[2].CIDR = netip.Prefix{} },
			"outside":      func(in *Input) { in.Blocks[2].CIDR = netip.PrefixFrom(f.outside(), in.Blocks[2].CIDR.Bits()) },
			"wider":        func(in *Input) { in.Blocks[2].CIDR = netip.PrefixFrom(f.pool().Addr(), f.pool().Bits()-1) },
		} {
			in := f.input("Always", "Never")
			change(&in)
			if w := Build(in); !reflect.DeepEqual(w.Routes, []model.Route{f.hole(0), f.tunnel(1)}) || len(w.Neighs) != 1 || len(w.FDB) != 1 || len(w.VXLAN) != 1 {
				t.Errorf("%s: %+v", what, w)
			}
		}
		in := f.input("Always", "Never")
		edit(&in, 0, func(n *model.Node) { n.VXLANAddr4, n.VXLANAddr6 = netip.Addr{}, netip.Addr{} })
		if w := Build(in); !reflect.DeepEqual(w.Routes, []model.Route{f.hole(0)}) || len(w.VXLAN)+len(w.Neighs)+len(w.FDB) != 0 {
			t.Errorf("self without tunnel address: %+v", w)
		}
		in = f.input("Always", "Never")
		in.Pools = nil
		one := netip.PrefixFrom(f.block(3).Addr(), f.block(3).Addr().BitLen())
		in.Blocks = append(in.Blocks, model.Block{CIDR: one, Node: name(0)})
		if w := Build(in); len(w.Routes) != 2 || w.Routes[1].Dst != one || w.Routes[1].Kind != model.RouteBlackhole {
			t.Errorf("own blocks without a pool: %+v", w)
		}
		if w := Build(Input{Self: "x"}); len(w.Routes)+len(w.VXLAN) != 0 {
			t.Errorf("nothing known: %+v", w)
		}
	})
}

// outside returns an address that is in no pool of the tests.
func (f fam) outside() netip.Addr { return f.addr(5).Addr() }

// A prefix length that only one side has wrong makes both encapsulate.
func TestSubnetNeedsBothPrefixes(t *testing.T) {
	both(t, func(t *testing.T, f fam) {
		for _, self := range []int{0, 1} {
			in := f.input("CrossSubnet", "Never")
			n := in.Nodes[name(1)]
			n.Addr4, n.Addr6 = host(n.Addr4), host(n.Addr6)
			in.Nodes[name(1)] = n
			in.Self = name(self)
			if w := Build(in); len(w.Neighs) != 2 {
				t.Errorf("self %d: %+v", self, w)
			}
		}
	})
}

func host(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr(), p.Addr().BitLen()) }

func TestConflicts(t *testing.T) {
	both(t, func(t *testing.T, f fam) {
		for what, change := range map[string]func(one, other *model.Node){
			"address":        func(one, o *model.Node) { o.Addr4, o.Addr6 = one.Addr4, one.Addr6 },
			"tunnel address": func(one, o *model.Node) { o.VXLANAddr4, o.VXLANAddr6 = one.VXLANAddr4, one.VXLANAddr6 },
			"tunnel MAC":     func(one, o *model.Node) { o.VXLANMAC4, o.VXLANMAC6 = one.VXLANMAC4, one.VXLANMAC6 },
		} {
			in := f.input("Always", "Never")
			one, other := in.Nodes[name(1)], in.Nodes[name(11)]
			change(&one, &other)
			in.Nodes[name(11)] = other
			w := Build(in)
			if len(w.Conflicts) != 1 || !strings.Contains(w.Conflicts[0], " "+what+" ") || !strings.Contains(w.Conflicts[0], "node-1 keeps it") {
				t.Errorf("%s: conflicts %q", what, w.Conflicts)
			}
			if !reflect.DeepEqual(w.Routes, []model.Route{f.hole(0), f.tunnel(1)}) || len(w.FDB) != 1 {
				t.Errorf("%s: %+v", what, w)
			}
			in.Self = name(11) // the loser keeps what is its own
			if w := Build(in); len(w.VXLAN) != 1 || len(w.Conflicts) != 1 {
				t.Errorf("%s: the loser: %+v", what, w)
			}
		}
		in := f.input("Always", "Never")
		in.Blocks = append(in.Blocks, model.Block{CIDR: f.block(11), Node: name(1)})
		if w := Build(in); len(w.Conflicts) != 1 || len(w.Routes) != 3 || w.Routes[2].Via != f.block(1).Addr() {
			t.Errorf("block of two: %+v", w)
		}
	})
}

// The order of what comes in changes nothing.
func TestOrderDoesNotMatter(t *testing.T) {
	in := big(300)
	want := Build(in)
	for seed := range uint64(5) {
		r := rand.New(rand.NewPCG(seed, 0))
		r.Shuffle(len(in.Blocks), func(i, j int) { in.Blocks[i], in.Blocks[j] = in.Blocks[j], in.Blocks[i] })
		r.Shuffle(len(in.Pools), func(i, j int) { in.Pools[i], in.Pools[j] = in.Pools[j], in.Pools[i] })
		if !reflect.DeepEqual(Build(in), want) {
			t.Fatal("another order, another result")
		}
	}
}

// big has blocks of both families, half each, five to a node.
func big(blocks int) Input {
	in := Input{Self: name(0), Nodes: map[string]model.Node{}, V4: Underlay{"eth0", 1450}, V6: Underlay{"eth0", 1430}, VNI: 4096, Port: 4789}
	four, six := fam{}, fam{six: true}
	for _, f := range []fam{four, six} {
		in.Pools = append(in.Pools, model.Pool{Name: "p", CIDR: f.pool(), VXLAN: model.EncapCrossSubnet, IPIP: model.EncapNever})
	}
	for i := range blocks / 2 {
		if i%5 == 0 {
			n, m := four.node(i/5), six.node(i/5)
			n.Addr6, n.VXLANAddr6, n.VXLANMAC6 = m.Addr6, m.VXLANAddr6, m.VXLANMAC6
			in.Nodes[n.Name] = n
		}
		in.Blocks = append(in.Blocks, model.Block{CIDR: four.block(i), Node: name(i / 5)}, model.Block{CIDR: six.block(i), Node: name(i / 5)})
	}
	return in
}

func BenchmarkBuild10kBlocks(b *testing.B) {
	in := big(10000)
	b.ReportAllocs()
	for b.Loop() {
		if w := Build(in); len(w.Routes) < 9000 {
			b.Fatal(len(w.Routes))
		}
	}
}

// Addresses on loan: every node but the borrower has a route of its own for each, by the pool's mode.
func TestLoans(t *testing.T) {
	both(t, func(t *testing.T, f fam) {
		at := func(i, n int) netip.Addr {
			a := f.block(i).Addr()
			for range n {
				a = a.Next()
			}
			return a
		}
		to := func(r model.Route, addr netip.Addr) model.Route {
			r.Dst = netip.PrefixFrom(addr, addr.BitLen())
			return r
		}
		in := f.input("CrossSubnet", "Never")
		in.Nodes[name(2)] = f.node(2) // has no block of its own
		in.Blocks[0].Loans = model.MakeLoans([]model.Loan{{Addr: at(0, 5), Node: name(11)}, {Addr: at(0, 3), Node: name(1)}})
		in.Blocks[1].Loans = model.MakeLoans([]model.Loan{{Addr: at(1, 0), Node: name(0)}, {Addr: at(1, 1), Node: name(2)}, {Addr: at(1, 2), Node: "unknown"}})
		in.Blocks = append(in.Blocks, model.Block{CIDR: f.block(12), Loans: model.MakeLoans([]model.Loan{{Addr: at(12, 7), Node: name(11)}})})
		want := []model.Route{
			f.hole(0), to(f.plain(1), at(0, 3)), to(f.tunnel(11), at(0, 5)),
			f.plain(1), to(f.plain(2), at(1, 1)),
			f.tunnel(11), to(f.tunnel(11), at(12, 7)),
		}
		if w := Build(in); !reflect.DeepEqual(w.Routes, want) {
			t.Errorf("have\n%v, want\n%v", w.Routes, want)
		}
		in.Blocks = in.Blocks[:3]
		single := netip.PrefixFrom(at(20, 0), at(20, 0).BitLen())
		in.Blocks[1] = model.Block{CIDR: single, Node: name(1), Loans: model.MakeLoans([]model.Loan{{Addr: single.Addr(), Node: name(11)}})}
		n := 0
		for _, r := range Build(in).Routes {
			if r.Dst == single {
				n++
				if r != to(f.tunnel(11), single.Addr()) {
					t.Errorf("a block of one address on loan has route %v", r)
				}
			}
		}
		if n != 1 {
			t.Errorf("a block of one address on loan has %d routes", n)
		}
	})
}
