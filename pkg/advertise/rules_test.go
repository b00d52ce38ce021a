package advertise

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// rule is a case: one Service, in IPv4; what it says holds for IPv6 as well.
type rule struct {
	name                        string
	cluster, external, balancer string // networks, separated by blanks
	split                       bool   // serviceLoadBalancerAggregation Disabled
	policy                      string // "" (both Cluster), outside, inside (Local)
	ready                       string // "", here, elsewhere
	want                        string
}

// The Service has 10.96.0.10, 192.168.50.7 and 192.168.60.8.
var rules = []rule{
	{name: "nothing configured", ready: "here"},
	{name: "nothing configured, Local", policy: "outside", ready: "here"},

	{name: "networks", cluster: "10.96.0.0/16", external: "192.168.50.0/24", balancer: "192.168.60.0/24", ready: "here",
		want: "10.96.0.0/16 192.168.50.0/24 192.168.60.0/24"},
	{name: "networks without endpoints", cluster: "10.96.0.0/16", external: "192.168.50.0/24", balancer: "192.168.60.0/24",
		want: "10.96.0.0/16 192.168.50.0/24 192.168.60.0/24"},
	{name: "a network twice", external: "192.168.50.0/24 192.168.50.0/24", balancer: "192.168.50.0/24", want: "192.168.50.0/24"},

	{name: "Local here", cluster: "10.96.0.0/16", external: "192.168.50.0/24", balancer: "192.168.60.0/24", policy: "outside", ready: "here",
		want: "10.96.0.0/16 10.96.0.10/32 192.168.50.0/24 192.168.50.7/32 192.168.60.0/24 192.168.60.8/32"},
	{name: "Local elsewhere", cluster: "10.96.0.0/16", external: "192.168.50.0/24", balancer: "192.168.60.0/24", policy: "outside", ready: "elsewhere",
		want: "10.96.0.0/16 192.168.50.0/24 192.168.60.0/24"},
	{name: "Local nowhere", cluster: "10.96.0.0/16", policy: "outside", want: "10.96.0.0/16"},
	{name: "Local inside is of cluster addresses alone", cluster: "10.96.0.0/16", external: "192.168.50.0/24", balancer: "192.168.60.0/24", policy: "inside", ready: "here",
		want: "10.96.0.0/16 10.96.0.10/32 192.168.50.0/24 192.168.60.0/24"},
	{name: "Local inside elsewhere", cluster: "10.96.0.0/16", policy: "inside", ready: "elsewhere", want: "10.96.0.0/16"},

	{name: "outside of the networks", cluster: "10.97.0.0/16", external: "192.168.51.0/24", balancer: "192.168.61.0/24", policy: "outside", ready: "here",
		want: "10.97.0.0/16 192.168.51.0/24 192.168.61.0/24"},
	{name: "a list is for its own addresses", cluster: "192.168.50.0/24", external: "192.168.60.0/24", balancer: "10.96.0.0/16", policy: "outside", ready: "here",
		want: "10.96.0.0/16 192.168.50.0/24 192.168.60.0/24"},

	{name: "single, Cluster", cluster: "10.96.0.10/32", external: "192.168.50.7/32", balancer: "192.168.60.8/32", ready: "elsewhere",
		want: "10.96.0.10/32 192.168.50.7/32 192.168.60.8/32"},
	{name: "single, Cluster, nothing ready", external: "192.168.50.7/32", balancer: "192.168.60.8/32", want: "192.168.50.7/32 192.168.60.8/32"},
	{name: "single that nobody has", cluster: "10.96.0.11/32", external: "192.168.50.9/32", balancer: "192.168.60.9/32", ready: "here"},
	{name: "single, Local here", cluster: "10.96.0.10/32", external: "192.168.50.7/32", balancer: "192.168.60.8/32", policy: "outside", ready: "here",
		want: "10.96.0.10/32 192.168.50.7/32 192.168.60.8/32"},
	{name: "single, Local elsewhere", cluster: "10.96.0.10/32", external: "192.168.50.7/32", balancer: "192.168.60.8/32", policy: "outside", ready: "elsewhere"},
	{name: "single in a network", external: "192.168.50.0/24 192.168.50.7/32", ready: "elsewhere", want: "192.168.50.0/24 192.168.50.7/32"},
	{name: "single beside a network: others are not announced alone", external: "192.168.50.0/24", balancer: "192.168.60.8/32", ready: "here",
		want: "192.168.50.0/24 192.168.60.8/32"},

	{name: "not aggregated, ready here", balancer: "192.168.60.0/24", split: true, ready: "here", want: "192.168.60.8/32"},
	{name: "not aggregated, ready elsewhere", balancer: "192.168.60.0/24", split: true, ready: "elsewhere", want: "192.168.60.8/32"},
	{name: "not aggregated, ready nowhere", balancer: "192.168.60.0/24", split: true},
	{name: "not aggregated, Local here", balancer: "192.168.60.0/24", split: true, policy: "outside", ready: "here", want: "192.168.60.8/32"},
	{name: "not aggregated, Local elsewhere", balancer: "192.168.60.0/24", split: true, policy: "outside", ready: "elsewhere"},
	{name: "not aggregated is of load balancers alone", cluster: "10.96.0.0/16", external: "192.168.50.0/24", balancer: "192.168.60.0/24", split: true, ready: "here",
		want: "10.96.0.0/16 192.168.50.0/24 192.168.60.8/32"},
	{name: "not aggregated, single", balancer: "192.168.60.8/32", split: true, want: "192.168.60.8/32"},
}

// as is a prefix, or an address, in one family or the other: 10.0.0.0/8 is fd00::a00:0/104 in IPv6.
func as(six bool, p netip.Prefix) netip.Prefix {
	if !six {
		return p
	}
	b := netip.MustParseAddr("fd00::").As16()
	four := p.Addr().As4()
	copy(b[12:], four[:])
	return netip.PrefixFrom(netip.AddrFrom16(b), 96+p.Bits())
}

func prefixes(six bool, texts string) (out []netip.Prefix) {
	for _, text := range strings.Fields(texts) {
		out = append(out, as(six, netip.MustParsePrefix(text)))
	}
	return out
}

func blocks(six bool, texts string) (out []v3.ServiceIPBlock) {
	for _, p := range prefixes(six, texts) {
		out = append(out, v3.ServiceIPBlock{CIDR: p.String()})
	}
	return out
}

func addrs(six bool, texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, as(six, netip.PrefixFrom(netip.MustParseAddr(text), 32)).Addr())
	}
	return out
}

func (r *rule) input(six bool) Input {
	in := Input{Config: v3.BGPConfigurationSpec{
		ServiceClusterIPs: blocks(six, r.cluster), ServiceExternalIPs: blocks(six, r.external), ServiceLoadBalancerIPs: blocks(six, r.balancer),
	}}
	if r.split {
		off := v3.Disabled
		in.Config.ServiceLoadBalancerAggregation = &off
	}
	return in
}

var web = Key{"shop", "web"}

// service returns the case's Service and, if an endpoint is ready, its slice.
func (r *rule) service(six bool) (*Service, *Slice) {
	s := &Service{
		Cluster: addrs(six, "10.96.0.10"), External: addrs(six, "192.168.50.7"), Balancer: addrs(six, "192.168.60.8"),
		Inside: r.policy == "inside", Outside: r.policy == "outside",
	}
	if r.ready == "" {
		return s, nil
	}
	return s, &Slice{Service: web.Name, Family6: six, Here: r.ready == "here"}
}

func families(t *testing.T, f func(t *testing.T, six bool)) {
	t.Run("IPv4", func(t *testing.T) { f(t, false) })
	t.Run("IPv6", func(t *testing.T) { f(t, true) })
}

// expect compares what is announced with prefixes in text.
func expect(t *testing.T, d *Directory, in Input, want []netip.Prefix) {
	t.Helper()
	got, faults := d.Announcements(in)
	want = sorted(slices.Clone(want))
	if !slices.Equal(got, want) {
		t.Errorf("announced: %v, want %v", got, want)
	}
	if len(faults) > 0 {
		t.Errorf("faults: %q", faults)
	}
}

func TestRules(t *testing.T) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			families(t, func(t *testing.T, six bool) {
				d := NewDirectory(nil)
				s, slice := r.service(six)
				d.SetService(web, s)
				d.SetSlice(Key{"shop", "web-x1"}, slice)
				d.SetSlice(Key{"bank", "web-x1"}, &Slice{Service: "web", Family6: six, Here: true})     // of a Service in another namespace
				d.SetSlice(Key{"shop", "other-x1"}, &Slice{Service: "other", Family6: six, Here: true}) // of another Service
				in := r.input(six)
				expect(t, d, in, prefixes(six, r.want))
				in.NodeLabels = map[string]string{excluded: "false"}
				expect(t, d, in, prefixes(six, r.want))
				in.NodeLabels[excluded] = "true"
				expect(t, d, in, nil)
				d.SetService(web, nil)
				in.NodeLabels = nil
				expect(t, d, in, slices.DeleteFunc(prefixes(six, r.want), netip.Prefix.IsSingleIP))
			})
		})
	}
}

// Each family stands for itself.
func TestFamilies(t *testing.T) {
	both := func(texts ...string) []netip.Addr {
		return slices.Concat(addrs(false, texts...), addrs(true, texts...))
	}
	nets := "10.96.0.0/16 192.168.50.7/32 192.168.60.0/24"
	in := Input{Config: v3.BGPConfigurationSpec{
		ServiceClusterIPs:      slices.Concat(blocks(false, "10.96.0.0/16"), blocks(true, "10.96.0.0/16")),
		ServiceExternalIPs:     slices.Concat(blocks(false, "192.168.50.7/32"), blocks(true, "192.168.50.7/32")),
		ServiceLoadBalancerIPs: slices.Concat(blocks(false, "192.168.60.0/24"), blocks(true, "192.168.60.0/24")),
	}}
	whole := slices.DeleteFunc(slices.Concat(prefixes(false, nets), prefixes(true, nets)), netip.Prefix.IsSingleIP)
	families(t, func(t *testing.T, six bool) {
		d := NewDirectory(nil)
		s := Service{Cluster: both("10.96.0.10"), External: both("192.168.50.7"), Balancer: both("192.168.60.8"), Outside: true}
		d.SetService(web, &s)
		expect(t, d, in, whole)
		d.SetSlice(Key{"shop", "a"}, &Slice{Service: "web", Family6: six, Here: true})
		d.SetSlice(Key{"shop", "b"}, &Slice{Service: "web", Family6: !six})
		own := prefixes(six, "10.96.0.10/32 192.168.50.7/32 192.168.60.8/32")
		expect(t, d, in, slices.Concat(whole, own))

		// A Service of the other family alone is not served in this one, whatever addresses it names.
		s.Cluster, s.Outside = addrs(!six, "10.96.0.10"), false
		d.SetService(web, &s)
		expect(t, d, in, slices.Concat(whole, prefixes(!six, "192.168.50.7/32")))
	})
}

// Two slices of a Service, two Services with one address: it stays until the last one has gone.
func TestLastOne(t *testing.T) {
	families(t, func(t *testing.T, six bool) {
		d := NewDirectory(nil)
		in := Input{Config: v3.BGPConfigurationSpec{ServiceExternalIPs: blocks(six, "192.168.50.0/24")}}
		network, address := prefixes(six, "192.168.50.0/24"), prefixes(six, "192.168.50.7/32")
		mail := Key{"shop", "mail"}
		for _, k := range []Key{web, mail} {
			d.SetService(k, &Service{Cluster: addrs(six, "10.96.0.10"), External: addrs(six, "192.168.50.7"), Outside: true})
		}
		with, without := slices.Concat(network, address), network
		step := func(slice string, s *Slice, want []netip.Prefix) {
			t.Helper()
			d.SetSlice(Key{"shop", slice}, s)
			expect(t, d, in, want)
		}
		step("web-1", &Slice{Service: "web", Family6: six, Here: true}, with)
		step("web-2", &Slice{Service: "web", Family6: six, Here: true}, with)
		step("mail-1", &Slice{Service: "mail", Family6: six, Here: true}, with)
		step("web-1", nil, with)
		step("web-2", &Slice{Service: "web", Family6: six}, with) // now elsewhere
		step("mail-1", &Slice{Service: "web", Family6: six}, without)
	})
}

func TestBadValues(t *testing.T) {
	d := NewDirectory(nil)
	bad := func(texts ...string) (out []v3.ServiceIPBlock) {
		for _, text := range texts {
			out = append(out, v3.ServiceIPBlock{CIDR: text})
		}
		return out
	}
	in := Input{Config: v3.BGPConfigurationSpec{
		ServiceClusterIPs:      bad("10.96.0.0/16", "10.96.0.0"),
		ServiceExternalIPs:     bad("", "192.168.50.0/33", "192.168.51.7/24", "fd00::%eth0/64"),
		ServiceLoadBalancerIPs: bad("::ffff:1.2.3.0/120"),
	}}
	const want = ` is not used: want a network, such as 192.168.50.0/24, or an address, such as 192.168.50.7/32 or fd00::7/128`
	lines := []string{
		`BGPConfiguration default: spec.serviceClusterIPs[1].cidr: "10.96.0.0"`,
		`BGPConfiguration default: spec.serviceExternalIPs[0].cidr: ""`,
		`BGPConfiguration default: spec.serviceExternalIPs[1].cidr: "192.168.50.0/33"`,
		`BGPConfiguration default: spec.serviceExternalIPs[3].cidr: "fd00::%eth0/64"`,
		`BGPConfiguration default: spec.serviceLoadBalancerIPs[0].cidr: "::ffff:1.2.3.0/120"`,
	}
	got, faults := d.Announcements(in)
	if want := prefixes(false, "10.96.0.0/16 192.168.51.0/24"); !slices.Equal(got, want) {
		t.Errorf("announced: %v, want %v: the good ones", got, want)
	}
	check := func(lines []string) {
		t.Helper()
		for i := range lines {
			lines[i] += want
		}
		if !slices.Equal(faults, lines) {
			t.Errorf("faults:\n%s\nwant:\n%s", strings.Join(faults, "\n"), strings.Join(lines, "\n"))
		}
	}
	check(slices.Clone(lines))

	in.ClusterIPs = "10.97.0.0/16, fd97::/112,x"
	got, faults = d.Announcements(in)
	if want := append(prefixes(false, "10.97.0.0/16 192.168.51.0/24"), netip.MustParsePrefix("fd97::/112")); !slices.Equal(got, want) {
		t.Errorf("announced: %v, want %v: the environment replaces serviceClusterIPs", got, want)
	}
	check(append([]string{`CALICO_ADVERTISE_CLUSTER_IPS: "x"`}, lines[1:]...))
}

func TestRanges(t *testing.T) {
	c := v3.BGPConfigurationSpec{
		ServiceClusterIPs:      slices.Concat(blocks(true, "10.96.0.0/16"), blocks(false, "10.96.0.0/16")),
		ServiceExternalIPs:     blocks(false, "192.168.50.7/32"),
		ServiceLoadBalancerIPs: slices.Concat(blocks(false, "192.168.50.7/32"), []v3.ServiceIPBlock{{CIDR: "x"}}),
	}
	if got, want := (Input{Config: c}).Ranges(), append(prefixes(false, "10.96.0.0/16 192.168.50.7/32"), prefixes(true, "10.96.0.0/16")...); !slices.Equal(got, want) {
		t.Errorf("ranges: %v, want %v", got, want)
	}
	for _, c := range []struct {
		in   Input
		want bool
	}{
		{Input{}, false},
		{Input{Config: c}, true},
		{Input{Config: v3.BGPConfigurationSpec{ServiceExternalIPs: []v3.ServiceIPBlock{{CIDR: "x"}}}}, false},
		{Input{ClusterIPs: "10.96.0.0/16"}, true},
		{Input{ClusterIPs: "10.96.0.0/16", NodeLabels: map[string]string{excluded: "true"}}, false},
		{Input{ClusterIPs: "10.96.0.0/16", NodeLabels: map[string]string{excluded: ""}}, true},
	} {
		if got := c.in.Any(); got != c.want {
			t.Errorf("%+v: any: %t", c.in, got)
		}
	}
}
