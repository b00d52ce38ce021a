package topology

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/margay-net/margay/pkg/model"
)

func TestNAT(t *testing.T) {
	both(t, func(t *testing.T, f fam) {
		outside := netip.MustParsePrefix("10.0.0.0/8")
		if f.six {
			outside = netip.MustParsePrefix("fd10::/16")
		}
		in := f.input("Always", "Never")
		of := func() *model.NAT {
			w := Build(in)
			if f.six {
				return w.NAT6
			}
			return w.NAT4
		}
		in.Pools = append(in.Pools, model.Pool{Name: "spared", CIDR: outside, Disabled: true})
		if got := of(); len(got.Sources) != 0 || !reflect.DeepEqual(got.Tunnels, []string{f.dev()}) {
			t.Errorf("no natOutgoing: %+v", got)
		}
		in.Pools[0].VXLAN = "Never"
		if got := of(); got != nil {
			t.Errorf("no natOutgoing and no tunnel: %+v", got)
		}
		four, six := model.Floating{External: netip.MustParseAddr("192.0.2.7")}, model.Floating{External: netip.MustParseAddr("2001:db8::7")}
		in.NAT.Floating = []model.Floating{four, six}
		own := four
		if f.six {
			own = six
		}
		if got := of(); got == nil || !reflect.DeepEqual(got.Floating, []model.Floating{own}) {
			t.Errorf("floating addresses alone: %+v", got)
		}
		in.Pools[0].NATOutgoing = true
		in.NAT = NATOptions{Address: netip.MustParseAddr("192.0.2.1"), Ports: model.PortRange{Min: 1, Max: 2}, Interface: "eth+"}
		want := &model.NAT{Sources: []netip.Prefix{f.pool()}, Spared: []netip.Prefix{outside, f.pool()}, Ports: in.NAT.Ports, Interface: "eth+"}
		if f.six {
			want.Spared = []netip.Prefix{f.pool(), outside}
		} else {
			want.Address = in.NAT.Address
		}
		if got := of(); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		self := in.Nodes[name(0)]
		without := self
		without.Addr4, without.Addr6 = netip.Prefix{}, netip.Prefix{}
		in.Nodes[name(0)] = without
		if got := of(); got != nil {
			t.Errorf("a node without the family: %+v", got)
		}
		in.Nodes[name(0)] = self
		in.NAT.SpareNodes = true
		spared := map[netip.Prefix]bool{}
		for _, p := range of().Spared {
			spared[p] = true
		}
		for _, i := range []int{0, 1, 11} {
			if !spared[host(f.addr(i))] {
				t.Errorf("node %d is not spared: %v", i, spared)
			}
		}
	})
}

// TestShared: both of two nodes with one address say so, a third one only knows of it.
func TestShared(t *testing.T) {
	both(t, func(t *testing.T, f fam) {
		in := f.input("Always", "Never")
		one, other := in.Nodes[name(1)], in.Nodes[name(11)]
		other.Addr4, other.Addr6 = one.Addr4, one.Addr6
		in.Nodes[name(11)] = other
		for self, want := range map[string]int{name(0): 0, name(1): 1, name(11): 1} {
			in.Self = self
			if w := Build(in); len(w.Shared) != want || len(w.Conflicts) != 1 {
				t.Errorf("%s: shared %q, conflicts %q", self, w.Shared, w.Conflicts)
			}
		}
	})
}
