package fault

import (
	"bufio"
	"encoding/json"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/test/lab"
)

// What plugin and agent of v0.1.0 said to each other. Both refused fields that they did not know: to say more to them is to
// say nothing.
type (
	oldRequest struct {
		Op          string `json:"op"`
		Network     string `json:"network"`
		ContainerID string `json:"containerID"`
		IfName      string `json:"ifName"`
		Namespace   string `json:"namespace"`
		Pod         string `json:"pod"`
		PodUID      string `json:"podUID"`
		HostVeth    string `json:"hostVeth"`
		Addrs       []netip.Addr
		Valid       []struct{ ContainerID, IfName string }
	}
	oldResponse struct {
		Code     int    `json:"code"`
		Msg      string `json:"msg"`
		Hint     string `json:"hint"`
		Assigned *struct {
			Addrs    []netip.Addr `json:"addrs"`
			HostVeth string       `json:"hostVeth"`
			MTU      int          `json:"mtu"`
		} `json:"assigned"`
		Removed bool `json:"removed"`
	}
)

// exchange is one request and its answer, a line each.
type exchange struct{ ask, answer string }

// recordedTalks returns what was said, by connection.
func recordedTalks(t *testing.T) (out [][]exchange) {
	t.Helper()
	for _, talk := range strings.Split(strings.TrimSpace(readFile(t, "wire")), "\n\n") {
		lines := strings.Split(talk, "\n")
		var list []exchange
		for i := 0; i+1 < len(lines); i += 2 {
			list = append(list, exchange{strings.TrimPrefix(lines[i], "> "), strings.TrimPrefix(lines[i+1], "< ")})
		}
		out = append(out, list)
	}
	return out
}

// TestRecordedWire has an agent answer what plugins of the old version asked, in their words, and has a plugin ask one that
// answers in the old agent's words.
func TestRecordedWire(t *testing.T) {
	t.Run("old plugin, new agent", oldPluginAsks)
	t.Run("new plugin, old agent", oldAgentAnswers)
}

func oldPluginAsks(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true})
	n := l.Nodes[0]
	ops := map[string]int{}
	for _, talk := range recordedTalks(t) {
		c := dial(t, n)
		for _, x := range talk {
			var was, now oldResponse
			var ask oldRequest
			decode(t, x.ask, &ask)
			decode(t, x.answer, &was)
			if ask.Op == "activate" { // the plugin makes the pair in between
				if err := n.NS.Batch("link add "+veth(t, talk)+" address ee:ee:ee:ee:ee:ee type veth peer name peer"+ask.ContainerID[:8], "link set "+veth(t, talk)+" up"); err != nil {
					t.Fatal(err)
				}
			}
			if ask.Op == "check" {
				continue // its addresses are others here
			}
			if _, err := c.Write([]byte(x.ask + "\n")); err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
			line, err := wire.ReadLine(c.r)
			if err != nil {
				t.Fatalf("%s: no answer: %v", x.ask, err)
			}
			decode(t, string(line), &now)
			ops[ask.Op]++
			if now.Code != was.Code || now.Removed != was.Removed || (now.Assigned == nil) != (was.Assigned == nil) {
				t.Errorf("%s:\nnow %s\nwas %s", x.ask, line, x.answer)
				continue
			}
			if now.Assigned != nil && (now.Assigned.HostVeth != was.Assigned.HostVeth || now.Assigned.MTU != was.Assigned.MTU || len(now.Assigned.Addrs) != 2) {
				t.Errorf("%s:\nnow %s\nwas %s", x.ask, line, x.answer)
			}
		}
		c.Close()
	}
	t.Logf("requests of the old version that were answered as then: %v", ops)
	for _, op := range []string{"assign", "activate", "release", "gc", "status"} {
		if ops[op] == 0 {
			t.Errorf("no %s was recorded: the test shows little", op)
		}
	}
}

// veth is the name of the host side that a recorded connection was about.
func veth(t *testing.T, talk []exchange) string {
	t.Helper()
	var r oldResponse
	decode(t, talk[0].answer, &r)
	return r.Assigned.HostVeth
}

// decode reads a line as the old version did: nothing unknown may be in it.
func decode(t *testing.T, line string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("the old version cannot read %s as %s: %v", line, reflect.TypeOf(v).Elem().Name(), err)
	}
}

func oldAgentAnswers(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true, Stopped: true})
	n := l.Nodes[0]
	if err := n.Install(cluster.Programs); err != nil {
		t.Fatal(err)
	}
	old := &oldAgent{t: t, node: n, answers: map[string]string{}, asked: map[string]int{}}
	for _, talk := range recordedTalks(t) {
		for _, x := range talk {
			var ask oldRequest
			decode(t, x.ask, &ask)
			if ask.Pod == "web" || old.answers[ask.Op] == "" {
				old.answers[ask.Op] = x.answer
			}
		}
	}
	listen, err := net.Listen("unix", n.Socket)
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() { old.run(listen) })
	defer done.Wait()
	defer listen.Close()
	p := n.NewPod("web")
	for what, f := range map[string]func() error{"STATUS": n.Status, "GC": func() error { return n.GC(p) }} {
		if err := f(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, verb := range []struct {
		name string
		f    func() error
	}{{"ADD", p.Add}, {"CHECK", p.Check}, {"DEL", p.Del}} {
		if err := verb.f(); err != nil {
			t.Errorf("%s: %v", verb.name, err)
		}
	}
	old.mu.Lock()
	defer old.mu.Unlock()
	t.Logf("the old agent was asked %v", old.asked)
	if left := n.Veths(); len(left) > 0 {
		t.Errorf("after DEL there is %v", left)
	}
}

// oldAgent answers a plugin with what the old version's agent has answered.
type oldAgent struct {
	t       *testing.T
	node    *lab.Node
	answers map[string]string // by op

	mu    sync.Mutex
	asked map[string]int
}

func (o *oldAgent) run(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		for r := bufio.NewReader(c); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				break
			}
			if _, err := c.Write([]byte(o.answer(line) + "\n")); err != nil {
				o.t.Error(err)
			}
		}
		c.Close()
	}
}

func (o *oldAgent) answer(line string) string {
	var ask oldRequest
	d := json.NewDecoder(strings.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&ask); err != nil {
		o.t.Errorf("the old agent cannot read %s: %v", line, err)
		return `{"code":1,"msg":"` + "malformed" + `"}`
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked[ask.Op]++
	if ask.Op == "release" && strings.Contains(o.answers[ask.Op], `"removed":true`) {
		if err := o.node.NS.Batch("link del " + ask.HostVeth); err != nil {
			o.t.Errorf("release of host side %q: %v", ask.HostVeth, err)
		}
	}
	return o.answers[ask.Op]
}
