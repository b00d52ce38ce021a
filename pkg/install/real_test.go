package install

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// These tests run the real NetworkManager and systemd-networkd in namespaces of their own: what they do to our devices
// when nobody told them, and that they don't when told. Debian: apt-get install dbus network-manager systemd. Then:
//
//	MARGAY_TEST_NM=1 go test ./pkg/install -run 'TestReal' -v

// inside says that the process is in its own mount and network namespaces already.
const inside = "MARGAY_TEST_NM_INSIDE"

// realNode is a node in the process's own namespaces, with a bus and a manager.
type realNode struct {
	*testing.T
	log string
}

// onRealNode runs the test once more in namespaces of its own, and there f.
func onRealNode(t *testing.T, f func(realNode)) {
	t.Helper()
	if os.Getenv(inside) != "" {
		n := realNode{T: t, log: filepath.Join(t.TempDir(), "log")}
		n.build()
		f(n)
		return
	}
	if os.Getenv("MARGAY_TEST_NM") == "" {
		t.Skip("SKIPPED: runs the real NetworkManager and systemd-networkd with MARGAY_TEST_NM=1 in the environment")
	}
	nstest.Root(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "--net", "--propagation", "private", exe, "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("inside: %v", err)
	}
}

// sh runs a command line that must work.
func (n realNode) sh(line string) string {
	n.Helper()
	out, err := exec.Command("sh", "-c", line).CombinedOutput()
	if err != nil {
		n.Fatalf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

// build makes the node's folders, a bus, an uplink and our devices. A /sys that can't be written tells the managers that
// there is no udevd, as in a container.
func (n realNode) build() {
	n.Helper()
	for _, m := range []struct {
		dir, typ string
		flags    uintptr
	}{{"/run", "tmpfs", 0}, {"/var/lib", "tmpfs", 0}, {"/sys", "sysfs", unix.MS_RDONLY}} {
		if err := unix.Mount(m.typ, m.dir, m.typ, m.flags, ""); err != nil {
			n.Fatalf("mount %s: %v", m.dir, err)
		}
	}
	n.sh("mkdir -p /run/margay-test/conf.d /var/lib/NetworkManager /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp")
	startBus(n.T, "/run", "")
	n.sh(`ip link set lo up
ip link add up0 type veth peer name wire0
ip link set up0 up; ip link set wire0 up`)
	n.devices("0")
}

// devices makes a pod's host side and, once, the rest of what is ours.
func (n realNode) devices(id string) {
	n.Helper()
	n.sh("ip link add cali" + id + " address ee:ee:ee:ee:ee:ee type veth peer name pod" + id + `
echo 1 >/proc/sys/net/ipv6/conf/cali` + id + `/proxy_ndp
ip link set cali` + id + " up; ip link set pod" + id + ` up
ip route add 172.20.0.1` + id + "/32 dev cali" + id + " proto 3")
	if id == "0" {
		n.sh(`ip link add vxlan.calico address 66:00:00:00:00:01 type vxlan id 4096 dstport 4789 nolearning
ip addr add 172.20.0.1/32 dev vxlan.calico; ip link set vxlan.calico up
ip route add 172.20.1.0/26 via 172.20.1.0 dev vxlan.calico onlink proto 80
ip route add blackhole 172.20.0.0/26 proto 80
ip rule add pref 99 fwmark 0x100000 lookup 1`)
	}
}

// start starts a manager and waits until it says what it does with our devices.
func (n realNode) start(m manager, args ...string) {
	n.Helper()
	log, err := os.Create(n.log)
	if err != nil {
		n.Fatal(err)
	}
	defer log.Close()
	program, err := exec.LookPath(args[0])
	if err != nil {
		n.Fatalf("NEEDS %s: %v", m.name, err)
	}
	cmd := exec.Command(program, args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, append(os.Environ(), "SYSTEMD_LOG_LEVEL=debug")
	if err := cmd.Start(); err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if b, _ := os.ReadFile(n.log); n.Failed() && len(b) > 0 {
			n.Logf("%s said:\n%s", m.name, b[max(0, len(b)-3000):])
		}
	})
	nstest.Within(n.T, 5*time.Second, m.name+" on the bus", func() bool { return running(context.Background(), "/run", m.reload.dest) == nil })
	time.Sleep(2 * time.Second) // for what it does to the devices
}

func (n realNode) networkManager() manager {
	m := managers()[0]
	if err := os.WriteFile("/run/margay-test/NetworkManager.conf", []byte("[main]\nplugins=keyfile\n"), 0o644); err != nil {
		n.Fatal(err)
	}
	n.start(m, "NetworkManager", "--debug", "--log-level", "INFO", "--config", "/run/margay-test/NetworkManager.conf",
		"--config-dir", "/run/margay-test/conf.d", "--state-file", "/run/margay-test/state")
	return m
}

func (n realNode) networkd() manager {
	m := managers()[1]
	if u, err := user.Lookup("systemd-network"); err == nil { // whom it becomes
		uid, _ := strconv.Atoi(u.Uid)
		err = filepath.WalkDir("/run/systemd/netif", func(path string, _ os.DirEntry, err error) error { return errors.Join(err, os.Chown(path, uid, -1)) })
		if err != nil {
			n.Fatal(err)
		}
	}
	n.start(m, "/lib/systemd/systemd-networkd")
	return m
}

// link writes systemd-networkd's configuration as an administrator would.
func (n realNode) link(match, more string) {
	n.Helper()
	text := "[Match]\nName=" + match + "\n[Network]\nKeepConfiguration=no\n" + more
	if err := os.WriteFile("/run/systemd/network/50-admin.network", []byte(text), 0o644); err != nil {
		n.Fatal(err)
	}
}

// installer is one for this node.
func (n realNode) installer() *Installer {
	return New(Config{RunDir: "/run"}, slog.New(slog.NewTextHandler(n.Output(), nil)))
}

// taken checks which of our devices the manager has in its hands.
func (n realNode) taken(m manager, want string) {
	n.Helper()
	got, err := m.taken("/run")
	if err != nil || strings.Join(got, " ") != want {
		n.Errorf("%s has %q, %v; want %q", m.name, got, err, want)
	}
}

// state is what of ours there is in the kernel, as far as the managers may break it.
func (n realNode) state() string {
	n.Helper()
	return n.sh(`ip route show proto 80; ip route show proto 3; ip rule show pref 99
for d in vxlan.calico cali0; do ip -br addr show dev $d; cat /proc/sys/net/ipv6/conf/$d/proxy_ndp; done`)
}

// settle waits for addresses that are tentative.
func (n realNode) settle() {
	nstest.Within(n.T, 3*time.Second, "addresses to be ready", func() bool { return !strings.Contains(n.sh("ip addr"), "tentative") })
}

func TestRealNetworkManagerUntold(t *testing.T) {
	onRealNode(t, func(n realNode) {
		before := n.state()
		m := n.networkManager()
		n.taken(m, "cali0 vxlan.calico")
		after := n.state()
		if after == before || strings.Contains(after, "172.20.0.10 dev cali0") {
			t.Errorf("it did no harm: is the test still one?\n%s", after)
		}
		t.Logf("what it made of\n%s\n%s", before, after)

		// Told now, it lets go of them. It sets the pod's device down for it, which the data plane mends.
		i := n.installer()
		i.Unmanage(context.Background())
		n.taken(m, "")
		if got := i.Notices(); len(got) > 0 {
			t.Errorf("notices: %v", got)
		}
		n.sh("ip link set cali0 up; ip route replace 172.20.0.10/32 dev cali0 proto 3")
		n.settle()
		before = n.sh("ip route; ip -br addr show dev vxlan.calico; ip -br addr show dev cali0")
		n.devices("1")
		time.Sleep(2 * time.Second)
		n.taken(m, "")
		after = n.sh("ip route; ip -br addr show dev vxlan.calico; ip -br addr show dev cali0")
		if !strings.Contains(after, "172.20.0.11 dev cali1") || strings.Replace(after, "172.20.0.11 dev cali1 scope link \n", "", 1) != before {
			t.Errorf("was\n%s\nis\n%s", before, after)
		}
	})
}

func TestRealNetworkManagerTold(t *testing.T) {
	// An administrator's own list must not undo ours for devices that come.
	for name, admin := range map[string]string{"alone": "", "with a list": "[keyfile]\nunmanaged-devices=interface-name:docker0\n"} {
		t.Run(name, func(t *testing.T) {
			onRealNode(t, func(n realNode) {
				n.settle()
				before := n.state()
				n.sh("mkdir -p /run/NetworkManager")
				n.installer().Unmanage(context.Background())
				if err := os.WriteFile("/run/margay-test/conf.d/zz.conf", []byte(admin), 0o644); err != nil {
					t.Fatal(err)
				}
				m := n.networkManager()
				n.taken(m, "")
				if after := n.state(); after != before {
					t.Errorf("was\n%s\nis\n%s", before, after)
				}
				n.devices("1")
				time.Sleep(2 * time.Second)
				n.taken(m, "")
				if after := n.state(); !strings.Contains(after, "172.20.0.11 dev cali1") {
					t.Errorf("is\n%s", after)
				}
			})
		})
	}
}

func TestRealNetworkdUntold(t *testing.T) {
	onRealNode(t, func(n realNode) {
		n.settle()
		before := n.state()
		n.link("*", "DHCP=yes\n")
		m := n.networkd()
		n.taken(m, "cali0 vxlan.calico")
		i := n.installer()
		n.link("*", "DHCP=yes\nLLDP=no\n")
		if err := reload(context.Background(), "/run", m.reload); err != nil { // the administrator's
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		after := n.state()
		for _, gone := range []string{"blackhole", "172.20.0.10", "172.20.1.0/26", "172.20.0.1/32", "99:"} {
			if strings.Contains(after, gone) {
				t.Errorf("it left %s: is the test still one?", gone)
			}
		}
		t.Logf("what it made of\n%s\n%s", before, after)
		i.Unmanage(context.Background())
		n.taken(m, "")
		if got := i.Notices(); len(got) > 0 {
			t.Errorf("notices: %v", got)
		}
	})
}

func TestRealNetworkdTold(t *testing.T) {
	for name, match := range map[string]string{"all links": "*", "uplink": "up0"} {
		t.Run(name, func(t *testing.T) {
			onRealNode(t, func(n realNode) {
				n.settle()
				before := n.state()
				n.sh("touch /run/systemd/netif/state")
				n.installer().Unmanage(context.Background())
				n.link(match, "Address=192.0.2.1/24\n")
				m := n.networkd()
				n.link(match, "Address=192.0.2.1/24\n[Route]\nDestination=198.51.100.0/24\nGateway=192.0.2.3\n")
				if err := reload(context.Background(), "/run", m.reload); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second)
				n.taken(m, "")
				if !strings.Contains(n.sh("ip route show dev up0"), "198.51.100.0/24") {
					t.Error("it has not configured its own link: is the test still one?")
				}
				if after := n.state(); after != before {
					t.Errorf("was\n%s\nis\n%s", before, after)
				}
			})
		})
	}
}
