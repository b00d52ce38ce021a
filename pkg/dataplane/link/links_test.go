package link

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/netlink/nstest"
	"github.com/margay-net/margay/pkg/reconcile"
)

func lab(tb testing.TB) *nstest.NS {
	tb.Helper()
	n := nstest.New(tb)
	n.Exec(tb, "ip link add up0 type veth peer name up1", "ip link set up0 up", "ip link set up1 up",
		"ip addr add 192.168.10.11/24 dev up0", "ip -6 addr add 2001:db8::11/64 dev up0 nodad",
		"ip link add oth0 type veth peer name oth1", "ip link set oth0 up", "ip link set oth1 up", "ip addr add 192.168.11.11/24 dev oth0")
	addPod(tb, n, "cali1")
	addPod(tb, n, "cali2")
	return n
}

func addPod(tb testing.TB, n *nstest.NS, dev string) {
	tb.Helper()
	n.Exec(tb, "ip link add "+dev+" type veth peer name p"+dev, "ip link set p"+dev+" up")
}

func start(tb testing.TB, n *nstest.NS) (*Links, func()) {
	l := New(n.Conn(tb), "/proc/sys", slog.New(slog.NewTextHandler(tb.Output(), nil)), reconcile.Hooks{})
	return l, nstest.Go(tb, l.Run)
}

// idle returns Links that do not run; the test waits for removals under way.
func idle(tb testing.TB, n *nstest.NS) *Links {
	l := New(n.Conn(tb), "/proc/sys", slog.New(slog.NewTextHandler(tb.Output(), nil)), reconcile.Hooks{})
	tb.Cleanup(l.settle)
	return l
}

func vxlans() []model.VXLAN {
	return []model.VXLAN{
		{Name: "vxlan.calico", VNI: 4096, Port: 4789, Parent: "up0", Local: netip.MustParseAddr("192.168.10.11"), MAC: model.TunnelMAC("node-1", false), MTU: 1450, Addr: netip.MustParseAddr("172.20.0.1"), Checksum: model.ChecksumDevice},
		{Name: "vxlan-v6.calico", VNI: 4096, Port: 4789, Parent: "up0", Local: netip.MustParseAddr("2001:db8::11"), MAC: model.TunnelMAC("node-1", true), MTU: 1430, Addr: netip.MustParseAddr("fd00:20::1")},
	}
}

// show says all that matters of a VXLAN device in one line.
func show(n *nstest.NS, name string) string {
	link, err := n.Try("ip -d link show " + name)
	if err != nil {
		return "none"
	}
	addr, _ := n.Try("ip -o addr show scope global dev " + name)
	f := strings.Fields(link + " " + addr)
	var out []string
	for i, w := range f {
		switch w {
		case "mtu", "link/ether", "id", "local", "dev", "dstport", "inet", "inet6":
			out = append(out, w+" "+f[i+1])
		case "nolearning", "udpcsum", "noudpcsum", "tentative":
			out = append(out, w)
		}
	}
	if strings.Contains(f[2], ",UP") {
		out = append(out, "up")
	}
	if features, _ := n.Try("ethtool -k " + name); !strings.Contains(features, "tx-checksumming: on") {
		out = append(out, "softcsum")
	}
	if n.Read("/proc/sys/net/ipv4/conf/"+name+"/rp_filter") == "2" {
		out = append(out, "loose")
	}
	return strings.Join(out, ", ")
}

func expect(v model.VXLAN) string {
	kind := "inet"
	if v.Addr.Is6() {
		kind = "inet6"
	}
	text := fmt.Sprintf("mtu %d, link/ether %s, id %d, local %s, dev %s, dstport %d, nolearning, noudpcsum, %s %s/%d, up",
		v.MTU, v.MAC, v.VNI, v.Local, v.Parent, v.Port, kind, v.Addr, v.Addr.BitLen())
	if v.Checksum == model.ChecksumSoft {
		text += ", softcsum"
	}
	if v.Addr.Is4() {
		text += ", loose"
	}
	return text
}

func ready(t testing.TB, n *nstest.NS, what string, devices ...model.VXLAN) {
	t.Helper()
	var have, want string
	defer func() {
		if t.Failed() {
			t.Logf("have %s\nwant %s", have, want)
		}
	}()
	took := nstest.Within(t, time.Second, what, func() bool {
		for _, v := range devices {
			if have, want = show(n, v.Name), expect(v); have != want {
				return false
			}
		}
		return true
	})
	t.Logf("%s: right after %s", what, took.Round(time.Millisecond))
}

var sysctlWant = map[string]string{
	"net/ipv4/conf/cali1/proxy_arp": "1", "net/ipv4/conf/cali1/forwarding": "1", "net/ipv4/conf/cali1/route_localnet": "1",
	"net/ipv4/neigh/cali1/proxy_delay": "0",
	"net/ipv6/conf/cali1/proxy_ndp":    "1", "net/ipv6/conf/cali1/forwarding": "1", "net/ipv6/conf/cali1/accept_ra": "0",
	"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1",
}

func sysctlsRight(n *nstest.NS) (wrong []string) {
	for path, want := range sysctlWant {
		if have := n.Read("/proc/sys/" + path); have != want {
			wrong = append(wrong, path+"="+have)
		}
	}
	return wrong
}

// writes counts what somebody did to devices, their addresses and their sysctls, but for what the kernel does by itself.
func writes(t *testing.T, n *nstest.NS) *nstest.Events {
	return n.Monitor(t, func(e netlink.Event) bool {
		if e.Type == unix.RTM_NEWADDR || e.Type == unix.RTM_DELADDR {
			a, ok := e.Addr()
			return ok && a.Global
		}
		return true
	}, netlink.GroupLink, netlink.GroupAddr4, netlink.GroupAddr6, netlink.GroupNetconf4, netlink.GroupNetconf6)
}

func all(l *Links) {
	l.SetForwarding(Families{true, true})
	l.SetVXLAN(vxlans())
	l.SetEndpoints([]Endpoint{{"cali1", Families{true, true}}})
}

func right(n *nstest.NS) func() bool {
	return func() bool {
		out, _ := n.Try("ip link show cali1")
		return len(sysctlsRight(n)) == 0 && strings.Contains(out, ",UP")
	}
}

func TestFromEmptyAndRestart(t *testing.T) {
	n := lab(t)
	l, stop := start(t, n)
	all(l)
	ready(t, n, "from empty", vxlans()...)
	nstest.Within(t, time.Second, "sysctls and up", right(n))
	time.Sleep(300 * time.Millisecond)
	stop()
	seen := writes(t, n)
	l, _ = start(t, n)
	all(l)
	if err := l.PutEndpoint(context.Background(), Endpoint{"cali1", Families{true, true}}); err != nil {
		t.Error(err)
	}
	time.Sleep(300 * time.Millisecond)
	if seen.Total() != 0 {
		t.Errorf("a restart made %d events", seen.Total())
	}
	l.SetVXLAN(vxlans()[:1])
	nstest.Within(t, linger+time.Second, "removed", func() bool { return show(n, "vxlan-v6.calico") == "none" })
	ready(t, n, "the other one stays", vxlans()[0])
}

func TestNothingBeforeSync(t *testing.T) {
	n := lab(t)
	n.Exec(t, "ip link add vxlan.calico type vxlan id 1 dstport 4789")
	start(t, n)
	time.Sleep(100 * time.Millisecond)
	if show(n, "vxlan.calico") == "none" {
		t.Error("removed before it was known what is wanted")
	}
}

func TestSabotageOfVXLAN(t *testing.T) {
	n := lab(t)
	l, stop := start(t, n)
	all(l)
	ready(t, n, "from empty", vxlans()...)
	index, _ := n.Conn(t).Index("vxlan.calico")
	for _, lines := range [][]string{
		{"ip link set vxlan.calico down", "ip link set vxlan-v6.calico down"},
		{"ip link set vxlan.calico mtu 1300", "ip link set vxlan-v6.calico mtu 1300"},
		{"ip link set vxlan.calico address 02:00:00:00:00:01"},
		{"ip addr del 172.20.0.1/32 dev vxlan.calico", "ip -6 addr del fd00:20::1/128 dev vxlan-v6.calico"},
		{"ip addr add 172.20.0.2/32 dev vxlan.calico", "ip -6 addr add fd00:20::2/128 dev vxlan-v6.calico nodad"},
		{"ip addr add 172.20.0.1/24 dev vxlan.calico"},
		{"ip link set vxlan.calico type vxlan id 4096 learning local 192.168.10.99", "ip link set vxlan-v6.calico type vxlan id 4096 local 2001:db8::99"},
		{"ip link set vxlan.calico type vxlan id 4096 dev oth0"},
		{"ethtool -K vxlan.calico tx off"},
		{"sysctl -q -w net/ipv4/conf/vxlan.calico/rp_filter=1"},
	} {
		n.Exec(t, lines...)
		ready(t, n, strings.Join(lines, "; "), vxlans()...)
	}
	if now, _ := n.Conn(t).Index("vxlan.calico"); now != index {
		t.Error("the device was made anew though it could be corrected")
	}
	n.Exec(t, "ip link del vxlan.calico", "ip link del vxlan-v6.calico")
	ready(t, n, "deleted", vxlans()...)
	for _, lines := range [][]string{
		{"ip link del vxlan.calico", "ip link add vxlan.calico type vxlan id 7 dstport 4789"},
		{"ip link del vxlan.calico", "ip link add vxlan.calico type vxlan id 4096 dstport 8472"},
		{"ip link del vxlan.calico", "ip link add vxlan.calico type bridge"},
		{"ip link del up0", "ip link add up0 type veth peer name up1", "ip link set up0 up"},
	} {
		stop() // it would be faster than the second line
		n.Exec(t, lines...)
		l, stop = start(t, n)
		all(l)
		ready(t, n, strings.Join(lines, "; "), vxlans()...)
	}
	moved := vxlans()
	moved[0].Parent, moved[0].Local, moved[0].MTU = "oth0", netip.MustParseAddr("192.168.11.11"), 1400
	moved[0].Checksum = model.ChecksumSoft
	moved[1].Port, moved[1].Addr = 4790, netip.MustParseAddr("fd00:20::7")
	l.SetVXLAN(moved)
	ready(t, n, "other parameters", moved...)
}

func TestSabotageOfEndpoint(t *testing.T) {
	n := lab(t)
	l, _ := start(t, n)
	all(l)
	nstest.Within(t, time.Second, "from empty", right(n))
	for path, want := range sysctlWant {
		n.Write(t, "/proc/sys/"+path, map[string]string{"0": "1", "1": "0"}[want])
		took := nstest.Within(t, time.Second, path, func() bool { return n.Read("/proc/sys/"+path) == want })
		t.Logf("%s: back after %s", path, took.Round(time.Millisecond))
	}
	nstest.Within(t, time.Second, "all sysctls", right(n))
	n.Exec(t, "ip link set cali1 down")
	nstest.Within(t, time.Second, "up", right(n))
	n.Exec(t, "ip link del cali1")
	addPod(t, n, "cali1")
	nstest.Within(t, time.Second, "device of the same name", right(n))
	before := n.Read("/proc/sys/" + "net/ipv4/conf/cali2/proxy_arp")
	if before != "0" {
		t.Error("a device that nobody named was touched")
	}
}

func TestPutEndpoint(t *testing.T) {
	n := lab(t)
	l := idle(t, n)
	ctx := context.Background()
	if err := l.PutEndpoint(ctx, Endpoint{"cali2", Families{V4: true}}); err != nil {
		t.Fatal(err)
	}
	if n.Read("/proc/sys/"+"net/ipv4/conf/cali2/proxy_arp") != "1" || n.Read("/proc/sys/"+"net/ipv6/conf/cali2/proxy_ndp") != "0" {
		t.Error("sysctls are not those of an IPv4 pod")
	}
	if _, up := l.conn.Index("cali2"); !up {
		t.Error("not up")
	}
	if err := l.PutEndpoint(ctx, Endpoint{"cali9", Families{V4: true}}); err == nil {
		t.Error("no error for a missing device")
	}
	l.DeleteEndpoint("cali9")
	if err := l.Apply(ctx); err != nil {
		t.Error(err)
	}
}

// The node's address on a pod's device comes, comes again after another program took it, changes and goes; others' stay.
func TestPeering(t *testing.T) {
	n := lab(t)
	n.Exec(t, "ip addr add 192.0.2.7/32 dev cali1")
	l, _ := start(t, n)
	if err := l.PutEndpoint(t.Context(), Endpoint{"cali1", Families{V4: true, V6: true}}); err != nil {
		t.Fatal(err)
	}
	check := func(what string, want ...string) {
		t.Helper()
		nstest.Within(t, 30*time.Second, what, func() bool {
			out := n.Exec(t, "ip -o addr show dev cali1")
			count := strings.Count(out, "scope link") - strings.Count(out, "inet6 fe80::")
			for _, text := range want {
				if !strings.Contains(out, text+" scope link") {
					return false
				}
			}
			return count == len(want) && strings.Contains(out, "192.0.2.7/32 scope global")
		})
	}
	of := func(addrs ...string) map[string][]netip.Addr {
		var all []netip.Addr
		for _, a := range addrs {
			all = append(all, netip.MustParseAddr(a))
		}
		return map[string][]netip.Addr{"cali1": all}
	}
	check("nothing yet")
	l.SetPeering(of("169.254.77.1"))
	check("there", "169.254.77.1/32")
	n.Exec(t, "ip addr del 169.254.77.1/32 dev cali1")
	l.loop.KickResync()
	check("mended", "169.254.77.1/32")
	l.SetPeering(of("169.254.77.2"))
	check("another", "169.254.77.2/32")
	l.SetPeering(nil)
	check("gone")
}

func TestDeleteLink(t *testing.T) {
	n := lab(t)
	l := idle(t, n)
	ctx := context.Background()
	index, _ := l.conn.Index("cali1")
	for range 2 {
		if err := l.DeleteLink(ctx, "cali1", index); err != nil {
			t.Fatal(err)
		}
		if out, err := n.Try("ip link show cali1"); err == nil {
			t.Fatalf("still there: %s", out)
		}
	}
	addPod(t, n, "cali1") // the name is free at once
	if err := l.DeleteLink(ctx, "cali1", index); err != nil {
		t.Fatal(err)
	}
	if i, _ := l.conn.Index("cali1"); i == 0 {
		t.Error("a newer device of the same name was deleted")
	}
	if err := l.DeleteLink(ctx, "cali1", 0); err != nil {
		t.Fatal(err)
	}
	if i, _ := l.conn.Index("cali1"); i != 0 {
		t.Error("not deleted by name")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	for range maxDeletes {
		l.deletes <- struct{}{}
	}
	defer func() {
		for range maxDeletes {
			<-l.deletes
		}
	}()
	if err := l.DeleteLink(cancelled, "cali2", 0); err == nil || !strings.Contains(err.Error(), "cali2") {
		t.Errorf("cancelled: %v", err)
	}
}

func TestManyDeletesAtOnce(t *testing.T) {
	n := lab(t)
	l := idle(t, n)
	const count = 60
	for i := range count {
		addPod(t, n, fmt.Sprintf("calix%d", i))
	}
	begin := time.Now()
	errs := make(chan error, count)
	for i := range count {
		go func() { errs <- l.DeleteLink(context.Background(), fmt.Sprintf("calix%d", i), 0) }()
	}
	for range count {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d at once: %s", count, time.Since(begin).Round(time.Millisecond))
	if out := n.Exec(t, "ip link"); strings.Contains(out, "calix") {
		t.Errorf("left: %s", out)
	}
}

func TestRandomWalk(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			n := lab(t)
			l, _ := start(t, n)
			l.SetForwarding(Families{true, true})
			l.SetEndpoints([]Endpoint{{"cali1", Families{true, true}}})
			var want []model.VXLAN
			for range 25 {
				switch r.IntN(4) {
				case 0, 1:
					want = nil
					for _, v := range vxlans() {
						v.VNI += r.IntN(2)
						v.MTU -= r.IntN(2) * 100
						v.Parent = []string{"up0", "oth0"}[r.IntN(2)]
						if r.IntN(4) > 0 {
							want = append(want, v)
						}
					}
					l.SetVXLAN(want)
				case 2:
					_, _ = n.Try("ip link del " + ours[r.IntN(2)])
				case 3:
					_, _ = n.Try("ip addr flush dev " + ours[r.IntN(2)])
					_, _ = n.Try("ip link set down dev cali1")
				}
			}
			ready(t, n, "end of the walk", want...)
			nstest.Within(t, linger+time.Second, "end of the walk", func() bool {
				return right(n)() && !slices.ContainsFunc(ours[:], func(name string) bool {
					return show(n, name) != "none" && !slices.ContainsFunc(want, func(v model.VXLAN) bool { return v.Name == name })
				})
			})
		})
	}
}

func BenchmarkPutEndpoint(b *testing.B) {
	n := nstest.New(b)
	l := idle(b, n)
	for b.Loop() {
		b.StopTimer()
		_, _ = n.Try("ip link del caliz")
		addPod(b, n, "caliz")
		b.StartTimer()
		if err := l.PutEndpoint(context.Background(), Endpoint{"caliz", Families{V4: true}}); err != nil {
			b.Fatal(err)
		}
	}
}

// What DeleteLink gains: the plain call waits for the kernel's grace periods.
func BenchmarkDeleteLink(b *testing.B) {
	for _, way := range []string{"plain", "unlisted"} {
		b.Run(way, func(b *testing.B) {
			n := nstest.New(b)
			l := idle(b, n)
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				addPod(b, n, "caliz")
				n.Exec(b, "ip link set caliz up")
				index, _ := l.conn.Index("caliz")
				time.Sleep(30 * time.Millisecond)
				b.StartTimer()
				begin := time.Now()
				var err error
				if way == "plain" {
					err = l.conn.DeleteLink(index)
				} else {
					err = l.DeleteLink(context.Background(), "caliz", index)
				}
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// What the look each second costs with 100 pods of both families.
func BenchmarkLook100Pods(b *testing.B) {
	n := nstest.New(b)
	l := idle(b, n)
	for i := range 100 {
		dev := fmt.Sprintf("calil%d", i)
		addPod(b, n, dev)
		if err := l.PutEndpoint(context.Background(), Endpoint{dev, Families{true, true}}); err != nil {
			b.Fatal(err)
		}
	}
	var before, after unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	watches := map[string]watch{}
	for b.Loop() {
		l.look(watches)
	}
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N)/1e3, "cpu-µs/op")
}
