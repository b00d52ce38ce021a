package pods

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/selector"
)

func pool(name, cidr string, change ...func(*model.Pool)) model.Pool {
	p := model.Pool{Name: name, CIDR: netip.MustParsePrefix(cidr), Workload: true}
	for _, c := range change {
		c(&p)
	}
	return p
}

var (
	disabled  = func(p *model.Pool) { p.Disabled = true }
	manual    = func(p *model.Pool) { p.Manual = true }
	elsewhere = func(p *model.Pool) { p.Elsewhere = true }
	tunnels   = func(p *model.Pool) { p.Workload = false }
	everybody = func(p *model.Pool) { p.NamespaceSelector = "all()" }
	teams     = func(p *model.Pool) { p.NamespaceSelector = "has(team)" }
	broken    = func(p *model.Pool) { p.NamespaceSelector = "has(" }
)

func TestPools(t *testing.T) {
	plain := []model.Pool{pool("a4", "10.1.0.0/16"), pool("a6", "fd00:1::/64"), pool("d4", "10.4.0.0/16", disabled),
		pool("e4", "10.5.0.0/16", elsewhere), pool("m4", "10.2.0.0/16", manual), pool("t4", "10.3.0.0/16", tunnels), pool("z4", "10.6.0.0/16", everybody)}
	team := append([]model.Pool{pool("b4", "10.8.0.0/16", broken), pool("n4", "10.7.0.0/16", teams), pool("n6", "fd00:7::/64", teams)}, plain...)
	only := []model.Pool{pool("n4", "10.7.0.0/16", teams)}
	member, other := Namespace{Name: "blue", Labels: map[string]string{"team": "blue"}}, Namespace{Name: "default"}
	asks4 := func(items ...string) Wish { return Wish{Pools4: list{items, "annotation 4"}} }
	families := func(items ...string) Wish { return Wish{Families: list{items, "annotation f"}} }
	for _, c := range []struct {
		name string
		wish Wish
		ns   Namespace
		all  []model.Pool
		want string // names; "*": nil
		err  string
	}{
		{"asks for nothing", Wish{}, other, plain, "*", ""},
		{"no pool at all", Wish{}, other, nil, "*", ""},
		{"a selector that leaves it out", Wish{}, other, team, "a4 z4 a6", ""},
		{"a selector that takes it in", Wish{}, member, team, "n4 a4 z4 n6 a6", ""},
		{"only pools of others", Wish{}, other, only, "", "no IP pool gives addresses to this pod: n4 is not for this namespace; there is no IPv6 pool"},
		{"its namespace's pool", Wish{}, member, only, "n4", ""},
		{"by name", asks4("a4"), other, plain, "a4 a6", ""},
		{"by CIDR", asks4("10.1.0.0/16"), other, plain, "a4 a6", ""},
		{"by an address of the CIDR with its length", asks4("10.1.2.3/16"), other, plain, "a4 a6", ""},
		{"in its order, each once", asks4("z4", "a4", "10.6.0.0/16"), other, plain, "z4 a4 a6", ""},
		{"manual", asks4("m4"), other, plain, "m4 a6", ""},
		{"of another node", asks4("e4"), other, plain, "e4 a6", ""},
		{"of another namespace", asks4("n4"), other, team, "n4 a6", ""},
		{"with a broken selector", asks4("b4"), other, team, "b4 a6", ""},
		{"both families", Wish{Pools4: list{[]string{"a4"}, "4"}, Pools6: list{[]string{"fd00:1::/64"}, "6"}}, other, plain, "a4 a6", ""},
		{"disabled", asks4("d4"), other, plain, "", `annotation 4: "d4" gives out no addresses: it is disabled`},
		{"not for pods", asks4("t4"), other, plain, "", `"t4" is not for pods: add Workload to its spec.allowedUses`},
		{"unknown", asks4("x"), other, plain, "", `"x" is neither the name nor the CIDR of an IP pool: kubectl get ippools`},
		{"part of a pool", asks4("10.1.0.0/24"), other, plain, "", `"10.1.0.0/24" is neither`},
		{"wrong family", asks4("a6"), other, plain, "", `"a6" is no IPv4 pool: name it in the other annotation`},
		{"all that is wrong", asks4("x", "a4", "d4"), other, plain, "", "\"x\" is neither the name nor the CIDR of an IP pool: kubectl get ippools shows them\nannotation 4: \"d4\""},
		{"IPv4", families("IPv4"), other, plain, "a4 z4", ""},
		{"IPv6", families("IPv6"), other, plain, "a6", ""},
		{"both", families("IPv6", "IPv4"), other, plain, "a4 z4 a6", ""},
		{"a family without a pool", families("IPv6"), member, only, "", "annotation f: no IP pool gives pods of namespace blue IPv6 addresses on this node (there is no IPv6 pool): make or enable one, or name another family"},
		{"a family for others", families("IPv4"), other, only, "", "(n4 is not for this namespace)"},
		{"a pool of a family that it does not want", Wish{Pools4: list{[]string{"x"}, "4"}, Families: list{[]string{"IPv6"}, "f"}}, other, plain, "a6", ""},
	} {
		got, err := c.wish.Pools(c.ns, c.all, selector.Parse)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want one that says %s", c.name, err, c.err)
			}
			continue
		}
		names := []string{}
		for _, p := range got {
			names = append(names, p.Name)
			if p.Elsewhere || p.Disabled {
				t.Errorf("%s: %s is one that IPAM would pass over", c.name, p.Name)
			}
		}
		text := strings.Join(names, " ")
		if got == nil {
			text = "*"
		}
		if err != nil || text != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.name, text, err, c.want)
		}
	}
	if _, err := (Wish{}).Pools(other, only, selector.Parse); !errors.Is(err, ErrNoPool) {
		t.Errorf("no pool is told as %v", err)
	}
}
