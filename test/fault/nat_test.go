package fault

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/margay-net/margay/test/lab"
)

// TestNATOutgoingChanges switches natOutgoing on and off while all talk: nothing between pods is lost, and the world beyond
// the nodes, which knows no way to pods, answers as long as it is on.
func TestNATOutgoingChanges(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 3, Subnets: 2, IPv6: true})
	var pods []*lab.Pod
	for _, n := range l.Nodes {
		pods = append(pods, n.Pod(n.Name+"-pod"))
	}
	l.WaitRoutes(30 * time.Second)
	warm(t, pods...)
	world, world6 := l.Nodes[0].AddrOf(-9) // the router's
	for i, on := range []bool{true, false, true} {
		p := pings{still: slices.Concat(between(pods[0], pods[1]), between(pods[1], pods[2]), between(pods[2], pods[0]))}
		time.Sleep(200 * time.Millisecond)
		for _, pool := range []string{"pool1", "pool2"} {
			if err := l.SetNATOutgoing(pool, on); err != nil {
				t.Fatal(err)
			}
		}
		for _, to := range []netip.Addr{world.Addr(), world6.Addr()} {
			took := l.Within(30*time.Second, "the world answers just when natOutgoing is on", func() error {
				err := pods[0].Echo(to, 100*time.Millisecond)
				switch {
				case on:
					return err
				case err == nil:
					return errors.New("it answers")
				}
				return nil
			})
			t.Logf("natOutgoing %t: %s answers accordingly after %s", on, to, took)
		}
		if i == 1 {
			restart := l.Nodes[0]
			restart.Kill()
			restart.Start()
			restart.WaitReady(30 * time.Second)
		}
		p.stop(t, "natOutgoing changes")
	}
}
