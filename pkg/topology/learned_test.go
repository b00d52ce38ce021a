package topology

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/margay-net/margay/pkg/model"
)

// bgp is input with BGP, and what nodes 1 and 11 have told of their blocks. A router leads out of the subnet.
func (f fam) bgp(vxlan, ipip model.Encap) Input {
	in := f.input(vxlan, ipip)
	in.BGP, in.IPIPMTU = true, 1480
	n := in.Nodes[name(0)]
	n.IPIPAddr4 = netip.MustParseAddr("172.20.0.9")
	in.Nodes[name(0)] = n
	for _, i := range []int{1, 11} {
		in.Learned = append(in.Learned, Learned{Dst: f.block(i), Vias: []netip.Addr{f.addr(i).Addr()}})
	}
	in.Resolve = func(to netip.Addr) (model.Hop, bool) {
		return model.Hop{Dev: "eth0", Via: f.router()}, to != f.addr(99).Addr()
	}
	return in
}

func (f fam) router() netip.Addr {
	if f.six {
		return netip.MustParseAddr("2001:db8::fe")
	}
	return netip.MustParseAddr("192.168.0.254")
}

func (f fam) far() netip.Prefix {
	if f.six {
		return netip.MustParsePrefix("2001:db8:ffff::/48")
	}
	return netip.MustParsePrefix("198.51.100.0/24")
}

func (f fam) bird(dst netip.Prefix, dev string, vias ...netip.Addr) model.Route {
	r := model.Route{Dst: dst, Dev: dev, Via: vias[0], OnLink: dev == IPIP4, Proto: model.ProtoBIRD}
	var others []model.Hop
	for _, via := range vias[1:] {
		others = append(others, model.Hop{Dev: dev, Via: via, OnLink: r.OnLink})
	}
	r.Others = model.MakeHops(others)
	return r
}

// tunl0 is the route to node i's block by its own address through tunl0.
func (f fam) tunl0(i, proto int) model.Route {
	r := f.bird(f.block(i), IPIP4, f.addr(i).Addr())
	r.Proto = proto
	return r
}

// TestLearnedModes has all modes of a pool, by who makes its routes.
func TestLearnedModes(t *testing.T) {
	both(t, func(t *testing.T, f fam) {
		near, far := f.bird(f.block(1), "eth0", f.addr(1).Addr()), f.bird(f.block(11), "eth0", f.router())
		type routes []model.Route
		for _, c := range []struct {
			vxlan, ipip     model.Encap
			bgp, cluster    bool
			routes, learned routes // of IPv4
			plain           bool   // IPv6: as IPIP Never
			ipipDev         bool
		}{
			{"Always", "Never", true, false, routes{f.hole(0), f.tunnel(1), f.tunnel(11)}, nil, false, false},
			{"CrossSubnet", "Never", true, true, routes{f.hole(0), f.plain(1), f.tunnel(11)}, nil, false, false},
			{"Never", "Never", true, false, routes{f.hole(0)}, routes{near, far}, false, false},
			{"Never", "Never", true, true, routes{f.hole(0), f.plain(1)}, nil, false, false},
			{"Never", "Never", false, true, routes{f.hole(0), f.plain(1)}, nil, false, false},
			{"Never", "Never", false, false, routes{f.hole(0), f.plain(1)}, nil, false, false},
			{"Never", "Always", true, false, routes{f.hole(0)}, routes{f.tunl0(1, 12), f.tunl0(11, 12)}, true, true},
			{"Never", "CrossSubnet", true, false, routes{f.hole(0)}, routes{near, f.tunl0(11, 12)}, true, true},
			{"Never", "Always", true, true, routes{f.hole(0), f.tunl0(1, 80), f.tunl0(11, 80)}, nil, true, true},
			{"Never", "CrossSubnet", true, true, routes{f.hole(0), f.plain(1), f.tunl0(11, 80)}, nil, true, true},
			{"Never", "Always", false, true, routes{f.hole(0), f.tunl0(1, 80), f.tunl0(11, 80)}, nil, true, true},
			{"Never", "Always", false, false, routes{f.hole(0)}, nil, false, true},
		} {
			if f.six && c.plain {
				c.routes, c.learned = routes{f.hole(0)}, routes{near, far}
				if c.cluster {
					c.routes, c.learned = routes{f.hole(0), f.plain(1)}, nil
				}
			}
			what := fmt.Sprintf("VXLAN %s, IPIP %s, BGP %v, cluster routes %v", c.vxlan, c.ipip, c.bgp, c.cluster)
			in := f.bgp(c.vxlan, c.ipip)
			in.BGP, in.ClusterRoutes = c.bgp, c.cluster
			w := Build(in)
			if !slices.Equal(w.Routes, c.routes) || !slices.Equal(w.Learned, c.learned) {
				t.Errorf("%s: have\n%v and\n%v, want\n%v and\n%v", what, w.Routes, w.Learned, c.routes, c.learned)
			}
			if f.six {
				continue // the node has no IPv4 address
			}
			if want := (&model.IPIP{Name: "tunl0", MTU: 1480, Addr: netip.MustParseAddr("172.20.0.9")}); c.ipipDev && !reflect.DeepEqual(w.IPIP, want) || !c.ipipDev && w.IPIP != nil {
				t.Errorf("%s: tunl0 is %v", what, w.IPIP)
			}
		}
	})
}

// No tunl0, no routes by it; NAT is told of it.
func TestTunl0(t *testing.T) {
	f := fam{}
	in := f.bgp("Never", "Always")
	in.Pools = append(in.Pools, model.Pool{Name: "vxlan", CIDR: netip.MustParsePrefix("10.1.0.0/16"), VXLAN: model.EncapAlways})
	if w := Build(in); w.NAT4 == nil || !slices.Equal(w.NAT4.Tunnels, []string{IPIP4, VXLAN4}) {
		t.Errorf("NAT %+v", w.NAT4)
	}
	n := in.Nodes[name(0)]
	n.IPIPAddr4 = netip.Addr{}
	in.Nodes[name(0)] = n
	if w := Build(in); w.IPIP != nil || len(w.Learned) != 0 || slices.Contains(w.NAT4.Tunnels, IPIP4) {
		t.Errorf("without an address: %+v", w)
	}
	in.ClusterRoutes = true
	if w := Build(in); len(w.Routes) != 1 {
		t.Errorf("without an address: %+v", w.Routes)
	}
}

// Single prefixes, in a pool without encapsulation and out of it.
func TestLearnedPrefixes(t *testing.T) {
	both(t, func(t *testing.T, f fam) {
		a1, a2, self, router, lost := f.addr(1).Addr(), f.addr(2).Addr(), f.addr(0).Addr(), f.router(), f.addr(99).Addr()
		subnet := f.addr(0).Masked()
		bits := subnet.Addr().BitLen()
		single := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, bits) }
		everything := netip.PrefixFrom(f.far().Addr(), 0).Masked()
		local := netip.PrefixFrom(map[bool]netip.Addr{false: netip.MustParseAddr("169.254.7.0"), true: netip.MustParseAddr("fe80::")}[f.six], bits-8)
		for what, c := range map[string]struct {
			dst  netip.Prefix
			vias []netip.Addr
			want []model.Route
		}{
			"a fabric's":                    {f.far(), []netip.Addr{router}, []model.Route{f.bird(f.far(), "eth0", router)}},
			"two next hops":                 {f.far(), []netip.Addr{a2, a1}, []model.Route{f.bird(f.far(), "eth0", a1, a2)}},
			"two behind one router":         {f.far(), []netip.Addr{f.addr(55).Addr(), f.addr(66).Addr()}, []model.Route{f.bird(f.far(), "eth0", router)}},
			"one of two is out of reach":    {f.far(), []netip.Addr{lost, a1}, []model.Route{f.bird(f.far(), "eth0", a1)}},
			"out of reach":                  {f.far(), []netip.Addr{lost}, nil},
			"ourselves":                     {f.far(), []netip.Addr{self}, nil},
			"no next hop":                   {f.far(), nil, nil},
			"default":                       {everything, []netip.Addr{router}, []model.Route{f.bird(everything, "eth0", router)}},
			"own block":                     {f.block(0), []netip.Addr{a1}, nil},
			"address of own block":          {single(f.block(0).Addr().Next()), []netip.Addr{a1}, []model.Route{f.bird(single(f.block(0).Addr().Next()), "eth0", a1)}},
			"covers own block":              {f.pool(), []netip.Addr{router}, []model.Route{f.bird(f.pool(), "eth0", router)}},
			"own subnet":                    {subnet, []netip.Addr{router}, nil},
			"covers own subnet":             {netip.PrefixFrom(subnet.Addr(), subnet.Bits()-4).Masked(), []netip.Addr{router}, []model.Route{f.bird(netip.PrefixFrom(subnet.Addr(), subnet.Bits()-4).Masked(), "eth0", router)}},
			"own address":                   {single(self), []netip.Addr{router}, nil},
			"a node in own subnet":          {single(a1), []netip.Addr{router}, nil},
			"a next hop in own subnet":      {single(f.addr(7).Addr()), []netip.Addr{f.addr(7).Addr()}, nil},
			"a service's in own subnet":     {single(f.addr(7).Addr()), []netip.Addr{a1}, []model.Route{f.bird(single(f.addr(7).Addr()), "eth0", a1)}},
			"a node in another subnet":      {single(f.addr(11).Addr()), []netip.Addr{router}, []model.Route{f.bird(single(f.addr(11).Addr()), "eth0", router)}},
			"link-local":                    {local, []netip.Addr{router}, nil},
			"next hop of the other family":  {f.far(), []netip.Addr{fam{six: !f.six}.router()}, nil},
			"host bits, and next hop twice": {netip.PrefixFrom(f.far().Addr().Next(), f.far().Bits()), []netip.Addr{a1, a1}, []model.Route{f.bird(f.far(), "eth0", a1)}},
		} {
			in := f.bgp("Never", "Never")
			in.Nodes[name(2)] = f.node(2)
			in.Learned = []Learned{{c.dst, c.vias}}
			if w := Build(in); !slices.Equal(w.Learned, c.want) {
				t.Errorf("%s: have %v, want %v", what, w.Learned, c.want)
			}
		}
		in := f.bgp("Never", "Never")
		in.Learned = append(in.Learned, Learned{single(router), []netip.Addr{a1}})
		if w := Build(in); len(w.Learned) != 2 {
			t.Errorf("the router that another route needs on the link: %v", w.Learned)
		}
		pod := f.block(0).Addr().Next() // it is behind its device, in IPIP's pools, too
		in = f.bgp("Never", "Always")
		in.PodPeers = map[netip.Addr]string{pod: "cali1"}
		in.Learned = []Learned{{f.far(), []netip.Addr{pod}}}
		if w := Build(in); !slices.Equal(w.Learned, []model.Route{{Dst: f.far(), Dev: "cali1", Via: pod, OnLink: true, Proto: model.ProtoBIRD}}) {
			t.Errorf("by way of a pod: %v", w.Learned)
		}
	})
}

// A node that says its subnet is another one is sent to by tunnel from here, as it does from there.
func TestLearnedCrossSubnetOnBothSides(t *testing.T) {
	f := fam{}
	in := f.bgp("Never", "CrossSubnet")
	n := in.Nodes[name(1)]
	n.Addr4 = netip.PrefixFrom(n.Addr4.Addr(), 32)
	in.Nodes[name(1)] = n
	if w := Build(in); !slices.Equal(w.Learned, []model.Route{f.tunl0(1, 12), f.tunl0(11, 12)}) {
		t.Errorf("have %v", w.Learned)
	}
}

// Loans of a pool with IPIP go where blocks go.
func TestLoansByIPIP(t *testing.T) {
	f := fam{}
	in := f.bgp("Never", "Always")
	addr := f.block(1).Addr().Next()
	in.Blocks[1].Loans = model.MakeLoans([]model.Loan{{Addr: addr, Node: name(11)}})
	if w := Build(in); len(w.Routes) != 1 {
		t.Errorf("BGP has them: %v", w.Routes)
	}
	in.ClusterRoutes = true
	want := f.tunl0(11, 80)
	want.Dst = netip.PrefixFrom(addr, 32)
	if w := Build(in); !slices.Contains(w.Routes, want) {
		t.Errorf("have %v, want %v", w.Routes, want)
	}
}

func TestLearnedOrderDoesNotMatter(t *testing.T) {
	in := big(1000)
	in.BGP = true
	for i := range in.Pools {
		in.Pools[i].VXLAN = model.EncapNever
	}
	for i, b := range in.Blocks {
		f := fam{six: b.CIDR.Addr().Is6()}
		in.Learned = append(in.Learned, Learned{b.CIDR, []netip.Addr{f.addr(i % 9).Addr(), f.addr((i + 5) % 9).Addr()}})
	}
	want := Build(in)
	if len(want.Learned) < 900 || !slices.IsSortedFunc(want.Learned, func(a, b model.Route) int { return a.Dst.Compare(b.Dst) }) {
		t.Fatalf("%d routes, or not sorted", len(want.Learned))
	}
	for range 5 {
		rand.Shuffle(len(in.Learned), func(i, j int) { in.Learned[i], in.Learned[j] = in.Learned[j], in.Learned[i] })
		for _, l := range in.Learned {
			slices.Reverse(l.Vias)
		}
		if !reflect.DeepEqual(Build(in), want) {
			t.Fatal("another order, another result")
		}
	}
}

func BenchmarkBuild10kLearned(b *testing.B) {
	in := big(10000)
	in.BGP = true
	for i := range in.Pools {
		in.Pools[i].VXLAN = model.EncapNever
	}
	for i, bl := range in.Blocks {
		f := fam{six: bl.CIDR.Addr().Is6()}
		in.Learned = append(in.Learned, Learned{bl.CIDR, []netip.Addr{f.addr(i % 9).Addr()}})
	}
	b.ReportAllocs()
	for b.Loop() {
		if w := Build(in); len(w.Learned) < 8000 { // one next hop in nine is this node
			b.Fatal(len(w.Learned))
		}
	}
}
