# shellcheck shell=bash
# Processes: daemons of a cluster, each with a pid file and a log, all with the
# cluster's mark in their environment. Sourced after settings.sh.

# marked PID: that process lives and is one of this cluster's.
marked() { grep -szqxF -- "$MARK" "/proc/$1/environ"; }

# gone PID: it is dead. A zombie is: whoever should reap it may be slow.
gone() { [ ! -d "/proc/$1" ] || grep -qs '^State:.Z' "/proc/$1/status"; }

# running NAME: the daemon of that name is up.
running() {
	local pid
	pid=$(cat "$STATE/pids/$1" 2>/dev/null) && ! gone "$pid" && marked "$pid"
}

# daemon NAME NETNS COMMAND... starts a daemon unless it runs. NETNS "-" is the
# namespace we are in.
daemon() {
	local name=$1 netns=$2 enter=()
	shift 2
	! running "$name" || return 0
	[ "$netns" = - ] || enter=(nsenter "--net=/run/netns/$netns")
	env "$MARK" setsid "${enter[@]}" "$@" </dev/null >>"$STATE/logs/$name.log" 2>&1 9>&- &
	echo $! >"$STATE/pids/$name"
	disown
}

# stop NAME [SIGNAL] ends a daemon and waits for it.
stop() {
	local pid
	running "$1" || return 0
	pid=$(cat "$STATE/pids/$1")
	kill -s "${2:-TERM}" "$pid"
	eventually 10 gone "$pid" || kill -s KILL "$pid"
	eventually 10 gone "$pid" || die "$1 (process $pid) does not end"
	rm -f "$STATE/pids/$1"
}

# all_marked prints the processes of this cluster, but for this script and
# those it was started by.
all_marked() {
	local pid=$$ own=" "
	while [ "${pid:-0}" -gt 1 ]; do
		own+="$pid "
		pid=$(awk '$1 == "PPid:" {print $2}' "/proc/$pid/status")
	done
	grep -szlxF -- "$MARK" /proc/[0-9]*/environ | cut -d/ -f3 | while read -r pid; do
		[[ $own = *" $pid "* ]] || gone "$pid" || echo "$pid"
	done
}
