package agent_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/test/lab"
)

// testFirstVXLAN turns a pool whose routes BGP distributes to VXLAN, before any node has a tunnel address: routes are
// replaced, none is ever missing. The loss is counted.
func testFirstVXLAN(t *testing.T, c *lab.Cluster) {
	pool := v3.IPPoolSpec{CIDR: "172.20.0.0/16", BlockSize: 26}
	l := c.New(t, lab.Options{Nodes: 3, Pools: []v3.IPPoolSpec{pool}, Env: map[string]string{"CALICO_NETWORKING_BACKEND": "bird"}})
	var pods []*lab.Pod
	for _, n := range l.Nodes {
		pods = append(pods, n.Pod("pod-"+n.Name))
	}
	l.WaitRoutes(patience)
	var pings []*lab.Pinger
	var watches []*watch
	for i, p := range pods {
		pings = append(pings, p.Ping(pods[(i+1)%len(pods)].V4(), 2*time.Millisecond))
		watches = append(watches, follow(t, l.Nodes[i]))
	}
	if err := l.SetVXLANMode("pool1", v3.EncapAlways); err != nil {
		t.Fatal(err)
	}
	for i, n := range l.Nodes {
		l.Within(patience, n.Name+" sends by VXLAN", func() error {
			if by := watches[i].vxlan(); by != len(l.Nodes)-1 {
				return fmt.Errorf("it has %d routes that do:\n%s", by, strings.Join(n.State(), "\n"))
			}
			return nil
		})
		if gone := watches[i].stop(); len(gone) > 0 {
			t.Errorf("%s: routes went: %v", n.Name, gone)
		}
	}
	for _, loss := range lab.Stop(pings...) {
		t.Log(loss)
	}
}

// watch hears of a node's routes to other nodes' blocks.
type watch struct {
	mu   sync.Mutex
	by   map[netip.Prefix]bool // whether by the VXLAN device: on-link
	gone []netip.Prefix        // routes that went without another in their place
	end  func()
}

func follow(t *testing.T, n *lab.Node) *watch {
	t.Helper()
	conn, err := n.NS.Conn()
	if err != nil {
		t.Fatal(err)
	}
	sub, err := conn.Subscribe(netlink.GroupRoute4)
	if err != nil {
		t.Fatal(err)
	}
	w := &watch{by: map[netip.Prefix]bool{}}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { _ = sub.Run(ctx, w.event, func() { t.Error("events were lost") }) })
	w.end = sync.OnceFunc(func() { cancel(); done.Wait(); conn.Close() })
	t.Cleanup(w.end)
	return w
}

func (w *watch) event(e netlink.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Type != unix.RTM_NEWROUTE && e.Type != unix.RTM_DELROUTE {
		return
	}
	r, ok := e.Route()
	if !ok || r.Proto != model.ProtoMargay && r.Proto != model.ProtoBIRD {
		return
	}
	w.by[r.Dst] = r.OnLink
	if e.Deleted() {
		w.gone = append(w.gone, r.Dst)
	}
}

// vxlan returns how many routes lead by the VXLAN device.
func (w *watch) vxlan() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, by := range w.by {
		if by {
			n++
		}
	}
	return n
}

// stop ends the listening.
func (w *watch) stop() (gone []netip.Prefix) {
	w.end()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone
}
