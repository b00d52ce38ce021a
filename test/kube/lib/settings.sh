# shellcheck shell=bash disable=SC2034
# Settings: names, places and addresses that every script here shares. Sourced,
# never run. A cluster that exists says itself what it was made with: see
# $STATE/settings, which "up" writes.

KUBE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
REPO=$(cd "$KUBE/../.." && pwd)
CLUSTER=${CLUSTER:-margay}
CACHE=$(realpath -m "${MARGAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/margay}")/kube
STATE=$CACHE/clusters/$CLUSTER

# Every process of a cluster carries this in its environment. Only what
# carries it is ever killed.
MARK=MARGAY_KUBE=$CLUSTER:$STATE

# Where the programs and the images of this source are: the names carry a hash
# of what they are made from, so an older build is never taken for this one.
# Patterns expand here, below test/kube, wherever the caller is.
# shellcheck disable=SC2048,SC2086
hash_of() { (cd "$KUBE" && cat $* | sha256sum | cut -c1-12); }
bin_key=$(hash_of go.mod go.sum containerd/go.mod containerd/go.sum lib/programs.sh \
	'certs/*.go' 'coredns/*.go' mkimg/{main,image,layer}.go 'pause/*.go')
image_key=$(echo "$bin_key $(hash_of rootfs lib/images.sh lib/template.sh)" | sha256sum | cut -c1-12)
BIN=$CACHE/bin-$bin_key
IMAGES=$CACHE/images-$image_key

# Addresses. Node N has host part 10+N; with two subnets the even ones are in
# the second. The router, a namespace, is .1 in each.
POD_CIDR=${POD_CIDR:-172.20.0.0/16}
POD_CIDR6=${POD_CIDR6:-fd00:172:20::/48}
SERVICE_CIDR=10.96.0.0/16
SERVICE_CIDR6=fd00:10:96::/112
API_SERVICE_IPS=10.96.0.1,fd00:10:96::1
DNS_IP=10.96.0.10
DNS_IP6=fd00:10:96::a

die() { echo "error: $*" >&2; exit 1; }

# step TEXT prints a line with the seconds since the script began.
step() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }

# eventually SECONDS COMMAND... tries until the command succeeds.
eventually() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.2
	done
}

must_be_root() { [ "$(id -u)" = 0 ] || die "must be root"; }

# must_exist loads the settings of a cluster that was brought up.
must_exist() {
	must_be_root
	[ -r "$STATE/settings" ] || die "there is no cluster \"$CLUSTER\": run test/kube/up first"
	# shellcheck source=/dev/null
	. "$STATE/settings"
}

# must_be_node N checks a node's number.
must_be_node() {
	[[ ${1:-} =~ ^[0-9]+$ ]] && [ "$1" -ge 1 ] && [ "$1" -le "$NODES" ] ||
		die "node must be a number from 1 to $NODES, not \"${1:-}\""
}

# has4, has6: the cluster has that address family. FAMILY is 4, 6 or dual.
has4() { [ "$FAMILY" != 6 ]; }
has6() { [ "$FAMILY" != 4 ]; }

# of_family FOUR SIX prints what the cluster has, or both as FOUR,SIX.
of_family() {
	case $FAMILY in
	4) echo "$1" ;;
	6) echo "$2" ;;
	dual) echo "$1,$2" ;;
	esac
}

# main_of FOUR SIX prints that of the cluster's first family.
main_of() { if has4; then echo "$1"; else echo "$2"; fi; }

# host_port ADDRESS PORT joins the two, as in a URL.
host_port() { if [[ $1 = *:* ]]; then echo "[$1]:$2"; else echo "$1:$2"; fi; }

# api_port is the port on 127.0.0.1 at which the API server is reached.
api_port() {
	if [ "$CLUSTER" = margay ]; then
		echo 16443
	else
		echo $((16500 + $(cksum <<<"$CLUSTER" | cut -d' ' -f1) % 2000))
	fi
}

kubectl() {
	KUBECACHEDIR=$STATE/kubectl-cache "$BIN/kubectl" --kubeconfig "$STATE/pki/admin.conf" "$@"
}
