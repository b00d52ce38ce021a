package e2e

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pinger is a ping that runs in a pod until it is stopped.
type pinger struct {
	c    *cluster
	from pod
	to   family
	near bool   // between nodes of one subnet; pingAround knows
	name string // for people
	file string
	pid  string
}

// ping starts pings with that many seconds between them.
func (c *cluster) ping(t *testing.T, from pod, to netip.Addr, interval float64, name string) *pinger {
	t.Helper()
	p := &pinger{c: c, from: from, to: familyOf(to), name: name, file: fmt.Sprintf("/tmp/ping-%s-%d", to, time.Now().UnixNano())}
	p.pid = strings.TrimSpace(c.mustSh(t, from, fmt.Sprintf("ping -n -i %g %s >%s 2>&1 </dev/null & echo $!", interval, to, p.file)))
	return p
}

// pingAround pings from each node's client to the server of the next node, in each family.
func (c *cluster) pingAround(t *testing.T, interval float64) []*pinger {
	t.Helper()
	var out []*pinger
	for _, f := range c.families {
		for i, n := range c.nodes {
			next := c.nodes[(i+1)%len(c.nodes)]
			p := c.ping(t, n.tools, next.web.addr[f], interval, fmt.Sprintf("%s to %s, %s", n.name, next.name, f))
			p.near = n.near(next, f)
			out = append(out, p)
		}
	}
	return out
}

// stop ends the pings and returns how many were sent and the numbers of those that got no answer.
func (p *pinger) stop(t *testing.T) (sent int, lost []string) {
	t.Helper()
	out := p.c.mustSh(t, p.from, "f="+p.file+"; kill -INT "+p.pid+`; until grep -q transmitted $f; do sleep 0.05; [ $((i++)) -lt 40 ] || break; done
	awk '
	/icmp_seq=.*time=/ { sub(/.*icmp_seq=/, ""); seen[$1 + 0] = 1; if ($1 + 0 > last) last = $1 + 0 }
	/packets transmitted/ { sent = $1 }
	END {
		# The answer to the very last one may have been on its way.
		printf "%d", sent
		for (i = 1; i < sent || i <= last; i++) if (!(i in seen)) printf " %d", i
	}' $f`)
	fields := strings.Fields(out)
	if len(fields) == 0 {
		t.Fatalf("%s: ping wrote nothing", p.name)
	}
	sent, err := strconv.Atoi(fields[0])
	if err != nil {
		t.Fatal(err)
	}
	return sent, fields[1:]
}

// stopAll stops pings and returns how many were sent and lost in all; it logs the lost ones.
func stopAll(t *testing.T, all []*pinger) (sent, lost int) {
	t.Helper()
	for _, p := range all {
		n, missing := p.stop(t)
		sent, lost = sent+n, lost+len(missing)
		if len(missing) > 0 {
			t.Logf("%s: %d of %d lost: numbers %s", p.name, len(missing), n, strings.Join(missing[:min(len(missing), 20)], " "))
		}
	}
	return sent, lost
}

// mustLoseNothing stops pings; at least that many must have been sent in each family, and all answered.
func mustLoseNothing(t *testing.T, all []*pinger, least int) {
	t.Helper()
	byFamily := map[family][]*pinger{}
	for _, p := range all {
		byFamily[p.to] = append(byFamily[p.to], p)
	}
	for f, pings := range byFamily {
		sent, lost := stopAll(t, pings)
		t.Logf("%s: %d pings between nodes, %d lost", f, sent, lost)
		if lost > 0 {
			t.Errorf("%s: %d of %d pings were lost", f, lost, sent)
		}
		if sent < least {
			t.Errorf("%s: only %d pings were sent, want %d", f, sent, least)
		}
	}
}
