# shellcheck shell=bash
# Outside: a host beyond the fabric's router, as one on the internet is. Nodes
# reach it by their default route. It knows a way back to the nodes' subnets,
# and to pods only when told (see hack/route-pods): so it talks to pods whose
# traffic is masqueraded, and with that to those whose is not. Sourced after
# fabric.sh.

OUTSIDE=$CLUSTER-outside
OUTSIDE_IP=198.51.100.10 OUTSIDE_IP6=2001:db8:100::10 # RFC 5737, RFC 3849
OUTSIDE_ROUTER=198.51.100.1 OUTSIDE_ROUTER6=2001:db8:100::1

make_outside() {
	local s
	[ -e "/run/netns/$OUTSIDE" ] || ip netns add "$OUTSIDE"
	ip -n "$OUTSIDE" link set lo up
	ip -n "$OUTSIDE" link show eth0 >/dev/null 2>&1 ||
		ip -n "$FABRIC" link add outside type veth peer name eth0 netns "$OUTSIDE"
	ip -n "$FABRIC" link set outside up
	ip -n "$OUTSIDE" link set eth0 up
	ip -n "$FABRIC" addr replace "$OUTSIDE_ROUTER/24" dev outside
	ip -n "$FABRIC" addr replace "$OUTSIDE_ROUTER6/64" dev outside nodad
	ip -n "$OUTSIDE" addr replace "$OUTSIDE_IP/24" dev eth0
	ip -n "$OUTSIDE" addr replace "$OUTSIDE_IP6/64" dev eth0 nodad
	for s in $(seq "$SUBNETS"); do
		ip -n "$OUTSIDE" route replace "192.168.${s}0.0/24" via "$OUTSIDE_ROUTER"
		ip -n "$OUTSIDE" route replace "fd00:${s}0::/64" via "$OUTSIDE_ROUTER6"
	done
}

# route_pods tells router and outside the way to each block of pods that there
# is now: by the node that owns it.
route_pods() {
	local cidr owner via
	ip -n "$OUTSIDE" route replace "$POD_CIDR" via "$OUTSIDE_ROUTER" proto static
	ip -n "$OUTSIDE" route replace "$POD_CIDR6" via "$OUTSIDE_ROUTER6" proto static
	kubectl get ipamblocks -o jsonpath='{range .items[*]}{.spec.cidr} {.spec.affinity}{"\n"}{end}' |
		while read -r cidr owner; do
			[[ $owner = host:node* ]] || continue
			if [[ $cidr = *:* ]]; then via=ip6_of; else via=ip4_of; fi
			ip -n "$FABRIC" route replace "$cidr" via "$($via "${owner#host:node}")" proto static
		done
}

# unroute_pods takes those ways away.
unroute_pods() {
	local ns family
	for ns in "$FABRIC" "$OUTSIDE"; do
		for family in -4 -6; do ip -n "$ns" $family route flush proto static; done
	done
}

# in_outside COMMAND... runs it there, with the programs of the cluster in PATH.
# The shell becomes the command.
in_outside() { exec env "$MARK" "PATH=$BIN:$PATH" nsenter "--net=/run/netns/$OUTSIDE" "$@"; }
