package route

import (
	"context"
	"fmt"
	"io"
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

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// lab is a namespace like a node: an underlay, a VXLAN device, some pods' devices.
func lab(tb testing.TB) *nstest.NS {
	tb.Helper()
	n := nstest.New(tb)
	n.Exec(tb, "ip link add up0 type veth peer name up1", "ip link set up0 up", "ip link set up1 up",
		"ip addr add 192.168.10.11/24 dev up0", "ip -6 addr add 2001:db8::11/64 dev up0 nodad")
	for _, dev := range []string{"cali1", "cali2"} {
		n.Exec(tb, "ip link add "+dev+" type veth peer name p"+dev, "ip link set "+dev+" up", "ip link set p"+dev+" up")
	}
	addVXLAN(tb, n)
	return n
}

func addVXLAN(tb testing.TB, n *nstest.NS) {
	tb.Helper()
	n.Exec(tb, "ip link add vxlan.calico type vxlan id 4096 dstport 4789 nolearning local 192.168.10.11 dev up0",
		"ip addr add 172.20.0.1/32 dev vxlan.calico", "ip link set vxlan.calico up")
}

// monitor counts what happens to routes that are not the kernel's own.
func monitor(tb testing.TB, n *nstest.NS) *nstest.Events {
	return n.Monitor(tb, func(e netlink.Event) bool {
		r, ok := e.Route()
		if ok && r.Proto != unix.RTPROT_KERNEL {
			tb.Logf("event %d: %+v", e.Type, r)
		}
		return ok && r.Proto != unix.RTPROT_KERNEL
	}, netlink.GroupRoute4, netlink.GroupRoute6)
}

func start(tb testing.TB, n *nstest.NS) (*Table, func()) {
	t := New(n.Conn(tb), slog.New(slog.NewTextHandler(tb.Output(), nil)), reconcile.Hooks{})
	return t, nstest.Go(tb, t.Run)
}

// family gives the tests' addresses in one family.
type family struct {
	name, far, near, hole string
	nearVia               string
	pod                   string
	list                  string
}

var families = []family{
	{"IPv4", "172.20.1.0/26", "172.20.2.0/26", "172.20.0.0/26", "192.168.10.12", "172.20.0.5/32", "ip -4 route show table main"},
	{"IPv6", "fd00:20:1::/122", "fd00:20:2::/122", "fd00:20::/122", "2001:db8::12", "fd00:20::5/128", "ip -6 route show table main"},
}

func (f family) cluster() []model.Route {
	far := netip.MustParsePrefix(f.far)
	return []model.Route{
		{Dst: far, Dev: "vxlan.calico", Via: far.Addr(), OnLink: true, Proto: 80},
		{Dst: netip.MustParsePrefix(f.near), Dev: "up0", Via: netip.MustParseAddr(f.nearVia), Proto: 80},
		{Dst: netip.MustParsePrefix(f.hole), Kind: model.RouteBlackhole, Proto: 80},
	}
}

func (f family) pods() []model.Route {
	return []model.Route{{Dst: netip.MustParsePrefix(f.pod), Dev: "cali1", Proto: model.ProtoBoot}}
}

func both(t *testing.T, test func(*testing.T, family)) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) { test(t, f) })
	}
}

// want are the lines of ip route that there should be.
func (f family) want() []string {
	host := strings.TrimSuffix(strings.TrimSuffix(f.pod, "/32"), "/128")
	far, _, _ := strings.Cut(f.far, "/")
	return []string{
		f.far + " via " + far + " dev vxlan.calico proto 80",
		f.near + " via " + f.nearVia + " dev up0 proto 80",
		"blackhole " + f.hole,
		host + " dev cali1",
	}
}

func (f family) ready(t *testing.T, n *nstest.NS, d time.Duration, what string) {
	t.Helper()
	took := nstest.Within(t, d, what, func() bool {
		out, err := n.Try(f.list)
		if err != nil {
			return false
		}
		for _, line := range f.want() {
			if !strings.Contains(out, line) {
				return false
			}
		}
		return true
	})
	t.Logf("%s: back after %s", what, took.Round(time.Millisecond))
}

func TestFromEmptyAndRestart(t *testing.T) {
	both(t, func(t *testing.T, f family) {
		n := lab(t)
		tab, stop := start(t, n)
		tab.SetEndpoints(f.pods())
		tab.SetCluster(f.cluster())
		f.ready(t, n, time.Second, "from empty")
		stop()
		seen := monitor(t, n)
		tab, stop = start(t, n)
		time.Sleep(50 * time.Millisecond)
		tab.SetEndpoints(f.pods())
		time.Sleep(50 * time.Millisecond)
		tab.SetCluster(f.cluster())
		time.Sleep(200 * time.Millisecond)
		stop()
		tab, _ = start(t, n) // the other order
		tab.SetCluster(f.cluster())
		time.Sleep(50 * time.Millisecond)
		tab.SetEndpoints(f.pods())
		time.Sleep(100 * time.Millisecond)
		if err := tab.PutEndpoint(context.Background(), f.pods()); err != nil {
			t.Error(err)
		}
		time.Sleep(200 * time.Millisecond)
		if n := seen.Total(); n != 0 {
			t.Errorf("a restart made %d route events", n)
		}
	})
}

func TestNothingBeforeSync(t *testing.T) {
	both(t, func(t *testing.T, f family) {
		n := lab(t)
		tool := map[string]string{"IPv4": "ip ", "IPv6": "ip -6 "}[f.name]
		stale := map[string]string{"IPv4": "172.20.9.0/26", "IPv6": "fd00:20:9::/122"}[f.name]
		n.Exec(t, tool+"route add blackhole "+stale+" proto 80")
		tab, _ := start(t, n)
		tab.SetEndpoints(f.pods())
		time.Sleep(100 * time.Millisecond)
		if out := n.Exec(t, f.list); strings.Contains(out, strings.Split(f.pod, "/")[0]+" ") || !strings.Contains(out, stale) {
			t.Errorf("something was done before the cluster's routes were known: %s", out)
		}
		n2 := lab(t)
		n2.Exec(t, tool+"route add blackhole "+stale+" proto 80")
		tab2, _ := start(t, n2)
		tab2.SetCluster(f.cluster())
		nstest.Within(t, time.Second, "written", func() bool { return strings.Contains(n2.Exec(t, f.list), f.far) })
		time.Sleep(100 * time.Millisecond)
		if out := n2.Exec(t, f.list); !strings.Contains(out, stale) {
			t.Errorf("removed before the pods were known: %s", out)
		}
		tab2.SetEndpoints(nil)
		nstest.Within(t, time.Second, "sweep", func() bool { return !strings.Contains(n2.Exec(t, f.list), stale) })
	})
}

func TestSabotage(t *testing.T) {
	both(t, func(t *testing.T, f family) {
		n := lab(t)
		tool := map[string]string{"IPv4": "ip ", "IPv6": "ip -6 "}[f.name]
		pod := strings.Split(f.pod, "/")[0]
		tab, _ := start(t, n)
		tab.SetEndpoints(f.pods())
		tab.SetCluster(f.cluster())
		f.ready(t, n, time.Second, "from empty")
		for _, lines := range [][]string{
			{"route del " + f.far},
			{"route del " + f.near},
			{"route del blackhole " + f.hole},
			{"route del " + pod},
			{"route replace " + f.far + " dev up0 proto 80"},
			{"route replace blackhole " + f.near + " proto 80"},
			{"route replace " + f.hole + " via " + f.nearVia + " proto static"},
			{"route replace " + f.pod + " dev cali2"},
			{"route flush proto 80"},
			{"link set vxlan.calico down", "link set vxlan.calico up"},
			{"link set cali1 down", "link set cali1 up"},
		} {
			for _, line := range lines {
				n.Exec(t, tool+line)
			}
			f.ready(t, n, time.Second, strings.Join(lines, "; "))
		}
		if f.name == "IPv4" { // no event says that these take the routes along
			n.Exec(t, "ip addr del 172.20.0.1/32 dev vxlan.calico", "ip addr add 172.20.0.1/32 dev vxlan.calico")
			f.ready(t, n, time.Second, "last address of the VXLAN device")
			n.Exec(t, "ip addr del 192.168.10.11/24 dev up0", "ip addr add 192.168.10.11/24 dev up0")
			f.ready(t, n, time.Second, "last address of the underlay")
			n.Exec(t, "ip route prepend 172.20.1.0/26 dev up0 proto static")
			nstest.Within(t, time.Second, "prepended route is gone", func() bool {
				out := n.Exec(t, "ip route show 172.20.1.0/26")
				return strings.Count(out, "172.20.1.0/26") == 1 && strings.Contains(out, "vxlan.calico")
			})
		}
		n.Exec(t, "ip link del vxlan.calico")
		time.Sleep(50 * time.Millisecond)
		addVXLAN(t, n)
		f.ready(t, n, time.Second, "device gone and back")
		n.Exec(t, "ip link del cali1", "ip link add cali1 type veth peer name pcali1", "ip link set cali1 up")
		f.ready(t, n, time.Second, "pod's device gone and back")
	})
}

func TestForeignRoutesAreLeftAlone(t *testing.T) {
	n := lab(t)
	foreign := []string{"198.51.100.0/24 via 192.168.10.1 proto static", "203.0.113.0/24 dev cali2 proto 3", "203.0.113.128/25 dev up0 proto 12",
		"172.20.1.0/26 dev up0 metric 7", "203.0.113.0/24 dev up0 proto 80 table 99", "blackhole 192.0.2.0/24"}
	for _, r := range foreign {
		n.Exec(t, "ip route add "+r)
	}
	n.Exec(t, "ip -6 route add 2001:db8:5::/64 dev up0 proto 3", "ip -6 route add 2001:db8:5::/64 dev up0 proto 80 table 99")
	seen := monitor(t, n)
	for range 2 {
		tab, stop := start(t, n)
		tab.SetEndpoints(nil)
		tab.SetCluster(nil)
		time.Sleep(100 * time.Millisecond)
		tab.SetCluster(families[0].cluster())
		nstest.Within(t, time.Second, "written", func() bool { return strings.Contains(n.Exec(t, "ip route"), "via 172.20.1.0 dev vxlan.calico") })
		tab.SetCluster(nil)
		nstest.Within(t, time.Second, "removed", func() bool { return !strings.Contains(n.Exec(t, "ip route"), "vxlan.calico") })
		stop()
	}
	if put, del := seen.Count(unix.RTM_NEWROUTE), seen.Count(unix.RTM_DELROUTE); put != 6 || del != 6 {
		t.Errorf("%d written and %d removed, want 6 and 6", put, del)
	}
	out := n.Exec(t, "ip route show table all")
	for _, r := range foreign {
		if !strings.Contains(out, strings.Fields(r)[0]) {
			t.Errorf("%s is gone", r)
		}
	}
	if out := n.Exec(t, "ip -6 route show table all"); strings.Count(out, "2001:db8:5::/64") != 2 {
		t.Errorf("foreign IPv6 route is gone: %s", out)
	}
}

func TestOddOnesOfOurProtocolAreSwept(t *testing.T) {
	n := lab(t)
	tab, _ := start(t, n)
	f := families[0]
	n.Exec(t, "ip route add 172.20.7.0/26 proto 80 nexthop via 192.168.10.2 dev up0 nexthop via 192.168.10.3 dev up0",
		"ip route add 172.20.1.0/26 dev up0 metric 9 proto 80", "ip route add 172.20.8.0/26 dev up0 tos 8 proto 80",
		"ip route add "+f.near+" via "+f.nearVia+" proto 80", "ip route append "+f.near+" via 192.168.10.77 proto 80",
		"ip route add "+f.far+" via 192.168.10.77 proto 80", "ip route append "+f.far+" via 172.20.1.0 dev vxlan.calico onlink proto 80",
		"ip -6 route add fd00:7::/122 proto 80 nexthop via 2001:db8::2 dev up0 nexthop via 2001:db8::3 dev up0")
	tab.SetEndpoints(nil)
	tab.SetCluster(f.cluster())
	nstest.Within(t, time.Second, "only ours is left", func() bool {
		out := n.Exec(t, "ip route show proto 80")
		six := n.Exec(t, "ip -6 route show proto 80")
		return strings.Count(out, "\n") == 2 && six == "" && strings.Contains(out, "172.20.1.0/26 via 172.20.1.0 dev vxlan.calico") &&
			strings.Contains(out, f.nearVia)
	})
}

func TestPutEndpoint(t *testing.T) {
	both(t, func(t *testing.T, f family) {
		n := lab(t)
		tab, _ := start(t, n)
		ctx := context.Background()
		here := func(dev string) bool {
			return strings.Contains(n.Exec(t, f.list), strings.Split(f.pod, "/")[0]+" dev "+dev)
		}
		if err := tab.PutEndpoint(ctx, f.pods()); err != nil || !here("cali1") {
			t.Fatalf("not there: %v", err)
		}
		moved := f.pods()
		moved[0].Dev = "cali2"
		if err := tab.PutEndpoint(ctx, moved); err != nil || !here("cali2") {
			t.Fatalf("not moved: %v", err)
		}
		missing := f.pods()
		missing[0].Dev = "cali3"
		if err := tab.PutEndpoint(ctx, missing); err == nil {
			t.Fatal("no error for a missing device")
		}
		tab.SetEndpoints(missing)
		tab.SetCluster(nil)
		n.Exec(t, "ip link add cali3 type veth peer name pcali3", "ip link set cali3 up")
		nstest.Within(t, time.Second, "device appeared", func() bool { return here("cali3") })
	})
}

// A block of one address is both a blackhole and a pod's route: the pod counts while it is there.
func TestBlockOfOneAddress(t *testing.T) {
	both(t, func(t *testing.T, f family) {
		n := lab(t)
		tab, stop := start(t, n)
		hole := []model.Route{{Dst: netip.MustParsePrefix(f.pod), Kind: model.RouteBlackhole, Proto: 80}}
		addr := strings.Split(f.pod, "/")[0]
		is := func(line string) func() bool { return func() bool { return strings.Contains(n.Exec(t, f.list), line) } }
		tab.SetEndpoints(f.pods())
		tab.SetCluster(hole)
		nstest.Within(t, time.Second, "pod's route", is(addr+" dev cali1"))
		stop()
		seen := monitor(t, n)
		tab, _ = start(t, n)
		tab.SetCluster(hole)
		time.Sleep(50 * time.Millisecond)
		tab.SetEndpoints(f.pods())
		time.Sleep(100 * time.Millisecond)
		if seen.Total() != 0 {
			t.Errorf("%d events at a restart", seen.Total())
		}
		tab.DeleteEndpoint(hole[0].Dst)
		nstest.Within(t, time.Second, "blackhole", is("blackhole "+addr))
	})
}

// A random walk through wanted states and sabotage ends where a table that was told only the last state ends.
func TestRandomWalk(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			n, fresh := lab(t), lab(t)
			tab, _ := start(t, n)
			tab.SetEndpoints(nil)
			var cluster []model.Route
			pods := map[netip.Prefix]model.Route{}
			for range 60 {
				switch r.IntN(6) {
				case 0, 1:
					cluster = randomCluster(r)
					tab.SetCluster(cluster)
				case 2:
					p := families[r.IntN(2)].pods()[0]
					p.Dev = []string{"cali1", "cali2"}[r.IntN(2)]
					pods[p.Dst] = p
					if err := tab.PutEndpoint(context.Background(), []model.Route{p}); err != nil {
						t.Error(err)
					}
				case 3:
					f := families[r.IntN(2)]
					_, _ = n.Try([]string{"ip ", "ip -6 "}[r.IntN(2)] + "route flush proto 80")
					_, _ = n.Try("ip route replace " + f.hole + " dev up0 proto " + fmt.Sprint(80-r.IntN(2)))
				case 4:
					n.Exec(t, "ip link del vxlan.calico")
					addVXLAN(t, n)
				case 5:
					time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
				}
			}
			tab.SetCluster(cluster)
			other, _ := start(t, fresh)
			var list []model.Route
			for _, p := range pods {
				list = append(list, p)
			}
			other.SetEndpoints(list)
			other.SetCluster(cluster)
			show := func(n *nstest.NS) string { return ours(t, n) }
			nstest.Within(t, 3*time.Second, "the walk ends where a fresh table ends", func() bool { return show(n) == show(fresh) && strings.Count(show(n), "\n") == len(cluster)+len(pods) })
		})
	}
}

func randomCluster(r *rand.Rand) []model.Route {
	var out []model.Route
	for _, f := range families {
		for _, c := range f.cluster() {
			switch r.IntN(4) {
			case 0:
			case 1:
				out = append(out, model.Route{Dst: c.Dst, Kind: model.RouteBlackhole, Proto: 80})
			default:
				out = append(out, c)
			}
		}
	}
	return out
}

// ours lists the routes that a Table writes, sorted, one a line.
func ours(t *testing.T, n *nstest.NS) string {
	t.Helper()
	var lines []string
	for _, l := range strings.Split(n.Exec(t, "ip route")+"\n"+n.Exec(t, "ip -6 route"), "\n") {
		if strings.Contains(l, "proto 80") || strings.Contains(l, "dev cali") && !strings.Contains(l, "fe80") {
			lines = append(lines, strings.TrimSpace(l)+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func many(n int) []model.Route {
	out := make([]model.Route, n)
	for i := range out {
		dst := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 26)
		out[i] = model.Route{Dst: dst, Dev: "vxlan.calico", Via: dst.Addr(), OnLink: true, Proto: 80}
	}
	return out
}

func TestOverrunAndManyRoutes(t *testing.T) {
	n := lab(t)
	tab, _ := start(t, n)
	tab.SetEndpoints(nil)
	tab.SetCluster(many(10000))
	count := func() int {
		routes, err := tab.conn.Routes(unix.AF_INET, 80)
		if err != nil {
			return -1
		}
		return len(routes)
	}
	t.Log("10k routes written after", nstest.Within(t, 20*time.Second, "10k routes", func() bool { return count() == 10000 }))
	n.Exec(t, "ip route flush proto 80")
	t.Log("10k flushed routes back after", nstest.Within(t, 20*time.Second, "10k routes back", func() bool { return count() == 10000 }))
	// Events lost: what the table believes is wrong, and only the overrun tells.
	tab.mu.Lock()
	tab.routes.LostIf(func(k key, _ netlink.Route) bool { return k.dst.Addr().As4()[1] == 3 })
	n.Exec(t, "ip route del 10.5.7.0/26")
	tab.mu.Unlock()
	tab.loop.KickResync()
	nstest.Within(t, 5*time.Second, "right again", func() bool {
		tab.mu.Lock()
		defer tab.mu.Unlock()
		put, remove := tab.routes.Dirty(compareKeys)
		return len(put)+len(remove) == 0
	})
	if count() != 10000 {
		t.Error(count())
	}
}

func BenchmarkResync10k(b *testing.B) {
	n := lab(b)
	tab := New(n.Conn(b), quiet, reconcile.Hooks{})
	tab.SetEndpoints(nil)
	tab.SetCluster(many(10000))
	ctx := context.Background()
	if err := tab.Resync(ctx); err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	if err := tab.Apply(ctx); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(time.Since(begin).Milliseconds()), "fill-ms")
	for b.Loop() {
		if err := tab.Resync(ctx); err != nil {
			b.Fatal(err)
		}
		if err := tab.Apply(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOneRouteOf10k(b *testing.B) {
	n := lab(b)
	tab := New(n.Conn(b), quiet, reconcile.Hooks{})
	tab.SetEndpoints(nil)
	routes := many(10000)
	tab.SetCluster(routes)
	ctx := context.Background()
	if err := tab.Resync(ctx); err != nil {
		b.Fatal(err)
	}
	if err := tab.Apply(ctx); err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		i++
		routes = slices.Clone(routes)
		routes[77].Kind = model.RouteKind(i % 2)
		tab.SetCluster(routes)
		if err := tab.Apply(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPutEndpoint(b *testing.B) {
	n := lab(b)
	tab := New(n.Conn(b), quiet, reconcile.Hooks{})
	ctx := context.Background()
	i := 0
	for b.Loop() {
		i++
		r := model.Route{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 32), Dev: "cali1", Proto: 3}
		if err := tab.PutEndpoint(ctx, []model.Route{r}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		tab.DeleteEndpoint(r.Dst)
		b.StartTimer()
	}
}

// How long the plugin's ADD waits while everything is listed again and again.
func BenchmarkPutEndpointDuringResync(b *testing.B) {
	n := lab(b)
	tab := New(n.Conn(b), quiet, reconcile.Hooks{})
	tab.SetEndpoints(nil)
	tab.SetCluster(many(10000))
	if err := tab.Resync(context.Background()); err != nil {
		b.Fatal(err)
	}
	if err := tab.Apply(context.Background()); err != nil {
		b.Fatal(err)
	}
	nstest.Go(b, func(ctx context.Context) error {
		for ctx.Err() == nil {
			if err := tab.Resync(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	i := 0
	var worst time.Duration
	for b.Loop() {
		i++
		r := model.Route{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 32), Dev: "cali1", Proto: 3}
		begin := time.Now()
		if err := tab.PutEndpoint(context.Background(), []model.Route{r}); err != nil {
			b.Fatal(err)
		}
		worst = max(worst, time.Since(begin))
		b.StopTimer()
		tab.DeleteEndpoint(r.Dst)
		b.StartTimer()
	}
	b.ReportMetric(float64(worst.Microseconds()), "worst-µs")
}
