package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/pkg/model"
)

func TestAddResult(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	l.agent.addrs = []netip.Addr{pod4, pod6}
	r := l.add(call{id: "c1", pod: "web", netns: pod.path})
	got, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	mac := pod.link(t, "eth0").Attrs().HardwareAddr.String()
	want := `{"cniVersion":"1.1.0","interfaces":[{"mac":"ee:ee:ee:ee:ee:ee","mtu":1450,"name":"cali68caf03a5f4"},` +
		`{"mac":"` + mac + `","mtu":1450,"name":"eth0","sandbox":"` + pod.path + `"}],` +
		`"ips":[{"address":"172.20.239.130/32","gateway":"169.254.1.1","interface":1},` +
		`{"address":"fd00:20::239:130/128","gateway":"fe80::ecee:eeff:feee:eeee","interface":1}],` +
		`"routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"},{"dst":"::/0","gw":"fe80::ecee:eeff:feee:eeee"}]}`
	if string(got) != want {
		t.Errorf("result\n got %s\nwant %s", got, want)
	}
	asked := l.agent.requests(wire.OpAssign)
	if len(asked) != 1 || asked[0].Namespace != "default" || asked[0].Pod != "web" || asked[0].PodUID != "uid-web" ||
		asked[0].Network != "k8s-pod-network" || asked[0].ContainerID != "c1" || asked[0].IfName != "eth0" {
		t.Errorf("the agent was asked %+v", asked)
	}
}

func TestAddWithoutPod(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	r := l.add(call{id: "Test_1", netns: pod.path, ifName: "net0"})
	asked := l.agent.requests(wire.OpAssign)[0]
	if asked.Namespace != "cni" || asked.Pod != podName("Test_1") || r.Interfaces[0].Name != model.InterfaceVeth("cni", asked.Pod, "net0") {
		t.Errorf("asked for %s/%s, made %s", asked.Namespace, asked.Pod, r.Interfaces[0].Name)
	}
	l.mustRun(call{verb: "DEL", id: "Test_1", netns: pod.path, ifName: "net0"})
	l.empty()
}

// The agent decides on the MTU, and both sides have it.
func TestAddMTU(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	l.agent.mtu = 8950
	r := l.add(call{id: "c1", pod: "web", netns: pod.path})
	for got, name := range map[int]string{pod.link(t, "eth0").Attrs().MTU: "pod side", l.node.link(t, r.Interfaces[0].Name).Attrs().MTU: "host side", r.Interfaces[1].Mtu: "result"} {
		if got != 8950 {
			t.Errorf("%s has mtu %d", name, got)
		}
	}
}

// A pod that asks for an Ethernet address has it from its first moment on, and the result tells.
func TestAddMAC(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	wireUp(t, l.node, newNS(t)) // the node has addresses to ask from
	l.agent.addrs, l.agent.mac = []netip.Addr{pod4, pod6}, "1c:0c:0a:c0:ff:ee"
	r := l.add(call{id: "c1", pod: "web", netns: pod.path})
	if got := pod.link(t, "eth0").Attrs().HardwareAddr.String(); got != l.agent.mac || r.Interfaces[1].Mac != l.agent.mac {
		t.Errorf("eth0 has %s, the result says %s", got, r.Interfaces[1].Mac)
	}
	if got := l.node.link(t, r.Interfaces[0].Name).Attrs().HardwareAddr.String(); got != "ee:ee:ee:ee:ee:ee" {
		t.Errorf("the host side has %s", got)
	}
	echo(t, pod, pod4, l.node)
	echo(t, pod, pod6, l.node)
}

// What the configuration allows beyond the usual reaches the agent, and nothing where it allows nothing: a former agent
// refuses what it does not know.
func TestAddFeatures(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "<nil>",
		`{}`:                         "<nil>",
		`{"ip_addrs_no_ipam":false}`: "<nil>",
		`{"ip_addrs_no_ipam":true}`:  "&{true false}",
		`{"floating_ips":true,"of_a_later_calico":1}`: "&{false true}",
	} {
		l, pod := newLab(t), newNS(t)
		c := call{verb: "ADD", id: "c1", pod: "web", netns: pod.path}
		if text != "" {
			c.conf = map[string]any{"feature_control": json.RawMessage(text)}
		}
		l.mustRun(c)
		if got := fmt.Sprint(l.agent.requests(wire.OpAssign)[0].Features); got != want {
			t.Errorf("feature_control %s: the agent was told %s, want %s", text, got, want)
		}
		if got := l.agent.requests(wire.OpActivate)[0].Features; got != nil {
			t.Errorf("activate tells of %v", got)
		}
	}
}

// Where neither side may speak IPv6, a pod without such an address is left so, and a pod with one gets it.
func TestAddIPv6Disabled(t *testing.T) {
	for _, addrs := range [][]netip.Addr{{pod4}, {pod6}, {pod4, pod6}} {
		t.Run(fmt.Sprint(addrs), func(t *testing.T) {
			l, pod := newLab(t), newNS(t)
			for _, n := range []*ns{l.node, pod} {
				n.sysctl(t, "net/ipv6/conf/default/disable_ipv6", "1")
			}
			l.agent.addrs = addrs
			l.add(call{id: "c1", pod: "web", netns: pod.path})
			want := "1\n"
			if hasIPv6(addrs) {
				want = "0\n"
			}
			pod.do(func() error {
				if got, _ := os.ReadFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6"); string(got) != want {
					t.Errorf("disable_ipv6 is %q, want %q", got, want)
				}
				return nil
			})
			l.mustRun(call{verb: "DEL", id: "c1", pod: "web", netns: pod.path})
			l.empty()
		})
	}
}

// Each way to fail leaves no device and no address, and the pod's other interfaces as they were.
func TestAddRollsBack(t *testing.T) {
	refuse := func(c wire.Code) func(*wire.Request) *wire.Response {
		return func(*wire.Request) *wire.Response {
			return &wire.Response{Code: c, Msg: "no address free in pool default", Hint: "make a pool"}
		}
	}
	cases := []struct {
		name     string
		prepare  func(l *lab, c *call)
		code     uint
		says     string
		released bool // release reached the agent
		spooled  bool
	}{
		{"exhausted", func(l *lab, c *call) { l.agent.on(wire.OpAssign, refuse(wire.Exhausted)) }, 100, "make a pool", false, false},
		{"not ready", func(l *lab, c *call) { l.agent.on(wire.OpAssign, refuse(wire.NotReady)) }, 11, "no address free", false, false},
		{"invalid", func(l *lab, c *call) { l.agent.on(wire.OpAssign, refuse(wire.Invalid)) }, 7, "no address free", false, false},
		{"assign hangs up", func(l *lab, c *call) { l.agent.on(wire.OpAssign, func(*wire.Request) *wire.Response { return nil }) }, 11, "EOF", true, false},
		{"assign garbage", func(l *lab, c *call) { l.agent.raw[wire.OpAssign] = "hello\n" }, 11, "decode message", true, false},
		{"assign unknown field", func(l *lab, c *call) { l.agent.raw[wire.OpAssign] = `{"code":0,"colour":1}` + "\n" }, 11, "colour", true, false},
		{"assign oversized", func(l *lab, c *call) { l.agent.raw[wire.OpAssign] = strings.Repeat("x", wire.MaxLine+2) + "\n" }, 11, "longer than", true, false},
		{"activate refused", func(l *lab, c *call) { l.agent.on(wire.OpActivate, refuse(wire.NotReady)) }, 11, "no address free", true, false},
		{"activate hangs up", func(l *lab, c *call) { l.agent.on(wire.OpActivate, func(*wire.Request) *wire.Response { return nil }) }, 11, "activate", true, false},
		{"agent dies before activate", func(l *lab, c *call) {
			l.agent.on(wire.OpActivate, func(*wire.Request) *wire.Response { l.agent.stop(); return nil })
		}, 11, "activate", false, true},
		{"name taken in pod", func(l *lab, c *call) { takeName(l.t, c.netns, "eth0") }, 102, "eth0 exists already", true, false},
		{"default route taken in pod", func(l *lab, c *call) { takeRoute(l.t, c.netns) }, 999, "add route to 0.0.0.0/0 on pod interface eth0", true, false},
		{"netns gone", func(l *lab, c *call) { c.netns = "/var/run/netns/gone" }, 8, "/var/run/netns/gone", false, false},
		{"netns is a file", func(l *lab, c *call) { c.netns = "/etc/passwd" }, 8, "/etc/passwd", false, false},
		{"netns is the node's", func(l *lab, c *call) { c.netns = l.node.path }, 8, "own", false, false},
		{"foreign host device", func(l *lab, c *call) { takeName(l.t, l.node.path, "cali68caf03a5f4") }, 102, "is not one of pod default/web", true, false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			l, pod := newLab(t), newNS(t)
			c := call{verb: "ADD", id: "c1", pod: "web", netns: pod.path}
			tc.prepare(l, &c)
			podHad, nodeHad := names(t, pod), names(t, l.node)
			l.wantErr(c, tc.code, "add default/web eth0", tc.says)
			if got := names(t, pod); got != podHad {
				t.Errorf("pod has %s, had %s", got, podHad)
			}
			if got := names(t, l.node); got != nodeHad {
				t.Errorf("node has %s, had %s", got, nodeHad)
			}
			if got := len(l.agent.requests(wire.OpRelease)) > 0; got != tc.released {
				t.Errorf("released: %t, want %t", got, tc.released)
			}
			if held := l.agent.held(); len(held) > 0 && !tc.spooled {
				t.Errorf("the agent still holds %v", held)
			}
			if got := len(l.spooled()) > 0; got != tc.spooled {
				t.Errorf("spool has %v", l.spooled())
			}
		})
	}
}

func TestAddAgentHangs(t *testing.T) {
	t.Parallel()
	l, pod := newLab(t), newNS(t)
	done := make(chan struct{})
	defer close(done)
	l.agent.on(wire.OpActivate, func(*wire.Request) *wire.Response { <-done; return nil })
	within(t, wire.Timeout+5*time.Second, func() {
		l.wantErr(call{verb: "ADD", id: "c1", pod: "web", netns: pod.path}, 11, "no answer within 5s")
	})
	l.empty()
}

func TestAddOutputFull(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cmd := l.command(call{verb: "ADD", id: "c1", pod: "web", netns: pod.path})
	cmd.Stdout = full
	if l.node.do(cmd.Run) == nil {
		t.Error("ADD succeeded without having told its result")
	}
	l.empty()
}

func TestAddAgentDown(t *testing.T) {
	t.Parallel()
	l, pod := newLab(t), newNS(t)
	l.agent.stop()
	within(t, addPatience+3*time.Second, func() {
		l.wantErr(call{verb: "ADD", id: "c1", pod: "web", netns: pod.path}, 11,
			"the agent is not running on this node", l.socket, "kubectl -n kube-system get pods -l k8s-app=margay-node")
	})
	if names(t, pod) != "lo" || len(l.spooled()) > 0 {
		t.Errorf("left %s in the pod, %v in the spool", names(t, pod), l.spooled())
	}
}

func TestAddAgentComesLate(t *testing.T) {
	t.Parallel()
	l, pod := newLab(t), newNS(t)
	l.agent.stop()
	timer := time.AfterFunc(time.Second, func() { l.agent.listen(l.socket) })
	defer timer.Stop()
	l.add(call{id: "c1", pod: "web", netns: pod.path})
}

func TestAddReplacesStaleHostSide(t *testing.T) {
	l, old, now := newLab(t), newNS(t), newNS(t)
	l.add(call{id: "old", pod: "web", netns: old.path})
	l.add(call{id: "new", pod: "web", netns: now.path})
	if old.has("eth0") {
		t.Error("the old sandbox still has eth0")
	}
	if l.node.link(t, "cali68caf03a5f4").Attrs().ParentIndex != now.link(t, "eth0").Attrs().Index {
		t.Error("the host side is not the new sandbox's")
	}
}

func TestAddTwice(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	c := call{verb: "ADD", id: "c1", pod: "web", netns: pod.path}
	l.mustRun(c)
	l.wantErr(c, 102, "eth0 exists already")
	if !pod.has("eth0") || !l.node.has("cali68caf03a5f4") {
		t.Error("the second ADD took the first one's interface away")
	}
}

// A device of the sandbox that has lost its name in there still is no stale one.
func TestAddRenamed(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	c := call{verb: "ADD", id: "c1", pod: "web", netns: pod.path}
	l.mustRun(c)
	eth0 := pod.link(t, "eth0")
	if err := errors.Join(pod.nl.LinkSetDown(eth0), pod.nl.LinkSetName(eth0, "old0")); err != nil {
		t.Fatal(err)
	}
	l.wantErr(c, 102, "another interface of this sandbox")
	if names(t, pod) != "lo old0" {
		t.Errorf("pod has %s", names(t, pod))
	}
}

// A pod's second interface has a host side of its own, and is refused where the first one has the default route.
func TestAddSecondInterface(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	c := call{verb: "ADD", id: "c1", pod: "web", netns: pod.path}
	l.mustRun(c)
	c.ifName = "net1"
	l.wantErr(c, 999, "add default/web net1: add route to")
	if names(t, pod) != "lo eth0" || !l.node.has("cali68caf03a5f4") || fmt.Sprint(l.agent.held()) != "[c1/eth0]" {
		t.Errorf("pod has %s, the agent holds %v", names(t, pod), l.agent.held())
	}
	asked := l.agent.requests(wire.OpAssign)
	if asked[0].HostVeth == asked[1].HostVeth {
		t.Error("both have one host side")
	}
}

func TestAddMany(t *testing.T) {
	l := newLab(t)
	var wg sync.WaitGroup
	for i := range 20 {
		pod := newNS(t)
		wg.Go(func() {
			c := call{verb: "ADD", id: fmt.Sprintf("c%d", i), pod: fmt.Sprintf("web-%d", i), netns: pod.path}
			for _, c.verb = range []string{"ADD", "DEL"} {
				if _, err := l.run(c); err != nil {
					t.Errorf("%s %s: %v", c.verb, c.id, err)
				}
			}
		})
	}
	wg.Wait()
	l.empty()
}

func TestValidAssigned(t *testing.T) {
	ok := wire.Assigned{Addrs: []netip.Addr{pod4, pod6}, HostVeth: "cali0123456789a", MTU: 1500}
	if err := validAssigned(&ok); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*wire.Assigned){
		"no address":                    func(a *wire.Assigned) { a.Addrs = nil },
		"second of its family":          func(a *wire.Assigned) { a.Addrs = []netip.Addr{pod4, pod4.Next()} },
		"224.0.0.1 can't":               func(a *wire.Assigned) { a.Addrs = []netip.Addr{netip.MustParseAddr("224.0.0.1")} },
		"127.0.0.1 can't":               func(a *wire.Assigned) { a.Addrs = []netip.Addr{netip.MustParseAddr("127.0.0.1")} },
		"::ffff:10.0.0.1 can't":         func(a *wire.Assigned) { a.Addrs = []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")} },
		"invalid IP can't":              func(a *wire.Assigned) { a.Addrs = []netip.Addr{{}} },
		`mac "02:00" can't`:             func(a *wire.Assigned) { a.MAC = "02:00" },
		`mac "01:00:5e:00:00:01" can't`: func(a *wire.Assigned) { a.MAC = "01:00:5e:00:00:01" },
		"mtu 1279":                      func(a *wire.Assigned) { a.MTU = 1279 },
		"mtu 0":                         func(a *wire.Assigned) { a.MTU = 0 },
		"mtu 65536":                     func(a *wire.Assigned) { a.MTU = 65536 },
		`"eth0" can't`:                  func(a *wire.Assigned) { a.HostVeth = "eth0" },
		`"cali0123456789ab"`:            func(a *wire.Assigned) { a.HostVeth = "cali0123456789ab" },
		`"cali/../x"`:                   func(a *wire.Assigned) { a.HostVeth = "cali/../x" },
	} {
		a := ok
		change(&a)
		if err := validAssigned(&a); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if validAssigned(nil) == nil {
		t.Error("no answer is taken for one")
	}
}

// takeName makes a foreign pair, one end of which has that name.
func takeName(t testing.TB, path, name string) {
	t.Helper()
	p, err := openPodNS(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.Flags = net.FlagUp
	pair := netlink.NewVeth(attrs)
	pair.PeerName = "foreign"
	if err := p.nl.LinkAdd(pair); err != nil {
		t.Fatal(err)
	}
}

// takeRoute gives a pod a default route by another interface.
func takeRoute(t testing.TB, path string) {
	t.Helper()
	takeName(t, path, "other")
	p, err := openPodNS(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for _, name := range []string{"foreign", "other"} { // the other end first: a route needs both up
		link, err := p.nl.LinkByName(name)
		if err == nil {
			err = p.nl.LinkSetUp(link)
		}
		if err == nil && name == "other" {
			err = p.nl.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(everywhere(pod4)), Scope: netlink.SCOPE_LINK})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// names are the devices of a namespace.
func names(t testing.TB, n *ns) string {
	t.Helper()
	links, err := n.nl.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range links {
		got = append(got, l.Attrs().Name)
	}
	return strings.Join(got, " ")
}
