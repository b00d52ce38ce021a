package topology

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/margay-net/margay/pkg/model"
)

// TestSwitchToVXLAN: a live pool turns to VXLAN. A node is sent to as before until it has told of its tunnel address and this
// one has one, too; then nothing of the former way is left.
func TestSwitchToVXLAN(t *testing.T) {
	both(t, func(t *testing.T, f fam) {
		for _, ipip := range []model.Encap{"Always", "CrossSubnet", "Never"} {
			in := f.bgp("Never", ipip)
			in.Pools[0].NATOutgoing = true
			in.Blocks[1].Loans = model.MakeLoans([]model.Loan{{Addr: f.block(1).Addr().Next(), Node: name(11)}})
			loan := netip.PrefixFrom(f.block(1).Addr().Next(), f.block(1).Addr().BitLen())
			in.Learned = append(in.Learned, Learned{Dst: loan, Vias: []netip.Addr{f.addr(11).Addr()}})
			w := Build(in)
			want := map[netip.Prefix]model.Route{f.block(0): f.hole(0)}
			for _, r := range w.Learned { // what leads by a router is the fabric's, and not kept
				if r.Proto = model.ProtoMargay; r.Via != f.router() {
					want[r.Dst] = r
				}
			}
			step := func(what string, change func()) {
				t.Helper()
				in.Former = slices.Concat(w.Routes, w.Learned)
				change()
				w = Build(in)
				have := map[netip.Prefix]model.Route{}
				for _, r := range slices.Concat(w.Routes, w.Learned) {
					have[r.Dst] = r
				}
				if !reflect.DeepEqual(have, want) {
					t.Errorf("IPIP %s, %s: have\n%v, want\n%v", ipip, what, have, want)
				}
				usesTunl0 := false
				for _, r := range want {
					usesTunl0 = usesTunl0 || r.Dev == IPIP4
				}
				if (w.IPIP != nil) != usesTunl0 || w.NAT4 != nil && slices.Contains(w.NAT4.Tunnels, IPIP4) != usesTunl0 {
					t.Errorf("IPIP %s, %s: tunl0 is %v, NAT %+v", ipip, what, w.IPIP, w.NAT4)
				}
			}
			nodes := map[int]model.Node{}
			for _, i := range []int{0, 1, 11} {
				nodes[i] = in.Nodes[name(i)]
			}
			vxlan := func(is ...int) { // who has a tunnel address
				for i, n := range nodes {
					if !slices.Contains(is, i) {
						n.VXLANAddr4, n.VXLANAddr6 = netip.Addr{}, netip.Addr{}
					}
					in.Nodes[n.Name] = n
				}
			}
			step("nobody is ready", func() {
				in.Pools[0].VXLAN, in.Pools[0].IPIP = "Always", "Never"
				vxlan()
			})
			step("nobody is ready, another plan", func() {})
			step("others are ready", func() { vxlan(1, 11) })
			step("one of the others is", func() {
				vxlan(0, 11)
				want[f.block(11)], want[loan] = f.tunnel(11), f.loan(f.tunnel(11), loan.Addr())
			})
			step("all are", func() { vxlan(0, 1, 11); want[f.block(1)] = f.tunnel(1) })
			step("one is not any more", func() { vxlan(0, 11); delete(want, f.block(1)) })
		}
	})
}

// TestFormerOfAnotherNode: a block that has changed hands is not sent to who had it.
func TestFormerOfAnotherNode(t *testing.T) {
	f := fam{}
	in := f.bgp("Never", "Always")
	w := Build(in)
	in.Former = w.Learned
	in.Pools[0].VXLAN, in.Pools[0].IPIP = "Always", "Never"
	for _, i := range []int{1, 11} {
		n := in.Nodes[name(i)]
		n.VXLANAddr4 = netip.Addr{}
		in.Nodes[name(i)] = n
	}
	in.Blocks[1].Node = name(11)
	want := f.tunl0(11, 80)
	if w = Build(in); !slices.Equal(w.Routes, []model.Route{f.hole(0), want}) {
		t.Errorf("have %v", w.Routes)
	}
}
