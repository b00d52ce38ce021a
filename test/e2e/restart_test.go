package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestKillAgentLosesNothing kills the agent of each node while pods talk across nodes.
func TestKillAgentLosesNothing(t *testing.T) {
	c := several(t)
	pings := c.pingAround(t, 0.01)
	start := time.Now()
	for _, n := range c.nodes {
		out := c.mustSh(t, n.shell, `
			agent() { for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" = margay-agent ] && [ "$(readlink $p/exe)" ] && echo ${p#/proc/}; done; }
			ready() { curl -sf -m 1 localhost:9099/readiness; }
			# Probes may run the same program: the agent is the process that stays.
			old=$(for p in $(agent); do [[ $(tr '\0' ' ' </proc/$p/cmdline) = *" health "* ]] || echo $p; done)
			[ -n "$old" ] || { echo "no agent"; exit 1; }
			t=${EPOCHREALTIME/./}
			kill -9 $old
			while [ -e /proc/$old ] || ! ready; do sleep 0.05; [ $((${EPOCHREALTIME/./} - t)) -lt 60000000 ] || { echo "not ready"; exit 1; }; done
			echo $(((${EPOCHREALTIME/./} - t) / 1000))`)
		t.Logf("agent of %s killed, ready again after %s ms", n.name, strings.TrimSpace(out))
	}
	if rest := 12*time.Second - time.Since(start); rest > 0 {
		time.Sleep(rest)
	}
	mustLoseNothing(t, pings, 1000)
}

// TestRolloutRestartLosesNothing restarts all agents as a person would, while pods talk across nodes.
func TestRolloutRestartLosesNothing(t *testing.T) {
	c := several(t)
	pings := c.pingAround(t, 0.01)
	start := time.Now()
	c.mustCtl(t, "-n", agents, "rollout", "restart", "daemonset/margay-node")
	c.mustCtl(t, "-n", agents, "rollout", "status", "daemonset/margay-node", "--timeout=180s")
	t.Logf("rollout took %.1f s", time.Since(start).Seconds())
	if rest := 8*time.Second - time.Since(start); rest > 0 {
		time.Sleep(rest)
	}
	mustLoseNothing(t, pings, 1000)
}
