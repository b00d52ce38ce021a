package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/model"
)

// TestSabotageOnNode breaks on one node what Margay made there, piece by piece: each is back within a second. What is
// not Margay's stays. It is measured on the node, so that the way there does not count.
func TestSabotageOnNode(t *testing.T) {
	c := several(t)
	c.each(t, func(t *testing.T, f family) {
		n, o := c.nodes[0], c.nodes[1]
		set := strings.NewReplacer("@FAMILY", strconv.Itoa(int(f)), "@VXLAN", f.vxlan(), "@BITS", strconv.Itoa(f.bits()),
			"@TUNNEL", n.tunnel[f].String(), "@PEER_MAC", o.mac[f], "@PEER_TUNNEL", o.tunnel[f].String(), "@PEER", o.addr[f].Addr().String(),
			"@UPLINK", c.uplink(t, n, f).dev, "@POD", n.tools.addr[f].String(), "@CALI", model.HostVeth(namespace, n.tools.name),
			// Networks that nobody has (RFC 5737, RFC 3849).
			"@NET_A", pick(f, "192.0.2.0/24", "2001:db8:a::/64"), "@HOST_A", pick(f, "192.0.2.", "2001:db8:a::"),
			"@NET_B", pick(f, "203.0.113.0/24", "2001:db8:b::/64"), "@NET_C", pick(f, "192.0.2.128/25", "2001:db8:a::/96"))
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
		// An IPv6 address of a device that was down serves after a second or two: RFC 4862, 5.4.2.
		eventually(t, 30*time.Second, func() error {
			if answered := strings.Count(c.mustSh(t, n.tools, fmt.Sprintf("ping -n -i 0.1 -c 5 %s || true", o.tools.addr[f])), "time="); answered != 5 {
				return fmt.Errorf("afterwards %d of 5 pings were answered", answered)
			}
			return nil
		})
	})
}

// sabotage runs on the node. It prints a line for each deed: how many milliseconds until all was as before, and what it
// was; or what is wrong. All is both families' things, the deeds are one family's.
const sabotage = `
state() {
	local dev
	for dev in $(cd /sys/class/net && ls -d vxlan*.calico); do
		ip -o addr show dev $dev scope global | sed 's/^[0-9]*: //'
		ip -d -o link show $dev | sed 's/^[0-9]*: //'
		ip -4 neigh show dev $dev nud permanent | sort
		ip -6 neigh show dev $dev nud permanent | sort
		bridge fdb show dev $dev | sort
	done
	ip -4 route | sort
	ip -6 route | grep -v ^fe80: | sort
	ip -o link show @CALI | sed 's/ mode.*//'
	cat /proc/sys/net/ipv4/conf/@CALI/{proxy_arp,forwarding} /proc/sys/net/ipv6/conf/@CALI/{proxy_ndp,forwarding,accept_ra}
}
now() { echo $((${EPOCHREALTIME/./} / 1000)); }
breaks() { # WHAT COMMAND
	local t took try
	for try in 1 2 3; do # the machine may be busy with something else
		t=$(now)
		eval "$2" || { echo "$1: not broken"; return; }
		while [ "$(state 2>&1)" != "$want" ]; do
			[ $(($(now) - t)) -lt 20000 ] || { echo "$1: not back: $(diff <(echo "$want") <(state 2>&1) | grep '^[<>]' | tr '\n' ' ')"; want=$(state 2>&1); return; }
		done
		took=$(($(now) - t))
		[ $took -gt 1000 ] || break
	done
	echo "$took $1"
}
foreign() {
	ip link show e2e-foreign0 && ip addr show dev e2e-foreign0 | grep @HOST_A1/@BITS && ip -@FAMILY route show @NET_A | grep blackhole &&
		ip neigh show @HOST_A7 dev e2e-foreign0 | grep PERMANENT && ip -@FAMILY route show @NET_B | grep @UPLINK
} >/dev/null
trap 'ip link del e2e-foreign0; ip -@FAMILY route del blackhole @NET_A; ip -@FAMILY route del @NET_B' EXIT
ip link add e2e-foreign0 type veth peer name e2e-foreign1
ip addr add @HOST_A1/@BITS dev e2e-foreign0
ip link set e2e-foreign0 up
ip -@FAMILY route add blackhole @NET_A
ip -@FAMILY route add @NET_B dev @UPLINK proto static
ip neigh add @HOST_A7 lladdr 02:00:00:00:00:07 dev e2e-foreign0 nud permanent
sleep 0.3
foreign || echo "foreign objects are not there"
want=$(state)
route=$(ip -@FAMILY route show proto 80 dev @VXLAN | head -1)
black=$(ip -@FAMILY route show type blackhole proto 80 | grep -oE '[0-9a-f.:]+/[0-9]+' | head -1)

breaks 'route to a block' 'ip -@FAMILY route del $route'
breaks 'route to a block, changed' 'ip -@FAMILY route replace ${route%% *} dev @UPLINK proto 80'
breaks 'blackhole' 'ip -@FAMILY route del blackhole $black'
breaks 'route to a pod' 'ip -@FAMILY route del @POD dev @CALI'
breaks 'neighbour' 'ip neigh del @PEER_TUNNEL dev @VXLAN'
breaks 'neighbour, changed' 'ip neigh replace @PEER_TUNNEL lladdr 02:00:00:00:00:99 dev @VXLAN nud permanent'
breaks 'forwarding entry' 'bridge fdb del @PEER_MAC dev @VXLAN dst @PEER'
breaks 'stray forwarding entry' 'bridge fdb append 02:00:00:00:00:99 dev @VXLAN dst @PEER'
breaks 'stray route of protocol 80' 'ip -@FAMILY route add @NET_C dev @UPLINK proto 80'
breaks 'address of the VXLAN device' 'ip addr del @TUNNEL/@BITS dev @VXLAN'
breaks 'MTU of the VXLAN device' 'ip link set @VXLAN mtu 1400'
breaks 'VXLAN device down' 'ip link set @VXLAN down'
breaks 'VXLAN device deleted' 'ip link del @VXLAN'
breaks 'host side down' 'ip link set @CALI down'
foreign || echo "foreign objects are gone"
`
