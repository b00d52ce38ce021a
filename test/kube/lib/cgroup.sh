# shellcheck shell=bash
# Control groups: each node gets one in every hierarchy, and a cgroup namespace
# that makes it the root: kubelet's limits and statistics are then the node's.
# Sourced after settings.sh.
#
# Version 1: below our own group, so that limits set on us still hold.
# Version 2: below the root, the only group that may have processes and
# children both; there the node's own processes live in a child named "init".

CGROUP=margay-kube-$CLUSTER
CGROUP_ROOT=/sys/fs/cgroup

# cgroup_version is 1 where controllers have hierarchies of their own.
cgroup_version() { if [ -e "$CGROUP_ROOT/cgroup.controllers" ]; then echo 2; else echo 1; fi; }

# hierarchies prints the directory of our own group in each hierarchy.
hierarchies() {
	if [ "$(cgroup_version)" = 2 ]; then
		echo "$CGROUP_ROOT"
		return
	fi
	local controllers path
	while IFS=: read -r _ controllers path; do
		case $controllers in
		'') [ ! -d "$CGROUP_ROOT/unified" ] || echo "$CGROUP_ROOT/unified${path%/}" ;;
		name=*) echo "$CGROUP_ROOT/${controllers#name=}${path%/}" ;;
		*) echo "$CGROUP_ROOT/$controllers${path%/}" ;;
		esac
	done </proc/self/cgroup
}

# make_cgroups NODE makes the node's group everywhere and prints the paths.
make_cgroups() {
	local base dir
	for base in $(hierarchies); do
		for dir in "$base/$CGROUP" "$base/$CGROUP/$1"; do
			mkdir -p "$dir"
			if [ -e "$base/cpuset.cpus" ] && [ "$(cgroup_version)" = 1 ]; then # empty at first, and unusable then
				cat "$base/cpuset.cpus" >"$dir/cpuset.cpus"
				cat "$base/cpuset.mems" >"$dir/cpuset.mems"
			fi
		done
		if [ "$(cgroup_version)" = 2 ]; then
			hand_down "$base"
			hand_down "$base/$CGROUP"
		fi
		echo "$dir"
	done
}

# hand_down DIR lets the children of a version 2 group use all its controllers.
hand_down() {
	local c
	for c in $(cat "$1/cgroup.controllers"); do echo "+$c" >"$1/cgroup.subtree_control" || true; done
}

# cgroups [NODE] prints the groups that exist, of one node or of the cluster.
cgroups() { find "$CGROUP_ROOT" -type d -path "*/$CGROUP${1:+/$1}" -prune 2>/dev/null; }

# remove_cgroups [NODE] removes those groups once they are empty.
remove_cgroups() { eventually 10 try_remove_cgroups "$@"; }
try_remove_cgroups() {
	local dir
	for dir in $(cgroups "$@"); do find "$dir" -depth -type d -exec rmdir {} +; done
	[ -z "$(cgroups "$@")" ]
}
