package guest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// TestModes takes a live cluster from IPIP to VXLAN, to no encapsulation and back, under traffic. The loss is counted, and in
// the end all is as it was.
func TestModes(t *testing.T) {
	l, pods := build(t, 3, 1, v3.EncapAlways)
	meet(t, pods, 1480)
	var before []string
	for _, n := range l.Nodes {
		before = append(before, kernel(n))
	}
	for _, mode := range []struct {
		ipip, vxlan v3.EncapMode
		dev         string // of routes to other nodes
	}{
		{v3.EncapNever, v3.EncapAlways, "vxlan.calico"},
		{v3.EncapNever, v3.EncapNever, "eth0"},
		{v3.EncapAlways, v3.EncapNever, "tunl0"},
	} {
		var pings []*lab.Pinger
		for i, p := range pods {
			pings = append(pings, p.Ping(pods[(i+1)%len(pods)].V4(), 50*time.Millisecond))
		}
		start := time.Now()
		patch := fmt.Sprintf(`{"spec":{"ipipMode":%q,"vxlanMode":%q}}`, mode.ipip, mode.vxlan)
		if _, err := l.API.Dynamic().Resource(v3.GroupVersion.WithResource("ippools")).Patch(t.Context(), "pool1", types.MergePatchType,
			[]byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, n := range l.Nodes {
			l.Within(patience, n.Name+" sends by "+mode.dev, func() error { return sendsBy(n, mode.dev) })
		}
		took := time.Since(start)
		meet(t, pods, 1450) // the least of all modes
		for _, loss := range lab.Stop(pings...) {
			t.Logf("to %s within %s: %s", mode.dev, took.Round(time.Millisecond), loss)
		}
	}
	for i, n := range l.Nodes {
		l.Within(patience, n.Name+" is as it was", func() error {
			if now := kernel(n); now != before[i] {
				return fmt.Errorf("it has\n%s\nand had\n%s", now, before[i])
			}
			return nil
		})
	}
}

// sendsBy checks that all routes to other nodes' blocks are by a device, and that no other one is set up as a tunnel.
func sendsBy(n *lab.Node, dev string) error {
	routes := 0
	for _, line := range n.State() {
		if !strings.HasPrefix(line, "route ") || strings.Contains(line, "blackhole") {
			continue
		}
		routes++
		if !slices.Contains(strings.Fields(line), dev) {
			return fmt.Errorf("it has: %s", line)
		}
	}
	if routes != 2 {
		return fmt.Errorf("it has %d routes", routes)
	}
	for _, line := range tunnels(n) {
		if f := strings.Fields(line); !strings.HasPrefix(line, dev) && len(f) > 2 {
			return fmt.Errorf("a tunnel is left over: %s", line)
		}
	}
	return nil
}

// kernel is what a node has of ours.
func kernel(n *lab.Node) string { return strings.Join(append(n.State(), tunnels(n)...), "\n") }

// tunnels returns the tunnel devices that exist: name, state, addresses.
func tunnels(n *lab.Node) []string {
	out, err := n.NS.Run("ip -br -4 addr show")
	if err != nil {
		return []string{err.Error()}
	}
	return slices.DeleteFunc(lines(out), func(line string) bool {
		return !strings.HasPrefix(line, "tunl0") && !strings.HasPrefix(line, "vxlan.calico")
	})
}
