# shellcheck shell=bash
# Nodes: a node is a directory that becomes its root file system, a namespace
# on the fabric, and a process (node/init) that is PID 1 of namespaces of its
# own. When that process is killed, every process of the node dies with it.
# Sourced after process.sh, fabric.sh, control.sh and cgroup.sh.

root_of() { echo "$STATE/nodes/node$1"; }

# prepare_node N lays out the root file system: configuration, credentials,
# images. What the node wrote since stays.
prepare_node() {
	local n=$1 root x
	root=$(root_of "$n")
	mkdir -p "$root"/etc/{kube,containerd,kubernetes,cni/net.d} "$root"/opt/cni/bin \
		"$root"/var/lib/{containerd,kubelet} "$root"/var/{log,tmp,cache} "$root"/{tmp,run}
	chmod 1777 "$root/tmp" "$root/var/tmp"
	ln -sfn /run "$root/var/run"
	ln -sfn /run/lock "$root/var/lock"
	for x in alternatives passwd group nsswitch.conf protocols services ld.so.cache ld.so.conf ld.so.conf.d \
		ssl login.defs iproute2 ethertypes debian_version os-release localtime bash.bashrc; do
		[ ! -e "/etc/$x" ] || [ -e "$root/etc/$x" ] || cp -a "/etc/$x" "$root/etc/"
	done
	echo "node$n" >"$root/etc/hostname"
	echo "$CLUSTER-node$n" | md5sum | cut -c1-32 >"$root/etc/machine-id"
	echo "nameserver $(main_of "$(router4_of "$n")" "$(router6_of "$n")")" >"$root/etc/resolv.conf" # nobody answers there: no DNS but the cluster's
	{
		printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n'
		for x in $(seq "$NODES"); do echo "$(ip_of "$x") node$x"; done
	} >"$root/etc/hosts"

	cp -u "$BIN"/cni/* "$root/opt/cni/bin/"
	copy_template "$root/var/lib/containerd"
	cp "$KUBE/node/main" "$root/etc/kube/"
	cp "$KUBE/node/containerd.toml" "$root/etc/containerd/config.toml"
	sed -e "s|@DNS_IP@|$(main_of "$DNS_IP" "$DNS_IP6")|" \
		"$KUBE/node/kubelet.yaml" >"$root/etc/kubernetes/kubelet.yaml"
	sed -e "s|@POD_CIDRS@|$(of_family "$POD_CIDR" "$POD_CIDR6")|" -e "s|@MODE@|$PROXY_MODE|" \
		"$KUBE/node/kube-proxy.yaml" >"$root/etc/kubernetes/kube-proxy.yaml"
	printf 'NODE=node%s\nNODE_IPS=%s\n' "$n" "$(addresses_of "$n")" >"$root/etc/kube/env"
	cp "$PKI/ca.crt" "$PKI/kube-proxy.conf" "$root/etc/kubernetes/"
	cp "$PKI/kubelet-node$n.conf" "$root/etc/kubernetes/kubelet.conf"
	for x in crt key; do cp "$PKI/kubelet-server-node$n.$x" "$root/etc/kubernetes/kubelet-server.$x"; done
}

# copy_template DIR fills a node's containerd directory with all images. It is a
# copy made of hard links, which costs neither time nor disk: containerd never
# writes into a blob or an unpacked layer. Only its databases are copied.
copy_template() {
	[ ! -e "$1/.from-template" ] || return 0
	rm -rf --one-file-system "$1" # half a copy, if any
	mkdir -p "$1"
	cp -al "$IMAGES/template/." "$1/"
	local db
	(cd "$IMAGES/template" && find . -name '*.db') | while read -r db; do
		cp --remove-destination "$IMAGES/template/$db" "$1/$db"
	done
	touch "$1/.from-template"
}

# boot_node N starts the node's PID 1 and notes its process id.
boot_node() {
	local name=node$1 groups outer inner
	! running "$name" || return 0
	groups=$(make_cgroups "$name")
	(
		exec 9>&-
		for dir in $groups; do echo "$BASHPID" >"$dir/cgroup.procs"; done
		exec env -i "$MARK" PATH=/usr/sbin:/usr/bin:/sbin:/bin \
			setsid nsenter "--net=/run/netns/$(netns_of "$1")" \
			unshare --mount --uts --ipc --pid --cgroup --fork --kill-child=SIGKILL --propagation private \
			"$KUBE/node/init" "$name" "$(root_of "$1")" "$BIN"
	) </dev/null >>"$STATE/logs/$name.log" 2>&1 &
	outer=$!
	disown
	eventually 20 child_of_unshare "$outer" || die "$name did not start: see $STATE/logs/$name.log"
	inner=$(child_of_unshare "$outer")
	[ "$(cgroup_version)" = 1 ] || echo "$outer" >"$CGROUP_ROOT/cgroup.procs"
	echo "$inner" >"$STATE/pids/$name"
}

child_of_unshare() { [ "$(cat "/proc/$1/comm")" = unshare ] && pgrep -P "$1"; }

# in_node N COMMAND... runs it inside the node's namespaces.
in_node() {
	local pid
	running "node$1" || die "node$1 is off"
	pid=$(cat "$STATE/pids/node$1")
	shift
	nsenter -t "$pid" -m -u -i -n -p -C env -i "TERM=${TERM:-dumb}" HOME=/root \
		CONTAINERD_NAMESPACE=k8s.io CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1 \
		PATH=/opt/kube/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

wait_for_containerd() {
	eventually 60 in_node "$1" ctr version || die "containerd of node$1 does not answer: see $(root_of "$1")/var/log/containerd.log"
}

# load_images TAR... imports images on all nodes that are on.
load_images() {
	local n tar jobs=() job failed=0
	for n in $(seq "$NODES"); do
		running "node$n" || continue
		(
			for tar; do
				in_node "$n" ctr images import - <"$tar" >/dev/null || die "import $tar on node$n"
			done
		) &
		jobs+=($!)
	done
	for job in "${jobs[@]}"; do wait "$job" || failed=1; done
	return "$failed"
}

# power_off N kills all that runs on the node and takes it off the fabric. Node
# 1's namespace carries the control plane: it stays, but for what a CNI made.
power_off() {
	stop "node$1" KILL
	remove_cgroups "node$1" || die "control groups of node$1 can not be removed: $(cgroups "node$1" | head -1)"
	if [ "$1" = 1 ]; then clean_netns 1; else remove_cable "$1"; fi
}
