package fault

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// TestNodeAddressChanges gives a node other addresses while all talk: first the new ones come, the cluster is told, and
// the old ones go, as an operator does it; then the old ones go first, as when a lease ends. The cluster follows; pods keep
// their addresses, and those of other nodes lose nothing.
func TestNodeAddressChanges(t *testing.T) {
	for _, c := range []struct {
		subnets int
		mode    v3.EncapMode
	}{{1, v3.EncapAlways}, {2, v3.EncapCrossSubnet}} {
		t.Run(fmt.Sprintf("%s in %d subnets", c.mode, c.subnets), func(t *testing.T) { addressChanges(t, c.subnets, c.mode) })
	}
}

func addressChanges(t *testing.T, subnets int, mode v3.EncapMode) {
	pool4, pool6 := lab.Pool4, lab.Pool6
	pool4.VXLANMode, pool6.VXLANMode = mode, mode
	l := cluster.New(t, lab.Options{Nodes: 3, IPv6: true, Subnets: subnets, Pools: []v3.IPPoolSpec{pool4, pool6}})
	x := l.Nodes[0]
	var pods []*lab.Pod
	for _, n := range l.Nodes {
		pods = append(pods, n.Pod(n.Name+"-pod"))
	}
	l.WaitRoutes(30 * time.Second)
	warm(t, pods...)
	for i, change := range []struct {
		how string
		do  func(old, fresh [2]netip.Prefix) error
	}{
		{"new address first", func(old, fresh [2]netip.Prefix) error {
			err := errors.Join(x.AddAddrs(fresh[:]...), x.SetInternal(fresh[0], fresh[1]))
			took := l.Within(30*time.Second, "all follow", func() error { return followed(l, x, mode, nil) })
			t.Logf("new address first: all follow after %s, with the old one there", took)
			return errors.Join(err, x.RemoveAddrs(old[:]...))
		}},
		{"old address away first", func(old, fresh [2]netip.Prefix) error {
			err := x.RemoveAddrs(old[:]...)
			time.Sleep(time.Second)
			return errors.Join(err, x.AddAddrs(fresh[:]...), x.SetGateways(), x.SetInternal(fresh[0], fresh[1]))
		}},
	} {
		old := [2]netip.Prefix{x.Addr4, x.Addr6}
		v4, v6 := x.AddrOf(100 + i)
		p := pings{
			still:   between(pods[1], pods[2]),
			touched: slices.Concat(between(pods[0], pods[1]), between(pods[2], pods[0])),
		}
		time.Sleep(200 * time.Millisecond)
		if err := change.do(old, [2]netip.Prefix{v4, v6}); err != nil {
			t.Fatal(err)
		}
		took := l.Within(30*time.Second, "all follow", func() error { return followed(l, x, mode, old[:]) })
		t.Logf("%s: all follow, and nothing names the old one, after %s", change.how, took)
		warm(t, pods...)
		p.stop(t, change.how)
	}
	for _, p := range append(pods, x.Pod("new")) {
		if err := p.Check(); err != nil {
			t.Error(err)
		}
	}
	l.Agrees(30 * time.Second)
	before := x.State()
	x.Kill()
	x.Start()
	x.WaitReady(30 * time.Second)
	if diff := x.State().Diff(before); diff != "" {
		t.Errorf("a restart changes something:\n%s", diff)
	}
}

// followed says what does not fit a node's addresses yet: its annotations, its devices, the other nodes' routes and
// entries; or what still names the old ones.
func followed(l *lab.Lab, x *lab.Node, mode v3.EncapMode, old []netip.Prefix) error {
	has := x.Object().Annotations
	for key, want := range map[string]netip.Prefix{"IPv4Address": x.Addr4, "IPv6Address": x.Addr6} {
		if have := has["projectcalico.org/"+key]; have != want.String() {
			return fmt.Errorf("annotation %s is %s, want %s", key, have, want)
		}
	}
	for _, a := range []netip.Prefix{x.Addr4, x.Addr6} {
		if !slices.ContainsFunc(x.State(), func(line string) bool { return strings.Contains(line, "local "+a.Addr().String()+" ") }) {
			return fmt.Errorf("%s has no device with local %s", x.Name, a)
		}
	}
	for _, n := range l.Nodes {
		for _, a := range old {
			if lines := n.State().Names(a.Addr()); len(lines) > 0 {
				return fmt.Errorf("%s still has %q", n.Name, lines)
			}
		}
	}
	if mode == v3.EncapAlways {
		return errors.Join(fits(l, mode), l.ComparePeers())
	}
	return fits(l, mode)
}

// TestUnderlayMTUChanges changes the MTU of the whole underlay: devices, new pods and the installed configuration follow,
// and pods that are there lose no small packet.
func TestUnderlayMTUChanges(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true, Stopped: true})
	for _, n := range l.Nodes {
		n.Env = map[string]string{"CNI_NETWORK_CONFIG": fmt.Sprintf(
			`{"cniVersion": "1.1.0", "name": "k8s-pod-network", "plugins": [{"type": "margay", "socket": %q, "spool": %q, "mtu": __CNI_MTU__}]}`,
			n.Socket, n.Spool)}
		n.Start()
	}
	for _, n := range l.Nodes {
		n.WaitReady(30 * time.Second)
	}
	old := []*lab.Pod{l.Nodes[0].Pod("old1"), l.Nodes[1].Pod("old2")}
	l.WaitRoutes(30 * time.Second)
	warm(t, old...)
	for _, underlay := range []int{1400, 9000, 1500} {
		p := pings{still: slices.Concat(between(old[0], old[1]), between(old[1], old[0]))}
		time.Sleep(200 * time.Millisecond)
		if err := l.SetMTU(underlay); err != nil {
			t.Fatal(err)
		}
		took := l.Within(30*time.Second, "all follow", func() error { return errors.Join(hasMTU(l.Nodes[0], underlay), hasMTU(l.Nodes[1], underlay)) })
		t.Logf("underlay %d: devices and configurations follow after %s", underlay, took)
		want := underlay - 70 // the least of both families: pods have one interface for both
		var fresh []*lab.Pod
		for _, n := range l.Nodes {
			pod := n.Pod(fmt.Sprintf("%s-mtu%d", n.Name, underlay))
			if have := mtu(t, pod); have != strconv.Itoa(want) {
				t.Errorf("underlay %d: a new pod has MTU %s, want %d", underlay, have, want)
			}
			fresh = append(fresh, pod)
		}
		for _, a := range fresh[1].Addrs {
			if err := fresh[0].EchoFull(a, 5*time.Second, want); err != nil {
				t.Errorf("underlay %d: packet of %d bytes: %v", underlay, want, err)
			}
		}
		p.stop(t, fmt.Sprintf("underlay %d", underlay))
	}
	for _, p := range old {
		if have := mtu(t, p); have != "1430" {
			t.Errorf("pod %s, which was there before, has MTU %s now", p.Name, have)
		}
		if err := p.Check(); err != nil {
			t.Error(err)
		}
	}
	l.Agrees(30 * time.Second)
}

// hasMTU says what of a node's own does not fit the underlay's MTU yet.
func hasMTU(n *lab.Node, underlay int) error {
	state := n.State()
	for dev, want := range map[string]int{"vxlan.calico": underlay - 50, "vxlan-v6.calico": underlay - 70} {
		if !slices.ContainsFunc(state, func(line string) bool {
			return strings.HasPrefix(line, fmt.Sprintf("link %s up true mtu %d ", dev, want))
		}) {
			return fmt.Errorf("%s: %s has not MTU %d:\n%s", n.Name, dev, want, strings.Join(state, "\n"))
		}
	}
	conf, err := n.Conflist()
	if err == nil && !strings.Contains(conf, fmt.Sprintf(`"mtu": %d}`, underlay-70)) {
		err = fmt.Errorf("%s: configuration is %s", n.Name, conf)
	}
	return err
}
