package uplink

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// soon is how long the watcher may take: what gathers, and a look.
const soon = 200 * time.Millisecond

// watched is a node and a watcher of one family of it.
type watched struct {
	*node
	*Watcher
	stop func()
}

// options are those of one family.
func (n *node) options(t testing.TB, s Setting, last netip.Addr, internal ...netip.Addr) Options {
	o := Options{Conn: n.Conn(t), Internal: internal, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if n.six {
		o.V4, o.V6, o.Last6 = parse(t, "none", "", false), s, last
	} else {
		o.V4, o.V6, o.Last4 = s, parse(t, "none", "", true), last
	}
	return o
}

// watch runs a watcher. A worse address waits as little as it may.
func (n *node) watch(t testing.TB, o Options) *watched {
	w := NewWatcher(o)
	for _, f := range w.finders {
		f.patience = 2 * soon
	}
	return &watched{n, w, nstest.Go(t, w.Run)}
}

func (w *watched) state() State {
	if w.six {
		return w.Pair().V6
	}
	return w.Pair().V4
}

// want waits for "eth0 @A/S 1500", or, with "lost " before it, for that to be kept though it is not there; and for the
// signal.
func (w *watched) want(t testing.TB, text string) {
	t.Helper()
	w.wantIn(t, soon, text)
}

func (w *watched) wantIn(t testing.TB, d time.Duration, text string) {
	t.Helper()
	text, lost := strings.CutPrefix(w.say(text), "lost ")
	have := func() string { s := w.state(); return fmt.Sprint(s.Uplink, " ", s.MTU) }
	nstest.Within(t, d, "want "+text, func() bool { return have() == text && (w.state().Lost != "") == lost })
	select {
	case <-w.Changed():
	case <-time.After(time.Second):
		t.Errorf("%s is not signalled", text)
	}
}

// still looks for a while whether nothing is signalled.
func (w *watched) still(t testing.TB) {
	t.Helper()
	select {
	case <-w.Changed():
		t.Errorf("signalled: %+v", w.state())
	case <-time.After(soon):
	}
}

func TestWatch(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		n.add(t, "eth0 @A/S")
		n.add(t, "eth1 @B/S")
		n.dev(t, "br0")
		w := n.watch(t, n.options(t, n.setting(t, "", "first-found"), netip.Addr{}))
		w.want(t, "eth0 @A/S 1500")
		n.add(t, "eth0 @V/H")
		n.Exec(t, "ip link set eth1 mtu 1400")
		w.still(t)
		n.Exec(t, "ip link set eth0 mtu 1450")
		w.want(t, "eth0 @A/S 1450")
		n.Exec(t, "ip link set eth0 name lan0")
		n.devs = append(n.devs, "lan0")
		w.want(t, "lan0 @A/S 1450")
		n.Exec(t, n.say("ip addr del @V/H dev lan0"), n.say("ip addr del @A/S dev lan0"))
		n.add(t, "br0 @A/S")
		w.want(t, "br0 @A/S 1500")
		n.Exec(t, "ip link set br0 down", "ip addr flush dev br0")
		w.want(t, "eth1 @B/S 1400")
		n.add(t, "lan0 @A/S")
		w.still(t)
		n.Exec(t, "ip link del eth1")
		w.want(t, "lan0 @A/S 1450")
		n.Exec(t, "ip addr flush dev lan0")
		w.want(t, "lost lan0 @A/S 1450")
		if text := w.state().Lost; text != n.say("no device has @A/S any more, it was on lan0") {
			t.Error(text)
		}
		n.add(t, "lan0 @A/S")
		w.want(t, "lan0 @A/S 1450")
		n.Exec(t, "ip link set lan0 down")
		w.want(t, "lost lan0 @A/S 1450")
		n.Exec(t, "ip link set lan0 up")
		if n.six {
			n.add(t, "lan0 @A/S")
		}
		w.want(t, "lan0 @A/S 1450")
		w.still(t)
	})
}

// The length of the prefix changes while the address stays.
func TestPrefixLength(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		n.add(t, "eth0 @A/S")
		w := n.watch(t, n.options(t, n.setting(t, "", ""), netip.Addr{}))
		w.want(t, "eth0 @A/S 1500")
		n.Exec(t, n.say("ip addr del @A/S dev eth0"))
		n.add(t, "eth0 @A/20")
		w.want(t, "eth0 @A/20 1500")
	})
}

// A virtual address that comes, is left alone, and goes never becomes the node's while its own is only being renewed.
func TestVirtualAddress(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		n.dev(t, "eth0")
		n.Write(t, "/proc/sys/net/ipv4/conf/eth0/promote_secondaries", "1")
		n.add(t, "eth0 @A/S")
		w := n.watch(t, n.options(t, n.setting(t, "", "first-found"), netip.Addr{}))
		w.want(t, "eth0 @A/S 1500")
		for _, length := range []string{"/S", "/H"} {
			if n.six && length == "/S" {
				continue // the kernel does not tell these apart
			}
			n.add(t, "eth0 @V"+length)
			w.still(t)
			n.Exec(t, n.say("ip addr del @A/S dev eth0"))
			w.want(t, "lost eth0 @A/S 1500")
			n.add(t, "eth0 @A/S")
			w.want(t, "eth0 @A/S 1500")
			w.still(t)
			n.Exec(t, n.say("ip addr del @V"+length+" dev eth0"))
			w.still(t)
		}
		n.add(t, "eth0 @V/H")
		n.Exec(t, n.say("ip addr del @A/S dev eth0"))
		w.want(t, "lost eth0 @A/S 1500")
		w.wantIn(t, 3*soon, "eth0 @V/H 1500")
		n.add(t, "eth0 @A/S")
		w.want(t, "eth0 @A/S 1500")
	})
}

// The default method falls back, says so, and returns.
func TestDefaultMethod(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		n.add(t, "eth0 @A/S")
		n.add(t, "eth1 @B/S")
		w := n.watch(t, n.options(t, n.setting(t, "", ""), netip.Addr{}))
		w.want(t, "eth0 @A/S 1500")
		w.SetInternal(n.internal("@C"))
		w.want(t, "eth0 @A/S 1500")
		if text := w.state().Odd; !strings.Contains(text, n.say("InternalIP @C is on no device")) {
			t.Error(text)
		}
		w.SetInternal(n.internal("@B"))
		w.want(t, "eth1 @B/S 1500")
		w.SetInternal(n.internal("@B"))
		w.still(t)
		n.Exec(t, n.say("ip addr del @B/S dev eth1"))
		w.want(t, "lost eth1 @B/S 1500")
		w.wantIn(t, 3*soon, "eth0 @A/S 1500")
		n.add(t, "eth1 @B/S")
		w.want(t, "eth1 @B/S 1500")
		if text := w.state().Odd; text != "" {
			t.Error(text)
		}
	})
}

// What is not there at the start is reported, and found when it comes.
func TestLateAddress(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		w := n.watch(t, n.options(t, n.setting(t, "@A/20", ""), netip.Addr{}))
		nstest.Within(t, soon, "report", func() bool { return strings.Contains(w.state().Lost, n.say("node address @A is on no device")) })
		<-w.Changed()
		n.add(t, "eth0 @A/S")
		w.want(t, "eth0 @A/20 1500")
	})
}

// No event tells of what decides here; the slow look does.
func TestSlowLook(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		n.add(t, "lo @C/H")
		n.add(t, "eth0 @A/S")
		n.add(t, "eth1 @B/S")
		n.Exec(t, "ip link set eth1 mtu 1400")
		n.ip(t, "route add default via @GA")
		o := n.options(t, n.setting(t, "", "cidr=@C/H"), netip.Addr{})
		o.Every = soon
		w := n.watch(t, o)
		w.want(t, "eth0 @C/H 1500")
		n.ip(t, "route replace default via @GB")
		w.wantIn(t, 2*soon, "eth1 @C/H 1400")
		w.still(t)
	})
}

// Both families are followed side by side, and neither waits for the other.
func TestBothFamilies(t *testing.T) {
	n := &node{NS: nstest.New(t)}
	o := n.options(t, n.setting(t, "", ""), netip.Addr{})
	o.V6 = parse(t, "autodetect", "interface=eth1", true)
	w := n.watch(t, o)
	n.add(t, "eth0 @A/S")
	n.dev(t, "eth1")
	n.Exec(t, "ip addr add fd00:a::5/64 dev eth0 nodad", "ip addr add fd00:b::5/64 dev eth1 nodad")
	up := func(s State) string { return s.Uplink.String() }
	nstest.Within(t, soon, "both", func() bool {
		return up(w.Pair().V4) == "eth0 10.0.0.5/24" && up(w.Pair().V6) == "eth1 fd00:b::5/64"
	})
	n.Exec(t, "ip link del eth1")
	nstest.Within(t, soon, "one lost", func() bool {
		p := w.Pair()
		return p.V4.Lost == "" && p.V6.Lost != "" && up(p.V6) == "eth1 fd00:b::5/64"
	})
}

// A restarted watcher finds what the earlier one had, not what it would find by itself.
func TestRestart(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		n.dev(t, "eth0")
		n.add(t, "eth1 @B/S")
		s := n.setting(t, "", "first-found")
		w := n.watch(t, n.options(t, s, netip.Addr{}))
		w.want(t, "eth1 @B/S 1500")
		n.add(t, "eth0 @A/S")
		w.still(t)
		w.stop()
		again := n.watch(t, n.options(t, s, w.state().Addr.Addr()))
		again.want(t, "eth1 @B/S 1500")
		again.stop()
		n.watch(t, n.options(t, s, netip.Addr{})).want(t, "eth0 @A/S 1500")
	})
}
