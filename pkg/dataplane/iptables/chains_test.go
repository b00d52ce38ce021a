package iptables

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/margay-net/margay/pkg/model"
)

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestNATRules(t *testing.T) {
	n := model.NAT{
		Sources: prefixes("172.20.0.0/16", "fd00:20::/64"), Spared: prefixes("172.20.0.0/16", "192.0.2.1/32"), Tunnels: []string{"vxlan.calico"},
	}
	for _, c := range []struct {
		name   string
		change func(*model.NAT)
		six    bool
		want   string // both chains, without --random-fully
	}{
		{"plain", func(*model.NAT) {}, false, `
			-s 172.20.0.0/16 -j MARGAY-NAT-OUT
			-o vxlan.calico -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL -j MASQUERADE
			--
			-d 172.20.0.0/16 -j RETURN
			-d 192.0.2.1/32 -j RETURN
			-j MASQUERADE`},
		{"all", func(n *model.NAT) {
			n.Tunnels, n.Spared, n.Interface, n.Ports = nil, nil, "eth+", model.PortRange{Min: 0, Max: 99}
			n.Address = netip.MustParseAddr("192.0.2.9")
		}, false, `
			-s 172.20.0.0/16 -j MARGAY-NAT-OUT
			--
			-o eth+ -p tcp -j SNAT --to-source 192.0.2.9:1-99
			-o eth+ -p udp -j SNAT --to-source 192.0.2.9:1-99
			-o eth+ -p sctp -j SNAT --to-source 192.0.2.9:1-99
			-o eth+ -j SNAT --to-source 192.0.2.9`},
		{"IPv6 address and ports", func(n *model.NAT) {
			n.Tunnels, n.Ports, n.Address = nil, model.PortRange{Min: 5, Max: 9}, netip.MustParseAddr("2001:db8::9")
		}, true, `
			-s fd00:20::/64 -j MARGAY-NAT-OUT
			--
			-p tcp -j SNAT --to-source [2001:db8::9]:5-9
			-p udp -j SNAT --to-source [2001:db8::9]:5-9
			-p sctp -j SNAT --to-source [2001:db8::9]:5-9
			-j SNAT --to-source 2001:db8::9`},
		{"floating", func(n *model.NAT) {
			n.Sources, n.Tunnels, n.Spared = nil, nil, nil
			n.Floating = []model.Floating{
				{External: netip.MustParseAddr("192.0.2.1"), Internal: netip.MustParseAddr("172.20.0.5")},
				{External: netip.MustParseAddr("192.0.2.2"), Internal: netip.MustParseAddr("172.20.0.5")},
				{External: netip.MustParseAddr("2001:db8::1"), Internal: netip.MustParseAddr("fd00:20::5")},
			}
		}, false, `
			-s 172.20.0.5 -d 172.20.0.5 -j SNAT --to-source 192.0.2.1
			--
			-j MASQUERADE`},
		{"names that no device has", func(n *model.NAT) { n.Interface, n.Tunnels = "a b", []string{"x\n-F"} }, true, `
			-s fd00:20::/64 -j MARGAY-NAT-OUT
			--`},
		{"none", func(n *model.NAT) { n.Sources, n.Tunnels = nil, nil }, false, ""},
	} {
		n := n
		c.change(&n)
		var have []string
		for i, chain := range natRules(&n, c.six, true) {
			if i > 0 {
				have = append(have, "--")
			}
			for _, r := range chain {
				plain := strings.TrimSuffix(r, " --random-fully")
				if plain == r && !strings.HasPrefix(r, "-s ") && (strings.Contains(r, "MASQUERADE") || strings.Contains(r, "SNAT")) {
					t.Errorf("%s: not random: %s", c.name, r)
				}
				have = append(have, plain)
			}
		}
		want := strings.ReplaceAll(strings.TrimSpace(c.want), "\t", "")
		if s := strings.Join(have, "\n"); s != want {
			t.Errorf("%s: have\n%s\nwant\n%s", c.name, s, want)
		}
	}
}

func TestDrops(t *testing.T) {
	for lines, want := range map[string]bool{
		"":                  false,
		"-P FORWARD ACCEPT": false,
		"-P FORWARD DROP":   true,
		"-P FORWARD ACCEPT\n-A FORWARD -j MARGAY-FORWARD":                                               false,
		"-P FORWARD ACCEPT\n-A FORWARD -j MARGAY-FORWARD\n-A FORWARD -j DOCKER":                         true,
		"-P FORWARD ACCEPT\n-A FORWARD -j MARGAY-FORWARD-NOT":                                           true,
		"-P FORWARD DROP\n-A FORWARD -m comment --comment \"margay:0\" -j MARGAY-FORWARD":               true,
		"# Warning: iptables-legacy tables present, use iptables-legacy to see them\n-P FORWARD ACCEPT": false,
	} {
		if have := sections[filter].drops(listing{hook: strings.Split(lines, "\n")}); have != want {
			t.Errorf("%s: %v", lines, have)
		}
	}
}

// TestPlace: our jump is the first of a hook but for kube-proxy's, wherever these are.
func TestPlace(t *testing.T) {
	const ours = "-A FORWARD -j MARGAY-FORWARD"
	for lines, want := range map[string]int{
		"":                          0,
		"-A FORWARD -j DOCKER-USER": 0,
		"-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL\n-A FORWARD -j KUBE-FORWARD\n" + ours + "\n-A FORWARD -j DROP": 2,
		ours + "\n-A FORWARD -j DOCKER-USER\n-A FORWARD -j KUBE-FORWARD\n-A FORWARD -j DOCKER":                                       2,
	} {
		have := listing{hook: strings.Split("-P FORWARD DROP\n"+lines, "\n")}
		if place := sections[filter].place(have); place != want {
			t.Errorf("%s: %d, want %d", lines, place, want)
		}
	}
}
