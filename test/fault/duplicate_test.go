package fault

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/margay-net/margay/test/lab"
)

// TestTwoNodesOneAddress has a node claim another's address, as a cloned machine does: both nodes say so in every way, the
// third one is not accused, and it ends when it ends.
func TestTwoNodesOneAddress(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 3, IPv6: true})
	var pods []*lab.Pod
	for _, n := range l.Nodes {
		pods = append(pods, n.Pod(n.Name+"-pod"))
	}
	l.WaitRoutes(30 * time.Second)
	warm(t, pods...)
	owner, thief := l.Nodes[0], l.Nodes[1]
	for variable, addr := range map[string]netip.Prefix{"IP": owner.Addr4, "IP6": owner.Addr6} {
		before := map[*lab.Node]int{}
		for _, n := range l.Nodes {
			before[n] = len(n.Events("DuplicateNodeAddress"))
		}
		p := pings{touched: slices.Concat(between(pods[2], pods[0]), between(pods[2], pods[1]))}
		bare := netip.PrefixFrom(addr.Addr(), addr.Addr().BitLen())
		if err := thief.AddAddrs(bare); err != nil {
			t.Fatal(err)
		}
		thief.Env = map[string]string{variable: addr.Addr().String()}
		thief.Kill()
		thief.Start()
		took := l.Within(30*time.Second, "both nodes say that they share an address", func() error {
			for _, n := range []*lab.Node{owner, thief} {
				if err := accused(n, addr.Addr(), before[n]); err != nil {
					return err
				}
			}
			return nil
		})
		t.Logf("%s: both say so %s after the claim: %q", addr.Addr(), took, owner.Condition("DuplicateNodeAddress").Message)
		if c := l.Nodes[2].Condition("DuplicateNodeAddress"); c.Status == corev1.ConditionTrue || len(l.Nodes[2].Events("DuplicateNodeAddress")) > before[l.Nodes[2]] {
			t.Errorf("a node that shares no address is accused: %v", c)
		}
		if !strings.Contains(l.Nodes[2].Log(), "address "+addr.Addr().String()+" is claimed by nodes") {
			t.Error("the third node's log does not say it")
		}
		thief.Env = nil
		thief.Kill()
		if err := thief.RemoveAddrs(bare); err != nil {
			t.Fatal(err)
		}
		thief.Start()
		took = l.Within(30*time.Second, "it ends", func() error {
			for _, n := range l.Nodes {
				if v, err := n.Metric("margay_cluster_faults"); err != nil || v != 0 {
					return errors.Join(fmt.Errorf("%s: margay_cluster_faults is %v", n.Name, v), err)
				}
				if c := n.Condition("DuplicateNodeAddress"); c.Status == corev1.ConditionTrue || n != l.Nodes[2] && c.Status != corev1.ConditionFalse {
					return fmt.Errorf("%s: condition is %s, %s", n.Name, c.Status, c.Message)
				}
			}
			return nil
		})
		t.Logf("%s: it ends %s after the claim does", addr.Addr(), took)
		l.WaitPeers(30 * time.Second)
		warm(t, pods...)
		p.stop(t, "two nodes with "+addr.Addr().String())
	}
	l.Agrees(30 * time.Second)
}

// accused says in which way a node does not tell yet that another one has its address.
func accused(n *lab.Node, addr netip.Addr, eventsBefore int) error {
	c := n.Condition("DuplicateNodeAddress")
	if c.Status != corev1.ConditionTrue || !strings.Contains(c.Message, addr.String()) {
		return fmt.Errorf("%s: condition is %q, %q", n.Name, c.Status, c.Message)
	}
	events := n.Events("DuplicateNodeAddress")
	if len(events) <= eventsBefore || !slices.ContainsFunc(events, func(e string) bool { return strings.Contains(e, addr.String()) }) {
		return fmt.Errorf("%s: events are %q", n.Name, events)
	}
	if v, err := n.Metric("margay_cluster_faults"); err != nil || v < 1 {
		return errors.Join(fmt.Errorf("%s: margay_cluster_faults is %v", n.Name, v), err)
	}
	if !strings.Contains(n.Log(), "address "+addr.String()+" is claimed by nodes") {
		return fmt.Errorf("%s: its log does not say it", n.Name)
	}
	return nil
}
