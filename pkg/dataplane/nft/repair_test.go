package nft

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/dataplane/nft/nattest"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink/nstest"
	"github.com/margay-net/margay/pkg/reconcile"
)

// full uses all that a table can hold.
func full(n *model.NAT) {
	n.Ports, n.Interface, n.Tunnels = model.PortRange{Min: 20000, Max: 60000}, "eth+", []string{"vxlan.calico", "tunl0"}
	n.Floating = nattest.Floats(nattest.FamilyOf(n))
	n.Spared = append(n.Spared, nattest.Prefixes("192.0.2.1/32", "192.0.2.2/32", "198.18.0.0/15", "198.18.1.0/24", "2001:db8:1::1/128", "2001:db8:98::/63", "2001:db8:98::/64")...)
}

// fresh is what an agent makes of nothing.
func fresh(tb testing.TB, set func(*Table)) string {
	n := nstest.New(tb)
	tab, stop := start(tb, n.Conn(tb))
	set(tab)
	placed(tb, tab)
	stop()
	return list(n)
}

func TestSabotage(t *testing.T) {
	n := nstest.New(t)
	n.Exec(t, "nft add table ip foreign", "nft add set ip foreign sources { type ipv4_addr ; }", "nft add table inet margay", "nft add chain inet margay postrouting")
	foreign := func() string { return n.Exec(t, "nft list table ip foreign") + n.Exec(t, "nft list table inet margay") }
	before := foreign()
	tab, _ := start(t, n.Conn(t))
	setNAT(t, tab, full)
	want := list(n)
	if again := fresh(t, func(tab *Table) { tab.SetNAT(nattest.Pools(full)) }); again != want {
		t.Errorf("two builds differ:\n%s\n%s", want, again)
	}
	for _, line := range []string{
		"nft delete table T",
		"nft flush chain T postrouting",
		"nft flush table T",
		"nft flush set T sources",
		"nft flush set T spared",
		"nft add element T spared { FOREIGN }",
		"nft delete element T sources { OWN }",
		"nft insert rule T postrouting counter accept",
		"nft add rule T postrouting meta mark 1 masquerade",
		"nft add rule T postrouting meta mark { 1, 2 } accept",
		`nft add rule T postrouting meta mark 1 masquerade comment "natOutgoing"`,
		"nft chain T postrouting { policy drop ; }",
		"nft add table T { flags dormant ; }",
		"nft -f - delete chain T postrouting ; add chain T postrouting",
		"nft -f - flush chain T postrouting ; delete chain T postrouting",
		"nft -f - delete chain T postrouting ; add chain T postrouting { type filter hook postrouting priority 100 ; }",
		"nft -f - delete chain T postrouting ; add chain T postrouting { type nat hook postrouting priority 99 ; }",
		"nft flush chain T prerouting",
		"nft -f - flush chain T output ; delete chain T output",
		"nft -f - flush chain T output ; delete chain T output ; add chain T output",
		"nft -f - flush chain T prerouting ; delete chain T prerouting ; add chain T prerouting { type nat hook prerouting priority -100 ; }",
		"nft add rule T output counter",
		"nft -f - flush chain T postrouting ; delete set T sources ; delete set T spared",
		"nft -f - flush chain T postrouting ; delete set T sources ; add set T sources { type mark ; }",
		"nft -f - flush chain T postrouting ; delete set T spared ; add set T spared { type ADDR ; flags interval, timeout ; timeout 1h ; }",
		"nft -f - delete table T ; add table T ; add chain T postrouting",
		"nft -f - delete table T ; add table T",
	} {
		var took time.Duration
		for i, family := range families {
			r := strings.NewReplacer("T", familyName(family)+" margay", "FOREIGN", [2]string{"198.51.100.0/24", "2001:db8:5::/64"}[i],
				"OWN", [2]string{"172.20.0.0/16", "fd00:20::/64"}[i], "ADDR", [2]string{"ipv4_addr", "ipv6_addr"}[i])
			time.Sleep(restTime) // what follows at once waits for so long
			run(t, n, r.Replace(line))
			took = max(took, nstest.Within(t, time.Second, line, func() bool { return list(n) == want }))
		}
		t.Logf("%s: right after %s", line, took.Round(time.Millisecond))
	}
	if after := foreign(); after != before {
		t.Errorf("foreign tables: %s\nthen %s", before, after)
	}
	n.Exec(t, "nft flush ruleset")
	took := nstest.Within(t, time.Second, "flush ruleset", func() bool { return list(n) == want })
	t.Logf("nft flush ruleset: right after %s", took.Round(time.Millisecond))
}

// run runs nft; what follows -f - is its input.
func run(t *testing.T, n *nstest.NS, line string) {
	t.Helper()
	_, script, isScript := strings.Cut(line, "-f - ")
	if !isScript {
		n.Exec(t, line)
		return
	}
	file := t.TempDir() + "/script"
	n.Write(t, file, "")
	n.Exec(t, "chmod 600 "+file)
	n.Write(t, file, strings.ReplaceAll(script, " ; ", "\n")+"\n")
	n.Exec(t, "nft -f "+file)
}

func TestForeignObjectsInOurTable(t *testing.T) {
	n := nstest.New(t)
	tab, _ := start(t, n.Conn(t))
	setNAT(t, tab)
	n.Exec(t, "nft add chain ip margay theirs", "nft add rule ip margay theirs ip saddr @sources counter", "nft add set ip6 margay theirs { type mark ; }")
	with := list(n)
	time.Sleep(2 * restTime)
	if list(n) != with {
		t.Errorf("changed:\n%s", list(n))
	}
	setNAT(t, tab, full)
	for _, s := range []string{"chain theirs", "set theirs", "vxlan.calico"} {
		if !strings.Contains(list(n), s) {
			t.Errorf("no %s in:\n%s", s, list(n))
		}
	}
	tab.SetNAT(nil, nil)
	placed(t, tab)
	if s := n.Exec(t, "nft list ruleset"); s != "" {
		t.Errorf("left: %s", s)
	}
}

// A restarted agent writes nothing: the kernel counts each transaction, whoever makes it.
func TestRestartWritesNothing(t *testing.T) {
	n := nstest.New(t)
	c := n.Conn(t)
	tab, stop := start(t, c)
	setNAT(t, tab, full)
	stop()
	count := transactions(t, n.Conn(t))
	for range 3 {
		tab, stop = start(t, c)
		time.Sleep(20 * time.Millisecond)
		setNAT(t, tab, full)
		setNAT(t, tab, full)
		tab.loop.KickResync()
		time.Sleep(50 * time.Millisecond)
		stop()
	}
	if count.Load() != 0 {
		t.Errorf("%d transactions", count.Load())
	}
	tab, _ = start(t, c)
	setNAT(t, tab, full, func(n *model.NAT) { n.Spared = append(n.Spared, nattest.Prefixes("10.0.0.0/8")...) })
	nstest.Within(t, time.Second, "an event", func() bool { return count.Load() == 1 })
}

func TestNothingBeforeSync(t *testing.T) {
	n := nstest.New(t)
	n.Exec(t, "nft add table ip margay", "nft add chain ip margay old", "nft add table ip6 margay")
	count := transactions(t, n.Conn(t))
	tab, _ := start(t, n.Conn(t))
	n.Exec(t, "nft add chain ip margay older")
	time.Sleep(3 * restTime)
	if count.Load() != 1 {
		t.Errorf("%d transactions", count.Load())
	}
	v4, _ := nattest.Pools()
	tab.SetNAT(v4, nil)
	placed(t, tab)
	s := list(n)
	if !strings.Contains(s, "table ip margay") || strings.Contains(s, "table ip6 margay") || !strings.Contains(s, "natOutgoing") {
		t.Error(s)
	}
}

func TestOwnChangesCauseNoListing(t *testing.T) {
	n := nstest.New(t)
	resyncs := 0
	tab := New(n.Conn(t), slog.New(slog.DiscardHandler), reconcile.Hooks{Resynced: func(time.Duration, error) { resyncs++ }})
	stop := nstest.Go(t, tab.Run)
	for i := range 10 {
		setNAT(t, tab, func(n *model.NAT) { n.Ports.Max = uint16(2000 + i) })
	}
	n.Exec(t, "nft add table ip other", "nft add table inet margay")
	time.Sleep(2 * restTime)
	stop()
	if resyncs != 1 {
		t.Errorf("%d comparisons", resyncs)
	}
}

func TestClean(t *testing.T) {
	n := nstest.New(t)
	n.Exec(t, "nft add table ip foreign", "nft add table inet margay")
	before := n.Exec(t, "nft list ruleset")
	c := n.Conn(t)
	tab, stop := start(t, c)
	setNAT(t, tab, full)
	stop()
	for range 2 { // the second has nothing to do
		if err := Clean(c); err != nil {
			t.Fatal(err)
		}
		if after := n.Exec(t, "nft list ruleset"); after != before {
			t.Errorf("left: %s", after)
		}
	}
}

// random draws a family's NAT that differs from the last one in anything.
func random(r *rand.Rand, six bool) *model.NAT {
	if r.IntN(8) == 0 {
		return nil
	}
	n := &model.NAT{}
	prefix := func() netip.Prefix {
		a := netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(3)), byte(r.IntN(256))})
		if six {
			b := a.As4()
			a = netip.AddrFrom16([16]byte{0: 0xfd, 13: b[1], 14: b[2], 15: b[3]})
		}
		return netip.PrefixFrom(a, a.BitLen()-r.IntN(13)).Masked()
	}
	for range r.IntN(5) {
		n.Sources = append(n.Sources, prefix())
	}
	for range r.IntN(30) {
		n.Spared = append(n.Spared, prefix())
	}
	switch r.IntN(4) {
	case 0:
		n.Ports = model.PortRange{Min: 1000, Max: 2000}
	case 1:
		n.Address = prefix().Addr()
	case 2:
		n.Interface = "eth+"
	}
	for range r.IntN(3) {
		n.Tunnels = append(n.Tunnels, fmt.Sprintf("tun%d", r.IntN(3)))
	}
	return n
}

// Wherever a walk ends, the table is that of an agent that was never told anything else.
func TestRandomWalk(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			n := nstest.New(t)
			c := n.Conn(t)
			tab, stop := start(t, c)
			var v4, v6 *model.NAT
			for range 60 {
				switch r.IntN(8) {
				case 0:
					_, _ = n.Try(fmt.Sprintf("nft add element ip margay spared { 10.0.1.%d }", r.IntN(256)))
				case 1:
					_, _ = n.Try("nft delete table ip6 margay")
				case 2:
					stop()
					tab, stop = start(t, c)
					tab.SetNAT(v4, v6)
				default:
					v4, v6 = random(r, false), random(r, true)
					tab.SetNAT(v4, v6)
					if r.IntN(2) == 0 {
						placed(t, tab)
					}
				}
			}
			placed(t, tab)
			want := fresh(t, func(tab *Table) { tab.SetNAT(v4, v6) })
			nstest.Within(t, time.Second, "end of the walk", func() bool { return list(n) == want })
		})
	}
}

// many are nodes that are spared.
func many(count int) (v4, v6 *model.NAT) {
	return nattest.Pools(func(n *model.NAT) {
		for i := range count {
			a := netip.AddrFrom4([4]byte{10, byte(i >> 15), byte(i >> 7), byte(i << 1)}) // with gaps: each a span
			if nattest.FamilyOf(n) == 1 {
				a = netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 13: byte(i >> 15), 14: byte(i >> 7), 15: byte(i << 1)})
			}
			n.Spared = append(n.Spared, netip.PrefixFrom(a, a.BitLen()))
		}
	})
}

func TestManySpared(t *testing.T) {
	n := nstest.New(t)
	tab, _ := start(t, n.Conn(t))
	for _, count := range []int{20000, 20001, 5, 5000} {
		v4, v6 := many(count)
		begin := time.Now()
		tab.SetNAT(v4, v6)
		placed(t, tab)
		t.Logf("%d in each family: %s", count, time.Since(begin).Round(10*time.Microsecond))
		have, err := tab.socket.read(families[1])
		if err != nil || !have.matches(contentOf(v6, families[1])) {
			t.Errorf("%d: %d spans, %v", count, len(have.spared.spans), err)
		}
	}
}

func benchmark(b *testing.B, count int, op func(tab *Table, i int)) {
	n := nstest.New(b)
	tab := New(n.Conn(b), slog.New(slog.DiscardHandler), reconcile.Hooks{})
	tab.SetNAT(many(count))
	apply := func() {
		if err := tab.Apply(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	apply()
	for i := 0; b.Loop(); i++ {
		op(tab, i)
		apply()
	}
}

func BenchmarkResync5kSpared(b *testing.B) {
	benchmark(b, 2500, func(tab *Table, _ int) { tab.have = nil })
}

func BenchmarkOneOf5kSparedChanges(b *testing.B) {
	v4, v6 := many(2501)
	u4, u6 := many(2500)
	benchmark(b, 2500, func(tab *Table, i int) {
		if i%2 == 0 {
			tab.SetNAT(v4, v6)
		} else {
			tab.SetNAT(u4, u6)
		}
	})
}
