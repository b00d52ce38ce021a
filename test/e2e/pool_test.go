package e2e

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// patchPool changes fields of a family's default pool.
func (c *cluster) patchPool(ctx context.Context, f family, field, value string) error {
	_, err := c.ctl(ctx, "patch", "ippool", f.pool(), "--type=merge", "-p", fmt.Sprintf(`{"spec":{"%s":%s}}`, field, value))
	return err
}

// keepMode sees to it that a pool's VXLAN mode is at the test's end what it was.
func (c *cluster) keepMode(t *testing.T, f family) {
	t.Helper()
	was := c.mustCtl(t, "get", "ippool", f.pool(), "-o", "jsonpath={.spec.vxlanMode}")
	t.Cleanup(func() {
		err := c.patchPool(context.Background(), f, "vxlanMode", `"`+was+`"`)
		if err != nil {
			t.Error(err)
		}
		eventually(t, 30*time.Second, func() error { return c.hasRoutes(context.Background(), f, was) })
	})
}

// setMode sets a pool's VXLAN mode and waits for the routes that it means.
func (c *cluster) setMode(t *testing.T, f family, mode string) {
	t.Helper()
	if err := c.patchPool(t.Context(), f, "vxlanMode", `"`+mode+`"`); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func() error { return c.hasRoutes(t.Context(), f, mode) })
}

// TestPoolModeLive changes a pool's VXLAN mode while pods talk, and looks for the routes that it means. The other family
// must not notice.
func TestPoolModeLive(t *testing.T) {
	const interval = 0.02
	c := several(t)
	c.each(t, func(t *testing.T, f family) {
		c.keepMode(t, f)
		last := "Always"
		for _, mode := range []string{"Always", "CrossSubnet", "Never", "Always"} {
			var pings, others []*pinger
			for _, p := range c.pingAround(t, interval) {
				switch {
				case p.to != f:
					others = append(others, p)
				case mode != "Never" && last != "Never" || p.near:
					pings = append(pings, p)
				default: // in Never routers between subnets would have to know the blocks
					p.stop(t)
				}
			}
			last = mode
			start := time.Now()
			c.setMode(t, f, mode)
			took := time.Since(start)
			time.Sleep(time.Second)
			sent, lost := stopAll(t, pings)
			t.Logf("vxlanMode %s: all routes seen after %.1f s; %d pings, %d lost, one each %.0f ms", mode, took.Seconds(), sent, lost, interval*1000)
			if sent == 0 && len(pings) > 0 || lost*20 > sent {
				t.Errorf("vxlanMode %s: %d of %d pings were lost", mode, lost, sent)
			}
			if len(others) > 0 {
				mustLoseNothing(t, others, 10)
			}
		}
	})
}

// hasRoutes returns what is wrong with the nodes' routes to each other's blocks in a mode.
func (c *cluster) hasRoutes(ctx context.Context, f family, mode string) error {
	blocks, err := list[v3.IPAMBlockList](ctx, c, "ipamblocks")
	if err != nil {
		return err
	}
	errs := []error{}
	for _, n := range c.nodes {
		routes, err := c.routes(ctx, n, f, "proto 80")
		errs = append(errs, err)
		learned, err := c.routes(ctx, n, f, "proto 12")
		errs = append(errs, err)
		for _, o := range c.nodes {
			for _, cidr := range blocksOf(blocks.Items, o, f) {
				want := fmt.Sprintf("%s via %s dev %s onlink", cidr, o.tunnel[f], f.vxlan())
				switch {
				case o.name == n.name:
					want = "blackhole " + cidr
				case mode != "Always" && n.near(o, f):
					want = fmt.Sprintf(`%s via %s dev \S+( onlink)?`, cidr, o.addr[f].Addr())
				case mode == "Never":
					want = cidr + ` via \S+ dev \S+` // by the router, which no other node is
				}
				in := routes
				if mode == "Never" && o.name != n.name {
					in = learned
				} else if hasLine(learned, cidr+" .*") {
					errs = append(errs, fmt.Errorf("%s has a route by BGP to %s", n.name, cidr))
				}
				if !hasLine(in, want) {
					errs = append(errs, fmt.Errorf("%s has no route %q in\n%s", n.name, want, in))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// blocksOf returns the networks of a node's blocks.
func blocksOf(blocks []v3.IPAMBlock, n node, f family) (out []string) {
	for _, b := range blocks {
		if b.Spec.Affinity != nil && *b.Spec.Affinity == "host:"+n.name && strings.Contains(b.Spec.CIDR, ":") == (f == v6) {
			out = append(out, b.Spec.CIDR)
		}
	}
	return out
}

// only6 is what ip(8) shows of IPv6 routes alone.
var only6 = regexp.MustCompile(` dev lo\b| metric \d+| error -?\d+| pref medium`)

// routes returns routes of a node, a line each, in IPv4's form.
func (c *cluster) routes(ctx context.Context, n node, f family, which string) (string, error) {
	out, err := c.sh(ctx, n.shell, fmt.Sprintf("ip -%d route show %s", f, which))
	if err != nil {
		return "", err
	}
	return only6.ReplaceAllString(out, ""), nil
}
