package bgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// A top-of-rack router of another AS, FRR: both families over one session, TTL security, next hops, AS paths, aggregates.
func TestFabricRouter(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12, 13)
	f := l.frr(13, `
router bgp 65000
 bgp router-id %A
 no bgp ebgp-requires-policy
 timers bgp 3 9
 neighbor 192.168.10.11 remote-as 64600
 neighbor 192.168.10.11 ttl-security hops 1
 neighbor 192.168.10.11 password secret
 neighbor 192.168.10.11 timers connect 2
 address-family ipv4 unicast
  network 10.13.0.0/26
  neighbor 192.168.10.11 route-map leak out
 exit-address-family
 address-family ipv6 unicast
  network fd00:13::/122
  neighbor 192.168.10.11 activate
  neighbor 192.168.10.11 route-map six out
 exit-address-family
ip prefix-list own seq 5 permit 10.13.0.0/26
route-map leak permit 10
 set community 65000:1 65000:2
 set as-path prepend 64600
route-map six permit 10
 set ipv6 next-hop global fd00:10::13
`)
	inner := speaker(t, l.hosts[12], node(12, passive(peer4(11, 64512))))
	p := peer4(13, 65000)
	p.IPv4, p.IPv6, p.TTLSecurity, p.Password, p.LocalAS, p.AllowOwnAS = true, true, 1, "secret", 64600, 1
	c := node(11, p, peer4(12, 64512))
	c.Announce[1].NextHop = addr(v6(11))
	s := speaker(t, l.hosts[11], c)
	within(t, "routes from the router", func() bool {
		return s.path(block4(13)).NextHop == addr(v4(13)) && s.path(block6(13)).NextHop == addr(v6(13))
	})
	x := s.path(block4(13))
	if got := fmt.Sprint(x.ASPath, x.Communities, x.External, x.Peer); got != "[65000 64600] [65000:1 65000:2] true 192.168.10.13" {
		t.Errorf("path: %s", got)
	}
	json := func(prefix string) string { return f.vtysh("show bgp " + prefix + " json") }
	has := func(prefix string, texts ...string) bool {
		out := json(prefix)
		for _, text := range texts {
			if !strings.Contains(out, text) {
				return false
			}
		}
		return true
	}
	within(t, "our block and the other node's, by us", func() bool {
		return has("ipv4 "+block4(11), `"string":"64600"`, `"ip":"192.168.10.11"`) && has("ipv6 "+block6(11), `"ip":"fd00:10::11"`) &&
			has("ipv4 "+block4(12), `"string":"64600"`, `"ip":"192.168.10.11"`)
	})
	within(t, "the fabric's network at the other node", func() bool { return inner.path(block4(13)).NextHop == addr(v4(13)) })
	since := s.sessions()
	c.Peers[0].NextHop = NextHopKeep
	s.set(c)
	within(t, "next hop kept", func() bool { return has("ipv4 "+block4(12), `"ip":"192.168.10.12"`) })
	c.Peers[0].NextHop = NextHopAuto
	c.Transit = c.Transit[1:]
	c.Tags = []Tag{{Within: prefix("10.11.0.0/16"), Communities: []Community{"64512:300", "64512:1:300"}}}
	s.set(c)
	within(t, "tagged", func() bool { return has("ipv4 "+block4(11), "64512:300", "64512:1:300") })
	if now := s.sessions(); now != since {
		t.Errorf("a session was touched: up since %s, was %s", now, since)
	}
}

// Two routers tell of the same network: both paths are there; one goes: the other stays.
func TestECMP(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12, 13, 14)
	conf := `protocol static { ipv4; route 192.168.50.0/24 blackhole; }
protocol bgp n { local %A as 65000; neighbor 192.168.10.11 as 64512; multihop; graceful restart on; connect delay time 1; connect retry time 1; error wait time 1,2; ipv4 { import all; export all; }; }`
	a := l.bird(12, conf)
	b := l.bird(13, conf)
	s := speaker(t, l.hosts[11], node(11, peer4(12, 65000), peer4(13, 65000)))
	within(t, "two paths", func() bool {
		return s.routes() == "192.168.50.0/24 via 192.168.10.12\n192.168.50.0/24 via 192.168.10.13"
	})
	a.birdc("disable static1")
	within(t, "one path", func() bool { return s.routes() == "192.168.50.0/24 via 192.168.10.13" })
	a.birdc("enable static1")
	within(t, "two paths again", func() bool { return strings.Count(s.routes(), "\n") == 1 })
	a.kill()
	within(t, "one path while the other router is gone", func() bool { return s.routes() == "192.168.50.0/24 via 192.168.10.13" })
	b.birdc("disable static1")
	within(t, "the stale path, as the only one", func() bool { return s.routes() == "192.168.50.0/24 via 192.168.10.12" })
	b.birdc("enable static1")
	within(t, "no stale path beside a fresh one", func() bool { return s.routes() == "192.168.50.0/24 via 192.168.10.13" })
	a.start()
	within(t, "two paths when it is back", func() bool { return strings.Count(s.routes(), "\n") == 1 })
}

// What may leave changes while the session stays: what may not any longer is withdrawn, and told again later.
func TestWithheldLater(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12, 13)
	inner := l.bird(12, birdMesh)
	outer := l.bird(13, `protocol bgp n { local %A as 65000; neighbor 192.168.10.11 as 64512; multihop; graceful restart on;
	connect delay time 1; connect retry time 1; error wait time 1,2; ipv4 { import all; export none; }; }`)
	c := node(11, peer4(12, 64512), peer4(13, 65000))
	s := speaker(t, l.hosts[11], c)
	const borrowed = "10.12.1.7/32"
	have := func(what string, ours, others, one bool) {
		t.Helper()
		within(t, what, func() bool {
			return inner.has(block4(11)) == ours && outer.has(block4(11)) == ours && outer.has(block4(12)) == others && outer.has(borrowed) == one
		})
	}
	have("all", true, true, true)
	since := s.sessions()
	c.Withhold = []netip.Prefix{prefix("10.11.0.0/16")}
	s.set(c)
	have("ours is withheld", false, true, true)
	c.Withhold = nil
	s.set(c)
	have("ours is told again", true, true, true)
	c.Announce = append(c.Announce, Announcement{Prefix: prefix("10.12.1.0/26")})
	s.set(c)
	have("within what is ours now", true, true, false)
	c.Transit = nil
	s.set(c)
	have("nothing is passed on", true, false, false)
	c.Transit = []netip.Prefix{prefix("10.0.0.0/8")}
	s.set(c)
	have("passed on again", true, true, false)
	if now := s.sessions(); now != since {
		t.Errorf("a session was touched: up since %s, was %s", now, since)
	}
}

// Filters and all else that decides what a peer is told, against the plain evaluation of the same rules; all changes are
// made under a session that stays.
func TestFiltersTellWhatTheySay(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12)
	b := l.bird(12, strings.ReplaceAll(birdMesh, "as 64512; neighbor", "as 65000; neighbor"))
	c := node(11, peer4(12, 65000), peer6(12, 65000))
	for i := range 6 {
		for j, bits := range []int{16, 24, 26, 32} {
			a := Announcement{Prefix: prefix(fmt.Sprintf("10.%d.%d.0/%d", 20+i, j, bits)).Masked(), Interface: fmt.Sprintf("cali%d", i)}
			a.Communities = []Community{Community(fmt.Sprintf("64512:%d", i)), Community(fmt.Sprintf("64512:1:%d", j))}
			c.Announce = append(c.Announce, a, Announcement{Prefix: prefix(fmt.Sprintf("fd00:20:%x:%x::/%d", i, j, bits+64)).Masked(), Communities: a.Communities})
		}
	}
	s := speaker(t, l.hosts[11], c)
	within(t, "up", func() bool { return b.has(block4(11)) && b.has(block6(11)) })
	since := s.sessions()
	rule := func(r Rule) []Rule { return []Rule{r} }
	in := func(cidr string, op Operator, action Action) Rule {
		return Rule{CIDR: prefix(cidr), Operator: op, Action: action}
	}
	for name, f := range map[string]Filter{
		"reject all":      {Export4: rule(Rule{Action: Reject}), Export6: rule(Rule{Action: Reject})},
		"equal":           {Export4: []Rule{in("10.20.0.0/16", Equal, Accept), {Action: Reject}}},
		"not equal":       {Export4: rule(in("10.20.0.0/16", NotEqual, Reject)), Export6: rule(in("fd00:20:1::/80", NotEqual, Reject))},
		"in":              {Export4: rule(in("10.21.0.0/16", In, Reject)), Export6: rule(in("fd00:20:1::/48", In, Reject))},
		"not in":          {Export4: rule(in("10.21.0.0/16", NotIn, Reject))},
		"lengths":         {Export4: rule(Rule{CIDR: prefix("10.0.0.0/8"), Operator: In, Lengths: Lengths{Min: 24, Max: 26}, Action: Reject})},
		"lengths not in":  {Export4: rule(Rule{CIDR: prefix("10.0.0.0/8"), Operator: NotIn, Lengths: Lengths{Min: 24}, Action: Reject})},
		"community":       {Export4: rule(Rule{Community: "64512:3", Action: Reject}), Export6: rule(Rule{Community: "64512:1:2", Action: Reject})},
		"interface":       {Export4: rule(Rule{Interface: "cali1", Action: Reject})},
		"any interface":   {Export4: rule(Rule{Interface: "cali*", CIDR: prefix("10.22.0.0/16"), Operator: In, Action: Reject})},
		"remote peers":    {Export4: rule(Rule{RemotePeers: true, Action: Reject})},
		"peer type eBGP":  {Export4: rule(Rule{PeerType: EBGP, CIDR: prefix("10.23.0.0/16"), Operator: In, Action: Reject})},
		"peer type iBGP":  {Export4: rule(Rule{PeerType: IBGP, Action: Reject})},
		"first that fits": {Export4: []Rule{in("10.20.0.0/16", In, Accept), in("10.0.0.0/8", In, Reject)}},
	} {
		c.Filters = map[string]Filter{"f": f}
		for i := range c.Peers {
			c.Peers[i].Filters = []string{"f"}
		}
		s.set(c)
		within(t, name, func() bool {
			told := b.birdc("show route")
			for i := range c.Announce {
				a := &c.Announce[i]
				x := &route{prefix: a.Prefix, local: true, device: a.Interface, communities: a.Communities}
				p := &c.Peers[0]
				if a.Prefix.Addr().Is6() {
					p = &c.Peers[1]
				}
				if c.exports(p, x, c.own()) != strings.Contains(told, "\n"+a.Prefix.String()+" ") {
					return false
				}
			}
			return true
		})
	}
	if now := s.sessions(); now != since {
		t.Errorf("a session was touched: up since %s, was %s", now, since)
	}
	// Operations, and filters on what is learned.
	c.Filters = map[string]Filter{"f": {
		Export4: rule(Rule{CIDR: prefix(block4(11)), Operator: Equal, Action: Accept, AddCommunities: []Community{"1:2", "1:2:3"}, Prepend: []uint32{64512, 65111, 65112}, SetPreference: 77}),
		Import4: []Rule{{CIDR: prefix("10.12.1.7/32"), Operator: Equal, Action: Reject}, {ASPathPrefix: []uint32{65000}, PeerType: EBGP, Action: Accept, Prepend: []uint32{1, 2, 2}, SetPreference: Preference(512), AddCommunities: []Community{"7:7"}}},
		Import6: rule(Rule{ASPathPrefix: []uint32{65001}, Action: Reject}),
	}}
	s.set(c)
	within(t, "operations on what is told", func() bool {
		return b.has(block4(11), "BGP.as_path: 64512 64512 65111 65112 64512", "BGP.community: (1,2)", "BGP.large_community: (1, 2, 3)")
	})
	within(t, "operations on what is learned", func() bool {
		x := s.path(block4(12))
		return fmt.Sprint(x.ASPath, x.Preference, x.Communities) == fmt.Sprint("[1 2 2 65000] ", Preference(512), " [7:7]")
	})
	within(t, "no others are learned", func() bool { return s.routes() == block4(12)+" via 192.168.10.12\n"+block6(12)+" via fd00:10::12" })
}
