# shellcheck shell=bash disable=SC2034
# Calico's own command line, for test/calicoctl. It is apart from the other
# programs, so that another version of it does not make them anew. Sourced by
# build, and by what looks for the program: $BIN/$CALICOCTL.

# The release that the module's commit is (its versions are not Calico's).
CALICOCTL_VERSION=v3.28.5
CALICOCTL=calicoctl-$(hash_of calicoctl/go.mod calicoctl/go.sum lib/calicoctl.sh)

build_calicoctl() {
	local module=github.com/projectcalico/calico/calicoctl/calicoctl
	timed "$CALICOCTL" go_build calicoctl "$module" \
		"-X $module/commands.VERSION=$CALICOCTL_VERSION -X $module/commands/common.VERSION=$CALICOCTL_VERSION"
}
