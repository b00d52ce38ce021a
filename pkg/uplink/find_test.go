package uplink

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/netlink/nstest"
)

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name, ip, method string
		addrs            []string // "device address options"
		ip8              []string // further commands of ip(8)
		internal, last   string
		want             string // Uplink, or what the error says
		odd              string
	}{
		{name: "none", ip: "none", addrs: []string{"eth0 @A/S"}, want: "none"},
		{name: "default takes InternalIP", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, internal: "@B", want: "eth1 @B/S"},
		{name: "default takes the first InternalIP that is there", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, internal: "@C @B @A", want: "eth1 @B/S"},
		{name: "default without InternalIP", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, want: "eth0 @A/S"},
		{name: "default behind 1:1 NAT", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, internal: "@C", want: "eth0 @A/S",
			odd: "Node object's InternalIP @C is on no device that is up; using first-found eth0 @A/S"},
		{name: "InternalIP on a device that first-found passes over", addrs: []string{"eth0 @A/S", "br-lan @B/S"}, internal: "@B", want: "br-lan @B/S"},
		{name: "InternalIP that is a virtual one", addrs: []string{"eth0 @A/S", "eth0 @V/H"}, internal: "@V", want: "eth0 @V/H"},
		{name: "InternalIP on a device that is down", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, ip8: []string{"link set eth1 down"}, internal: "@B", want: "eth0 @A/S",
			odd: "Node object's InternalIP @B is on no device that is up; using first-found eth0 @A/S"},
		{name: "kubernetes-internal-ip", method: "kubernetes-internal-ip", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, internal: "@B", want: "eth1 @B/S"},
		{name: "kubernetes-internal-ip without", method: "kubernetes-internal-ip", addrs: []string{"eth0 @A/S"}, want: "has no InternalIP"},
		{name: "kubernetes-internal-ip elsewhere", method: "kubernetes-internal-ip", addrs: []string{"eth0 @A/S"}, internal: "@B", want: "InternalIP @B is on no device that is up"},

		{name: "first-found by index", method: "first-found", addrs: []string{"eth1 @B/S", "eth0 @A/S"}, want: "eth1 @B/S"},
		{name: "first-found tells of another InternalIP", method: "first-found", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, internal: "@B", want: "eth0 @A/S",
			odd: "Node object's InternalIP @B is another address; using eth0 @A/S by first-found"},
		{name: "first-found passes over", method: "first-found", want: "eth0 @A/S",
			addrs: []string{"docker0 @B/S", "br-1 @B/S", "cni0 @B/S", "virbr0 @B/S", "cali1 @B/S", "tunl0 @B/S", "vxlan.calico @B/S", "nodelocaldns @B/S", "lo @C/H", "eth0 @A/S"}},
		{name: "first-found has only names that begin alike", method: "first-found", addrs: []string{"mydocker @B/S"}, want: "mydocker @B/S"},
		{name: "first-found finds nothing", method: "first-found", addrs: []string{"docker0 @B/S"}, want: "set the address itself, or a method that names it, such as interface=REGEX or cidr=CIDR; there are docker0 @B/S"},
		{name: "first-found on an empty node", method: "first-found", want: "there is none at all"},
		{name: "first-found passes over a device that is down", method: "first-found", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, ip8: []string{"link set eth0 down"}, want: "eth1 @B/S"},
		{name: "first-found stays", method: "first-found", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, last: "@B", want: "eth1 @B/S"},
		{name: "the oldest of a device", method: "first-found", addrs: []string{"eth0 @A/S", "eth0 @B/S"}, want: "eth0 @A/S"},

		{name: "virtual address without subnet", method: "first-found", addrs: []string{"eth0 @V/H", "eth0 @A/S"}, want: "eth0 @A/S"},
		{name: "virtual address in the subnet", method: "first-found", addrs: []string{"eth0 @A/S", "eth0 @V/S"}, want: "eth0 @A/S"},
		{name: "virtual address with a lifetime", method: "first-found", addrs: []string{"eth0 @V/H valid_lft 60 preferred_lft 60", "eth0 @A/S"}, want: "eth0 @A/S"},
		{name: "virtual address on a device of its own", method: "first-found", addrs: []string{"eth0 @V/H", "eth1 @B/S"}, want: "eth1 @B/S"},
		{name: "virtual address by cidr", method: "cidr=@NA", addrs: []string{"eth0 @V/H", "eth0 @A/S"}, want: "eth0 @A/S"},
		{name: "virtual address alone", method: "first-found", addrs: []string{"eth0 @V/H"}, want: "eth0 @V/H"},
		{name: "own address without a subnet", method: "first-found", addrs: []string{"eth0 @A/H", "eth1 @B/S"},
			ip8: []string{"route add @GA dev eth0", "route add default via @GA dev eth0"}, want: "eth0 @A/H"},
		{name: "own address without a subnet, virtual one older", method: "first-found", addrs: []string{"eth0 @V/H", "eth0 @A/H"},
			ip8: []string{"route add @GA dev eth0", "route add default via @GA dev eth0 src @A"}, want: "eth0 @A/H"},
		{name: "virtual address that a route prefers", method: "first-found", addrs: []string{"eth0 @V/H", "eth0 @A/S"},
			ip8: []string{"route add default via @GA dev eth0 src @V"}, want: "eth0 @A/S"},

		{name: "interface", method: "interface=eth1", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, want: "eth1 @B/S"},
		{name: "interface anywhere in the name", method: "interface=h1", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, want: "eth1 @B/S"},
		{name: "interface in order of the list", method: "interface=^eth1$,eth", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, want: "eth1 @B/S"},
		{name: "interface later in the list", method: "interface=bond0,eth.*", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, want: "eth0 @A/S"},
		{name: "interface that first-found passes over", method: "interface=docker0", addrs: []string{"eth0 @A/S", "docker0 @B/S"}, want: "docker0 @B/S"},
		{name: "interface of ours", method: "interface=.*", addrs: []string{"cali1 @B/S", "eth0 @A/S"}, want: "eth0 @A/S"},
		{name: "interface that is not there", method: "interface=eth7", addrs: []string{"eth0 @A/S"}, want: "autodetection method interface=eth7 allows"},
		{name: "interface does not stay where it must not", method: "interface=eth1", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, last: "@A", want: "eth1 @B/S"},
		{name: "skip-interface", method: "skip-interface=eth0,eth2", addrs: []string{"docker0 @C/S", "eth0 @A/S", "eth1 @B/S"}, want: "eth1 @B/S"},
		{name: "skip-interface skips all", method: "skip-interface=e", addrs: []string{"eth0 @A/S"}, want: "autodetection method skip-interface=e allows"},

		{name: "cidr", method: "cidr=@NB", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, want: "eth1 @B/S"},
		{name: "cidr in order of the list", method: "cidr=@NB,@NA", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, want: "eth1 @B/S"},
		{name: "cidr on a device that first-found passes over", method: "cidr=@NB", addrs: []string{"eth0 @A/S", "docker0 @B/S"}, want: "docker0 @B/S"},
		{name: "cidr without any", method: "cidr=@NB", addrs: []string{"eth0 @A/S"}, want: "there are eth0 @A/S"},

		{name: "can-reach by a route", method: "can-reach=@FAR", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, ip8: []string{"route add @FAR via @GB"}, want: "eth1 @B/S"},
		{name: "can-reach by default", method: "can-reach=@FAR", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, ip8: []string{"route add default via @GB"}, want: "eth1 @B/S"},
		{name: "can-reach a neighbour", method: "can-reach=@GB", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, want: "eth1 @B/S"},
		{name: "can-reach itself", method: "can-reach=@B", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, want: "eth1 @B/S"},
		{name: "can-reach with the route's source", method: "can-reach=@FAR", addrs: []string{"eth0 @A/S", "eth0 @V/H"}, ip8: []string{"route add @FAR via @GA src @V"}, want: "eth0 @V/H"},
		{name: "can-reach without a route", method: "can-reach=@FAR", addrs: []string{"eth0 @A/S"}, want: "look up route to @FAR: network is unreachable"},
		{name: "can-reach through a blackhole", method: "can-reach=@FAR", addrs: []string{"eth0 @A/S"}, ip8: []string{"route add blackhole @FAR"}, want: "look up route to @FAR: invalid argument"},

		{name: "address", ip: "@B", addrs: []string{"eth0 @A/S", "eth1 @B/S"}, want: "eth1 @B/S"},
		{name: "address with a length of its own", ip: "@A/S", addrs: []string{"eth0 @A/H"}, want: "eth0 @A/S"},
		{name: "address on no device", ip: "@C/S", addrs: []string{"eth0 @A/S"}, internal: "@A", want: "node address @C is on no device that is up"},
		{name: "address on the loopback device", ip: "@C", addrs: []string{"lo @C/H", "eth0 @A/S"}, ip8: []string{"route add default via @GA dev eth0 src @C"}, want: "eth0 @C/H"},
		{name: "InternalIP on the loopback device", addrs: []string{"lo @C/H", "eth0 @A/S"}, ip8: []string{"route add default via @GA dev eth0"}, internal: "@C", want: "eth0 @C/H"},
		{name: "address on the loopback device, no way out", ip: "@C", addrs: []string{"lo @C/H", "eth0 @A/S"}, want: "lo @C/H"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachFamily(t, func(t *testing.T, n *node) {
				for _, a := range c.addrs {
					n.add(t, a)
				}
				for _, line := range c.ip8 {
					n.ip(t, line)
				}
				var last netip.Addr
				if c.last != "" {
					last = n.internal(c.last)[0]
				}
				s := n.setting(t, c.ip, c.method)
				have, err := Find(t.Context(), n.Conn(t), s, n.internal(c.internal), last)
				switch text := have.Uplink.String(); {
				case err == nil && have.Lost == "" && s.None() && have == (State{}):
				case err == nil && have.Lost == "" && text == n.say(c.want):
				case err != nil && have == (State{}) && strings.Contains(err.Error(), n.say(c.want)):
				default:
					t.Errorf("%s %q, %v; want %s", text, have.Lost, err, n.say(c.want))
				}
				if have.Odd != n.say(c.odd) {
					t.Errorf("odd: %q, want %q", have.Odd, n.say(c.odd))
				}
			})
		})
	}
}

// IPv6 addresses that come and go by themselves are not found unless somebody names them.
func TestPassingAddresses(t *testing.T) {
	const addr = "fd00:a::7"
	for name, setup := range map[string]func(t *testing.T, n *node) string{
		"tentative": func(t *testing.T, n *node) string {
			n.Write(t, "/proc/sys/net/ipv6/conf/eth0/dad_transmits", "200")
			n.add(t, "eth0 "+addr+"/64 tentative")
			return addr
		},
		"deprecated": func(t *testing.T, n *node) string {
			n.add(t, "eth0 "+addr+"/64 preferred_lft 0")
			return addr
		},
		"temporary": temporary,
	} {
		t.Run(name, func(t *testing.T) {
			n := &node{NS: nstest.New(t), six: true}
			n.dev(t, "eth0")
			passing := netip.MustParseAddr(setup(t, n))
			if out := n.Exec(t, "ip -6 addr show dev eth0 "+name); !strings.Contains(out, passing.String()) {
				t.Fatalf("%s is not %s: %s", passing, name, out)
			}
			conn := n.Conn(t)
			n.add(t, "eth1 fd00:b::5/64")
			for _, method := range []string{"first-found", "interface=eth", "cidr=fd00::/8", "skip-interface=eth7"} {
				if have, err := Find(t.Context(), conn, n.setting(t, "", method), nil, netip.Addr{}); err != nil || have.Addr.Addr() == passing {
					t.Errorf("%s: found %s, %v", method, have.Uplink, err)
				}
			}
			alone := n.setting(t, "", "cidr="+passing.String()+"/128")
			if have, err := Find(t.Context(), conn, alone, nil, netip.Addr{}); err == nil {
				t.Errorf("%s: found %s", alone, have.Uplink)
			}
			for name, f := range map[string]func() (State, error){
				"setting": func() (State, error) {
					return Find(t.Context(), conn, n.setting(t, passing.String(), ""), nil, netip.Addr{})
				},
				"InternalIP": func() (State, error) {
					return Find(t.Context(), conn, n.setting(t, "", ""), []netip.Addr{passing}, netip.Addr{})
				},
				"last": func() (State, error) { return Find(t.Context(), conn, alone, nil, passing) },
			} {
				if have, err := f(); err != nil || have.Addr.Addr() != passing {
					t.Errorf("%s: %s, %v", name, have.Uplink, err)
				}
			}
		})
	}
}

// temporary has the kernel make a temporary address (RFC 8981) on eth0, as it does by router advertisements, and returns
// it when programs get it as their source.
func temporary(t *testing.T, n *node) (addr string) {
	n.Write(t, "/proc/sys/net/ipv6/conf/eth0/use_tempaddr", "2")
	n.add(t, "eth0 fd00:a::5/64 mngtmpaddr")
	n.ip(t, "route add default via @GA")
	nstest.Within(t, 10*time.Second, "temporary address in use", func() bool {
		_, addr, _ = strings.Cut(n.Exec(t, "ip -6 route get 2001:db8::1"), " src ")
		addr, _, _ = strings.Cut(addr, " ")
		return addr != "fd00:a::5"
	})
	return addr
}

// can-reach does not lead to a temporary address, though programs get one.
func TestCanReachPrefersPublic(t *testing.T) {
	n := &node{NS: nstest.New(t), six: true}
	n.dev(t, "eth0")
	temporary(t, n)
	have, err := Find(t.Context(), n.Conn(t), n.setting(t, "", "can-reach=@FAR"), nil, netip.Addr{})
	if err != nil || have.Uplink.String() != n.say("eth0 @A/S") {
		t.Errorf("%s, %v", have.Uplink, err)
	}
}
