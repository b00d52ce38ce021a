package topology

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/margay-net/margay/pkg/model"
)

// TestLoansWithoutVXLAN: the owner has the routes to what it lent at once, whoever distributes those to blocks: an ADD on
// the borrower waits for them. Other nodes wait for BGP where that has them, and the borrower needs none.
func TestLoansWithoutVXLAN(t *testing.T) {
	const owner, near, far = 0, 1, 11
	both(t, func(t *testing.T, f fam) {
		type routes []model.Route
		toNear, toFar := f.block(owner).Addr().Next(), f.block(owner).Addr().Next().Next()
		plain := f.loan(f.plain(near), toNear)
		tunl0, tunl0Far := f.loan(f.tunl0(near, 80), toNear), f.loan(f.tunl0(far, 80), toFar)
		for _, c := range []struct {
			ipip         model.Encap
			bgp, cluster bool
			owner        routes // at the block's owner, beside the blackhole
			near         routes // at the borrower in the same subnet, to what the other one has
		}{
			// Nothing of ours leads out of the subnet without encapsulation: that is the fabric's.
			{"Never", true, false, routes{plain}, nil},
			{"Never", true, true, routes{plain}, nil},
			{"Never", false, false, routes{plain}, nil},
			{"Always", true, false, routes{tunl0, tunl0Far}, nil},
			{"Always", true, true, routes{tunl0, tunl0Far}, routes{tunl0Far}},
			{"Always", false, true, routes{tunl0, tunl0Far}, routes{tunl0Far}},
			{"CrossSubnet", true, false, routes{plain, tunl0Far}, nil},
			{"CrossSubnet", true, true, routes{plain, tunl0Far}, routes{tunl0Far}},
		} {
			if f.six { // which IPIP does not carry
				c.owner, c.near = routes{plain}, nil
			}
			in := f.bgp("Never", c.ipip)
			in.BGP, in.ClusterRoutes = c.bgp, c.cluster
			in.Blocks[0].Loans = model.MakeLoans([]model.Loan{{Addr: toFar, Node: name(far)}, {Addr: toNear, Node: name(near)}})
			for _, node := range []int{near, far} {
				n := in.Nodes[name(node)]
				n.IPIPAddr4 = in.Nodes[name(owner)].IPIPAddr4
				in.Nodes[name(node)] = n
			}
			for self, want := range map[int]routes{owner: c.owner, near: c.near} {
				in.Self = name(self)
				var have routes
				for _, r := range Build(in).Routes {
					if r.Dst.IsSingleIP() {
						have = append(have, r)
					}
				}
				if !slices.Equal(have, want) {
					t.Errorf("IPIP %s, BGP %v, cluster routes %v, %s: have\n%v, want\n%v", c.ipip, c.bgp, c.cluster, in.Self, have, want)
				}
			}
		}
	})
}

// TestLoanWithoutTunl0: a loan for which there is no way yet, or whose borrower nobody knows, takes nothing else away.
func TestLoanWithoutTunl0(t *testing.T) {
	f := fam{}
	addr := f.block(0).Addr().Next()
	for what, change := range map[string]func(*Input){
		"no address for tunl0 yet": func(in *Input) {
			n := in.Nodes[name(0)]
			n.IPIPAddr4 = netip.Addr{}
			in.Nodes[name(0)] = n
		},
		"borrower is unknown": func(in *Input) { delete(in.Nodes, name(11)) },
		"no pool":             func(in *Input) { in.Pools = nil },
	} {
		in := f.bgp("Never", "Always")
		in.Blocks[0].Loans = model.MakeLoans([]model.Loan{{Addr: addr, Node: name(11)}})
		want := fmt.Sprint([]model.Route{f.hole(0), f.loan(f.tunl0(11, 80), addr)})
		if have := fmt.Sprint(Build(in).Routes); have != want {
			t.Fatalf("have %s, want %s", have, want)
		}
		change(&in)
		if have := Build(in).Routes; !slices.Equal(have, []model.Route{f.hole(0)}) {
			t.Errorf("%s: %v", what, have)
		}
	}
}

// loan is a route to a node for one address.
func (f fam) loan(r model.Route, addr netip.Addr) model.Route {
	r.Dst = netip.PrefixFrom(addr, addr.BitLen())
	return r
}
