package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// outsideAddr is the address of the host outside, see hack/outside.
func outsideAddr(f family) netip.Addr {
	return netip.MustParseAddr(pick(f, "198.51.100.10", "2001:db8:100::10"))
}

// outside starts a server on the host outside, until the test's end. /clientip tells whoever asks what address it has
// there.
func (c *cluster) outside(t *testing.T) runner {
	t.Helper()
	run := func(script string) string { t.Helper(); return c.mustHack(t, "outside", "bash", "-c", script) }
	run("true") // or skip
	server := exec.CommandContext(t.Context(), filepath.Join(c.hack, "outside"), "agnhost", "netexec", "--http-port=8080")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Wait() }) // the test's context is done by then
	run("for i in $(seq 100); do curl -sf -m 1 localhost:8080/hostname && exit; sleep 0.05; done; exit 1")
	return run
}

// keepNAT sees to it that a pool's natOutgoing, and what the outside knows of pods, is at the test's end what it was.
func (c *cluster) keepNAT(t *testing.T, f family) {
	t.Helper()
	was := cmp.Or(c.mustCtl(t, "get", "ippool", f.pool(), "-o", "jsonpath={.spec.natOutgoing}"), "false")
	t.Cleanup(func() {
		if err := c.patchPool(context.Background(), f, "natOutgoing", was); err != nil {
			t.Error(err)
		}
		c.mustHack(t, "route-pods", "off")
	})
}

// setNAT sets a pool's natOutgoing and waits until the outside sees all nodes' pods as it should.
func (c *cluster) setNAT(t *testing.T, f family, nat bool) {
	t.Helper()
	if err := c.patchPool(t.Context(), f, "natOutgoing", fmt.Sprint(nat)); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for _, n := range c.nodes {
		eventually(t, 30*time.Second, func() error { return c.seenAs(t.Context(), n.tools, n.seen(f, nat), url(outsideAddr(f), 8080)) })
	}
	t.Logf("natOutgoing %t: the outside sees it of all nodes after %.1f s", nat, time.Since(start).Seconds())
}

// seen is the address that those outside the pools see of a node's client.
func (n node) seen(f family, nat bool) netip.Addr {
	if nat {
		return n.addr[f].Addr()
	}
	return n.tools.addr[f]
}

// seenAs returns an error unless servers that are asked by a pod all see that address.
func (c *cluster) seenAs(ctx context.Context, from pod, want netip.Addr, servers ...string) error {
	out, err := c.sh(ctx, from, fmt.Sprintf("for s in %s; do echo $s $(curl -sS -m 2 $s/clientip 2>&1); done", strings.Join(servers, " ")))
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(out) {
		server, seen, _ := strings.Cut(strings.TrimSpace(line), " ")
		if have, err := netip.ParseAddrPort(seen); err != nil || have.Addr() != want {
			errs = append(errs, fmt.Errorf("%s sees pod %s as %s, want %s", server, from.name, seen, want))
		}
	}
	return errors.Join(errs...)
}

// TestNATOutgoing looks at who sees which address of a pod, with natOutgoing and without.
func TestNATOutgoing(t *testing.T) {
	c := several(t)
	outside := c.outside(t)
	c.each(t, func(t *testing.T, f family) {
		c.keepNAT(t, f)
		for _, nat := range []bool{true, false} {
			t.Run(fmt.Sprintf("natOutgoing %t", nat), func(t *testing.T) {
				// Who is masqueraded needs no way back to the pods.
				c.mustHack(t, "route-pods", map[bool]string{true: "off", false: "on"}[nat])
				c.setNAT(t, f, nat)
				n, o := c.nodes[0], c.nodes[1]
				pings(t, c, outside, "eth0", n, outsideAddr(f), n.seen(f, nat))
				// Other nodes are outside, too, unless natOutgoingExclusions says otherwise.
				pings(t, c, c.onNode(t, o), c.uplink(t, o, f).dev, n, o.addr[f].Addr(), n.seen(f, nat))
				c.mustKeepToPods(t, f)
			})
		}
	})
}

// pings pings from a node's pod and wants the receiver to see the pings come from that address, and no others.
func pings(t *testing.T, c *cluster, receiver runner, dev string, n node, to, want netip.Addr) {
	t.Helper()
	f := familyOf(to)
	filter := fmt.Sprintf("%s and dst host %s", pick(f, "icmp[icmptype] = icmp-echo", "icmp6[icmp6type] = icmp6-echo"), to)
	wire := capture(t, receiver, dev, filter, func() { c.mustSh(t, n.tools, "ping -n -c 3 -i 0.2 -W 2 "+to.String()) })
	if all, good := strings.Count(wire, "echo request"), strings.Count(wire, fmt.Sprintf("%s > %s:", want, to)); good != 3 || all != 3 {
		t.Errorf("%s sees %d of %d pings come from %s, want 3 of 3:\n%s", to, good, all, want, wire)
	}
}

// mustKeepToPods has each node's client ask all servers, by address and by Service: they see the pod's own address.
func (c *cluster) mustKeepToPods(t *testing.T, f family) {
	t.Helper()
	servers := []string{url(c.service[f], 80)}
	for _, n := range c.nodes {
		servers = append(servers, url(n.web.addr[f], 8080))
	}
	for _, n := range c.nodes {
		if err := c.seenAs(t.Context(), n.tools, n.tools.addr[f], servers...); err != nil {
			t.Error(err)
		}
	}
}

// TestNATOutgoingLive switches natOutgoing while pods ping the outside and make connections there. The outside knows the
// way to the pods, so that both work.
func TestNATOutgoingLive(t *testing.T) {
	const interval = 0.02
	c := several(t)
	c.outside(t)
	c.each(t, func(t *testing.T, f family) {
		c.keepNAT(t, f)
		c.mustHack(t, "route-pods", "on")
		c.setNAT(t, f, true)
		var all []*pinger
		for _, n := range c.nodes {
			all = append(all, c.ping(t, n.tools, outsideAddr(f), interval, n.name+" to the outside"))
		}
		client := c.nodes[0].tools
		c.mustSh(t, client, fmt.Sprintf(`
			touch /tmp/connect; rm -f /tmp/connections
			while [ -e /tmp/connect ]; do
				if a=$(curl -sS -m 2 %s/clientip 2>&1); then echo "ok $a"; else echo "FAIL $a"; fi
			done >/tmp/connections </dev/null 2>&1 &`, url(outsideAddr(f), 8080)))
		for _, nat := range []bool{false, true, false, true} {
			c.setNAT(t, f, nat)
			time.Sleep(500 * time.Millisecond)
		}
		connections := c.mustSh(t, client, "rm /tmp/connect; sleep 0.3; cat /tmp/connections")
		sent, lost := stopAll(t, all)
		made, failed := strings.Count(connections, "ok "), strings.Count(connections, "FAIL ")
		t.Logf("natOutgoing switched four times: %d pings, %d lost, one each %.0f ms; %d connections made, %d failed", sent, lost, interval*1000, made, failed)
		if lost > 0 || sent < 100 || failed > 0 || made < 10 {
			t.Errorf("something was lost, or there was too little to lose:\n%s", connections)
		}
	})
}
