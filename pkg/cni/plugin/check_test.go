package plugin

import (
	"encoding/json"
	"errors"
	"net/netip"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/margay-net/margay/pkg/cni/wire"
)

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		name     string
		sabotage func(l *lab, pod *ns) error
		code     uint
		says     []string
	}{
		{"whole", func(*lab, *ns) error { return nil }, 0, nil},
		{"pod side down", func(l *lab, pod *ns) error { return pod.nl.LinkSetDown(pod.link(l.t, "eth0")) }, 101, []string{"pod interface eth0: is down", "route to 0.0.0.0/0 is missing"}},
		{"pod side mtu", func(l *lab, pod *ns) error { return pod.nl.LinkSetMTU(pod.link(l.t, "eth0"), 1400) }, 101, []string{"eth0: mtu is 1400, was 1450"}},
		{"address 4", func(l *lab, pod *ns) error {
			return pod.nl.AddrDel(pod.link(l.t, "eth0"), &netlink.Addr{IPNet: ipNet(hostPrefix(pod4))})
		}, 101, []string{"address 172.20.239.130/32 is missing"}},
		{"address 6", func(l *lab, pod *ns) error {
			return pod.nl.AddrDel(pod.link(l.t, "eth0"), &netlink.Addr{IPNet: ipNet(hostPrefix(pod6))})
		}, 101, []string{"address fd00:20::239:130/128 is missing"}},
		{"default route 4", func(l *lab, pod *ns) error {
			return pod.nl.RouteDel(podRoutes(pod.link(l.t, "eth0").Attrs().Index, pod4)[1])
		}, 101, []string{"route to 0.0.0.0/0 is missing"}},
		{"default route narrowed", func(l *lab, pod *ns) error {
			r := podRoutes(pod.link(l.t, "eth0").Attrs().Index, pod4)[1]
			narrow := *r
			narrow.Dst = ipNet(netip.MustParsePrefix("10.0.0.0/8"))
			return errors.Join(pod.nl.RouteDel(r), pod.nl.RouteAdd(&narrow))
		}, 101, []string{"route to 0.0.0.0/0 is missing"}},
		{"neighbour no longer permanent", func(l *lab, pod *ns) error {
			n := podNeigh(pod.link(l.t, "eth0").Attrs().Index, pod4)
			n.State = netlink.NUD_STALE
			return pod.nl.NeighSet(n)
		}, 101, []string{"neighbour 169.254.1.1"}},
		{"default route 6", func(l *lab, pod *ns) error {
			return pod.nl.RouteDel(podRoutes(pod.link(l.t, "eth0").Attrs().Index, pod6)[0])
		}, 101, []string{"route to ::/0 is missing"}},
		{"neighbour", func(l *lab, pod *ns) error {
			return pod.nl.NeighDel(podNeigh(pod.link(l.t, "eth0").Attrs().Index, pod4))
		}, 101, []string{"neighbour 169.254.1.1 with ee:ee:ee:ee:ee:ee is missing"}},
		{"host side down", func(l *lab, _ *ns) error { return l.node.nl.LinkSetDown(l.node.link(l.t, "cali68caf03a5f4")) }, 101, []string{"host interface cali68caf03a5f4: is down"}},
		{"pair gone", func(l *lab, _ *ns) error { return l.node.nl.LinkDel(l.node.link(l.t, "cali68caf03a5f4")) }, 101, []string{"pod interface eth0: Link not found", "host interface cali68caf03a5f4: Link not found"}},
		{"other pair", func(l *lab, pod *ns) error {
			if err := l.node.nl.LinkDel(l.node.link(l.t, "cali68caf03a5f4")); err != nil {
				return err
			}
			takeName(l.t, l.node.path, "cali68caf03a5f4")
			return nil
		}, 101, []string{"its other side is not eth0"}},
		{"agent differs", func(l *lab, _ *ns) error {
			l.agent.on(wire.OpCheck, func(*wire.Request) *wire.Response {
				return &wire.Response{Code: wire.Mismatch, Msg: "route is missing"}
			})
			return nil
		}, 101, []string{"route is missing"}},
		{"agent does not know", func(l *lab, _ *ns) error { l.agent.holds = map[string]*wire.Request{}; return nil }, 3, []string{"has no address here"}},
		{"agent down", func(l *lab, _ *ns) error { l.agent.stop(); return nil }, 11, []string{"the agent is not running"}},
		{"netns gone", func(_ *lab, pod *ns) error { pod.remove(); return nil }, 8, []string{"open network namespace"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, pod := newLab(t), newNS(t)
			l.agent.addrs = []netip.Addr{pod4, pod6}
			c := call{id: "c1", pod: "web", netns: pod.path}
			c.conf = map[string]any{"prevResult": l.add(c)}
			if err := tc.sabotage(l, pod); err != nil {
				t.Fatal(err)
			}
			c.verb = "CHECK"
			if tc.code == 0 {
				l.mustRun(c)
			} else {
				l.wantErr(c, tc.code, append(tc.says, "check default/web eth0")...)
			}
		})
	}
}

// The agent is told what the runtime believes.
func TestCheckAsksAgent(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	c := call{id: "c1", pod: "web", netns: pod.path}
	result := l.add(c)
	// what a later plugin of the list adds is not ours to check
	result.Interfaces = append(result.Interfaces, &current.Interface{Name: "other0", Sandbox: pod.path})
	result.IPs = append(result.IPs, &current.IPConfig{Interface: current.Int(2), Address: *ipNet(hostPrefix(pod6))}, &current.IPConfig{Address: *ipNet(hostPrefix(pod6))})
	c.conf = map[string]any{"prevResult": result}
	c.verb = "CHECK"
	l.mustRun(c)
	asked := l.agent.requests(wire.OpCheck)
	if len(asked) != 1 || asked[0].HostVeth != "cali68caf03a5f4" || len(asked[0].Addrs) != 1 || asked[0].Addrs[0] != pod4 {
		t.Errorf("the agent was asked %+v", asked)
	}
}

func TestCheckPrevResult(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	l.add(call{id: "c1", pod: "web", netns: pod.path})
	for in, says := range map[string]string{
		`null`:                           "is missing",
		`{}`:                             "give the result of ADD",
		`{"cniVersion":"1.1.0"}`:         "has no cali* interface",
		`{"cniVersion":"9.9.9"}`:         "give the result of ADD",
		`{"cniVersion":"1.1.0","ips":5}`: "give the result of ADD",
	} {
		c := call{verb: "CHECK", id: "c1", pod: "web", netns: pod.path, conf: map[string]any{"prevResult": json.RawMessage(in)}}
		l.wantErr(c, 7, `"prevResult"`, says)
	}
}
