# shellcheck shell=bash
# Template: a containerd directory with all images imported and unpacked, of
# which each node gets a copy (see node.sh). Sourced by build, after images.sh.

make_template() {
	local work=$IMAGES/.template.$$ start=$SECONDS
	[ ! -e "$IMAGES/template" ] || return 0
	printf '%-26s ' template
	mkdir -p "$work"
	cat >"$work/config.toml" <<-C
		version = 3
		root = "$work/root"
		state = "$work/state"
		disabled_plugins = [
		  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri",
		  "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.blockfile", "io.containerd.differ.v1.erofs",
		]
		[grpc]
		  address = "$work/sock"
		[ttrpc]
		  address = "$work/sock.ttrpc"
	C
	if ! import_images "$work" >"$work/log" 2>&1; then
		echo FAILED
		cat "$work/log" >&2
		exit 1
	fi
	mv "$work/root" "$IMAGES/template"
	rm -rf --one-file-system "$work"
	printf '%4d s\n' $((SECONDS - start))
}

# import_images DIR runs a containerd in DIR for as long as the import takes.
import_images() {
	local pid tar ok=0
	"$BIN/containerd" --config "$1/config.toml" </dev/null &
	pid=$!
	if eventually 30 "$BIN/ctr" -a "$1/sock" version; then
		for tar in "$IMAGES"/*.tar; do
			"$BIN/ctr" -a "$1/sock" -n k8s.io images import "$tar" || ok=1
		done
	else
		ok=1
	fi
	kill "$pid"
	wait "$pid" || true
	return "$ok"
}
