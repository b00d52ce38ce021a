package nft

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/dataplane/nft/nattest"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/netlink/nstest"
	"github.com/margay-net/margay/pkg/reconcile"
)

func start(tb testing.TB, c *netlink.Conn) (*Table, func()) {
	t := New(c, slog.New(slog.NewTextHandler(tb.Output(), nil)), reconcile.Hooks{})
	return t, nstest.Go(tb, t.Run)
}

func placed(tb testing.TB, t *Table) {
	tb.Helper()
	select {
	case <-t.Placed():
	case <-time.After(5 * time.Second):
		tb.Fatal("not placed")
	}
}

func setNAT(tb testing.TB, t *Table, change ...func(*model.NAT)) {
	tb.Helper()
	t.SetNAT(nattest.Pools(change...))
	placed(tb, t)
}

// list prints our tables, with what they have in the alphabet's order.
func list(n *nstest.NS) string {
	var out []string
	for _, family := range families {
		table := "table " + familyName(family) + " " + tableName
		s, err := n.Try("nft list " + table)
		if err != nil {
			continue
		}
		parts := strings.Split(strings.TrimSuffix(strings.TrimPrefix(s, table+" {\n"), "\n}"), "\n\n")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		slices.Sort(parts)
		out = append(append(out, table), parts...)
	}
	return strings.Join(out, "\n")
}

// transactions counts those that touch anything in the namespace from now on, whoever makes them.
func transactions(tb testing.TB, c *netlink.Conn) *atomic.Int64 {
	tb.Helper()
	var n atomic.Int64
	w, err := Watch(c)
	if err != nil {
		tb.Fatal(err)
	}
	nstest.Go(tb, func(ctx context.Context) error {
		return w.Run(ctx, func(Event) bool { return true }, func() { n.Add(1) })
	})
	return &n
}

// setter is a Table's way to be a nattest.Set.
func setter(tab *Table) nattest.Set {
	return func(t testing.TB, v4, v6 *model.NAT) {
		t.Helper()
		tab.SetNAT(v4, v6)
		placed(t, tab)
	}
}

func TestMasquerades(t *testing.T) {
	l := nattest.New(t)
	tab, _ := start(t, l.Conn)
	nattest.Masquerades(t, l, setter(tab))
	if out := l.Node.Exec(t, "nft list ruleset"); out != "" {
		t.Errorf("left: %s", out)
	}
}

func TestTunnels(t *testing.T) {
	l := nattest.New(t)
	tab, _ := start(t, l.Conn)
	nattest.Tunnels(t, l, setter(tab))
}

func TestFloating(t *testing.T) {
	l := nattest.New(t)
	tab, _ := start(t, l.Conn)
	nattest.Floating(t, l, setter(tab))
	if out := l.Node.Exec(t, "nft list ruleset"); out != "" {
		t.Errorf("left: %s", out)
	}
}

// Running connections go on as they began, whatever is switched, and new ones are masqueraded at each moment.
func TestConnectionsSurvive(t *testing.T) {
	l := nattest.New(t)
	l.KubeProxy(t)
	tab, stop := start(t, l.Conn)
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
	setNAT(t, tab)
	stream(nattest.NodeAddr)
	calm := l.Storm(t)
	for i := range 40 {
		switch i % 8 {
		case 0:
			setNAT(t, tab, func(n *model.NAT) {
				n.Spared = append(n.Spared, nattest.Prefixes("198.18.0.0/24", "2001:db8:98::/64")...)
			})
		case 1:
			setNAT(t, tab, func(n *model.NAT) { n.Ports = model.PortRange{Min: 20000, Max: 60000} })
		case 2:
			setNAT(t, tab, func(n *model.NAT) { n.Sources = nattest.Prefixes("172.20.0.0/20", "172.16.0.0/16", "fd00:20::/96") })
		case 3:
			setNAT(t, tab, func(n *model.NAT) { n.Interface = "eth0" })
		case 4:
			l.Node.Exec(t, "nft add element ip margay spared { 198.19.0.0/24 }", "nft add element ip6 margay spared { 2001:db8:97::/64 }")
			nstest.Within(t, time.Second, "foreign elements gone", func() bool {
				s := list(l.Node)
				return !strings.Contains(s, "198.19") && !strings.Contains(s, "db8:97")
			})
		case 5:
			l.Node.Exec(t, "nft insert rule ip margay postrouting counter", "nft insert rule ip6 margay postrouting counter")
			nstest.Within(t, time.Second, "foreign rule gone", func() bool { return !strings.Contains(list(l.Node), "counter") })
		case 6:
			stop()
			tab, stop = start(t, l.Conn)
			setNAT(t, tab, func(n *model.NAT) { n.Interface = "eth0" })
		}
	}
	calm()
	tab.SetNAT(nil, nil)
	placed(t, tab)
	time.Sleep(100 * time.Millisecond)
	for _, s := range streams {
		s.Stop(t)
	}
}
