# shellcheck shell=bash
# Images: what runs in the cluster's pods, made from the programs built here and
# from this machine's packages; no registry takes part. Sourced by build, after
# programs.sh. The names are of a registry that can not exist ("kube.test"), so
# pods use them with imagePullPolicy IfNotPresent.

# image NAME FILL TAG MKIMG-FLAG... makes NAME.tar from the tree that the
# function FILL puts into the directory it is given.
image() {
	local name=$1 fill=$2 tag=$3 start=$SECONDS root
	shift 3
	[ ! -e "$IMAGES/$name.tar" ] || return 0
	printf 'image %-20s ' "$name"
	root=$IMAGES/.$name.$$
	mkdir "$root"
	"$fill" "$root"
	"$BIN/mkimg" -o "$IMAGES/$name.tar" -t "$tag" "$@" "$root"
	rm -rf --one-file-system "$root"
	printf '%4d s %5d MB\n' $((SECONDS - start)) $(($(stat -c %s "$IMAGES/$name.tar") >> 20))
}

fill_pause() { cp "$BIN/pause" "$1/"; }

fill_coredns() { cp "$BIN/coredns" "$1/"; }

fill_busybox() { "$KUBE/rootfs" "$1"; }

fill_netutils() {
	"$KUBE/rootfs" "$1" sh bash ip ss tc bridge nft iptables iptables-save ip6tables ip6tables-save \
		ipset conntrack tcpdump curl ping ethtool iperf3 nc dig
}

# The upstream tests expect these programs and files in agnhost.
fill_agnhost() {
	"$KUBE/rootfs" "$1" sh bash getent curl dig nslookup host nc ip ss
	cp "$BIN/agnhost" "$1/agnhost"
	cp "$BIN/coredns" "$1/coredns"
	ln -s agnhost "$1/agnhost-2"
	mkdir "$1/uploads"
	local source
	source=$(cd "$KUBE" && go list -mod=readonly -m -f '{{.Dir}}' k8s.io/kubernetes)
	install -m 644 "$source"/test/images/agnhost/porter/localhost.{crt,key} "$1/"
}

build_images() {
	build_tools
	build_coredns
	build_agnhost
	image pause fill_pause kube.test/pause:1 -t kube.test/pause:3.10.2 -entrypoint /pause -user 65535:65535
	image coredns fill_coredns kube.test/coredns:1 -entrypoint /coredns
	image busybox fill_busybox kube.test/busybox:1 -t kube.test/busybox:1.37.0-1 -cmd sh
	image netutils fill_netutils kube.test/netutils:1 -cmd sh
	# With the names the upstream tests use, too.
	image agnhost fill_agnhost kube.test/agnhost:1 -t kube.test/agnhost:2.63.0 -t kube.test/agnhost:2.55 \
		-t kube.test/glibc-dns-testing:2.0.0 -entrypoint /agnhost -cmd pause
	make_template
}
