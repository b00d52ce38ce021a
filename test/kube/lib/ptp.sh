# shellcheck shell=bash
# CNI=ptp: the plainest network that works, made of the reference plugins ptp,
# host-local and portmap and of static routes; something to compare with.
# Sourced after node.sh.

# write_ptp N writes the node's plugin configuration from the CIDRs that
# Kubernetes gave it, and notes those CIDRs for route_ptp.
write_ptp() {
	local ranges routes cidrs
	eventually 60 has_cidr "$1" || die "node$1 got no pod CIDR: see $STATE/logs/kube-controller-manager.log"
	cidrs=$(kubectl get node "node$1" -o jsonpath='{.spec.podCIDRs[*]}')
	echo "$cidrs" >"$STATE/ptp-node$1"
	# shellcheck disable=SC2086 # one or two CIDRs
	ranges=$(printf '[{"subnet": "%s"}],' $cidrs)
	routes=$(of_family '{"dst": "0.0.0.0/0"}' '{"dst": "::/0"}')
	local dir
	dir=$(root_of "$1")/etc/cni/net.d
	cat >"$dir/.new" <<-C
		{"cniVersion": "1.0.0", "name": "ptp", "plugins": [
		  {"type": "ptp", "ipMasq": false,
		   "ipam": {"type": "host-local", "ranges": [${ranges%,}], "routes": [$routes]}},
		  {"type": "portmap", "capabilities": {"portMappings": true}}
		]}
	C
	mv "$dir/.new" "$dir/10-ptp.conflist"
}

has_cidr() { [ -n "$(kubectl get node "node$1" -o jsonpath='{.spec.podCIDR}')" ]; }

# route_ptp sets the routes to every node's pods, on all nodes and the router.
route_ptp() {
	local from to via cidr
	for to in $(seq "$NODES"); do
		for cidr in $(cat "$STATE/ptp-node$to"); do
			if [[ $cidr = *:* ]]; then via=ip6_of; else via=ip4_of; fi
			ip -n "$FABRIC" route replace "$cidr" via "$($via "$to")"
			for from in $(seq "$NODES"); do
				[ "$from" != "$to" ] && [ -e "/run/netns/$(netns_of "$from")" ] || continue
				if [ "$(subnet_of "$from")" = "$(subnet_of "$to")" ]; then
					ip -n "$(netns_of "$from")" route replace "$cidr" via "$($via "$to")"
				else
					ip -n "$(netns_of "$from")" route replace "$cidr" via "$("${via/ip/router}" "$from")"
				fi
			done
		done
	done
}
