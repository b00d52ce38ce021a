package uplink

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// The tables here speak of both families at once: @A and @V are addresses of one subnet, @B is of another, @C has
// none; /S is the length of a subnet's prefix, /H that of an address.
var (
	words4 = strings.NewReplacer("@A", "10.0.0.5", "@V", "10.0.0.100", "@B", "192.168.1.5", "@C", "203.0.113.7",
		"@GA", "10.0.0.1", "@GB", "192.168.1.1", "@NA", "10.0.0.0/24", "@NB", "192.168.0.0/16", "@FAR", "198.51.100.1", "/S", "/24", "/H", "/32")
	words6 = strings.NewReplacer("@A", "fd00:a::5", "@V", "fd00:a::100", "@B", "fd00:b::5", "@C", "fd00:c::7",
		"@GA", "fd00:a::1", "@GB", "fd00:b::1", "@NA", "fd00:a::/64", "@NB", "fd00:b::/32", "@FAR", "fd00:f::1", "/S", "/64", "/H", "/128")
)

// node is a namespace with devices and addresses of one family.
type node struct {
	*nstest.NS
	six  bool
	devs []string
}

func eachFamily(t *testing.T, f func(t *testing.T, n *node)) {
	t.Helper()
	for _, six := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[six], func(t *testing.T) { f(t, &node{NS: nstest.New(t), six: six}) })
	}
}

// say puts the family's addresses in.
func (n *node) say(text string) string {
	if n.six {
		return words6.Replace(text)
	}
	return words4.Replace(text)
}

// dev makes a device that is up, with a carrier, unless it is there.
func (n *node) dev(t testing.TB, name string) {
	if name == "lo" || slices.Contains(n.devs, name) {
		return
	}
	n.devs = append(n.devs, name)
	peer := fmt.Sprint("veth", len(n.devs))
	n.Exec(t, fmt.Sprintf("ip link add %s type veth peer name %s", name, peer), "ip link set "+peer+" up", "ip link set "+name+" up")
}

// add does "eth0 A/S option...", and makes the device.
func (n *node) add(t testing.TB, text string) {
	t.Helper()
	dev, rest, _ := strings.Cut(text, " ")
	n.dev(t, dev)
	addr, options, _ := strings.Cut(rest, " ")
	line := "ip addr add " + n.say(addr) + " dev " + dev + " " + n.say(options)
	if n.six && !strings.Contains(options, "tentative") {
		line += " nodad"
	}
	n.Exec(t, strings.ReplaceAll(line, "tentative", ""))
}

// ip does a command of ip(8) of the family.
func (n *node) ip(t testing.TB, text string) {
	t.Helper()
	if n.six {
		n.Exec(t, "ip -6 "+n.say(text))
	} else {
		n.Exec(t, "ip -4 "+n.say(text))
	}
}

func (n *node) setting(t testing.TB, ip, method string) Setting {
	t.Helper()
	if ip == "" {
		ip = "autodetect"
	}
	return parse(t, n.say(ip), n.say(method), n.six)
}

// internal reads "@A @B".
func (n *node) internal(text string) (out []netip.Addr) {
	for _, f := range strings.Fields(n.say(text)) {
		out = append(out, netip.MustParseAddr(f))
	}
	return out
}
