package bgp

import (
	"fmt"
	"strings"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// TestModes takes a live cluster from VXLAN to no encapsulation and back, under traffic. The loss is counted, and in the end
// all is as it was. (IPIP takes a kernel that has it: see test/guest.)
func TestModes(t *testing.T) {
	vxlan4, vxlan6 := plain4, plain6
	vxlan4.VXLANMode, vxlan6.VXLANMode = v3.EncapAlways, v3.EncapAlways
	l := bird(t, lab.Options{Nodes: 3, IPv6: true, Pools: []v3.IPPoolSpec{vxlan4, vxlan6}})
	pods := onePodEach(l)
	for _, n := range l.Nodes {
		waitTable(l, n, 4, inMesh(l, n, 4)...)
	}
	l.WaitRoutes(patience)
	meet(t, pods)
	var before []lab.State
	for _, n := range l.Nodes {
		before = append(before, n.State())
	}
	for _, mode := range []v3.EncapMode{v3.EncapNever, v3.EncapAlways} {
		c := ring(pods...)
		start := time.Now()
		for _, pool := range []string{"pool1", "pool2"} {
			if err := l.SetVXLANMode(pool, mode); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range l.Nodes {
			l.Within(patience, n.Name+" routes as the mode says", func() error { return modeIs(n, mode) })
		}
		t.Logf("VXLAN mode %s: all nodes are there after %s", mode, time.Since(start).Round(time.Millisecond))
		l.WaitRoutes(patience)
		c.stop(t, l, "VXLAN mode "+string(mode), false)
		meet(t, pods)
	}
	for i, n := range l.Nodes {
		l.Within(patience, n.Name+" is as it was", func() error {
			if diff := n.State().Diff(before[i]); diff != "" {
				return fmt.Errorf("it differs:\n%s", diff)
			}
			return nil
		})
	}
}

// modeIs checks that all routes to other nodes' blocks, and devices, are of a mode.
func modeIs(n *lab.Node, mode v3.EncapMode) error {
	for _, line := range n.State() {
		inVXLAN := strings.Contains(line, "vxlan")
		plain := strings.HasPrefix(line, "route ") && !inVXLAN && !strings.Contains(line, "blackhole")
		if inVXLAN && mode == v3.EncapNever || plain && (mode == v3.EncapAlways || !strings.HasSuffix(line, "proto bird")) {
			return fmt.Errorf("it has: %s", line)
		}
	}
	return nil
}
