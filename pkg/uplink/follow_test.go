package uplink

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func parse(t testing.TB, ip, method string, family6 bool) Setting {
	t.Helper()
	s, err := ParseSetting(ip, method, family6)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// at makes an address from "dev address/bits [down] [secondary] [bare] [passing]".
func at(text string) address {
	f := strings.Fields(text)
	flag := func(name string) bool { return strings.Contains(text, " "+name) }
	return address{
		Uplink: Uplink{Dev: f[0], Addr: netip.MustParsePrefix(f[1]), MTU: 1500}, on: f[0], index: int(f[0][len(f[0])-1]),
		up: !flag("down"), secondary: flag("secondary"), bare: flag("bare"), passing: flag("passing"),
	}
}

// A moment is one look at the node: what it has, and what should be in use then.
type moment struct {
	after    time.Duration
	have     string // addresses as at takes them, between commas
	internal string // InternalIPs
	trouble  string
	named    string
	want     string // Uplink; "lost " before it when it should be
	says     string // in Lost or Odd
}

func TestStability(t *testing.T) {
	const wait = patience + time.Second
	for _, c := range []struct {
		name, method, last string
		moments            []moment
	}{
		{name: "order decides only the first choice", method: "first-found", moments: []moment{
			{have: "eth1 10.0.1.5/24", want: "eth1 10.0.1.5/24"},
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", want: "eth1 10.0.1.5/24"},
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", after: time.Hour, want: "eth1 10.0.1.5/24"},
			{have: "eth0 10.0.0.5/24", want: "eth0 10.0.0.5/24"},
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", want: "eth0 10.0.0.5/24"},
		}},
		{name: "address from before a restart", method: "first-found", last: "10.0.1.5", moments: []moment{
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", want: "eth1 10.0.1.5/24"},
		}},
		{name: "address from before a restart that is gone", method: "first-found", last: "10.0.1.9", moments: []moment{
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", want: "eth0 10.0.0.5/24"},
		}},
		{name: "address from before a restart that is not allowed", method: "skip-interface=eth1", last: "10.0.1.5", moments: []moment{
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", want: "eth0 10.0.0.5/24"},
		}},
		{name: "address from before a restart behind a promoted one", method: "first-found", last: "10.0.0.5", moments: []moment{
			{have: "eth0 10.0.0.100/24, eth0 10.0.0.5/24 secondary", want: "eth0 10.0.0.5/24"},
		}},
		{name: "guest from before a restart", method: "first-found", last: "10.0.0.100", moments: []moment{
			{have: "eth0 10.0.0.100/32 bare, eth0 10.0.0.5/24", want: "eth0 10.0.0.5/24"},
		}},
		{name: "nothing replaces it", method: "first-found", moments: []moment{
			{have: "eth0 10.0.0.5/24", want: "eth0 10.0.0.5/24"},
			{have: "eth0 10.0.0.5/24 down", want: "lost eth0 10.0.0.5/24", says: "down"},
			{have: "", after: time.Hour, want: "lost eth0 10.0.0.5/24", says: "no device has 10.0.0.5/24 any more"},
			{have: "docker0 172.17.0.1/16", want: "lost eth0 10.0.0.5/24"},
			{have: "docker0 172.17.0.1/16, eth1 10.0.1.5/24", want: "eth1 10.0.1.5/24"},
		}},
		{name: "comes back", method: "first-found", moments: []moment{
			{have: "eth0 10.0.0.5/24", want: "eth0 10.0.0.5/24"},
			{have: "", want: "lost eth0 10.0.0.5/24"},
			{have: "eth0 10.0.0.5/24", want: "eth0 10.0.0.5/24"},
		}},
		{name: "moves to another device, with another length", method: "first-found", moments: []moment{
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", want: "eth0 10.0.0.5/24"},
			{have: "eth1 10.0.1.5/24, br0 10.0.0.5/16", want: "br0 10.0.0.5/16"},
		}},
		{name: "on two devices at once", method: "first-found", moments: []moment{
			{have: "eth1 10.0.0.5/24", want: "eth1 10.0.0.5/24"},
			{have: "eth0 10.0.0.5/24, eth1 10.0.0.5/24", want: "eth1 10.0.0.5/24"},
			{have: "eth0 10.0.0.5/24, eth1 10.0.0.5/24 down", want: "eth0 10.0.0.5/24"},
		}},
		{name: "virtual address beside it", method: "first-found", moments: []moment{
			{have: "eth0 10.0.0.5/24, eth0 10.0.0.100/32 bare", want: "eth0 10.0.0.5/24"},
			{have: "eth0 10.0.0.100/32 bare", want: "lost eth0 10.0.0.5/24", says: "eth0 10.0.0.100/32 takes its place"},
			{have: "eth0 10.0.0.100/32 bare, eth0 10.0.0.5/24", after: 20 * time.Second, want: "eth0 10.0.0.5/24"},
			{have: "eth0 10.0.0.100/32 bare", want: "lost eth0 10.0.0.5/24"},
			{have: "eth0 10.0.0.100/32 bare", after: 20 * time.Second, want: "lost eth0 10.0.0.5/24"},
			{have: "eth0 10.0.0.100/32 bare", after: wait, want: "eth0 10.0.0.100/32"},
			{have: "eth0 10.0.0.100/32 bare, eth0 10.0.0.6/24", want: "eth0 10.0.0.6/24"},
		}},
		{name: "virtual address that the kernel promotes", method: "first-found", moments: []moment{
			{have: "eth0 10.0.0.5/24, eth0 10.0.0.100/24 secondary", want: "eth0 10.0.0.5/24"},
			{have: "eth0 10.0.0.100/24", want: "lost eth0 10.0.0.5/24"},
			{have: "eth0 10.0.0.100/24, eth0 10.0.0.5/24 secondary", want: "eth0 10.0.0.5/24"},
			{have: "eth0 10.0.0.100/24, eth0 10.0.0.5/24 secondary", after: time.Hour, want: "eth0 10.0.0.5/24"},
		}},
		{name: "virtual address there first", method: "first-found", moments: []moment{
			{have: "eth0 10.0.0.100/32 bare", want: "eth0 10.0.0.100/32"},
			{have: "eth0 10.0.0.100/32 bare", want: "eth0 10.0.0.100/32"},
			{have: "eth0 10.0.0.100/32 bare, eth0 10.0.0.5/24", want: "eth0 10.0.0.5/24"},
		}},
		{name: "own /32 while the default route is away", method: "first-found", moments: []moment{
			{have: "eth0 10.0.0.5/32, wg0 10.8.0.2/24", want: "eth0 10.0.0.5/32"},
			{have: "eth0 10.0.0.5/32 bare, wg0 10.8.0.2/24", want: "eth0 10.0.0.5/32"},
		}},
		{name: "InternalIP comes, goes, and changes", moments: []moment{
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", internal: "", want: "eth0 10.0.0.5/24"},
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", internal: "10.0.1.5", want: "eth1 10.0.1.5/24"},
			{have: "eth0 10.0.0.5/24", internal: "10.0.1.5", want: "lost eth1 10.0.1.5/24", says: "eth0 10.0.0.5/24 takes its place"},
			{have: "eth0 10.0.0.5/24", internal: "10.0.0.5", want: "eth0 10.0.0.5/24"},
			{have: "eth0 10.0.0.5/24", internal: "10.0.1.5", want: "eth0 10.0.0.5/24", says: "Node object's InternalIP 10.0.1.5 is on no device that is up; using first-found eth0 10.0.0.5/24"},
		}},
		{name: "fallback after a wait", moments: []moment{
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", internal: "10.0.1.5", want: "eth1 10.0.1.5/24"},
			{have: "eth0 10.0.0.5/24", internal: "10.0.1.5", want: "lost eth1 10.0.1.5/24"},
			{have: "eth0 10.0.0.5/24", internal: "10.0.1.5", after: wait, want: "eth0 10.0.0.5/24", says: "using first-found"},
		}},
		{name: "first-found beside an InternalIP", method: "first-found", moments: []moment{
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", internal: "10.0.1.5", want: "eth0 10.0.0.5/24", says: "Node object's InternalIP 10.0.1.5 is another address; using eth0 10.0.0.5/24 by first-found"},
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", internal: "10.0.1.5, 10.0.0.5", want: "eth0 10.0.0.5/24"},
		}},
		{name: "InternalIP of the other family only", moments: []moment{
			{have: "eth0 10.0.0.5/24", internal: "fd00::5", want: "eth0 10.0.0.5/24"},
		}},
		{name: "strictly InternalIP", method: "kubernetes-internal-ip", moments: []moment{
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", want: "lost none", says: "no InternalIP of IPv4"},
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", internal: "10.0.2.5", want: "lost none", says: "InternalIP 10.0.2.5 is on no device"},
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", internal: "10.0.1.5", want: "eth1 10.0.1.5/24"},
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", internal: "10.0.2.5", want: "lost eth1 10.0.1.5/24", says: "kubernetes-internal-ip no longer allows it"},
		}},
		{name: "the first expression is preferred", method: "interface=bond0,eth", moments: []moment{
			{have: "eth0 10.0.0.5/24", want: "eth0 10.0.0.5/24"},
			{have: "eth0 10.0.0.5/24, bond0 10.0.1.5/24", want: "bond0 10.0.1.5/24"},
			{have: "eth0 10.0.0.5/24", want: "lost bond0 10.0.1.5/24"},
			{have: "eth0 10.0.0.5/24", after: wait, want: "eth0 10.0.0.5/24"},
		}},
		{name: "renamed to what the method does not allow", method: "interface=eth0", moments: []moment{
			{have: "eth0 10.0.0.5/24", want: "eth0 10.0.0.5/24"},
			{have: "lan0 10.0.0.5/24", want: "lost lan0 10.0.0.5/24", says: "lan0 10.0.0.5/24 is kept, but autodetection method interface=eth0 no longer allows it"},
		}},
		{name: "can-reach", method: "can-reach=192.0.2.1", moments: []moment{
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", trouble: "no route", want: "lost none", says: "can-reach=192.0.2.1: no route"},
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", named: "10.0.1.5", want: "eth1 10.0.1.5/24"},
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", trouble: "no route", want: "eth1 10.0.1.5/24", says: "no route; staying with eth1 10.0.1.5/24"},
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", named: "10.0.1.5", want: "eth1 10.0.1.5/24"},
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", named: "10.0.0.5, 10.0.1.5", want: "eth1 10.0.1.5/24"},
			{have: "eth0 10.0.0.5/24, eth1 10.0.1.5/24", named: "10.0.0.5", want: "eth0 10.0.0.5/24"},
			{have: "eth1 10.0.1.5/24", trouble: "no route", want: "lost eth0 10.0.0.5/24", says: "no device has"},
			{have: "eth1 10.0.1.5/24", named: "10.0.1.5", want: "eth1 10.0.1.5/24"},
			{have: "eth1 10.0.1.5/24", named: "127.0.0.1", want: "lost eth1 10.0.1.5/24", says: "no longer allows it"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := follower{setting: parse(t, "autodetect", c.method, false), patience: patience}
			if c.last != "" {
				f.last = netip.MustParseAddr(c.last)
			}
			now := time.Now()
			for i, m := range c.moments {
				now = now.Add(m.after)
				f.step(see(f.setting, m), now)
				check(t, i, f.state, m)
			}
		})
	}
}

// A caller that has no InternalIP of a family may say so by a zero address.
func TestZeroInternalIP(t *testing.T) {
	for _, six := range []bool{false, true} {
		s := parse(t, "autodetect", "", six)
		if list := s.ofFamily([]netip.Addr{{}, {}}); len(list) != 0 {
			t.Errorf("took %v for addresses", list)
		}
	}
}

func entries(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ", ")
}

func see(s Setting, m moment) (out sight) {
	for _, text := range entries(m.have) {
		out.have = append(out.have, at(text))
	}
	out.internal = addrs(entries(m.internal)...)
	out.named = append(s.named(out.internal), addrs(entries(m.named)...)...)
	if m.trouble != "" {
		out.trouble = errors.New(m.trouble)
	}
	return out
}

func check(t *testing.T, i int, have State, m moment) {
	t.Helper()
	want, lost := strings.CutPrefix(m.want, "lost ")
	if strings.TrimSpace(have.Uplink.String()) != want || (have.Lost != "") != lost {
		t.Errorf("moment %d: %s, lost %q; want %s", i, have.Uplink, have.Lost, m.want)
	}
	if said := have.Lost + have.Odd; !strings.Contains(said, m.says) || m.says == "" && have.Odd != "" {
		t.Errorf("moment %d: says %q, should say %q", i, said, m.says)
	}
}

// Whatever happens to a node's addresses, the one in use is there or reported as lost, is left only when it has gone or
// a better one is there, and is the best one after a long enough rest.
func TestWalk(t *testing.T) {
	methods := []string{"", "first-found", "interface=eth1,eth", "cidr=10.0.2.0/24,10.0.0.0/8", "skip-interface=eth1"}
	rapid.Check(t, func(r *rapid.T) {
		s, err := ParseSetting("", rapid.SampledFrom(methods).Draw(r, "method"), false)
		if err != nil {
			r.Fatal(err)
		}
		f := follower{setting: s, patience: patience}
		now := time.Now()
		for range rapid.IntRange(1, 20).Draw(r, "steps") {
			all := rapid.SliceOfDistinct(rapid.Custom(drawAddress), func(a address) string { return a.Uplink.String() }).Draw(r, "have")
			internal := rapid.SliceOfN(rapid.SampledFrom(addrs("10.0.0.5", "10.0.1.5", "10.0.9.9")), 0, 2).Draw(r, "internal")
			before := f
			look := func() {
				f.step(sight{have: slices.Clone(all), named: s.named(internal), internal: internal}, now)
			}
			look()
			verify(r, f, before, slices.Clone(all), s.named(internal))
			first := f.state
			look()
			if f.state != first {
				r.Fatalf("a second look made %+v of %+v", f.state, first)
			}
			now = now.Add(2 * patience)
			look()
			if _, _, any := s.choose(all, s.named(internal), Uplink{}); any && f.state.Lost != "" {
				r.Fatalf("after a rest still %+v, have %v", f.state, all)
			}
			look()
		}
	})
}

func drawAddress(r *rapid.T) address {
	a := at(rapid.SampledFrom([]string{"eth0 10.0.0.5/24", "eth0 10.0.0.100/24", "eth0 10.0.0.101/32", "eth1 10.0.1.5/24", "eth2 10.0.2.5/24", "eth2 10.0.0.5/24", "docker0 172.17.0.1/16"}).Draw(r, "address"))
	a.up = rapid.IntRange(0, 4).Draw(r, "up") > 0
	a.secondary = rapid.IntRange(0, 3).Draw(r, "secondary") == 0
	a.bare = a.Addr.IsSingleIP()
	return a
}

func verify(r *rapid.T, f, before follower, all []address, named []netip.Addr) {
	before.judge(all)
	old, there, left := before.state, false, 1<<30
	for _, a := range all {
		there = there || a.up && a.Addr.Addr() == f.state.Addr.Addr()
		if g, ok := f.setting.grade(a, named); ok && a.Addr.Addr() == old.Addr.Addr() {
			left = min(left, g)
		}
	}
	switch {
	case f.state.Lost == "" && !there:
		r.Fatalf("%+v is not there: %v", f.state, all)
	case f.state.Lost == "" && f.state.Addr.Addr() != old.Addr.Addr() && f.grade >= left:
		r.Fatalf("left %+v, grade %d, for %+v, grade %d", old, left, f.state, f.grade)
	case f.state.Lost != "" && f.state.Uplink != old.Uplink:
		r.Fatalf("lost, and not kept: %+v was %+v", f.state, old)
	}
}
