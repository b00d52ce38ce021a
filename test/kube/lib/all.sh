# shellcheck shell=bash
# All of a running cluster's parts, for the scripts that act on one.
lib=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=settings.sh
. "$lib/settings.sh"
# shellcheck source=process.sh
. "$lib/process.sh"
# shellcheck source=fabric.sh
. "$lib/fabric.sh"
# shellcheck source=outside.sh
. "$lib/outside.sh"
# shellcheck source=cgroup.sh
. "$lib/cgroup.sh"
# shellcheck source=control.sh
. "$lib/control.sh"
# shellcheck source=node.sh
. "$lib/node.sh"
# shellcheck source=ptp.sh
. "$lib/ptp.sh"
