package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/margay-net/margay/pkg/model"
)

// TestSabotageOnNode breaks on one node what Margay made there, piece by piece: each is back within a second. What is
// not Margay's stays. It is measured on the node, so that the way there does not count.
func TestSabotageOnNode(t *testing.T) {
	c := several(t)
	n, o := c.nodes[0], c.nodes[1]
	dev, _ := c.uplink(t, n)
	set := strings.NewReplacer("@TUNNEL", n.tunnel.String(), "@PEER_MAC", o.mac, "@PEER_TUNNEL", o.tunnel.String(),
		"@PEER", o.addr.Addr().String(), "@UPLINK", dev, "@POD", n.tools.addr.String(), "@CALI", model.HostVeth(namespace, n.tools.name))
	out := c.mustSh(t, n.shell, set.Replace(sabotage))
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		ms, what, _ := strings.Cut(line, " ")
		took, err := strconv.Atoi(ms)
		switch {
		case err != nil:
			t.Error(line)
		case took > 1000:
			t.Errorf("%s: back after %d ms", what, took)
		default:
			t.Logf("%s: back after %d ms", what, took)
		}
	}
	if have, want := strings.Count(out, "\n"), strings.Count(sabotage, "\nbreaks "); have < want {
		t.Errorf("%d of %d results", have, want)
	}
	if lost := strings.Count(c.mustSh(t, n.tools, fmt.Sprintf("ping -n -i 0.1 -c 5 %s || true", o.tools.addr)), "time="); lost != 5 {
		t.Errorf("afterwards %d of 5 pings were answered", lost)
	}
}

// sabotage prints a line for each attack: milliseconds until all was as before, and what it was; or what is wrong.
const sabotage = `
state() {
	ip -4 route | sort
	ip -4 -o addr show dev vxlan.calico | sed 's/^[0-9]*: //'
	ip -d -o link show vxlan.calico | sed -e 's/^[0-9]*: //'
	ip neigh show dev vxlan.calico nud permanent | sort
	bridge fdb show dev vxlan.calico | sort
	ip -o link show @CALI | sed 's/ mode.*//'
	cat /proc/sys/net/ipv4/conf/@CALI/{proxy_arp,forwarding}
}
now() { echo $((${EPOCHREALTIME/./} / 1000)); }
breaks() { # WHAT COMMAND
	local t=$(now)
	eval "$2" || { echo "$1: not broken"; return; }
	while [ "$(state 2>&1)" != "$want" ]; do
		[ $(($(now) - t)) -lt 5000 ] || { echo "$1: not back: $(diff <(echo "$want") <(state 2>&1) | grep '^[<>]' | tr '\n' ' ')"; want=$(state 2>&1); return; }
	done
	echo "$(($(now) - t)) $1"
}
foreign() {
	ip link show e2e-foreign0 && ip addr show dev e2e-foreign0 | grep 198.51.100.1/32 && ip route show 198.51.100.0/24 | grep blackhole &&
		ip neigh show 198.51.100.7 dev e2e-foreign0 | grep PERMANENT && ip route show 203.0.113.0/24 | grep @UPLINK
} >/dev/null
trap 'ip link del e2e-foreign0; ip route del blackhole 198.51.100.0/24; ip route del 203.0.113.0/24' EXIT
ip link add e2e-foreign0 type veth peer name e2e-foreign1
ip addr add 198.51.100.1/32 dev e2e-foreign0
ip link set e2e-foreign0 up
ip route add blackhole 198.51.100.0/24
ip route add 203.0.113.0/24 dev @UPLINK proto static
ip neigh add 198.51.100.7 lladdr 02:00:00:00:00:07 dev e2e-foreign0 nud permanent
sleep 0.3
foreign || echo "foreign objects are not there"
want=$(state)
route=$(ip -4 route show proto 80 dev vxlan.calico | head -1)
black=$(ip -4 route show type blackhole proto 80 | head -1)

breaks 'route to a block' 'ip route del $route'
breaks 'route to a block, changed' 'ip route replace ${route%% *} dev @UPLINK proto 80'
breaks 'blackhole' 'ip route del $black'
breaks 'route to a pod' 'ip route del @POD dev @CALI'
breaks 'neighbour' 'ip neigh del @PEER_TUNNEL dev vxlan.calico'
breaks 'neighbour, changed' 'ip neigh replace @PEER_TUNNEL lladdr 02:00:00:00:00:99 dev vxlan.calico nud permanent'
breaks 'forwarding entry' 'bridge fdb del @PEER_MAC dev vxlan.calico dst @PEER'
breaks 'stray forwarding entry' 'bridge fdb append 02:00:00:00:00:99 dev vxlan.calico dst @PEER'
breaks 'stray route of protocol 80' 'ip route add 198.51.100.128/25 dev @UPLINK proto 80'
breaks 'address of the VXLAN device' 'ip addr del @TUNNEL/32 dev vxlan.calico'
breaks 'MTU of the VXLAN device' 'ip link set vxlan.calico mtu 1400'
breaks 'VXLAN device down' 'ip link set vxlan.calico down'
breaks 'VXLAN device deleted' 'ip link del vxlan.calico'
breaks 'host side down' 'ip link set @CALI down'
foreign || echo "foreign objects are gone"
`
