package lab

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// The lab's own eyes: what it is to notice it must notice.

var cluster *Cluster

func TestMain(m *testing.M) {
	flag.Parse()
	code := 1
	var err error
	if !testing.Short() && os.Geteuid() == 0 {
		cluster, err = Start()
	}
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "start cluster:", err)
	}
	if cluster != nil {
		if err := cluster.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop cluster:", err)
		}
	}
	os.Exit(code)
}

func TestMonitorNotices(t *testing.T) {
	l := cluster.New(t, Options{Nodes: 2, IPv6: true})
	n := l.Nodes[0]
	p := n.Pod("web")
	l.WaitRoutes(5 * time.Second)
	n.Kill() // nobody mends now
	quiet := n.Monitor()
	time.Sleep(200 * time.Millisecond)
	if events, again, wrong := quiet.Stop(); events+again+len(wrong) != 0 {
		t.Errorf("nothing was done, but %d events, %d twice, %v", events, again, wrong)
	}
	var route, neigh string
	for _, line := range n.State() {
		if rest, ok := strings.CutPrefix(line, "route fd00"); ok && strings.Contains(line, "onlink") {
			route = "fd00" + rest
		}
		if f := strings.Fields(line); f[0] == "neigh" && f[5] == "vxlan.calico" {
			neigh = f[1] + " dev vxlan.calico"
		}
	}
	for name, c := range map[string]struct {
		do   []string
		says string
	}{
		"rewrite":    {[]string{"route replace " + route + " proto 80 metric 1024"}, "written again"},
		"flap":       {[]string{"route del " + route, "route add " + route + " proto 80 metric 1024"}, "put back"},
		"pod route":  {[]string{"route replace " + p.V6().String() + "/128 dev " + p.HostVeth() + " proto boot metric 1024"}, "written again"},
		"device":     {[]string{"link set vxlan.calico mtu 1400"}, "device vxlan.calico"},
		"gone neigh": {[]string{"neigh del " + neigh}, "gone"},
	} {
		m := n.Monitor()
		if err := n.NS.Batch(c.do...); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		time.Sleep(100 * time.Millisecond)
		if _, _, wrong := m.Stop(); len(wrong) == 0 || !strings.Contains(strings.Join(wrong, "\n"), c.says) {
			t.Errorf("%s: monitor says %q, want %q", name, wrong, c.says)
		}
	}
}

func TestPingerNotices(t *testing.T) {
	l := cluster.New(t, Options{IPv6: true})
	n := l.Nodes[0]
	a, b := n.Pod("a"), n.Pod("b")
	for i := range 2 {
		if err := a.Echo(b.Addrs[i], time.Second); err != nil {
			t.Error(err)
		}
		g := a.Ping(b.Addrs[i], time.Millisecond)
		time.Sleep(100 * time.Millisecond)
		if err := b.NS.Batch("link set eth0 down"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		loss := g.Stop()
		t.Log(loss)
		if loss.Lost < 20 || loss.Sent < 100 {
			t.Errorf("an interface that is down for 50 ms is seen as %s", loss)
		}
		b = n.Pod("c")
	}
}

func TestCompareNotices(t *testing.T) {
	l := cluster.New(t, Options{IPv6: true})
	n := l.Nodes[0]
	p := n.Pod("web")
	l.Agrees(30 * time.Second)
	n.Kill()
	notices := func(says string) {
		t.Helper()
		if err := l.Compare(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("Compare says %v, want %q", err, says)
		}
	}
	addrs := p.Addrs
	p.Addrs = nil
	notices("in truth used by \"\"")
	p.Addrs = append(addrs, addrs[0])
	notices("two users")
	p.Addrs = addrs
	handles, err := objects[v3.IPAMHandle](l, "ipamhandles")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range handles {
		if h.Spec.HandleID == p.Handle() {
			if err := l.API.DeleteHandle(t.Context(), h); err != nil {
				t.Fatal(err)
			}
		}
	}
	notices("is missing")
	if err := n.NS.Batch("link del " + p.HostVeth()); err != nil {
		t.Fatal(err)
	}
	if err := l.CompareKernels(); err == nil {
		t.Error("CompareKernels does not notice that an interface is gone")
	}
}

func TestForwarder(t *testing.T) {
	l := cluster.New(t, Options{})
	n := l.Nodes[0]
	n.CutAPI()
	n.Kill()
	n.Start()
	time.Sleep(500 * time.Millisecond)
	if err := n.Probe("readiness"); err == nil {
		t.Error("an agent without an API server is ready")
	}
	n.HealAPI()
	n.WaitReady(30 * time.Second)
}
