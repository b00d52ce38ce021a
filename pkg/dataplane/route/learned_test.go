package route

import (
	"fmt"
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

// twoUplinks is lab with a second underlay, on which the other next hops of an ECMP route are. The VXLAN device stands in
// for tunl0: to the kernel an on-link route is the same on both.
func twoUplinks(tb testing.TB) *nstest.NS {
	tb.Helper()
	n := lab(tb)
	addSecond(tb, n)
	return n
}

func addSecond(tb testing.TB, n *nstest.NS) {
	tb.Helper()
	n.Exec(tb, "ip link add oth0 type veth peer name oth1", "ip link set oth0 up", "ip link set oth1 up",
		"ip addr add 192.168.20.11/24 dev oth0", "ip -6 addr add 2001:db8:2::11/64 dev oth0 nodad")
}

func (f family) other() string {
	return map[string]string{"IPv4": "192.168.20.12", "IPv6": "2001:db8:2::12"}[f.name]
}

func (f family) tool() string { return map[string]string{"IPv4": "ip -4 ", "IPv6": "ip -6 "}[f.name] }

// fabric and service are destinations out of the cluster, everything the default route's.
func (f family) fabric() string {
	return map[string]string{"IPv4": "198.51.100.0/24", "IPv6": "2001:db8:f::/48"}[f.name]
}

func (f family) service() string {
	return map[string]string{"IPv4": "203.0.113.7/32", "IPv6": "2001:db8:5::7/128"}[f.name]
}

func (f family) everything() string {
	return map[string]string{"IPv4": "0.0.0.0/0", "IPv6": "::/0"}[f.name]
}

func bird(dst string, hops ...model.Hop) model.Route {
	return model.Route{Dst: netip.MustParsePrefix(dst), Dev: hops[0].Dev, Via: hops[0].Via, OnLink: hops[0].OnLink, Proto: model.ProtoBIRD, Others: model.MakeHops(hops[1:])}
}

func hop(dev, via string) model.Hop { return model.Hop{Dev: dev, Via: netip.MustParseAddr(via)} }

// learned is one route of each kind: plain, through the tunnel, with two next hops.
func (f family) learned() []model.Route {
	far := netip.MustParsePrefix(f.far)
	return []model.Route{
		bird(f.near, hop("up0", f.nearVia)),
		bird(f.far, model.Hop{Dev: "vxlan.calico", Via: far.Addr(), OnLink: true}),
		bird(f.fabric(), hop("up0", f.nearVia), hop("oth0", f.other())),
	}
}

// expect returns how ip route writes a route: metric and flags aside, next hops sorted.
func expect(r model.Route) string {
	if r.Kind == model.RouteBlackhole {
		return fmt.Sprintf("blackhole %s proto %d", r.Dst, r.Proto)
	}
	line := func(h model.Hop) string {
		s := "dev " + h.Dev
		if h.Via.IsValid() {
			s = fmt.Sprintf("via %s dev %s", h.Via, h.Dev)
		}
		if h.OnLink {
			s += " onlink"
		}
		return s
	}
	lines := []string{line(model.Hop{Dev: r.Dev, Via: r.Via, OnLink: r.OnLink})}
	for _, h := range r.Others.List() {
		lines = append(lines, line(h))
	}
	slices.Sort(lines)
	return fmt.Sprintf("%s proto %d %s", r.Dst, r.Proto, strings.Join(lines, ", "))
}

// kernel returns the main table's routes in expect's form, by destination: those of our protocols with the metric of ours,
// the pods', and what is said about anybody else's.
func kernel(tb testing.TB, c *netlink.Conn) map[string]string {
	tb.Helper()
	out, dev := map[string]string{}, names(c)
	for _, family := range netlink.Families {
		for _, proto := range []uint8{3, 4, 12, 80} {
			routes, err := c.Routes(family, proto)
			if err != nil {
				tb.Fatal(err)
			}
			for _, r := range routes {
				m := model.Route{Dst: r.Dst, Proto: int(r.Proto)}
				if r.Type == unix.RTN_BLACKHOLE {
					m.Kind = model.RouteBlackhole
				}
				list := append([]netlink.Hop{{OIF: r.OIF, Gw: r.Gw, OnLink: r.OnLink}}, r.Others.List()...)
				var hops []model.Hop
				for _, h := range list {
					hops = append(hops, model.Hop{Dev: dev[h.OIF], Via: h.Gw, OnLink: h.OnLink})
				}
				m.Dev, m.Via, m.OnLink, m.Others = hops[0].Dev, hops[0].Via, hops[0].OnLink, model.MakeHops(hops[1:])
				text := expect(m)
				if k := keyOf(r); k != wantedKey(k.dst) {
					text += fmt.Sprintf(" metric %d tos %d", r.Metric, r.TOS)
				}
				if old := out[r.Dst.String()]; old != "" {
					text = old + "; " + text
				}
				out[r.Dst.String()] = text
			}
		}
	}
	return out
}

// names are those of the devices that tests route to, by index.
func names(c *netlink.Conn) map[int]string {
	out := map[int]string{}
	for _, name := range []string{"up0", "oth0", "vxlan.calico", "tunl0", "cali1", "cali2"} {
		if index, _ := c.Index(name); index != 0 {
			out[index] = name
		}
	}
	return out
}

// has waits until the destinations of these routes have them and nothing else.
func has(t *testing.T, n *nstest.NS, what string, routes ...model.Route) {
	t.Helper()
	c := n.Conn(t)
	var have map[string]string
	defer func() {
		if t.Failed() {
			t.Logf("%s: have %v", what, have)
		}
	}()
	took := nstest.Within(t, 6*time.Second, what, func() bool {
		have = kernel(t, c)
		for _, r := range routes {
			if have[r.Dst.Masked().String()] != expect(r) {
				return false
			}
		}
		return true
	})
	t.Logf("%s: after %s", what, took.Round(time.Millisecond))
}

// hasNot waits until nothing of these destinations is left.
func hasNot(t *testing.T, n *nstest.NS, what string, dsts ...string) {
	t.Helper()
	c := n.Conn(t)
	nstest.Within(t, 6*time.Second, what, func() bool {
		have := kernel(t, c)
		return !slices.ContainsFunc(dsts, func(d string) bool { return have[d] != "" })
	})
}

// settled waits until the table has nothing left to do, after at least one more full comparison.
func settled(t *testing.T, tab *Table) {
	t.Helper()
	begin := time.Now()
	tab.mu.Lock()
	tab.listed = false
	tab.mu.Unlock()
	tab.loop.KickResync()
	nstest.Within(t, 6*time.Second, "settled", func() bool {
		tab.mu.Lock()
		defer tab.mu.Unlock()
		put, remove := tab.routes.Dirty(compareKeys)
		return tab.listed && len(put)+len(remove) == 0
	})
	t.Logf("settled after %s", time.Since(begin).Round(time.Millisecond))
}

// BGP is not spoken any more: what it told of in the pools goes, unless it is wanted otherwise; other programs' routes stay.
func TestDropLearned(t *testing.T) {
	both(t, func(t *testing.T, f family) {
		n := twoUplinks(t)
		tab, stop := start(t, n)
		tab.SetEndpoints(nil)
		tab.SetLearned(f.learned(), true)
		tab.SetCluster(nil)
		has(t, n, "learned", f.learned()...)
		stop()
		tab, _ = start(t, n)
		next := f.learned()[0]
		next.Proto = model.ProtoMargay
		tab.SetCluster([]model.Route{next})
		if err := tab.DropLearned([]netip.Prefix{netip.MustParsePrefix(f.near), netip.MustParsePrefix(f.far)}); err != nil {
			t.Fatal(err)
		}
		tab.SetEndpoints(nil)
		settled(t, tab)
		has(t, n, "in a pool and wanted; in none", next, f.learned()[2])
		hasNot(t, n, "in a pool", f.far)
	})
}

func TestLearnedFromEmptyAndRestart(t *testing.T) {
	both(t, func(t *testing.T, f family) {
		n := twoUplinks(t)
		tab, stop := start(t, n)
		tab.SetEndpoints(nil)
		tab.SetLearned(f.learned(), true)
		tab.SetCluster(nil)
		has(t, n, "from empty", f.learned()...)
		settled(t, tab)
		stop()
		seen := monitor(t, n)
		tab, stop = start(t, n)
		tab.SetLearned(nil, false) // nobody has told of anything yet
		tab.SetCluster(nil)
		tab.SetEndpoints(nil)
		nstest.Within(t, 6*time.Second, "listed", func() bool { tab.mu.Lock(); defer tab.mu.Unlock(); return tab.listed })
		tab.SetLearned(f.learned()[:1], false)
		tab.SetLearned(f.learned(), false)
		tab.SetLearned(f.learned(), true)
		settled(t, tab)
		stop()
		tab, _ = start(t, n) // the other order
		tab.SetEndpoints(nil)
		tab.SetCluster(nil)
		tab.SetLearned(f.learned(), true)
		settled(t, tab)
		if seen.Total() != 0 {
			t.Errorf("restarts made %d route events", seen.Total())
		}
		has(t, n, "all the same", f.learned()...)
	})
}

// Until the speaker has heard everything nothing is removed; what is known to be different is replaced.
func TestLearnedIncomplete(t *testing.T) {
	both(t, func(t *testing.T, f family) {
		n := twoUplinks(t)
		tab, stop := start(t, n)
		tab.SetEndpoints(nil)
		tab.SetCluster(nil)
		tab.SetLearned(f.learned(), true)
		has(t, n, "from empty", f.learned()...)
		stop()
		// Left by Calico's BIRD of other versions, and one by a BIRD 2 that is somebody else's.
		n.Exec(t, f.tool()+"route add "+f.service()+" via "+f.nearVia+" dev up0 proto 12 metric 2147483547")
		n.Exec(t, f.tool()+"route add "+f.hole+" via "+f.nearVia+" dev up0 proto 12 metric 32")
		birds := func() int {
			out := n.Exec(t, f.tool()+"route show "+f.hole)
			return strings.Count(out, "metric 32")
		}
		tab, _ = start(t, n)
		tab.SetEndpoints(nil)
		tab.SetCluster(nil)
		fewer := []model.Route{bird(f.fabric(), hop("oth0", f.other()))}
		tab.SetLearned(fewer, false)
		has(t, n, "known to be different", append(f.learned()[:2], fewer...)...)
		settleIncomplete(t, tab, 3)
		has(t, n, "nothing is removed", append(f.learned()[:2], fewer...)...)
		if len(kernel(t, n.Conn(t))[f.service()]) == 0 {
			t.Error("an old BIRD's route was removed")
		}
		tab.SetLearned(fewer, true)
		hasNot(t, n, "swept", f.near, f.far, f.service())
		has(t, n, "what is learned stays", fewer...)
		tab.SetLearned(nil, true)
		hasNot(t, n, "withdrawn", f.fabric())
		if birds() != 1 {
			t.Error("the route of another BIRD was removed")
		}
	})
}

// settleIncomplete waits until a new listing found just so many routes that are to be removed one day.
func settleIncomplete(t *testing.T, tab *Table, stale int) {
	t.Helper()
	tab.mu.Lock()
	tab.listed = false
	tab.mu.Unlock()
	tab.loop.KickResync()
	nstest.Within(t, 6*time.Second, "settled", func() bool {
		tab.mu.Lock()
		defer tab.mu.Unlock()
		put, remove := tab.routes.Dirty(compareKeys)
		return tab.listed && len(put) == 0 && len(remove) == stale
	})
}

// Before SetLearned protocol 12 is somebody else's.
func TestProtocol12WithoutBGP(t *testing.T) {
	n := lab(t)
	n.Exec(t, "ip route add 198.51.100.0/24 via 192.168.10.1 proto 12")
	seen := monitor(t, n)
	tab, _ := start(t, n)
	tab.SetEndpoints(nil)
	tab.SetCluster(nil)
	settled(t, tab)
	if seen.Total() != 0 {
		t.Errorf("%d events", seen.Total())
	}
}

// One destination that all want: the pod has it, then the cluster, then BGP. Each passes it on in one step.
func TestPrecedence(t *testing.T) {
	both(t, func(t *testing.T, f family) {
		n := twoUplinks(t)
		tab, _ := start(t, n)
		learned := bird(f.pod, hop("up0", f.nearVia), hop("oth0", f.other()))
		cluster := model.Route{Dst: learned.Dst, Dev: "up0", Via: netip.MustParseAddr(f.nearVia), Proto: 80}
		pod := f.pods()[0]
		tab.SetEndpoints(nil)
		tab.SetCluster(nil)
		tab.SetLearned([]model.Route{learned}, true)
		has(t, n, "learned", learned)
		seen := monitor(t, n)
		tab.SetCluster([]model.Route{cluster})
		has(t, n, "cluster", cluster)
		if err := tab.PutEndpoint(t.Context(), f.pods()); err != nil {
			t.Error(err)
		}
		has(t, n, "pod", pod)
		tab.SetLearned([]model.Route{bird(f.pod, hop("up0", f.nearVia))}, true)
		settled(t, tab)
		has(t, n, "still the pod", pod)
		n.Exec(t, "ip link del cali1")
		tab.DeleteEndpoint(pod.Dst)
		has(t, n, "cluster again", cluster)
		tab.SetCluster(nil)
		tab.SetLearned([]model.Route{learned}, true)
		has(t, n, "learned again", learned)
		if v4, v6 := tab.Count(); v4+v6 != 1 {
			t.Errorf("%d routes wanted", v4+v6)
		}
		if dels := seen.Count(unix.RTM_DELROUTE); f.name == "IPv4" && dels != 0 || dels > 1 { // IPv6 says that the pod's went with its device
			t.Errorf("%d times there was no route", dels)
		}
		tab.SetLearned(nil, true)
		hasNot(t, n, "gone", f.pod)
	})
}

// Next hops follow their devices.
func TestNextHopsDevices(t *testing.T) {
	both(t, func(t *testing.T, f family) {
		n := twoUplinks(t)
		tab, stop := start(t, n)
		tab.SetEndpoints(nil)
		tab.SetCluster(nil)
		tab.SetLearned(f.learned(), true)
		has(t, n, "from empty", f.learned()...)
		one := bird(f.fabric(), hop("up0", f.nearVia))
		again := func(what string) {
			t.Helper()
			if f.name == "IPv6" {
				_, _ = n.Try("ip -6 addr add 2001:db8:2::11/64 dev oth0 nodad") // the kernel takes it when the device goes down
			}
			has(t, n, what, f.learned()...)
		}
		n.Exec(t, "ip link set oth0 down")
		has(t, n, "one device is down", one)
		n.Exec(t, "ip link set oth0 up")
		again("and up again")
		n.Exec(t, "ip link set oth1 down") // its carrier: packets are the kernel's to steer, the route stays
		n.Exec(t, "ip link set oth1 up")
		again("carrier lost and back")
		n.Exec(t, "ip link del oth0")
		has(t, n, "one device is gone", one)
		addSecond(t, n)
		again("and back")
		n.Exec(t, "ip link set oth0 down")
		has(t, n, "down", one)
		stop()
		tab, _ = start(t, n)
		tab.SetEndpoints(nil)
		tab.SetCluster(nil)
		tab.SetLearned(f.learned(), true)
		settled(t, tab)
		has(t, n, "restarted while a device is down", one)
		n.Exec(t, "ip link set oth0 up")
		again("up after the restart")
	})
}

func TestSabotageOfLearned(t *testing.T) {
	both(t, func(t *testing.T, f family) {
		n := twoUplinks(t)
		tab, _ := start(t, n)
		tab.SetEndpoints(nil)
		tab.SetCluster(nil)
		tab.SetLearned(f.learned(), true)
		has(t, n, "from empty", f.learned()...)
		hops := " proto 12 nexthop via " + f.nearVia + " dev up0"
		other := " nexthop via " + f.other() + " dev oth0"
		for _, line := range []string{
			"route del " + f.fabric(),
			"route replace " + f.fabric() + hops + other + " weight 7",
			"route replace " + f.fabric() + hops,
			"route replace " + f.fabric() + " proto 12 dev cali1",
			"route replace " + f.near + hops + other,
			"route replace blackhole " + f.far + " proto 12",
			"route flush proto 12",
			"route del " + f.fabric() + other,
		} {
			if _, err := n.Try(f.tool() + line); err != nil && !strings.Contains(line, " del ") { // IPv4 can't delete a next hop
				t.Errorf("%s: %v", line, err)
			}
			has(t, n, line, f.learned()...)
		}
		n.Exec(t, f.tool()+"route add "+f.service()+" via "+f.nearVia+" proto 12")
		hasNot(t, n, "what nobody learned", f.service())
	})
}

// A route of somebody else's with our metric is never replaced, not even a default route; ours comes when it goes.
func TestForeignBeforeLearned(t *testing.T) {
	both(t, func(t *testing.T, f family) {
		n := twoUplinks(t)
		router := f.nearVia
		static := func(dst string) model.Route {
			return model.Route{Dst: netip.MustParsePrefix(dst), Dev: "up0", Via: netip.MustParseAddr(router), Proto: 4}
		}
		add := func(dst string) string {
			return f.tool() + "route add " + dst + " via " + router + " dev up0 proto static"
		}
		n.Exec(t, add(f.everything()), add(f.fabric()))
		want := []model.Route{bird(f.everything(), hop("oth0", f.other())), bird(f.fabric(), hop("oth0", f.other()))}
		seen := monitor(t, n)
		tab, stop := start(t, n)
		for i := range 2 {
			if i > 0 {
				stop()
				tab, _ = start(t, n)
			}
			tab.SetEndpoints(nil)
			tab.SetCluster(nil)
			tab.SetLearned(want, true)
			nstest.Within(t, 6*time.Second, "held", func() bool {
				tab.mu.Lock()
				defer tab.mu.Unlock()
				return tab.taken[wantedKey(want[0].Dst)] && tab.taken[wantedKey(want[1].Dst)]
			})
			tab.SetLearned(nil, true)
			settled(t, tab)
			tab.SetLearned(want, true)
			tab.loop.KickResync()
		}
		has(t, n, "left alone", static(f.everything()), static(f.fabric()))
		if seen.Total() != 0 {
			t.Errorf("%d events", seen.Total())
		}
		for _, line := range []string{f.everything(), f.fabric()} {
			n.Exec(t, f.tool()+"route del "+line+" proto static")
		}
		has(t, n, "the other one is gone", want...)
		n.Exec(t, f.tool()+"route replace "+f.everything()+" via "+router+" dev up0 proto static")
		has(t, n, "somebody replaced ours", static(f.everything()), want[1])
		changed := []model.Route{bird(f.everything(), hop("oth0", f.other()), hop("up0", router)), want[1]}
		tab.SetLearned(changed, true)
		tab.loop.KickResync()
		has(t, n, "the change waits", static(f.everything()), want[1])
		n.Exec(t, f.tool()+"route del "+f.everything()+" proto static")
		has(t, n, "and comes", changed...)
		if f.name == "IPv4" {
			// Where both are there, theirs first, it is theirs that stays.
			c := n.Conn(t)
			n.Exec(t, "ip route prepend default via "+router+" dev up0 proto static")
			nstest.Within(t, 6*time.Second, "told", func() bool {
				tab.mu.Lock()
				defer tab.mu.Unlock()
				_, told := tab.taken[wantedKey(want[0].Dst)]
				return told
			})
			tab.SetLearned(want, true)
			nstest.Within(t, 6*time.Second, "ours made room", func() bool { return kernel(t, c)[f.everything()] == expect(static(f.everything())) })
			// No event tells that a route goes with its device.
			n.Exec(t, "ip link set up0 down")
			has(t, n, "their device is down", want...)
		}
	})
}

// A random walk through wanted states and sabotage ends where a table that was told only the last state ends.
func TestLearnedRandomWalk(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			n := twoUplinks(t)
			tab, stop := start(t, n)
			tab.SetEndpoints(nil)
			var cluster, learned []model.Route
			tell := func() { tab.SetCluster(cluster); tab.SetLearned(learned, true) }
			for range 60 {
				f := families[r.IntN(2)]
				switch r.IntN(8) {
				case 0:
					cluster = randomCluster(r)
					tab.SetCluster(cluster)
				case 1, 2, 3:
					learned = randomLearned(r)
					tab.SetLearned(learned, r.IntN(2) == 0)
				case 4:
					_, _ = n.Try(f.tool() + "route flush proto 12")
				case 5:
					_, _ = n.Try("ip link set oth0 down")
					_, _ = n.Try("ip link set oth0 up")
					_, _ = n.Try("ip -6 addr add 2001:db8:2::11/64 dev oth0 nodad")
				case 6:
					_, _ = n.Try(f.tool() + "route replace " + f.fabric() + " proto 12 nexthop via " + f.nearVia + " dev up0 nexthop via " + f.nearVia + "1 dev up0")
				case 7:
					stop()
					tab, stop = start(t, n)
					tab.SetEndpoints(nil)
					tell()
				}
			}
			tell()
			want := map[string]string{}
			for _, m := range append(slices.Clone(learned), cluster...) { // the cluster's count
				want[m.Dst.String()] = expect(m)
			}
			c := n.Conn(t)
			var have map[string]string
			defer func() {
				if t.Failed() {
					t.Logf("have %v\nwant %v", have, want)
				}
			}()
			nstest.Within(t, 6*time.Second, "the walk ends with what was told last", func() bool {
				have = kernel(t, c)
				return fmt.Sprint(have) == fmt.Sprint(want)
			})
		})
	}
}

// TestTunl0 has learned routes by the kernel's own device. It is run by test/guest, too.
func TestTunl0(t *testing.T) {
	n := lab(t)
	n.NeedIPIP(t)
	n.Exec(t, "ip addr add 172.20.0.9/32 dev tunl0", "ip link set tunl0 up")
	on := func(via string) model.Hop {
		return model.Hop{Dev: "tunl0", Via: netip.MustParseAddr(via), OnLink: true}
	}
	f := families[0]
	learned := []model.Route{bird(f.far, on("192.168.10.12")), bird(f.near, on("192.168.77.1")), bird(f.fabric(), on("192.168.10.12"), on("192.168.77.1"))}
	cluster := []model.Route{{Dst: netip.MustParsePrefix(f.service()), Dev: "tunl0", Via: netip.MustParseAddr("192.168.77.1"), OnLink: true, Proto: 80}}
	tab, stop := start(t, n)
	tab.SetEndpoints(nil)
	tab.SetCluster(cluster)
	tab.SetLearned(learned, true)
	wanted := append(slices.Clone(learned), cluster...)
	has(t, n, "from empty", wanted...)
	for _, lines := range [][]string{
		{"ip link set tunl0 down", "ip link set tunl0 up"},
		{"ip addr del 172.20.0.9/32 dev tunl0", "ip addr add 172.20.0.9/32 dev tunl0"},
		{"ip route flush dev tunl0"},
	} {
		n.Exec(t, lines...)
		has(t, n, strings.Join(lines, "; "), wanted...)
	}
	settled(t, tab)
	stop()
	seen := monitor(t, n)
	tab, _ = start(t, n)
	tab.SetEndpoints(nil)
	tab.SetCluster(cluster)
	tab.SetLearned(learned, true)
	settled(t, tab)
	if seen.Total() != 0 {
		t.Errorf("a restart made %d events", seen.Total())
	}
}

func randomLearned(r *rand.Rand) (out []model.Route) {
	for _, f := range families {
		for _, m := range f.learned() {
			hops := []model.Hop{hop("up0", f.nearVia), hop("oth0", f.other()), hop("up0", f.nearVia+"1")}
			switch r.IntN(4) {
			case 0:
			case 1:
				out = append(out, m)
			default:
				r.Shuffle(len(hops), func(i, j int) { hops[i], hops[j] = hops[j], hops[i] })
				out = append(out, bird(m.Dst.String(), hops[:1+r.IntN(3)]...))
			}
		}
	}
	return out
}

func manyLearned(n int) []model.Route {
	out := many(n)
	for i := range out {
		r := bird(out[i].Dst.String(), hop("up0", "192.168.10.12"), hop("up0", fmt.Sprint("192.168.10.", 20+i%100)))
		if i%2 == 0 {
			r.Others = ""
		}
		out[i] = r
	}
	return out
}

// 10,000 learned routes, half of them with two next hops: written, changed, left alone, removed.
func TestManyLearned(t *testing.T) {
	n := twoUplinks(t)
	routes := manyLearned(10000)
	tab, stop := start(t, n)
	tab.SetEndpoints(nil)
	tab.SetCluster(nil)
	count := func(want int) func() bool {
		return func() bool {
			routes, err := tab.conn.Routes(unix.AF_INET, 12)
			return err == nil && len(routes) == want
		}
	}
	tab.SetLearned(routes, true)
	t.Log("written after", nstest.Within(t, 20*time.Second, "10k routes", count(10000)))
	stop()
	seen := monitor10k(t, n)
	tab, _ = start(t, n)
	tab.SetEndpoints(nil)
	tab.SetCluster(nil)
	tab.SetLearned(routes, true)
	settled(t, tab)
	if seen.Total() != 0 {
		t.Errorf("a restart made %d events", seen.Total())
	}
	tab.SetLearned(nil, true)
	t.Log("removed after", nstest.Within(t, 20*time.Second, "no routes", count(0)))
}

// monitor10k is monitor without a line for each event.
func monitor10k(tb testing.TB, n *nstest.NS) *nstest.Events {
	return n.Monitor(tb, func(e netlink.Event) bool { r, ok := e.Route(); return ok && r.Proto == 12 }, netlink.GroupRoute4)
}

func BenchmarkLearned10k(b *testing.B) {
	n := twoUplinks(b)
	tab := New(n.Conn(b), quiet, reconcile.Hooks{})
	tab.SetEndpoints(nil)
	tab.SetCluster(nil)
	routes := manyLearned(10000)
	step := func(name string, f func() error) { // processor time: that of the clock says how busy the machine is
		var before, after unix.Rusage
		_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
		if err := f(); err != nil {
			b.Fatal(err)
		}
		_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
		cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
		b.ReportMetric(float64(cpu)/1e6, name+"-cpu-ms")
	}
	ctx := b.Context()
	set := func(r []model.Route) func() error {
		return func() error { tab.SetLearned(r, true); return tab.Apply(ctx) }
	}
	tab.SetLearned(nil, true)
	for b.Loop() {
		step("resync-empty", func() error { return tab.Resync(ctx) })
		step("fill", set(routes))
		step("resync", func() error { return tab.Resync(ctx) })
		step("same", set(routes))
		one := slices.Clone(routes)
		one[77].Others, one[77].Via = "", netip.MustParseAddr("192.168.10.99")
		step("one", set(one))
		step("clear", set(nil))
	}
}
