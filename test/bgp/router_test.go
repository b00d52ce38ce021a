package bgp

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/margay-net/margay/pkg/netlink/nstest"
	"github.com/margay-net/margay/test/lab"
)

// router is a BIRD or FRR in the fabric's namespace, AS 65000.
type router struct {
	t   *testing.T
	dir string
}

func need(t *testing.T, program string) {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		nstest.Need(t, program+" (hack/deps installs it)")
	}
}

// newRouter makes the folder of a router. It belongs to the user that FRR's programs run as, if there is one.
func newRouter(t *testing.T) *router {
	t.Helper()
	dir, err := os.MkdirTemp("", "margay-router-")
	if err != nil {
		t.Fatal(err)
	}
	r := &router{t: t, dir: dir}
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range []string{"out", "log"} {
				b, _ := os.ReadFile(filepath.Join(dir, name))
				t.Logf("router's %s: %s", name, b[max(0, len(b)-3000):])
			}
		}
		os.RemoveAll(dir)
	})
	if u, err := user.Lookup("frr"); err == nil {
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *router) write(conf string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "conf"), []byte(strings.ReplaceAll(conf, "%D", r.dir)), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *router) run(l *lab.Lab, args ...string) {
	r.t.Helper()
	r.runIn(l, l.Fabric, args...)
}

func (r *router) runIn(l *lab.Lab, ns *lab.NS, args ...string) {
	r.t.Helper()
	need(r.t, args[0])
	if _, err := l.RunIn(ns, filepath.Join(r.dir, "out"), args...); err != nil {
		r.t.Fatal(err)
	}
}

// birdConf is a BIRD that takes whoever comes from the nodes' networks, and routes to what they announce.
const birdConf = `log "%D/log" all;
router id 192.168.10.1;
protocol device { scan time 1; }
protocol direct { ipv4; ipv6; interface "br*"; }
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }
protocol kernel { ipv6 { import none; export where source = RTS_BGP; }; }
protocol bgp nodes4 {
	local 192.168.10.1 as 65000; neighbor range 192.168.0.0/16 as 64512; multihop; dynamic name "four";
	ipv4 { import all; export none; gateway recursive; };
}
protocol bgp nodes6 {
	local fd00:10::1 as 65000; neighbor range fd00::/16 as 64512; multihop; dynamic name "six";
	ipv6 { import all; export none; gateway recursive; };
}
`

// runBIRD starts a BIRD.
func runBIRD(t *testing.T, l *lab.Lab) *router {
	t.Helper()
	r := newRouter(t)
	r.write(birdConf)
	r.run(l, "/usr/sbin/bird", "-f", "-R", "-c", r.dir+"/conf", "-s", r.dir+"/ctl")
	return r
}

// birdc asks a BIRD.
func (r *router) birdc(command string) string {
	out, err := exec.Command("/usr/sbin/birdc", append([]string{"-s", r.dir + "/ctl"}, strings.Fields(command)...)...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("birdc: %v: %s", err, out)
	}
	return string(out)
}

// frrConf is an FRR at 192.168.42.1, some hops behind the nodes' gateways, that routes to what they announce; its last lines
// are the nodes as neighbors.
const frrConf = `log file %D/log
router bgp 65000
 bgp router-id 192.168.42.1
 no bgp ebgp-requires-policy
 bgp graceful-restart
 bgp bestpath as-path multipath-relax
 address-family ipv4 unicast
  maximum-paths 16
 exit-address-family
 neighbor nodes peer-group
 neighbor nodes remote-as 64512
 neighbor nodes ebgp-multihop 8
 neighbor nodes update-source 192.168.42.1
 neighbor nodes timers connect 2
`

// fabricPeer is the address of FRR.
const fabricPeer = "192.168.42.1"

// runFRR starts FRR's bgpd, and its zebra, which writes the routes to the kernel.
func runFRR(t *testing.T, l *lab.Lab) *router {
	t.Helper()
	r, conf := newRouter(t), frrConf
	for _, n := range l.Nodes {
		conf += fmt.Sprintf(" neighbor %s peer-group nodes\n", n.Addr4.Addr())
	}
	r.write(conf)
	if err := l.Fabric.Batch("addr add " + fabricPeer + "/32 dev lo"); err != nil {
		t.Fatal(err)
	}
	r.run(l, "/usr/lib/frr/zebra", "-u", "frr", "-g", "frr", "-z", r.dir+"/zserv", "-i", r.dir+"/zebra.pid", "--vty_socket", r.dir, "-P", "0")
	l.Within(patience, "zebra answers", func() error {
		_, err := os.Stat(r.dir + "/zserv")
		return err
	})
	r.run(l, "/usr/lib/frr/bgpd", "-S", "-u", "root", "-g", "root", "-z", r.dir+"/zserv", "-f", r.dir+"/conf", "-i", r.dir+"/bgpd.pid", "--vty_socket", r.dir, "-P", "0")
	l.Within(patience, "bgpd answers", func() error {
		_, err := r.vtysh("show bgp summary")
		return err
	})
	return r
}

// vtysh has FRR's bgpd do something, and returns what it says.
func (r *router) vtysh(commands ...string) (string, error) {
	args := []string{"--vty_socket", r.dir, "-d", "bgpd"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	out, err := exec.Command("/usr/bin/vtysh", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("vtysh: %w: %s", err, out)
	}
	return string(out), nil
}

// password sets that of FRR's sessions with the nodes.
func (r *router) password(value string) {
	r.t.Helper()
	if out, err := r.vtysh("configure terminal", "router bgp 65000", "neighbor nodes password "+value); err != nil || out != "" {
		r.t.Fatalf("set FRR's password: %v: %s", err, out)
	}
}
