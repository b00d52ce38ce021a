package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// TestPoolModeLive changes the pool's VXLAN mode while pods talk, and looks for the routes that it means.
func TestPoolModeLive(t *testing.T) {
	c := several(t)
	const pool = "default-ipv4-ippool"
	was := c.mustCtl(t, "get", "ippool", pool, "-o", "jsonpath={.spec.vxlanMode}")
	set := func(ctx context.Context, mode string) error {
		_, err := c.ctl(ctx, "patch", "ippool", pool, "--type=merge", "-p", `{"spec":{"vxlanMode":"`+mode+`"}}`)
		return err
	}
	defer set(context.Background(), was)

	blocks, err := list[v3.IPAMBlockList](t.Context(), c, "ipamblocks")
	if err != nil {
		t.Fatal(err)
	}
	last := was
	for _, mode := range []string{"Always", "CrossSubnet", "Never", "Always"} {
		var pings []*pinger
		for i, n := range c.nodes {
			// Never leaves no route between subnets.
			if next := c.nodes[(i+1)%len(c.nodes)]; mode != "Never" && last != "Never" || n.addr.Masked() == next.addr.Masked() {
				pings = append(pings, c.ping(t, n.tools, next.web.addr, 0.02, n.name+" to "+next.name))
			}
		}
		last = mode
		if err := set(t.Context(), mode); err != nil {
			t.Fatal(err)
		}
		took := eventually(t, 10*time.Second, func() error { return c.hasRoutes(t, blocks.Items, mode) })
		time.Sleep(time.Second)
		sent, lost := stopAll(t, pings)
		t.Logf("vxlanMode %s: all routes after %.1f s; %d pings, %d lost", mode, took.Seconds(), sent, lost)
		if sent == 0 && len(pings) > 0 || lost*20 > sent {
			t.Errorf("vxlanMode %s: %d of %d pings were lost", mode, lost, sent)
		}
	}
}

// hasRoutes returns what is wrong with the nodes' routes to each other's blocks in a mode.
func (c *cluster) hasRoutes(t *testing.T, blocks []v3.IPAMBlock, mode string) error {
	var errs []error
	for _, n := range c.nodes {
		routes := c.mustSh(t, n.shell, "ip -4 route show proto 80")
		for _, b := range blocks {
			for _, o := range c.nodes {
				if o.name == n.name || b.Spec.Affinity == nil || *b.Spec.Affinity != "host:"+o.name {
					continue
				}
				near := o.addr.Masked() == n.addr.Masked()
				want := fmt.Sprintf("%s via %s dev vxlan.calico onlink", b.Spec.CIDR, o.tunnel)
				switch {
				case mode != "Always" && near:
					want = fmt.Sprintf(`%s via %s dev \S+( onlink)?`, b.Spec.CIDR, o.addr.Addr())
				case mode == "Never":
					if strings.Contains(routes, b.Spec.CIDR) {
						errs = append(errs, fmt.Errorf("%s has a route to %s, which is across subnets", n.name, b.Spec.CIDR))
					}
					continue
				}
				if !hasLine(routes, want) {
					errs = append(errs, fmt.Errorf("%s has no route %q in\n%s", n.name, want, routes))
				}
			}
		}
	}
	return errors.Join(errs...)
}
