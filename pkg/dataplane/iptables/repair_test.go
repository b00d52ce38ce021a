package iptables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/dataplane/nft/nattest"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// full uses all that the chains can hold.
func full(n *model.NAT) {
	n.Ports, n.Interface, n.Tunnels = model.PortRange{Min: 20000, Max: 60000}, "eth+", []string{"vxlan.calico", "tunl0"}
	n.Spared = append(n.Spared, nattest.Prefixes("192.0.2.1/32", "198.18.0.0/15", "2001:db8:1::1/128", "2001:db8:98::/63")...)
}

// theirs gives both kinds of a backend rules of others.
func theirs(t *testing.T, n *nstest.NS, b Backend) {
	t.Helper()
	for _, k := range of(b) {
		p := k.String()
		n.Exec(t, p+" -N THEIRS", p+" -A THEIRS -j RETURN", p+" -A FORWARD -j THEIRS", p+" -t nat -N THEIRS", p+" -t nat -A POSTROUTING -j THEIRS",
			p+" -t nat -A OUTPUT -o eth9 -j ACCEPT")
	}
}

func TestSabotage(t *testing.T) {
	eachBackend(t, func(t *testing.T, b Backend) {
		n := nstest.New(t)
		theirs(t, n, b)
		tab, _ := start(t, n.Conn(t), b)
		tab.SetForward(true, true)
		setNAT(t, tab, full)
		mended(t, n, of(b), "MARGAY-FORWARD", true)
		want := saveAll(n)
		for _, line := range []string{
			"P -F MARGAY-FORWARD",
			"P -D FORWARD 1",
			"P -D MARGAY-FORWARD 2",
			"P -R MARGAY-FORWARD 2 -i eth0 -j ACCEPT",
			"P -I MARGAY-FORWARD -j DROP",
			"P -A MARGAY-FORWARD -j DROP",
			"P -I FORWARD -j DROP; P -D FORWARD -j DROP",
			"P -I FORWARD -j MARGAY-FORWARD",
			"P -A FORWARD -j MARGAY-FORWARD",
			"P -D FORWARD 1; P -A FORWARD -j MARGAY-FORWARD",
			"P -D FORWARD 1; P -F MARGAY-FORWARD; P -X MARGAY-FORWARD",
			"P -t nat -F MARGAY-NAT",
			"P -t nat -F MARGAY-NAT-OUT",
			"P -t nat -D POSTROUTING 1",
			"P -t nat -D MARGAY-NAT-OUT 1",
			"P -t nat -I MARGAY-NAT-OUT -j RETURN",
			"P -t nat -D POSTROUTING 1; P -t nat -F MARGAY-NAT; P -t nat -X MARGAY-NAT; P -t nat -F MARGAY-NAT-OUT; P -t nat -X MARGAY-NAT-OUT",
		} {
			var took time.Duration
			for _, k := range of(b) {
				for i, l := range strings.Split(line, "; ") {
					out, err := n.Try(strings.Replace(l, "P", k.String(), 1))
					if err != nil && i == 0 { // the others fail when it was mended meanwhile
						t.Fatalf("%s: %v: %s", l, err, out)
					}
				}
				if b == Legacy { // what comes every LookEvery
					tab.loop.KickResync()
				}
				took = max(took, nstest.Within(t, time.Second, line, func() bool { return saveAll(n) == want }))
			}
			t.Logf("%s: right after %s", line, took.Round(time.Millisecond))
		}
	})
}

func TestFlushEverything(t *testing.T) {
	n := nstest.New(t)
	tab, _ := start(t, n.Conn(t), NFT)
	tab.SetForward(true, true)
	setNAT(t, tab, full)
	mended(t, n, of(NFT), "MARGAY-FORWARD", true)
	want := saveAll(n)
	n.Exec(t, "nft flush ruleset")
	took := nstest.Within(t, time.Second, "flush ruleset", func() bool { return saveAll(n) == want })
	t.Logf("right after %s", took)
}

func TestLegacyIsLookedAt(t *testing.T) {
	n := nstest.New(t)
	tab, _ := start(t, n.Conn(t), Legacy)
	tab.SetForward(true, true)
	mended(t, n, of(Legacy), "MARGAY-FORWARD", true)
	time.Sleep(300 * time.Millisecond) // until nothing is under way any more
	n.Exec(t, "iptables-legacy -F")
	took := nstest.Within(t, LookEvery+time.Second, "look", func() bool { return strings.Contains(save(n, kind{legacy: true}), "-i cali+") })
	t.Logf("right after %s", took)
}

func TestRestartWritesNothing(t *testing.T) {
	eachBackend(t, func(t *testing.T, b Backend) {
		n := nstest.New(t)
		theirs(t, n, b)
		c := n.Conn(t)
		tab, stop := start(t, c, b)
		tab.SetForward(true, true)
		setNAT(t, tab, full)
		mended(t, n, of(b), "MARGAY-FORWARD", true)
		stop()
		count := transactions(t, c)
		for range 2 {
			tab, log := newTables(t, c)
			tab.SetBackend(b)
			stop = nstest.Go(t, tab.Run)
			time.Sleep(50 * time.Millisecond)
			tab.SetForward(true, true)
			setNAT(t, tab, full)
			setNAT(t, tab, full)
			tab.loop.KickResync()
			time.Sleep(200 * time.Millisecond)
			stop()
			if log.count("wrote") != 0 {
				t.Error("something was written")
			}
		}
		if count() != 0 {
			t.Errorf("%d transactions of nftables", count())
		}
	})
}

func TestNothingBeforeItIsSet(t *testing.T) {
	n := nstest.New(t)
	n.Exec(t, "iptables-nft -N MARGAY-FORWARD", "iptables-nft -t nat -N MARGAY-NAT", "iptables-legacy -t nat -N MARGAY-NAT-OUT")
	before := saveAll(n)
	tab, _ := start(t, n.Conn(t), NFT)
	tab.loop.KickResync()
	time.Sleep(200 * time.Millisecond)
	if s := saveAll(n); s != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, s)
	}
	tab.SetForward(true, false)
	mended(t, n, [2]kind{{}, {}}, "-i cali+", true)
	if s := saveAll(n); strings.Count(s, ":MARGAY-NAT") != 2 {
		t.Errorf("table nat was touched: %s", s)
	}
	tab.SetNAT(nil, nil)
	mended(t, n, of(NFT), "MARGAY-NAT", false)
	mended(t, n, of(Legacy), "MARGAY-NAT", false)
}

// A change of the firewall by others, whatever it is, is not undone, and not fought over.
func TestOthersChangesCauseNoWrites(t *testing.T) {
	n := nstest.New(t)
	tab, log := newTables(t, n.Conn(t))
	nstest.Go(t, tab.Run)
	tab.SetForward(true, true)
	setNAT(t, tab)
	mended(t, n, of(NFT), "MARGAY-FORWARD", true)
	written := log.count("wrote")
	theirs(t, n, NFT)
	n.Exec(t, "iptables-nft -P FORWARD DROP", "nft add table inet filter", "nft add chain inet filter FORWARD")
	time.Sleep(300 * time.Millisecond)
	if log.count("wrote") != written {
		t.Error("something was written")
	}
}

// Wherever a walk ends, the tables are those of an agent that was never told anything else.
func TestRandomWalk(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			n := nstest.New(t)
			theirs(t, n, NFT)
			theirs(t, n, Legacy)
			c := n.Conn(t)
			type state struct {
				v4, v6  *model.NAT
				forward [2]bool
				backend Backend
			}
			var s state
			set := func(tab *Tables) {
				tab.SetBackend(s.backend)
				tab.SetForward(s.forward[0], s.forward[1])
				tab.SetNAT(s.v4, s.v6)
			}
			tab, stop := start(t, c, Auto)
			for range 25 {
				k := kinds[r.IntN(len(kinds))]
				switch r.IntN(8) {
				case 0:
					_, _ = n.Try(k.String() + " -D FORWARD -j MARGAY-FORWARD")
				case 1:
					_, _ = n.Try(k.String() + " -t nat -F " + []string{"MARGAY-NAT", "MARGAY-NAT-OUT"}[r.IntN(2)])
				case 2:
					_, _ = n.Try(k.String() + " -I FORWARD -i eth9 -j ACCEPT")
					_, _ = n.Try(k.String() + " -D FORWARD -i eth9 -j ACCEPT")
				case 3:
					stop()
					tab, stop = start(t, c, Auto)
					set(tab)
				default:
					s.v4, s.v6 = random(r, false), random(r, true)
					s.forward = [2]bool{r.IntN(3) > 0, r.IntN(3) > 0}
					s.backend = []Backend{Auto, NFT, Legacy}[r.IntN(3)]
					set(tab)
					if r.IntN(2) == 0 {
						placed(t, tab)
					}
				}
			}
			set(tab)
			tab.loop.KickResync()
			placed(t, tab)
			fresh := nstest.New(t)
			theirs(t, fresh, NFT)
			theirs(t, fresh, Legacy)
			other, _ := start(t, fresh.Conn(t), Auto)
			set(other)
			placed(t, other)
			time.Sleep(100 * time.Millisecond)
			want := sorted(saveAll(fresh))
			nstest.Within(t, time.Second, "end of the walk", func() bool { return sorted(saveAll(n)) == want })
		})
	}
}

// sorted puts chains' declarations, whose order is that of their making, in one that is always the same.
func sorted(s string) string {
	lines := strings.Split(s, "\n")
	for begin := 0; begin < len(lines); begin++ {
		end := begin
		for end < len(lines) && strings.HasPrefix(lines[end], ":") {
			end++
		}
		slices.Sort(lines[begin:end])
		begin = end
	}
	return strings.Join(lines, "\n")
}

func random(r *rand.Rand, six bool) *model.NAT {
	if r.IntN(5) == 0 {
		return nil
	}
	n := &model.NAT{}
	prefix := func() netip.Prefix {
		a := netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(3)), 0})
		if six {
			b := a.As4()
			a = netip.AddrFrom16([16]byte{0: 0xfd, 13: b[1], 14: b[2]})
		}
		return netip.PrefixFrom(a, a.BitLen()-8)
	}
	for range r.IntN(4) {
		n.Sources = append(n.Sources, prefix())
		n.Spared = append(n.Spared, prefix(), prefix())
	}
	switch r.IntN(3) {
	case 0:
		n.Ports = model.PortRange{Min: 1000, Max: 2000}
	case 1:
		n.Tunnels = []string{"vxlan.calico"}
	}
	return n
}

// What a look costs that finds all right; at the rate of LookEvery with legacy, of the audit with nft.
func BenchmarkLook(b *testing.B) {
	for _, backend := range []Backend{NFT, Legacy} {
		for _, rules := range []int{0, 2000} {
			b.Run(fmt.Sprintf("%s, %d rules of others", backend, rules), func(b *testing.B) {
				n := nstest.New(b)
				for _, k := range of(backend) {
					lines := []string{"*filter"}
					for i := range rules {
						lines = append(lines, fmt.Sprintf("-A INPUT -i eth%d -j ACCEPT", i))
					}
					p := &program{kind: k, conn: n.Conn(b), path: "/usr/sbin/" + k.String()}
					if err := p.restore(strings.Join(append(lines, "COMMIT", ""), "\n")); err != nil {
						b.Fatal(err)
					}
				}
				tab, _ := newTables(b, n.Conn(b))
				tab.SetBackend(backend)
				tab.SetForward(true, true)
				tab.SetNAT(nil, nil)
				if err := tab.Apply(b.Context()); err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if err := tab.Resync(b.Context()); err != nil {
						b.Fatal(err)
					}
					if err := tab.Apply(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
