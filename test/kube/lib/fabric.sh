# shellcheck shell=bash
# The fabric: the network that the nodes stand on. One namespace holds a switch
# (bridge) per subnet and routes between them; each node is a namespace with
# eth0 cabled to its switch. The root namespace has no address there, so
# nothing gets out. Sourced after settings.sh; wants SUBNETS.

FABRIC=$CLUSTER-fabric

netns_of() { echo "$CLUSTER-node$1"; }
subnet_of() { if [ "$SUBNETS" = 2 ] && [ $(($1 % 2)) = 0 ]; then echo 2; else echo 1; fi; }
ip4_of() { echo "192.168.$(subnet_of "$1")0.$((10 + $1))"; }
ip6_of() { echo "fd00:$(subnet_of "$1")0::$((10 + $1))"; }
mac_of() { printf '02:00:00:00:%02x:%02x' "$(subnet_of "$1")" "$((10 + $1))"; } # the same after a boot
router4_of() { echo "192.168.$(subnet_of "$1")0.1"; }
router6_of() { echo "fd00:$(subnet_of "$1")0::1"; }

# addresses_of N: what the node tells Kubernetes. ip_of N: the first of them.
addresses_of() { of_family "$(ip4_of "$1")" "$(ip6_of "$1")"; }
ip_of() { main_of "$(ip4_of "$1")" "$(ip6_of "$1")"; }

make_fabric() {
	local s
	[ -e "/run/netns/$FABRIC" ] || ip netns add "$FABRIC"
	# It routes whatever comes, and its bridges keep what they carry from iptables.
	ip netns exec "$FABRIC" sh -c '
		echo 1 >/proc/sys/net/ipv4/ip_forward
		echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
		for f in all default; do echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter; done
		for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e "$f" ] || echo 0 >"$f"; done'
	ip -n "$FABRIC" link set lo up
	for s in $(seq "$SUBNETS"); do
		ip -n "$FABRIC" link show "subnet$s" >/dev/null 2>&1 || ip -n "$FABRIC" link add "subnet$s" type bridge
		ip -n "$FABRIC" addr replace "192.168.${s}0.1/24" dev "subnet$s"
		ip -n "$FABRIC" addr replace "fd00:${s}0::1/64" dev "subnet$s" nodad
		ip -n "$FABRIC" link set "subnet$s" up
	done
}

# make_cable N makes the node's namespace and cables it.
make_cable() {
	local ns
	ns=$(netns_of "$1")
	[ -e "/run/netns/$ns" ] || ip netns add "$ns"
	ip -n "$ns" link set lo up
	ip -n "$ns" link show eth0 >/dev/null 2>&1 ||
		ip -n "$FABRIC" link add "node$1" type veth peer name eth0 \
			address "$(mac_of "$1")" netns "$ns"
	ip -n "$FABRIC" link set "node$1" master "subnet$(subnet_of "$1")" up
	address_node "$1"
}

# address_node N gives eth0 the addresses and default routes of the cluster's
# families, and no others.
address_node() {
	local ns
	ns=$(netns_of "$1")
	ip -n "$ns" link set eth0 up
	if has4; then
		ip -n "$ns" addr replace "$(ip4_of "$1")/24" dev eth0
		ip -n "$ns" route replace default via "$(router4_of "$1")"
	fi
	if has6; then
		ip -n "$ns" addr replace "$(ip6_of "$1")/64" dev eth0 nodad
		ip -n "$ns" -6 route replace default via "$(router6_of "$1")"
	fi
}

# remove_cable N takes node and cable away, namespace and all.
remove_cable() {
	ip -n "$FABRIC" link del "node$1" 2>/dev/null || true
	ip netns del "$(netns_of "$1")"
}

# clean_netns N brings the namespace back to what make_cable left: other links,
# routes, rules, neighbours, packet filters and connections go.
clean_netns() {
	local ns link family
	ns=$(netns_of "$1")
	for link in $(ip -n "$ns" -o link show | awk -F': ' '{sub(/@.*/, "", $2); print $2}'); do
		case $link in lo | eth0) continue ;; esac
		# tunl0 and its like belong to the kernel: those are emptied.
		ip -n "$ns" link del "$link" 2>/dev/null || {
			ip -n "$ns" addr flush dev "$link"
			ip -n "$ns" link set "$link" down
		}
	done
	ip netns exec "$ns" tc qdisc del dev eth0 clsact 2>/dev/null || true
	ip -n "$ns" neigh flush dev eth0 nud permanent 2>/dev/null || true
	for family in -4 -6; do
		ip -n "$ns" "$family" -o addr show scope global | while read -r _ link _ address _; do
			case $address in
			"$(ip4_of "$1")/24" | "$(ip6_of "$1")/64") ;;
			*) ip -n "$ns" "$family" addr del "$address" dev "$link" ;;
			esac
		done
		ip -n "$ns" "$family" rule show | sed -nE '/^(0|32766|32767):/!s/^([0-9]+):.*/\1/p' |
			while read -r priority; do ip -n "$ns" "$family" rule del priority "$priority"; done
		ip -n "$ns" "$family" -o route show table all | grep -vE ' proto kernel|table local|^default|^(ff00|fe80)::' |
			sed -E 's/ (expires|error) [^ ]+//g' |
			while read -r route; do
				# shellcheck disable=SC2086 # a route is words
				ip -n "$ns" "$family" route del $route 2>/dev/null || true
			done
	done
	address_node "$1"
	ip netns exec "$ns" nft flush ruleset
	ip netns exec "$ns" ipset destroy 2>/dev/null || true
	ip netns exec "$ns" conntrack -F >/dev/null 2>&1 || true
}
