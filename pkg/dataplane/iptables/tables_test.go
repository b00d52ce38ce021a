package iptables

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/dataplane/nft"
	"github.com/margay-net/margay/pkg/dataplane/nft/nattest"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/netlink/nstest"
	"github.com/margay-net/margay/pkg/reconcile"
)

// record is a log that can be searched.
type record struct {
	mu  sync.Mutex
	all bytes.Buffer
	tb  testing.TB
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = r.tb.Output().Write(b)
	return r.all.Write(b)
}

func (r *record) count(s string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.all.String(), s)
}

func newTables(tb testing.TB, c *netlink.Conn) (*Tables, *record) {
	r := &record{tb: tb}
	return New(c, slog.New(slog.NewTextHandler(r, nil)), reconcile.Hooks{}), r
}

func start(tb testing.TB, c *netlink.Conn, b Backend) (*Tables, func()) {
	t, _ := newTables(tb, c)
	t.SetBackend(b)
	return t, nstest.Go(tb, t.Run)
}

func placed(tb testing.TB, p interface{ Placed() <-chan struct{} }) {
	tb.Helper()
	select {
	case <-p.Placed():
	case <-time.After(10 * time.Second):
		tb.Fatal("not placed")
	}
}

func setNAT(tb testing.TB, t *Tables, change ...func(*model.NAT)) {
	tb.Helper()
	t.SetNAT(nattest.Pools(change...))
	placed(tb, t)
}

// counters are what differs between listings of the same.
var counters = regexp.MustCompile(`(?m)\[\d+:\d+\]|^#.*\n`)

// save prints all tables of a kind.
func save(n *nstest.NS, k kind) string {
	if k.legacy && n.Read("/proc/thread-self/net/ip_tables_names")+n.Read("/proc/thread-self/net/ip6_tables_names") == "" {
		return "" // looking would make them
	}
	s, _ := n.Try(k.String() + "-save")
	return counters.ReplaceAllString(s+"\n", "")
}

func saveAll(n *nstest.NS) (s string) {
	for _, k := range kinds {
		s += k.String() + "\n" + save(n, k)
	}
	return s
}

// of are the two kinds of a backend.
func of(b Backend) [2]kind {
	return [2]kind{{legacy: b == Legacy}, {legacy: b == Legacy, six: true}}
}

func eachBackend(t *testing.T, f func(t *testing.T, b Backend)) {
	for _, b := range []Backend{NFT, Legacy} {
		t.Run(string(b), func(t *testing.T) { f(t, b) })
	}
}

func TestMasquerades(t *testing.T) {
	eachBackend(t, func(t *testing.T, b Backend) {
		for name, test := range map[string]func(*testing.T, *nattest.Lab, nattest.Set){
			"masquerades": nattest.Masquerades, "tunnels": nattest.Tunnels, "floating": nattest.Floating,
		} {
			t.Run(name, func(t *testing.T) {
				l := nattest.New(t)
				tab, _ := start(t, l.Conn, b)
				test(t, l, func(t testing.TB, v4, v6 *model.NAT) {
					t.Helper()
					tab.SetNAT(v4, v6)
					placed(t, tab)
				})
				if s := saveAll(l.Node); strings.Contains(s, "MARGAY") {
					t.Errorf("left: %s", s)
				}
			})
		}
	})
}

// FORWARD drops: pods' packets pass, others do not.
func TestForward(t *testing.T) {
	eachBackend(t, func(t *testing.T, b Backend) {
		l := nattest.New(t)
		for _, k := range of(b) {
			l.Node.Exec(t, k.String()+" -A FORWARD -i eth9 -j ACCEPT", k.String()+" -P FORWARD DROP")
		}
		foreign := saveAll(l.Node)
		check := func(what string, pods bool) {
			t.Helper()
			var all sync.WaitGroup
			for i := range nattest.Families {
				all.Go(func() {
					if _, err := l.Pod.Ask("udp", nattest.OutsideAddr[i]); (err == nil) != pods {
						t.Errorf("%s: pod to outside: %v", what, err)
					}
				})
				all.Go(func() {
					if out, err := l.Outside.Try("ping -n -c 1 -W 1 " + nattest.PodAddr[i]); (err == nil) != pods {
						t.Errorf("%s: outside to pod: %s", what, out)
					}
				})
				all.Go(func() {
					if _, err := l.Far.Ask("udp", nattest.OutsideAddr[i]); err == nil {
						t.Errorf("%s: a foreign packet was forwarded", what)
					}
				})
			}
			all.Wait()
		}
		check("before", false)
		for _, setting := range []Backend{b, Auto} {
			tab, stop := start(t, l.Conn, setting)
			tab.SetForward(true, true)
			mended(t, l.Node, of(b), "MARGAY-FORWARD", true)
			check("accepted, "+string(setting), true)
			tab.SetForward(false, false)
			mended(t, l.Node, of(b), "MARGAY-FORWARD", false)
			check("no longer, "+string(setting), false)
			if s := saveAll(l.Node); s != foreign {
				t.Errorf("before:\n%s\nafter:\n%s", foreign, s)
			}
			stop()
		}
	})
}

// mended waits until a word is, or is no longer, in the listings of these kinds.
func mended(t testing.TB, n *nstest.NS, of [2]kind, word string, there bool) {
	t.Helper()
	for _, k := range of {
		nstest.Within(t, time.Second, word+" of "+k.String(), func() bool { return strings.Contains(save(n, k), word) == there })
	}
}

// A packet goes through both kinds' chains: where either drops, pods must be accepted.
func TestForwardOfTheOtherKind(t *testing.T) {
	n := nstest.New(t)
	n.Exec(t, "iptables-legacy -P FORWARD DROP", "ip6tables-legacy -N THEIRS", "ip6tables-legacy -A FORWARD -j THEIRS")
	tab, _ := start(t, n.Conn(t), NFT)
	tab.SetForward(true, true)
	mended(t, n, of(NFT), "-A FORWARD -m comment --comment \"margay:", true)
	mended(t, n, of(Legacy), "-A FORWARD -m comment --comment \"margay:", true)
	n.Exec(t, "iptables-legacy -P FORWARD ACCEPT", "ip6tables-legacy -F FORWARD")
	tab.loop.KickResync()
	mended(t, n, of(Legacy), "MARGAY", false)
	mended(t, n, of(NFT), "MARGAY", true)
}

func TestForwardOneFamily(t *testing.T) {
	n := nstest.New(t)
	tab, _ := start(t, n.Conn(t), NFT)
	tab.SetForward(true, false)
	mended(t, n, [2]kind{{}, {}}, "MARGAY-FORWARD", true)
	if s := save(n, kind{six: true}); s != "\n" {
		t.Errorf("IPv6: %q", s)
	}
	if s := save(n, kind{legacy: true}); s != "" {
		t.Errorf("legacy tables were loaded: %s", s)
	}
}

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		want  Backend
	}{
		{"nothing", nil, NFT},
		{"kubelet with nft", []string{"iptables-legacy -A INPUT -j ACCEPT", "iptables-nft -t mangle -N KUBE-IPTABLES-HINT"}, NFT},
		{"kubelet with legacy", []string{"iptables-nft -A INPUT -j ACCEPT", "iptables-legacy -t mangle -N KUBE-KUBELET-CANARY"}, Legacy},
		{"kubelet with legacy, IPv6", []string{"iptables-nft -A INPUT -j ACCEPT", "ip6tables-legacy -t mangle -N KUBE-IPTABLES-HINT"}, Legacy},
		{"more rules in legacy", []string{"iptables-nft -A INPUT -j ACCEPT", "iptables-legacy -A INPUT -j ACCEPT", "ip6tables-legacy -A INPUT -j ACCEPT"}, Legacy},
		{"as many", []string{"iptables-nft -A INPUT -j ACCEPT", "iptables-legacy -A INPUT -j ACCEPT"}, NFT},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := nstest.New(t)
			n.Exec(t, c.lines...)
			tab, _ := newTables(t, n.Conn(t))
			if err := tab.Resync(t.Context()); err != nil || tab.chosen != c.want {
				t.Errorf("%s, want %s (%v)", tab.chosen, c.want, err)
			}
		})
	}
}

func TestKubeletComesLater(t *testing.T) {
	n := nstest.New(t)
	tab, _ := start(t, n.Conn(t), Auto)
	tab.SetForward(true, true)
	setNAT(t, tab)
	mended(t, n, of(NFT), "MARGAY-NAT", true)
	n.Exec(t, "iptables-legacy -t mangle -N KUBE-IPTABLES-HINT")
	tab.loop.KickResync() // the look that comes every LookEvery
	mended(t, n, of(Legacy), "MARGAY-NAT", true)
	mended(t, n, of(NFT), "MARGAY", false)
	n.Exec(t, "iptables-nft -t mangle -N KUBE-IPTABLES-HINT") // by event
	mended(t, n, of(NFT), "MARGAY-NAT", true)
	mended(t, n, of(Legacy), "MARGAY", false)
}

// only makes a directory with these programs alone the path of this test.
func only(t *testing.T, programs ...string) {
	dir := t.TempDir()
	for _, p := range programs {
		path, err := exec.LookPath(p)
		if err != nil {
			nstest.Need(t, p)
		}
		if err := os.Symlink(path, filepath.Join(dir, p)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

func TestWithoutPrograms(t *testing.T) {
	nstest.Root(t)
	only(t, "ip", "nft")
	n := nstest.New(t)
	c := n.Conn(t)
	tab, log := newTables(t, c)
	nstest.Go(t, tab.Run)
	table := nft.New(c, slog.New(slog.DiscardHandler), reconcile.Hooks{})
	nstest.Go(t, table.Run)
	s := NewSwitch(table, tab)
	nstest.Go(t, s.Run)
	v4, v6 := nattest.Pools()
	s.SetNAT(false, v4, v6)
	placed(t, table)
	time.Sleep(50 * time.Millisecond)
	if log.count("WARN") != 0 {
		t.Error("a warning although nothing needs iptables")
	}
	tab.SetForward(true, true)
	s.SetNAT(true, v4, v6)
	nstest.Within(t, time.Second, "a warning", func() bool { return log.count("WARN") > 0 })
	for range 5 {
		tab.loop.KickResync()
		time.Sleep(50 * time.Millisecond)
	}
	if w := log.count("WARN"); w == 0 || w > 2 || log.count("reconciling failed") != 0 { // 2: FORWARD may come a moment before natOutgoing
		t.Errorf("%d warnings", w)
	}
	if out := n.Exec(t, "nft list table ip margay"); !strings.Contains(out, "natOutgoing") {
		t.Errorf("nft's rules are gone: %s", out)
	}
	if err := Clean(c, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
}

// Where iptables has one name only it is taken for what it is.
func TestPlainProgram(t *testing.T) {
	nstest.Root(t)
	only(t, "ip", "nft", "iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")
	n := nstest.New(t)
	out := n.Exec(t, "iptables --version")
	b, other := Legacy, NFT
	if strings.Contains(out, "nf_tables") {
		b, other = NFT, Legacy
	}
	c := n.Conn(t)
	for _, six := range []bool{false, true} {
		if p, err := find(c, kind{legacy: b == Legacy, six: six}); err != nil || p == nil {
			t.Errorf("%s: %v", b, err)
		}
		if p, err := find(c, kind{legacy: other == Legacy, six: six}); err == nil {
			t.Errorf("%s taken for %s", p.path, other)
		}
	}
}

func TestConnectionsSurvive(t *testing.T) {
	l := nattest.New(t)
	l.KubeProxy(t)
	var streams []*nattest.Stream
	stream := func(want [2]string) {
		for i := range nattest.Families {
			s := l.Pod.Stream(t, nattest.OutsideAddr[i])
			if s.Seen.Addr().String() != want[i] {
				t.Errorf("stream seen as %s, want %s", s.Seen, want[i])
			}
			streams = append(streams, s)
		}
	}
	stream(nattest.PodAddr)
	tab, stop := start(t, l.Conn, NFT)
	table := nft.New(l.Conn, slog.New(slog.NewTextHandler(t.Output(), nil)), reconcile.Hooks{})
	nstest.Go(t, table.Run)
	s := NewSwitch(table, tab)
	stopSwitch := nstest.Go(t, s.Run)
	nftTables := func() string { out, _ := l.Node.Try("nft list tables"); return out }
	v4, v6 := nattest.Pools()
	s.SetNAT(false, v4, v6)
	placed(t, table)
	stream(nattest.NodeAddr)
	tab.SetForward(true, true)
	calm := l.Storm(t)
	for i, b := range []Backend{NFT, Legacy, NFT, Legacy} {
		s.SetNAT(true, v4, v6)
		placed(t, tab)
		nstest.Within(t, 2*time.Second, "nft's tables gone", func() bool { return !strings.Contains(nftTables(), "margay") })
		stream(nattest.NodeAddr)
		tab.SetBackend(b)
		mended(t, l.Node, of(b), "MARGAY-NAT", true)
		mended(t, l.Node, of(map[Backend]Backend{NFT: Legacy, Legacy: NFT}[b]), "MARGAY-NAT", false)
		u4, u6 := nattest.Pools(func(n *model.NAT) { n.Ports = model.PortRange{Min: 20000, Max: uint16(60000 + i)} })
		s.SetNAT(true, u4, u6)
		placed(t, tab)
		if i == 2 { // restarts of both
			stop()
			stopSwitch()
			tab, _ = start(t, l.Conn, b)
			tab.SetForward(true, true)
			s = NewSwitch(table, tab)
			nstest.Go(t, s.Run)
			s.SetNAT(true, u4, u6)
			placed(t, tab)
		}
		s.SetNAT(false, v4, v6)
		placed(t, table)
		mended(t, l.Node, of(b), "MARGAY-NAT", false)
		stream(nattest.NodeAddr)
	}
	calm()
	s.SetNAT(false, nil, nil)
	placed(t, table)
	time.Sleep(100 * time.Millisecond)
	for _, s := range streams {
		s.Stop(t)
	}
}

// The switch never removes what is wanted, however fast it is turned.
func TestSwitchTurnedFast(t *testing.T) {
	n := nstest.New(t)
	c := n.Conn(t)
	tab, _ := start(t, c, NFT)
	table := nft.New(c, slog.New(slog.DiscardHandler), reconcile.Hooks{})
	nstest.Go(t, table.Run)
	s := NewSwitch(table, tab)
	nstest.Go(t, s.Run)
	v4, v6 := nattest.Pools()
	for i := range 40 {
		s.SetNAT(i%2 == 0, v4, v6)
		time.Sleep(time.Duration(i) * time.Millisecond)
		if out := n.Exec(t, "nft list ruleset"); i > 20 && strings.Count(out, "masquerade") == 0 {
			t.Errorf("after %d turns nothing is masqueraded: %s", i, out)
		}
	}
	for _, byIPTables := range []bool{true, false} {
		s.SetNAT(byIPTables, v4, v6)
		nstest.Within(t, time.Second, "end", func() bool {
			out, _ := n.Try("nft list tables")
			return strings.Contains(out, "margay") != byIPTables && strings.Contains(saveAll(n), "MARGAY-NAT") == byIPTables
		})
	}
}

func TestClean(t *testing.T) {
	n := nstest.New(t)
	n.Exec(t, "iptables-legacy -P FORWARD DROP", "iptables-nft -A FORWARD -j ACCEPT", "iptables-nft -t nat -A POSTROUTING -j ACCEPT", "ip6tables-legacy -t nat -A POSTROUTING -j ACCEPT")
	before := saveAll(n)
	c := n.Conn(t)
	for _, b := range []Backend{NFT, Legacy} {
		tab, stop := start(t, c, b)
		tab.SetForward(true, true)
		setNAT(t, tab)
		mended(t, n, of(b), "MARGAY-FORWARD", true)
		stop()
	}
	for range 2 { // the second has nothing to do
		if err := Clean(c, slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(saveAll(n), "\n") {
			if strings.Contains(line, "MARGAY") {
				t.Errorf("left: %s", line)
			}
		}
		for _, line := range strings.Split(before, "\n") {
			if !strings.Contains(saveAll(n), line) {
				t.Errorf("gone: %s", line)
			}
		}
	}
}

// transactions counts those of nftables from now on.
func transactions(tb testing.TB, c *netlink.Conn) func() int {
	tb.Helper()
	w, err := nft.Watch(c)
	if err != nil {
		tb.Fatal(err)
	}
	var mu sync.Mutex
	n := 0
	nstest.Go(tb, func(ctx context.Context) error {
		return w.Run(ctx, func(nft.Event) bool { return true }, func() { mu.Lock(); n++; mu.Unlock() })
	})
	return func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// Legacy needs one capability more: without it the other kind is served all the same, and the log says once what is not.
func TestLegacyWithoutItsCapability(t *testing.T) {
	nstest.Root(t)
	n := nstest.New(t)
	n.Exec(t, "iptables-legacy -P FORWARD DROP")
	if _, err := exec.LookPath("setpriv"); err != nil {
		nstest.Need(t, "setpriv")
	}
	dir := t.TempDir()
	for _, name := range []string{"iptables-legacy", "ip6tables-legacy"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		script := "#!/bin/sh\nexec setpriv --bounding-set=-net_raw " + path + " \"$@\"\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	tab, log := newTables(t, n.Conn(t))
	tab.SetBackend(NFT)
	nstest.Go(t, tab.Run)
	tab.SetForward(true, true)
	setNAT(t, tab)
	mended(t, n, of(NFT), "MARGAY-FORWARD", true)
	nstest.Within(t, time.Second, "a failure", func() bool { return log.count("reconciling failed") > 0 })
	for range 3 {
		tab.loop.KickResync()
		time.Sleep(100 * time.Millisecond)
	}
	if log.count("reconciling failed") != 1 || log.count("Permission denied") == 0 {
		t.Errorf("%d failures logged", log.count("reconciling failed"))
	}
}
