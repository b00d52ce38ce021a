package install

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// node is a lab with a network namespace and an agent's leavings.
type node struct {
	*lab
	ns  *nstest.NS
	out *output
}

// output is what a Cleaner has said.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// take returns what was said since the last call.
func (o *output) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.b.Reset()
	return o.b.String()
}

func newNode(t *testing.T) *node {
	t.Helper()
	return &node{lab: newLab(t), ns: nstest.New(t), out: &output{}}
}

// at returns a path below the test's folder.
func (n *node) at(path string) string { return filepath.Join(filepath.Dir(n.BinDir), path) }

// cleaner is what "margay-agent cleanup" makes.
func (n *node) cleaner() *Cleaner {
	return &Cleaner{
		Config: n.Config, Socket: n.at("var/run/margay/cni.sock"), Spool: n.at("lib/spool"), Journal: n.at("var/run/margay/ipam"),
		Conn: n.ns.Conn(n.T), Out: n.out,
	}
}

// foreignKernel is what is not ours and must stay.
func (n *node) foreignKernel() {
	n.ns.Exec(n.T,
		"ip link add up0 type veth peer name wire0", "ip link set up0 up", "ip link set wire0 up", "ip addr add 192.0.2.1/24 dev up0",
		"ip addr add 2001:db8::1/64 dev up0 nodad", "ip route add 198.51.100.0/24 via 192.0.2.9 proto static", "ip route add blackhole 203.0.113.0/24",
		"ip -6 route add blackhole 2001:db8:9::/48 proto static", "ip link add flannel.1 type vxlan id 1 dstport 8472", "ip link set flannel.1 up",
		"ip route add 10.1.0.0/24 dev flannel.1 proto 80 table 77", "ip link add caligari type bridge")
	nstest.Within(n.T, 3*time.Second, "the uplink to be ready", func() bool {
		return strings.Contains(n.ns.Exec(n.T, "ip -br link show wire0"), " UP ") && strings.Contains(n.ns.Exec(n.T, "ip -6 route show table local"), "2001:db8::1")
	})
}

// ourKernel is what an agent leaves in the kernel, and pods that live.
func (n *node) ourKernel(pods int) {
	n.ns.Exec(n.T,
		"ip link add vxlan.calico address 66:00:00:00:00:01 type vxlan id 4096 dstport 4789 local 192.0.2.1 dev up0 nolearning",
		"ip addr add 172.20.0.1/32 dev vxlan.calico", "ip link set vxlan.calico up",
		"ip link add vxlan-v6.calico address 66:00:00:00:00:02 type vxlan id 4096 dstport 4790 local 2001:db8::1 dev up0 nolearning",
		"ip addr add fd00:20::1/128 dev vxlan-v6.calico nodad", "ip link set vxlan-v6.calico up",
		"ip route add blackhole 172.20.0.0/26 proto 80", "ip -6 route add blackhole fd00:20::/122 proto 80",
		"ip route add 172.20.1.0/26 via 172.20.1.0 dev vxlan.calico onlink proto 80", "ip route add 172.20.2.0/26 via 192.0.2.2 proto 80",
		"ip -6 route add fd00:20::100/122 via 2001:db8::2 proto 80",
		"ip neigh add 172.20.1.0 lladdr 66:00:00:00:00:09 dev vxlan.calico nud permanent",
		"bridge fdb add 66:00:00:00:00:09 dev vxlan.calico dst 192.0.2.2")
	for i := range pods {
		id := string(rune('a' + i))
		n.ns.Exec(n.T, "ip link add cali"+id+" address ee:ee:ee:ee:ee:ee type veth peer name pod"+id, "ip link set cali"+id+" up",
			"ip link set pod"+id+" up", "ip route add 172.20.0.1"+string(rune('0'+i))+"/32 dev cali"+id+" proto 3")
	}
}

// kernel is all that the Cleaner may touch, and more.
func (n *node) kernel() string {
	out, err := n.ns.Try("ip -br link")
	n.must(err)
	lines := strings.Split(out, "\n")
	for _, cmd := range []string{"ip route show table all", "ip -6 route show table all", "ip -br addr"} {
		out, err := n.ns.Try(cmd)
		n.must(err)
		for line := range strings.Lines(out) {
			if !strings.Contains(line, "fe80:") && !strings.Contains(line, "multicast") { // these come and go
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	return strings.Join(lines, "\n")
}

// agent leaves all files that an agent leaves, by running it as far as this package goes. It returns when it has ended.
func (n *node) agent(devices bool, pods int) {
	i := n.start()
	a, err := ipam.New(ipam.Options{Node: "node1", Dir: n.at("var/run/margay/ipam"), Boot: "b", Log: quiet})
	n.must(err)
	i.Unmanage(context.Background())
	if devices {
		n.ourKernel(pods)
	}
	n.must(i.Plugins())
	n.must(i.Conflist("node1", 1450))
	n.must(a.Close())
	n.must(os.MkdirAll(n.at("lib/spool"), 0o755))
	n.write(n.at("lib/spool/c1-eth0.json"), "{}")
	n.write(n.at("var/run/margay/cni.sock"), "")
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// files returns all files of the node and their content.
func (n *node) files() map[string]string {
	all := map[string]string{}
	for _, dir := range []string{"bin", "net.d", "run", "lib", "var"} {
		_ = filepath.WalkDir(n.at(dir), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				b, _ := os.ReadFile(path)
				all[strings.TrimPrefix(path, n.at("")+"/")] = string(b)
			}
			return nil
		})
	}
	return all
}

func (n *node) sameFiles(before map[string]string) {
	n.Helper()
	after := n.files()
	if !maps.Equal(before, after) {
		n.Errorf("files\n was %v\n  is %v", slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
	}
}

// foreignFiles are another network's leavings.
func (n *node) foreignFiles() {
	for _, m := range managers() {
		n.found(m)
	}
	n.write(filepath.Join(n.BinDir, "portmap"), "portmap of a package")
	n.write(filepath.Join(n.BinDir, "flannel"), "flannel")
	n.write(filepath.Join(n.NetDir, "10-flannel.conflist"), foreign["10-flannel.conflist"])
	n.write(filepath.Join(n.NetDir, "87-podman-bridge.conflist"), foreign["87-podman-bridge.conflist"])
}

// TestClean finds the node as it was.
func TestClean(t *testing.T) {
	n := newNode(t)
	n.foreignKernel()
	n.foreignFiles()
	kernel, files := n.kernel(), n.files()
	steps := 0
	for round := range 3 {
		n.agent(true, 0)
		if round == 1 {
			n.image("v2") // cleaned by another version than the one that installed
		}
		c := n.cleaner()
		c.Steps = []Step{{"nftables table margay", func(context.Context) error { steps++; return nil }}}
		pods, err := c.Clean(context.Background())
		if pods != 0 || err != nil {
			t.Fatalf("%d pods, %v", pods, err)
		}
		if got := n.kernel(); got != kernel {
			t.Errorf("kernel was\n%s\nis\n%s", kernel, got)
		}
		n.sameFiles(files)
		said := n.out.take()
		for _, want := range []string{
			"removed " + filepath.Join(n.NetDir, DefaultConfName), "put back " + filepath.Join(n.NetDir, "10-flannel.conflist"),
			"removed 5 routes of protocol 80", "removed device vxlan.calico", "removed device vxlan-v6.calico", "no nftables table margay is left",
			"removed " + filepath.Join(n.BinDir, "margay"), "put back " + filepath.Join(n.BinDir, "portmap"), "removed " + n.at("lib/spool"),
			"removed " + n.at("run/systemd/network/00-margay.network"), "removed " + n.at("var/run/margay/ipam"),
		} {
			if !strings.Contains(said, want+"\n") {
				t.Errorf("not said: %s; only\n%s", want, said)
			}
		}
		for _, dir := range []string{"lib", "var/run/margay"} {
			if exists(n.at(dir)) {
				t.Errorf("%s is left", n.at(dir))
			}
		}
		if pods, err := n.cleaner().Clean(context.Background()); pods != 0 || err != nil || n.out.take() != "nothing is left to remove\n" {
			t.Errorf("once more: %d pods, %v", pods, err)
		}
	}
	if steps != 3 {
		t.Errorf("%d steps", steps)
	}
}

// TestCleanWithPods leaves what living pods need, until they have gone.
func TestCleanWithPods(t *testing.T) {
	n := newNode(t)
	n.foreignKernel()
	n.foreignFiles()
	files := n.files()
	n.agent(true, 2)
	with := n.files()
	pods, err := n.cleaner().Clean(context.Background())
	if said := n.out.take(); pods != 2 || err != nil || !strings.Contains(said, "left the interfaces of 2 pods") {
		t.Errorf("%d pods, %v:\n%s", pods, err, said)
	}
	delete(with, "net.d/"+DefaultConfName)
	delete(with, "net.d/10-flannel.conflist"+backupSuffix)
	with["net.d/10-flannel.conflist"] = foreign["10-flannel.conflist"]
	n.sameFiles(with)
	kernel := n.kernel()
	for _, want := range []string{"172.20.0.10 dev calia", "172.20.0.11 dev calib"} {
		if !strings.Contains(kernel, want) {
			t.Errorf("gone: %s", want)
		}
	}
	if strings.Contains(kernel, "vxlan.calico") || strings.Contains(kernel, "proto 80 \n") {
		t.Errorf("left:\n%s", kernel)
	}

	// The plugin can still end these pods, and a next agent finds its journal.
	a, err := ipam.New(ipam.Options{Node: "node1", Dir: n.at("var/run/margay/ipam"), Boot: "b", Log: quiet})
	n.must(err)
	n.must(a.Close())

	c := n.cleaner()
	c.Force = true
	pods, err = c.Clean(context.Background())
	if said := n.out.take(); pods != 0 || err != nil || !strings.Contains(said, "removed the interfaces of 2 pods") {
		t.Errorf("%d pods, %v:\n%s", pods, err, said)
	}
	if got := n.kernel(); strings.Contains(got, "calia") || !strings.Contains(got, "caligari") {
		t.Errorf("kernel:\n%s", got)
	}
	n.sameFiles(files)
}

// TestCommandStays is what the DaemonSet does: it ends the work when the last pod goes.
func TestCommandStays(t *testing.T) {
	n := newNode(t)
	n.foreignKernel()
	n.foreignFiles()
	files := n.files()
	n.agent(true, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := n.cleaner()
	c.again = 50 * time.Millisecond
	done := make(chan error, 1)
	go func() { done <- Command(ctx, []string{"--stay"}, c) }()
	said := ""
	nstest.Within(t, 2*time.Second, "the pod to be seen", func() bool {
		said += n.out.take()
		return strings.Contains(said, "left the interfaces of 1 pods")
	})
	time.Sleep(200 * time.Millisecond)
	if again := n.out.take(); again != "" {
		t.Errorf("said again: %s", again)
	}
	n.ns.Exec(t, "ip link del calia", "ip link add vxlan.calico type vxlan id 4096 dstport 4789") // Calico's, by now
	nstest.Within(t, 2*time.Second, "the end of the work", func() bool {
		said += n.out.take()
		return strings.Contains(said, "done; this stays")
	})
	n.sameFiles(files)
	n.ns.Exec(t, "ip link show vxlan.calico")
	select {
	case err := <-done:
		t.Errorf("it did not stay: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := Command(context.Background(), []string{"--all"}, n.cleaner()); err == nil || !strings.Contains(err.Error(), "--all") {
		t.Errorf("unknown argument: %v", err)
	}
}

// TestCleanRefuses keeps out of an agent's way.
func TestCleanRefuses(t *testing.T) {
	n := newNode(t)
	n.foreignKernel()
	n.agent(true, 0)
	a, err := ipam.New(ipam.Options{Node: "node1", Dir: n.at("var/run/margay/ipam"), Boot: "b", Log: quiet})
	n.must(err)
	kernel, files := n.kernel(), n.files()
	if _, err := n.cleaner().Clean(context.Background()); !errors.Is(err, ErrRunning) {
		t.Errorf("with an agent: %v", err)
	}
	if n.kernel() != kernel {
		t.Errorf("kernel is\n%s", n.kernel())
	}
	n.sameFiles(files)

	// It waits for the agent's end.
	time.AfterFunc(300*time.Millisecond, func() { a.Close() })
	c := n.cleaner()
	c.Wait = 5 * time.Second
	if _, err := c.Clean(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestCleanBesideCalico leaves what may be Calico's.
func TestCleanBesideCalico(t *testing.T) {
	n := newNode(t)
	n.foreignKernel()
	n.agent(true, 1)
	n.write(filepath.Join(n.NetDir, "10-calico.conflist"), foreign["10-calico.conflist"])
	kernel := n.kernel()
	for _, force := range []bool{false, true} {
		c := n.cleaner()
		c.Force = force
		if _, err := c.Clean(context.Background()); err != nil {
			t.Error(err)
		}
		if got := n.kernel(); got != kernel {
			t.Errorf("force %v: kernel was\n%s\nis\n%s", force, kernel, got)
		}
		if said := n.out.take(); !strings.Contains(said, "left 5 routes and 2 tunnel devices: Calico") {
			t.Errorf("said:\n%s", said)
		}
	}
	if exists(filepath.Join(n.BinDir, "margay")) || !exists(filepath.Join(n.NetDir, "10-calico.conflist")) {
		t.Error("files are wrong")
	}
}

// TestCleanCareful leaves what others have changed since, and does the rest when something fails.
func TestCleanCareful(t *testing.T) {
	n := newNode(t)
	n.foreignFiles()
	n.agent(false, 0)
	n.write(filepath.Join(n.BinDir, "loopback"), "loopback of a newer package")
	n.write(filepath.Join(n.NetDir, "10-flannel.conflist"), "newer")
	n.write(filepath.Join(n.NetDir, "05-own.conflist"), strings.Replace(conflist, "k8s-pod-network", "own", 1))
	n.write(n.at("lib/spool/somebody's"), "x")
	c := n.cleaner()
	broken := errors.New("broken")
	c.Steps = []Step{{"x", func(context.Context) error { return broken }}}
	_, err := c.Clean(context.Background())
	if !errors.Is(err, broken) {
		t.Errorf("error: %v", err)
	}
	said := n.out.take()
	for _, want := range []string{"left plugin loopback", "10-flannel.conflist" + backupSuffix + ": there is a newer", "left CNI configuration 05-own.conflist"} {
		if !strings.Contains(said, want) {
			t.Errorf("not said: %s; only\n%s", want, said)
		}
	}
	n.has(n.BinDir, map[string]string{"loopback": "loopback of a newer package", "margay": "", "portmap": "portmap of a package"})
	n.has(n.NetDir, map[string]string{"10-flannel.conflist": "newer", DefaultConfName: ""})
	if !exists(n.at("lib/spool/somebody's")) || exists(n.at("lib/spool/c1-eth0.json")) {
		t.Error("spool is wrong")
	}
}
