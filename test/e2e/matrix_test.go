package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMatrix has a pod and the host of every node fetch from the servers on all nodes in every way there is.
func TestMatrix(t *testing.T) {
	c := ready(t)
	mtu := c.podMTU(t, c.nodes[0])
	c.mustKnowAll(t)
	c.each(t, func(t *testing.T, f family) {
		var wg sync.WaitGroup
		for _, n := range c.nodes {
			for _, from := range []pod{n.tools, n.shell} {
				wg.Add(1)
				go func() {
					defer wg.Done()
					c.reachesAll(t, n, from, f, mtu)
				}()
			}
		}
		wg.Wait()
	})
}

// reachesAll runs all checks of a family from one pod. It prints a line for each: "ok" or "FAIL", what, and what came.
func (c *cluster) reachesAll(t *testing.T, n node, from pod, f family, mtu int) {
	var names []string
	for _, o := range c.nodes {
		names = append(names, o.web.name)
	}
	any := strings.Join(names, "|")
	s := &strings.Builder{}
	fmt.Fprintf(s, `
		try() { # WHAT WANT COMMAND...
			what=$1 want=$2; shift 2
			got=$("$@" 2>&1) && [[ $got =~ ^($want)$ ]] && echo "ok $what" || echo "FAIL $what: $got"
		}
		get() { # URL; a connection that takes a second has lost its first packet
			out=$(curl -%d -sS -m 4 -w ' %%{time_namelookup} %%{time_connect}' "$1/hostname" 2>&1) || { echo "$out"; return 1; }
			set -- $out
			[ $((10#${3/./} - 10#${2/./})) -lt 900000 ] || { echo "connected only after $3 s"; return 1; }
			echo $1
		}
		fits() { ping -n -c 1 -W 2 -M do -s $1 $2 >/dev/null && echo fits; }
	`, f)
	for _, o := range c.nodes {
		fmt.Fprintf(s, "try 'pod on %s by address' %s get %s\n", o.name, o.web.name, url(o.web.addr[f], 8080))
		fmt.Fprintf(s, "try 'node port on %s' '%s' get %s\n", o.name, any, url(o.addr[f].Addr(), c.port))
		fmt.Fprintf(s, "try 'host port on %s' %s get %s\n", o.name, o.web.name, url(o.addr[f].Addr(), 18080))
		fmt.Fprintf(s, "try 'full packet to %s' fits fits %d %s\n", o.name, mtu-f.pingHeaders(), o.web.addr[f])
	}
	fmt.Fprintf(s, "for i in 1 2 3 4 5; do try \"Service, take $i\" '%s' get %s; done\n", any, url(c.service[f], 80))
	if from.name == n.tools.name {
		fmt.Fprintf(s, "try 'Service by name' '%s' get http://web\n", any)
		fmt.Fprintf(s, "try 'Service by long name' '%s' get http://web.%s.svc\n", any, namespace)
		fmt.Fprintf(s, "try 'headless Service by name' '%s' get http://web-headless:8080\n", any)
	}
	if from.name == n.tools.name && f == c.families[0] { // its Service has one family
		fmt.Fprintf(s, "try 'API server' '.*' curl -sSk -m 4 https://kubernetes.default/version\n")
	}
	out, err := c.sh(t.Context(), from, s.String())
	if err != nil {
		t.Errorf("from %s on %s: %v", from.name, n.name, err)
		return
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "FAIL") {
			t.Errorf("from %s on %s: %s: %s", from.name, n.name, f, strings.TrimSpace(line))
		}
	}
	t.Logf("from %s on %s: %d checks of %s passed", from.name, n.name, strings.Count("\n"+out, "\nok "), f)
}

// mustKnowAll waits until the headless Service's name stands for just the servers' addresses: answers are cached for a while.
func (c *cluster) mustKnowAll(t *testing.T) {
	t.Helper()
	for _, f := range c.families {
		var want []string
		for _, n := range c.nodes {
			want = append(want, n.web.addr[f].String())
		}
		slices.Sort(want)
		for _, n := range c.nodes {
			eventually(t, 90*time.Second, func() error {
				// Often enough to hear each of the DNS servers.
				out, err := c.sh(t.Context(), n.tools, "for i in 1 2 3 4 5 6; do dig +search +short web-headless "+pick(f, "A", "AAAA")+" | sort | tr '\\n' ' '; echo; done | uniq")
				if have := strings.TrimSpace(out); err == nil && have != strings.Join(want, " ") {
					err = fmt.Errorf("headless Service has the addresses %q on %s, want %v", have, n.name, want)
				}
				return err
			})
		}
	}
}

// TestHairpin has a server ask its own Service often enough to get itself.
func TestHairpin(t *testing.T) {
	c := ready(t)
	n := c.nodes[0]
	c.each(t, func(t *testing.T, f family) {
		out, err := c.ctl(t.Context(), "-n", namespace, "exec", n.web.name, "--", "sh", "-c",
			fmt.Sprintf("for i in $(seq 20); do curl -sS -m 4 %s/hostname || exit 1; echo; done", url(c.service[f], 80)))
		if err != nil {
			t.Fatal(err)
		}
		itself := strings.Count(out, n.web.name)
		t.Logf("20 requests, %d of them to itself", itself)
		if itself == 0 && len(c.nodes) <= 3 {
			t.Error("no request came back to the server itself")
		}
	})
}

// TestBandwidthIsLimited sends from a pod that may send 10 Mbit/s, and from one that may send what it likes. containerd
// grants a burst of 193 MB before the limit holds, so the last seconds count.
func TestBandwidthIsLimited(t *testing.T) {
	c := ready(t)
	server, addr := c.nodes[0].tools, c.nodes[0].tools.addr[c.families[0]]
	rate := func(from pod, seconds int) float64 {
		c.mustSh(t, server, "iperf3 -s -1 -D >/dev/null 2>&1; sleep 0.3")
		var r struct {
			Intervals []struct {
				Sum struct {
					Rate float64 `json:"bits_per_second"`
				} `json:"sum"`
			} `json:"intervals"`
		}
		out := c.mustSh(t, from, fmt.Sprintf("iperf3 -J -i 1 -t %d -c %s", seconds, addr))
		if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Intervals) < seconds {
			t.Fatalf("iperf3: %v: %s", err, out)
		}
		sum := 0.0
		for _, i := range r.Intervals[seconds-2 : seconds] {
			sum += i.Sum.Rate / 2e6
		}
		return sum
	}
	slow, free := rate(c.slow, 7), rate(c.nodes[len(c.nodes)-1].tools, 2)
	t.Logf("with kubernetes.io/egress-bandwidth 10M: %.1f Mbit/s; without: %.0f Mbit/s", slow, free)
	if slow > 20 || slow < 2 {
		t.Errorf("pod sends %.1f Mbit/s, may send 10", slow)
	}
	if free < 100 {
		t.Errorf("pod without a limit sends only %.1f Mbit/s", free)
	}
}
