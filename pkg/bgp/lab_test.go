package bgp

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// lab is one Ethernet with a number of hosts, each a namespace with the addresses 192.168.10.N and fd00:10::N.
type lab struct {
	tb    testing.TB
	hosts map[int]*nstest.NS
}

func newLab(tb testing.TB, hosts ...int) *lab {
	tb.Helper()
	sw := nstest.New(tb)
	sw.Exec(tb, "ip link add br0 type bridge", "ip link set br0 up")
	l := &lab{tb: tb, hosts: map[int]*nstest.NS{}}
	for _, n := range hosts {
		h := nstest.New(tb)
		dev := fmt.Sprintf("h%d", n)
		h.Batch(tb, "link add eth0 type veth peer name "+dev)
		name := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(sw.Handle))
		h.Exec(tb, "ip link set "+dev+" netns "+name)
		sw.Batch(tb, "link set "+dev+" master br0 up")
		h.Batch(tb, "link set eth0 up", fmt.Sprintf("addr add %s/24 dev eth0", v4(n)), fmt.Sprintf("addr add %s/64 dev eth0 nodad", v6(n)))
		l.hosts[n] = h
	}
	return l
}

func v4(n int) string { return fmt.Sprintf("192.168.10.%d", n) }
func v6(n int) string { return fmt.Sprintf("fd00:10::%d", n) }

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// node is the configuration of host n in AS 64512, with an announcement of 10.N.0.0/26 and fd00:N::/122.
func node(n int, peers ...Peer) Config {
	return Config{AS: 64512, RouterID: addr(v4(n)), Peers: peers, Transit: []netip.Prefix{prefix("10.0.0.0/8"), prefix("fd00::/16")},
		Announce: []Announcement{{Prefix: prefix(block4(n))}, {Prefix: prefix(block6(n))}}}
}

func block4(n int) string { return fmt.Sprintf("10.%d.0.0/26", n) }
func block6(n int) string { return fmt.Sprintf("fd00:%d::/122", n) }

// peer4 and peer6 are sessions with host n.
func peer4(n int, as uint32) Peer { return Peer{Kind: Node, Address: addr(v4(n)), AS: as} }
func peer6(n int, as uint32) Peer { return Peer{Kind: Node, Address: addr(v6(n)), AS: as} }

// daemon is a running BIRD or bgpd.
type daemon struct {
	tb   testing.TB
	ns   *nstest.NS
	dir  string
	args []string
	cmd  *exec.Cmd
	out  bytes.Buffer
}

func need(tb testing.TB, program string) {
	tb.Helper()
	if _, err := os.Stat(program); err != nil {
		nstest.Need(tb, program+" (hack/deps installs it)")
	}
}

// bird starts a BIRD on host n. The configuration's %A stands for its IPv4, %B for its IPv6 address.
func (l *lab) bird(n int, conf string) *daemon {
	l.tb.Helper()
	need(l.tb, "/usr/sbin/bird")
	d := &daemon{tb: l.tb, ns: l.hosts[n], dir: l.tb.TempDir()}
	d.args = []string{"/usr/sbin/bird", "-f", "-R", "-c", d.dir + "/conf", "-s", d.dir + "/ctl"}
	conf = fmt.Sprintf("log \"%s/log\" all;\nrouter id %s;\nprotocol device { scan time 1; }\n", d.dir, v4(n)) + conf
	d.write(strings.NewReplacer("%A", v4(n), "%B", v6(n)).Replace(conf))
	d.start()
	return d
}

func (d *daemon) write(conf string) {
	must(d.tb, os.WriteFile(filepath.Join(d.dir, "conf"), []byte(conf), 0o644))
}

func (d *daemon) start() {
	d.tb.Helper()
	d.cmd = exec.Command(d.args[0], d.args[1:]...)
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.out
	startIn(d.tb, d.ns, d.cmd)
	d.tb.Cleanup(func() {
		d.kill()
		if d.tb.Failed() {
			b, _ := os.ReadFile(d.dir + "/log")
			if len(b) > 6000 {
				b = b[len(b)-6000:]
			}
			d.tb.Logf("%s says:\n%s\n%s", d.args[0], d.out.String(), b)
		}
	})
}

func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
}

// birdc asks a BIRD.
func (d *daemon) birdc(command string) string {
	out, err := exec.Command("/usr/sbin/birdc", append([]string{"-s", d.dir + "/ctl"}, strings.Fields(command)...)...).CombinedOutput()
	if err != nil {
		return "birdc: " + err.Error() + string(out)
	}
	return string(out)
}

// has says whether BIRD knows a route, whose listing contains all of some texts.
func (d *daemon) has(prefix string, texts ...string) bool {
	out := d.birdc("show route for " + prefix + " all")
	if !strings.Contains(out, prefix+" ") {
		return false
	}
	for _, t := range texts {
		if !strings.Contains(out, t) {
			return false
		}
	}
	return true
}

// frr starts FRR's bgpd on host n, without zebra.
func (l *lab) frr(n int, conf string) *daemon {
	l.tb.Helper()
	need(l.tb, "/usr/lib/frr/bgpd")
	d := &daemon{tb: l.tb, ns: l.hosts[n], dir: l.tb.TempDir()}
	d.args = []string{"/usr/lib/frr/bgpd", "-n", "-Z", "-S", "-u", "root", "-g", "root", "-f", d.dir + "/conf", "-i", d.dir + "/pid",
		"--vty_socket", d.dir, "-P", "0", "-N", filepath.Base(d.dir)}
	d.write(strings.NewReplacer("%A", v4(n), "%B", v6(n)).Replace("log file " + d.dir + "/log\n" + conf))
	d.start()
	return d
}

// vtysh asks an FRR.
func (d *daemon) vtysh(command string) string {
	out, err := exec.Command("/usr/bin/vtysh", "--vty_socket", d.dir, "-d", "bgpd", "-c", command).CombinedOutput()
	if err != nil {
		return "vtysh: " + err.Error() + string(out)
	}
	return string(out)
}

// within waits until ok; sessions of GoBGP take one to ten seconds.
func within(tb testing.TB, what string, ok func() bool) time.Duration {
	tb.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > 40*time.Second {
			tb.Fatalf("not within 40 s: %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(start)
}
