package bgp

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// meshTable is what "node status" prints in a mesh of six; the time differs.
const meshTable = `Calico process is running.

IPv4 BGP status
+---------------+-------------------+-------+----------+-------------+
| PEER ADDRESS  |     PEER TYPE     | STATE |  SINCE   |    INFO     |
+---------------+-------------------+-------+----------+-------------+
| 192.168.10.12 | node-to-node mesh | up    | hh:mm:ss | Established |
| 192.168.10.13 | node-to-node mesh | up    | hh:mm:ss | Established |
| 192.168.10.14 | node-to-node mesh | up    | hh:mm:ss | Established |
| 192.168.10.15 | node-to-node mesh | up    | hh:mm:ss | Established |
| 192.168.10.16 | node-to-node mesh | up    | hh:mm:ss | Established |
+---------------+-------------------+-------+----------+-------------+

IPv6 BGP status
No IPv6 peers found.

`

const noPeers = `Calico process is running.

IPv4 BGP status
No IPv4 peers found.

IPv6 BGP status
No IPv6 peers found.

`

var clock = regexp.MustCompile(`\d\d:\d\d:\d\d`)

// Walkthrough 10: the mesh, and both layouts of route reflectors, on six nodes.
func TestWalkthrough10(t *testing.T) {
	l := bird(t, lab.Options{Nodes: 6, Pools: []v3.IPPoolSpec{plain4}})
	pods := onePodEach(l)
	saysStatus(l, l.Nodes[0], patience, meshTable)
	meet(t, pods)

	t.Run("mesh off", func(t *testing.T) {
		apply(t, resource("BGPConfiguration", "default", "logSeverityScreen: Info", "nodeToNodeMeshEnabled: false", "asNumber: 64512"))
		for _, n := range l.Nodes {
			took := saysStatus(l, n, patience, noPeers)
			t.Logf("%s has no sessions after another %s", n.Name, took.Round(time.Millisecond))
		}
		if out := must(t, "", "get", "bgpconfig"); !slices.Equal(strings.Fields(out), strings.Fields("NAME LOGSEVERITY MESHENABLED ASNUMBER default Info false 64512")) {
			t.Errorf("get bgpconfig prints %s", out)
		}
	})
	t.Run("one AS", func(t *testing.T) { oneAS(t, l, pods) })
	t.Run("two ASes", func(t *testing.T) { twoASes(t, l, pods) })
}

// saysStatus waits until "node status" prints just this, times aside.
func saysStatus(l *lab.Lab, n *lab.Node, limit time.Duration, want string) time.Duration {
	return l.Within(limit, n.Name+"'s status", func() error {
		out, err := nodeStatus(n)
		if out = clock.ReplaceAllString(out, "hh:mm:ss"); err == nil && out != want {
			err = fmt.Errorf("it is\n%s\nwant\n%s", out, want)
		}
		return err
	})
}

// setBGP changes fields of a Node as the walkthrough does: get --export, edit, apply. A field without a value is removed.
func setBGP(t *testing.T, n *lab.Node, fields ...string) {
	t.Helper()
	text := must(t, "", "get", "node", n.Name, "-oyaml", "--export")
	if !strings.Contains(text, "  bgp:\n") {
		t.Fatalf("%s has no spec.bgp:\n%s", n.Name, text)
	}
	bgp := "  bgp:\n"
	for _, f := range fields {
		key, value, _ := strings.Cut(f, ":")
		text = regexp.MustCompile(`(?m)^    `+key+`:.*\n`).ReplaceAllString(text, "")
		if value != "" {
			bgp += "    " + f + "\n"
		}
	}
	must(t, strings.Replace(text, "  bgp:\n", bgp, 1), "apply", "-f", "-")
}

// oneAS is layout 1: reflectors 1 and 2, in one AS and cluster.
func oneAS(t *testing.T, l *lab.Lab, pods []*lab.Pod) {
	for _, n := range l.Nodes[:2] {
		setBGP(t, n, "routeReflectorClusterID: 224.0.0.1")
		label(t, l, n, "calico-rr=true")
	}
	apply(t, resource("BGPPeer", "rr-to-node", `nodeSelector: "!has(calico-rr)"`, "peerSelector: has(calico-rr)"),
		resource("BGPPeer", "rr-to-rr", "nodeSelector: has(calico-rr)", "peerSelector: has(calico-rr)"))
	specific := func(nodes ...*lab.Node) (rows []string) {
		for _, n := range nodes {
			rows = append(rows, up(n.Addr4.Addr(), "node specific"))
		}
		return rows
	}
	waitTable(l, l.Nodes[0], 4, specific(l.Nodes[1:]...)...)
	waitTable(l, l.Nodes[1], 4, specific(append(slices.Clone(l.Nodes[:1]), l.Nodes[2:]...)...)...)
	for _, n := range l.Nodes[2:] {
		waitTable(l, n, 4, specific(l.Nodes[:2]...)...)
	}
	for _, n := range l.Nodes {
		for _, to := range l.Nodes {
			if n != to {
				wantVia(l, n, to, to)
			}
		}
	}
	meet(t, pods)
	if out := must(t, "", "get", "node", "-owide"); !strings.Contains(squeezed(out), "node1 (64512) 192.168.10.11/24") {
		t.Errorf("get node -owide prints\n%s", out)
	}
	if out := must(t, "", "get", "bgppeer"); !strings.Contains(squeezed(out), "rr-to-node !has(calico-rr) 0") {
		t.Errorf("get bgppeer prints\n%s", out)
	}
	for _, rr := range l.Nodes[:2] { // one after the other
		c := ring(pods[2:]...)
		rr.Kill()
		other := l.Nodes[0]
		if rr == other {
			other = l.Nodes[1]
		}
		time.Sleep(time.Second)
		rr.Start()
		rr.WaitReady(patience)
		waitTable(l, l.Nodes[5], 4, specific(l.Nodes[:2]...)...)
		c.stop(t, l, "reflector "+rr.Name+" killed, the clients by "+other.Name, true)
	}
}

// twoASes is layout 2: nodes 1 to 3 in one AS, 4 to 6 in the other, whose reflectors 1 and 4 alone speak to each other.
func twoASes(t *testing.T, l *lab.Lab, pods []*lab.Pod) {
	must(t, "", "delete", "bgppeer", "rr-to-node")
	must(t, "", "delete", "bgppeer", "rr-to-rr")
	for i, n := range l.Nodes {
		group, as := "rr1", "asNumber: 64512"
		if i >= 3 {
			group, as = "rr2", "asNumber: 64513"
		}
		labels := []string{"calico-rr=" + group}
		switch i {
		case 0:
			setBGP(t, n, as, "routeReflectorClusterID: 224.0.0.1")
			labels = append(labels, "calico-group=rr1")
		case 3:
			setBGP(t, n, as, "routeReflectorClusterID: 224.0.0.2")
			labels = append(labels, "calico-group=rr2")
		case 1: // was a reflector
			setBGP(t, n, as, "routeReflectorClusterID:")
		default:
			setBGP(t, n, as)
		}
		label(t, l, n, labels...)
	}
	apply(t, resource("BGPPeer", "rr1", "nodeSelector: calico-rr == 'rr1'", "peerSelector: calico-group == 'rr1'"),
		resource("BGPPeer", "rr2", "nodeSelector: calico-rr == 'rr2'", "peerSelector: calico-group == 'rr2'"),
		resource("BGPPeer", "rr1-to-rr2", "nodeSelector: calico-group == 'rr1'", "peerSelector: calico-group == 'rr2'"))
	one, four := l.Nodes[0], l.Nodes[3]
	// What the walkthrough says of nodes 1 and 4; a client sends to its own AS's nodes directly, to the others by what its
	// reflector was told.
	for i, n := range l.Nodes {
		for j, to := range l.Nodes {
			switch {
			case n == to:
			case (i < 3) == (j < 3):
				wantVia(l, n, to, to)
			case j < 3:
				wantVia(l, n, to, one)
			default:
				wantVia(l, n, to, four)
			}
		}
	}
	meet(t, pods)
	row := func(n *lab.Node) string { return up(n.Addr4.Addr(), "node specific") }
	established := func() {
		waitTable(l, one, 4, row(l.Nodes[1]), row(l.Nodes[2]), row(four))
		waitTable(l, four, 4, row(one), row(l.Nodes[4]), row(l.Nodes[5]))
	}
	established()
	waitTable(l, l.Nodes[1], 4, row(one))
	waitTable(l, l.Nodes[5], 4, row(four))
	out := squeezed(must(t, "", "get", "node", "-owide"))
	if !strings.Contains(out, "NAME ASN IPV4 IPV6") || !strings.Contains(out, "node1 64512 192.168.10.11/24") || !strings.Contains(out, "node6 64513 192.168.10.16/24") {
		t.Errorf("get node -owide prints\n%s", out)
	}
	reflectorsDie(t, l, pods, established)
}

// reflectorsDie has each AS lose its only reflector for a moment, at last one for ever.
func reflectorsDie(t *testing.T, l *lab.Lab, pods []*lab.Pod, established func()) {
	t.Helper()
	for _, rr := range []*lab.Node{l.Nodes[0], l.Nodes[3]} {
		c := ring(pods[1], pods[4], pods[2], pods[5])
		rr.Kill()
		time.Sleep(time.Second)
		rr.Start()
		rr.WaitReady(patience)
		established()
		c.stop(t, l, "the only reflector of an AS, "+rr.Name+", killed and started again", true)
	}
	// The death of the only reflector of an AS cuts it off: that is the layout's, not ours, so it is counted.
	c := ring(pods[1], pods[4])
	l.Nodes[0].PowerOff()
	c.stop(t, l, "the only reflector of an AS is off for ever", false)
	if err := errors.Join(pods[1].Echo(pods[2].V4(), patience), pods[4].Echo(pods[5].V4(), patience)); err != nil {
		t.Errorf("inside an AS: %v", err)
	}
}

func squeezed(s string) string { return strings.Join(strings.Fields(s), " ") }

// wantVia waits until a node sends what is for the blocks of another one to the address of a third.
func wantVia(l *lab.Lab, n, to, via *lab.Node) {
	l.Within(patience, fmt.Sprintf("%s sends to the blocks of %s by %s", n.Name, to.Name, via.Name), func() error {
		return routesTo(l, n.NS, to, fmt.Sprintf("via %s dev eth0 proto bird", via.Addr4.Addr()), "")
	})
}
