package neigh

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

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/netlink/nstest"
	"github.com/margay-net/margay/pkg/reconcile"
)

// lab is a namespace with an underlay, both VXLAN devices and a foreign one.
func lab(tb testing.TB) *nstest.NS {
	tb.Helper()
	n := nstest.New(tb)
	n.Exec(tb, "ip link add up0 type veth peer name up1", "ip link set up0 up", "ip link set up1 up",
		"ip addr add 192.168.10.11/24 dev up0", "ip -6 addr add 2001:db8::11/64 dev up0 nodad")
	addVXLAN(tb, n)
	n.Exec(tb, "ip link add flannel.1 type vxlan id 1 dstport 8472 nolearning local 192.168.10.11 dev up0", "ip link set flannel.1 up")
	return n
}

func addVXLAN(tb testing.TB, n *nstest.NS) {
	tb.Helper()
	n.Exec(tb, "ip link add vxlan.calico address 66:00:00:00:00:01 type vxlan id 4096 dstport 4789 nolearning local 192.168.10.11 dev up0", "ip link set vxlan.calico up",
		"ip link add vxlan-v6.calico address 66:00:00:00:00:02 type vxlan id 4096 dstport 4789 nolearning local 2001:db8::11 dev up0", "ip link set vxlan-v6.calico up")
}

func start(tb testing.TB, n *nstest.NS) (*Table, func()) {
	t := New(n.Conn(tb), slog.New(slog.NewTextHandler(tb.Output(), nil)), reconcile.Hooks{})
	return t, nstest.Go(tb, t.Run)
}

// wanted are the entries for these nodes, in both families.
func wanted(nodes ...int) (neighs []model.Neigh, fdb []model.FDB) {
	for _, i := range nodes {
		for _, dev := range devices {
			mac := model.MAC{0x66, byte(len(dev)), 0, 0, byte(i >> 8), byte(i)}
			ip, far := netip.AddrFrom4([4]byte{172, 20, byte(i >> 8), byte(i)}), netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)})
			if strings.Contains(dev, "v6") {
				ip, far = netip.MustParseAddr(fmt.Sprintf("fd00:20::%x", i)), netip.MustParseAddr(fmt.Sprintf("2001:db8::1:%x", i))
			}
			neighs = append(neighs, model.Neigh{Dev: dev, IP: ip, MAC: mac})
			fdb = append(fdb, model.FDB{Dev: dev, MAC: mac, Dst: far})
		}
	}
	return neighs, fdb
}

func set(tab *Table, nodes ...int) {
	neighs, fdb := wanted(nodes...)
	tab.SetNeighs(neighs)
	tab.SetFDB(fdb)
}

// look lists the entries of our devices as lines.
func look(t testing.TB, n *nstest.NS) string {
	t.Helper()
	var lines []string
	for _, dev := range devices {
		out, _ := n.Try("ip neigh show nud permanent dev " + dev)
		six, _ := n.Try("ip -6 neigh show nud permanent dev " + dev)
		fdb, _ := n.Try("bridge fdb show dev " + dev)
		for _, l := range strings.Split(out+"\n"+six+"\n"+fdb, "\n") {
			f := strings.Fields(l)
			if len(f) == 0 || f[0] == "00:00:00:00:00:00" {
				continue
			}
			for i, w := range f { // bridge says dev, ip neigh does not
				if w == "dev" {
					f = slices.Delete(f, i, i+2)
					break
				}
			}
			lines = append(lines, dev+" "+strings.Join(f, " "))
		}
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}

// expect is what look should say.
func expect(nodes ...int) string {
	neighs, fdb := wanted(nodes...)
	var lines []string
	for _, n := range neighs {
		lines = append(lines, fmt.Sprintf("%s %s lladdr %s PERMANENT", n.Dev, n.IP, n.MAC))
	}
	for _, f := range fdb {
		lines = append(lines, fmt.Sprintf("%s %s dst %s self permanent", f.Dev, f.MAC, f.Dst))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func ready(t testing.TB, n *nstest.NS, what string, nodes ...int) {
	t.Helper()
	var have string
	defer func() {
		if t.Failed() {
			t.Logf("have:\n%s\nwant:\n%s", have, expect(nodes...))
		}
	}()
	took := nstest.Within(t, time.Second, what, func() bool { have = look(t, n); return have == expect(nodes...) })
	t.Logf("%s: right after %s", what, took.Round(time.Millisecond))
}

func monitor(t *testing.T, n *nstest.NS) *nstest.Events {
	return n.Monitor(t, func(e netlink.Event) bool {
		m, ok := e.Neigh()
		_, _, ours := entry(m)
		return ok && ours && !absent(m)
	}, netlink.GroupNeigh)
}

func TestFromEmptyAndRestart(t *testing.T) {
	n := lab(t)
	tab, stop := start(t, n)
	tab.SetNeighs(nil)
	set(tab, 1, 2, 3)
	ready(t, n, "from empty", 1, 2, 3)
	stop()
	seen := monitor(t, n)
	tab, stop = start(t, n)
	set(tab, 1, 2, 3)
	time.Sleep(200 * time.Millisecond)
	stop()
	tab, _ = start(t, n)
	time.Sleep(100 * time.Millisecond)
	set(tab, 1, 2, 3)
	time.Sleep(200 * time.Millisecond)
	if seen.Total() != 0 {
		t.Errorf("a restart made %d events", seen.Total())
	}
	set(tab, 3, 4)
	ready(t, n, "other nodes", 3, 4)
}

func TestNothingBeforeSync(t *testing.T) {
	n := lab(t)
	n.Exec(t, "ip neigh add 172.20.9.9 lladdr 66:00:00:00:09:09 dev vxlan.calico")
	tab, _ := start(t, n)
	neighs, fdb := wanted(1)
	tab.SetNeighs(neighs)
	time.Sleep(100 * time.Millisecond)
	if have := look(t, n); strings.Count(have, "\n") != 0 || !strings.Contains(have, "172.20.9.9") {
		t.Errorf("something was done before both tables were known:\n%s", have)
	}
	tab.SetFDB(fdb)
	ready(t, n, "in sync", 1)
}

func TestSabotage(t *testing.T) {
	n := lab(t)
	tab, _ := start(t, n)
	set(tab, 1, 2)
	ready(t, n, "from empty", 1, 2)
	mac4, mac6 := model.MAC{0x66, byte(len(devices[0])), 0, 0, 0, 1}, model.MAC{0x66, byte(len(devices[1])), 0, 0, 0, 1}
	for _, lines := range [][]string{
		{"ip neigh del 172.20.0.1 dev vxlan.calico", "ip -6 neigh del fd00:20::1 dev vxlan-v6.calico"},
		{"ip neigh replace 172.20.0.1 lladdr 02:00:00:00:00:01 dev vxlan.calico nud permanent", "ip -6 neigh replace fd00:20::1 lladdr 02:00:00:00:00:01 dev vxlan-v6.calico nud permanent"},
		{"ip neigh replace 172.20.0.1 lladdr " + mac4.String() + " dev vxlan.calico nud reachable"},
		{"ip neigh replace 172.20.0.1 lladdr " + mac4.String() + " dev vxlan.calico nud noarp"},
		{"ip neigh add 172.20.0.99 lladdr 02:00:00:00:00:01 dev vxlan.calico nud permanent", "ip neigh add 172.20.0.98 lladdr 02:00:00:00:00:01 dev vxlan.calico nud stale"},
		{"bridge fdb del " + mac4.String() + " dev vxlan.calico", "bridge fdb del " + mac6.String() + " dev vxlan-v6.calico"},
		{"bridge fdb replace " + mac4.String() + " dst 192.0.2.1 dev vxlan.calico self permanent", "bridge fdb replace " + mac6.String() + " dst 2001:db8::9 dev vxlan-v6.calico self permanent"},
		{"bridge fdb append " + mac4.String() + " dst 192.0.2.1 dev vxlan.calico self permanent"},
		{"bridge fdb add 02:00:00:00:00:07 dst 192.0.2.1 dev vxlan.calico self permanent"},
		{"ip neigh flush dev vxlan.calico nud permanent", "ip link set vxlan.calico down", "ip link set vxlan.calico up"},
		{"ip link set vxlan-v6.calico down", "ip link set vxlan-v6.calico up"},
		{"ip link set vxlan.calico address 66:00:00:00:00:09"},
	} {
		n.Exec(t, lines...)
		ready(t, n, strings.Join(lines, "; "), 1, 2)
	}
	n.Exec(t, "ip link del vxlan.calico", "ip link del vxlan-v6.calico")
	time.Sleep(20 * time.Millisecond)
	set(tab, 2, 3)
	addVXLAN(t, n)
	ready(t, n, "devices gone and back", 2, 3)
}

func TestForeignEntriesAreLeftAlone(t *testing.T) {
	n := lab(t)
	n.Exec(t, "ip neigh add 172.20.9.9 lladdr 66:00:00:00:09:09 dev flannel.1", "bridge fdb add 66:00:00:00:09:09 dst 192.0.2.1 dev flannel.1 self permanent",
		"ip neigh add 192.168.10.9 lladdr 66:00:00:00:09:09 dev up0", "bridge fdb append 00:00:00:00:00:00 dst 192.0.2.5 dev vxlan.calico self permanent")
	seen := monitor(t, n)
	tab, _ := start(t, n)
	set(tab)
	neighs, _ := wanted(1)
	neighs[0].Dev = "up0"
	tab.SetNeighs(neighs[:1])
	time.Sleep(200 * time.Millisecond)
	if seen.Total() != 0 {
		t.Errorf("%d events", seen.Total())
	}
}

func TestRandomWalk(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			n := lab(t)
			tab, _ := start(t, n)
			var nodes []int
			for range 50 {
				switch r.IntN(5) {
				case 0, 1:
					nodes = nil
					for i := range 8 {
						if r.IntN(2) == 0 {
							nodes = append(nodes, i+1)
						}
					}
					set(tab, nodes...)
				case 2:
					_, _ = n.Try(fmt.Sprintf("ip neigh replace 172.20.0.%d lladdr 02:00:00:00:00:01 dev vxlan.calico nud permanent", r.IntN(10)))
				case 3:
					n.Exec(t, "ip link del vxlan.calico", "ip link del vxlan-v6.calico")
					addVXLAN(t, n)
				case 4:
					_, _ = n.Try(fmt.Sprintf("bridge fdb replace %s dst 192.0.2.1 dev vxlan.calico self permanent", model.MAC{0x66, byte(len(devices[0])), 0, 0, 0, byte(r.IntN(9))}))
				}
			}
			ready(t, n, "end of the walk", nodes...)
		})
	}
}

func BenchmarkResync5kNodes(b *testing.B) {
	n := lab(b)
	tab := New(n.Conn(b), slog.New(slog.NewTextHandler(b.Output(), nil)), reconcile.Hooks{})
	var nodes []int
	for i := range 2500 { // in each family
		nodes = append(nodes, i+1)
	}
	set(tab, nodes...)
	ctx := context.Background()
	for b.Loop() {
		if err := tab.Resync(ctx); err != nil {
			b.Fatal(err)
		}
		if err := tab.Apply(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
