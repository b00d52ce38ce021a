package install

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// startBus runs a dbus-daemon at run/dbus/system_bus_socket; everything is allowed but what policy denies.
func startBus(t *testing.T, run, policy string) {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Skip("SKIPPED: NEEDS dbus-daemon (package dbus), which make deps does not install")
	}
	dir := filepath.Join(run, "dbus")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket, conf := filepath.Join(dir, "system_bus_socket"), filepath.Join(dir, "bus.conf")
	text := `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=` + socket + `</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow eavesdrop="true"/><allow send_destination="*" eavesdrop="true"/>` + policy + `</policy></busconfig>`
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dbus-daemon", "--config-file="+conf, "--nofork", "--nopidfile")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	nstest.Within(t, time.Second, "dbus-daemon to listen", func() bool {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// service is a manager on the bus that counts how often it is asked to reload, and does something then.
type service struct {
	calls atomic.Int32
	then  func()
}

func (s *service) Reload(flags uint32) *dbus.Error { s.calls.Add(1); s.then(); return nil }

func (s *service) serve(t *testing.T, run string, m manager) {
	t.Helper()
	conn, err := dbus.Dial("unix:path=" + filepath.Join(run, "dbus/system_bus_socket"))
	if err == nil {
		err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))})
	}
	if err == nil {
		err = conn.Hello()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	iface, _ := strings.CutSuffix(m.reload.method, ".Reload")
	if len(m.reload.args) == 0 {
		err = conn.Export(noArgs{s}, m.reload.object, iface)
	} else {
		err = conn.Export(s, m.reload.object, iface)
	}
	if err != nil {
		t.Fatal(err)
	}
	if reply, err := conn.RequestName(m.reload.dest, 0); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("%v, %v", reply, err)
	}
}

type noArgs struct{ s *service }

func (n noArgs) Reload() *dbus.Error { return n.s.Reload(0) }

// managed writes the manager's state file of a device.
func (l *lab) managed(m manager, index int, line string) {
	l.Helper()
	dir := filepath.Join(l.RunDir, m.state)
	l.must(os.MkdirAll(dir, 0o755))
	l.write(filepath.Join(dir, strconv.Itoa(index)), "# private\n"+line+"\nX=y\n")
}

// found makes the node look as if the manager ran.
func (l *lab) found(m manager) {
	l.Helper()
	path := filepath.Join(l.RunDir, m.sign)
	l.must(os.MkdirAll(filepath.Dir(path), 0o755))
	if m.name == "NetworkManager" {
		l.must(os.MkdirAll(path, 0o755))
		return
	}
	l.write(path, "OPER_STATE=routable\n")
}

func TestUnmanageFiles(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	before := l.stamps(l.RunDir)
	l.start().Unmanage(ctx) // no manager: no file
	l.unchanged(before, l.RunDir)
	for _, m := range managers() {
		l.found(m)
		i := l.start()
		i.Unmanage(ctx) // there is no bus: nothing to say while no device is taken
		if got := i.Notices(); len(got) > 0 {
			t.Errorf("%s: %v", m.name, got)
		}
		for name, text := range m.files {
			b, err := os.ReadFile(filepath.Join(l.RunDir, name))
			if err != nil || string(b) != text {
				t.Errorf("%s: %s, %v", name, b, err)
			}
			if st, _ := os.Stat(filepath.Join(l.RunDir, name)); st.Mode() != 0o644 {
				t.Errorf("%s: mode %v", name, st.Mode())
			}
		}
	}
	before = l.stamps(l.RunDir)
	l.start().Unmanage(ctx)
	l.unchanged(before, l.RunDir)
	l.RunDir = ""
	l.start().Unmanage(ctx)
}

func TestUnmanageReadOnly(t *testing.T) {
	l := newLab(t)
	remount := mount(t, l.RunDir)
	for _, m := range managers() {
		l.found(m)
	}
	remount(unix.MS_RDONLY, "")
	i := l.start()
	i.Unmanage(context.Background())
	got := i.Notices()
	if len(got) != 2 || got[0].Reason != ReasonNetworkManager || got[1].Reason != ReasonNetworkd || !strings.Contains(got[1].Text, "read-only file system") {
		t.Errorf("notices: %v", got)
	}
}

// inNS runs f in a network namespace with devices of ours and another one, and hands it their indexes.
func inNS(t *testing.T, f func(index map[string]int)) {
	t.Helper()
	ns := nstest.New(t)
	ns.Exec(t, "ip link add cali0 type veth peer name other0", "ip link add vxlan.calico type vxlan id 4096 dstport 4789")
	conn := ns.Conn(t)
	if err := conn.Do(func() error {
		all, err := net.Interfaces()
		index := map[string]int{}
		for _, i := range all {
			index[i.Name] = i.Index
		}
		f(index)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestReload has a program on a real bus be told, once, and let go of the devices.
func TestReload(t *testing.T) {
	for _, m := range managers() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			inNS(t, func(index map[string]int) {
				l := newLab(t)
				ctx := context.Background()
				startBus(t, l.RunDir, "")
				l.found(m)
				taken := func(line string) {
					for _, dev := range []string{"cali0", "vxlan.calico", "other0"} {
						l.managed(m, index[dev], line)
					}
				}
				taken(m.managed[0])
				s := &service{then: func() { time.AfterFunc(200*time.Millisecond, func() { taken("X=free") }) }}
				s.serve(t, l.RunDir, m)
				i := l.start()
				i.Unmanage(ctx)
				if s.calls.Load() != 1 || len(i.Notices()) > 0 {
					t.Errorf("%d calls, notices %v", s.calls.Load(), i.Notices())
				}
				i.Unmanage(ctx)
				l.start().Unmanage(ctx)
				if s.calls.Load() != 1 {
					t.Errorf("%d calls for nothing", s.calls.Load()-1)
				}

				// Somebody's configuration is stronger: said, and asked no more by this agent.
				taken(m.managed[0])
				for range 2 {
					i.Unmanage(ctx)
					got := i.Notices()
					if len(got) != 1 || got[0].Reason != m.reason || !strings.Contains(got[0].Text, "manages devices of ours") || !strings.Contains(got[0].Text, m.hint) {
						t.Errorf("notices: %v", got)
					}
				}
				if s.calls.Load() != 1 {
					t.Errorf("%d calls", s.calls.Load())
				}
				taken("X=free")
				i.Unmanage(ctx)
				if got := i.Notices(); len(got) > 0 {
					t.Errorf("notices: %v", got)
				}
			})
		})
	}
}

// TestReloadFails goes through the ways in which a manager can't be asked: that counts only for devices that it has taken.
func TestReloadFails(t *testing.T) {
	m := managers()[1]
	cases := map[string]struct {
		bus  func(*testing.T, string)
		want string // in the notice; "": none
	}{
		"not running": {func(t *testing.T, run string) { startBus(t, run, "") }, ""},
		"no bus":      {func(*testing.T, string) {}, "no such file or directory"},
		"refused": {func(t *testing.T, run string) {
			startBus(t, run, `<deny send_interface="org.freedesktop.network1.Manager"/>`)
			(&service{then: func() {}}).serve(t, run, m)
		}, "Rejected send message"},
		"mute": {func(t *testing.T, run string) {
			if err := os.MkdirAll(filepath.Join(run, "dbus"), 0o755); err != nil {
				t.Fatal(err)
			}
			s, err := net.Listen("unix", filepath.Join(run, "dbus/system_bus_socket"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
		}, "log in to the system bus"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inNS(t, func(index map[string]int) {
				l := newLab(t)
				c.bus(t, l.RunDir)
				l.found(m)
				i := l.start()
				start := time.Now()
				i.Unmanage(context.Background())
				if got := i.Notices(); len(got) > 0 || time.Since(start) > 2*busTimeout {
					t.Errorf("after %s, nothing taken: %v", time.Since(start), got)
				}
				l.managed(m, index["cali0"], "ADMIN_STATE=configured")
				i.Unmanage(context.Background())
				got := i.Notices()
				if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0].Text, c.want)) {
					t.Errorf("notices: %v, want %q", got, c.want)
				}
			})
		})
	}
}

// TestAddressesAreSet holds to what udev looks at before it gives a device another address: that our devices are made
// with theirs (NET_ADDR_SET of linux/netdevice.h).
func TestAddressesAreSet(t *testing.T) {
	ns := nstest.New(t)
	conn := ns.Conn(t)
	dev := netlink.Link{Name: "vxlan.calico", MTU: 1450, MAC: netlink.MAC{0x66, 1, 2, 3, 4, 5}}
	dev.VXLAN = netlink.VXLAN{VNI: 4096, Port: 4789}
	dev.VXLAN.Local = netip.MustParseAddr("192.0.2.1")
	if err := conn.PutVXLAN(dev); err != nil {
		t.Fatal(err)
	}
	ns.Exec(t, "ip link add cali0 address ee:ee:ee:ee:ee:ee type veth peer name other0")
	var out []byte
	if err := conn.Do(func() (err error) { // a /sys that shows this namespace
		out, err = exec.Command("unshare", "-m", "sh", "-c",
			"mount -t sysfs sysfs /sys && cd /sys/class/net && cat vxlan.calico/addr_assign_type cali0/addr_assign_type other0/addr_assign_type").CombinedOutput()
		return err
	}); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, []string{"3", "3", "1"}) {
		t.Errorf("addr_assign_type of vxlan.calico, cali0, other0: %v; want 3 3 1", got)
	}
}
