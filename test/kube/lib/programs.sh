# shellcheck shell=bash
# Programs: what is built from Go modules, and how. Versions are those of
# go.mod (and containerd/go.mod: its CRI packages are a release ahead of the
# kubelet's, so they can not share a module). Sourced by build.

# One set of tags for all, so that shared packages compile once.
TAGS=selinux,notest,grpcnotrace,seccomp,no_btrfs,no_zfs,no_devmapper,no_tracing
FLAGS=(-mod=readonly -trimpath -buildvcs=false -tags "$TAGS")

# version_of MODULE [DIR]: the version in DIR's go.mod.
version_of() { (cd "$KUBE/${2:-.}" && go list -mod=readonly -m -f '{{.Version}}' "$1"); }

# kubernetes_version prints the linker flags that tell Kubernetes its version.
kubernetes_version() {
	local version minor package
	version=$(version_of k8s.io/kubernetes)
	minor=${version#v1.}
	for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		printf -- '-X %s.gitVersion=%s -X %s.gitMajor=1 -X %s.gitMinor=%s ' \
			$package "$version" $package $package "${minor%%.*}"
		printf -- '-X %s.gitTreeState=clean -X %s.gitCommit=%040d -X %s.buildDate=2026-01-01T00:00:00Z ' \
			$package $package 0 $package
	done
}

# timed NAME COMMAND... runs the command and prints one line with its time. What
# the command writes to its last argument appears as NAME, whole or not at all.
timed() {
	local name=$1 start=$SECONDS part=$BIN/.${1//\//-}.$$
	shift
	[ ! -e "$BIN/$name" ] || return 0
	mkdir -p "$(dirname "$BIN/$name")"
	printf '%-26s ' "$name"
	if ! "$@" "$part" >"$part.log" 2>&1; then
		echo FAILED
		cat "$part.log" >&2
		rm -f "$part" "$part.log"
		exit 1
	fi
	rm -f "$part.log"
	mv "$part" "$BIN/$name"
	printf '%4d s %5d MB\n' $((SECONDS - start)) $(($(stat -c %s "$BIN/$name") >> 20))
}

# go_build DIR PACKAGE LDFLAGS OUT
go_build() { (cd "$KUBE/$1" && go build "${FLAGS[@]}" -ldflags "-s -w $3" -o "$4" "$2"); }
go_test() { (cd "$KUBE/$1" && go test -c "${FLAGS[@]}" -ldflags "-s -w $3" -o "$4" "$2"); }

build_tools() {
	local x
	for x in mkimg certs pause; do timed "$x" go_build . "./$x" ""; done
}

build_kube() {
	local x flags
	flags=$(kubernetes_version)
	for x in kubelet kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubectl; do
		timed "$x" go_build . "k8s.io/kubernetes/cmd/$x" "$flags"
	done
}

build_containerd() {
	local x module=github.com/containerd/containerd/v2
	for x in containerd containerd-shim-runc-v2 ctr; do
		timed "$x" go_build containerd "$module/cmd/$x" "-X $module/version.Version=$(version_of $module containerd)"
	done
}

build_runc() { CGO_ENABLED=1 timed runc go_build . github.com/opencontainers/runc "-X main.version=$(version_of github.com/opencontainers/runc)"; }

build_etcd() { timed etcd go_build . go.etcd.io/etcd/server/v3 ""; }

build_coredns() { timed coredns go_build . ./coredns ""; }

build_agnhost() { timed agnhost go_build . k8s.io/kubernetes/test/images/agnhost ""; }

build_cni() {
	local x
	for x in main/loopback main/bridge main/ptp ipam/host-local meta/portmap meta/bandwidth meta/tuning; do
		timed "cni/${x#*/}" go_build . "github.com/containernetworking/plugins/plugins/$x" ""
	done
}

build_e2e() { timed e2e.test go_test . k8s.io/kubernetes/test/e2e "$(kubernetes_version)"; }
