package bgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// What is kept of a peer whose session is started anew, and for how long.
func TestRIBHolds(t *testing.T) {
	p, q := addr("10.0.0.1"), addr("10.0.0.2")
	one, two, six := prefix("10.1.0.0/26"), prefix("10.2.0.0/26"), prefix("fd00:1::/122")
	now := time.Now()
	all := func(netip.Addr) bool { return true }
	fill := func() *rib {
		r := newRIB()
		r.live[one] = []Path{{Prefix: one, NextHop: p, Peer: p}}
		r.live[two] = []Path{{Prefix: two, NextHop: p, Peer: p}, {Prefix: two, NextHop: q, Peer: q}}
		r.live[six] = []Path{{Prefix: six, NextHop: p, Peer: p}}
		r.hold(p, now.Add(time.Minute))
		// GoBGP withdraws what was p's.
		delete(r.live, one)
		delete(r.live, six)
		r.live[two] = r.live[two][1:]
		return r
	}
	show := func(r *rib) string {
		var out []string
		for _, x := range r.list() {
			s := fmt.Sprintf("%s-%s", x.Prefix, x.Peer)
			if x.Stale {
				s += "-stale"
			}
			out = append(out, s)
		}
		return strings.Join(out, " ")
	}
	check := func(r *rib, what, want string) {
		t.Helper()
		if got := show(r); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	held := "10.1.0.0/26-10.0.0.1-stale 10.2.0.0/26-10.0.0.2 fd00:1::/122-10.0.0.1-stale"
	r := fill()
	check(r, "held", held)
	r.told(p, false)
	check(r, "the old session's End-of-RIB does not count", held)
	r.state(p, false)
	r.state(p, true)
	check(r, "up again", held)
	r.live[one] = []Path{{Prefix: one, NextHop: p, Peer: p}}
	check(r, "told once more", "10.1.0.0/26-10.0.0.1 10.2.0.0/26-10.0.0.2 fd00:1::/122-10.0.0.1-stale")
	r.told(p, false)
	check(r, "all of one family", "10.1.0.0/26-10.0.0.1 10.2.0.0/26-10.0.0.2 fd00:1::/122-10.0.0.1-stale")
	r.told(p, true)
	check(r, "all of both", "10.1.0.0/26-10.0.0.1 10.2.0.0/26-10.0.0.2")

	r = fill()
	if next, changed := r.release(now, all); changed || !next.Equal(now.Add(time.Minute)) {
		t.Error(next, changed)
	}
	if next, changed := r.release(now.Add(time.Minute), all); !changed || !next.IsZero() {
		t.Error(next, changed)
	}
	check(r, "time is over", "10.2.0.0/26-10.0.0.2")
	r = fill()
	if _, changed := r.release(now, func(a netip.Addr) bool { return a != p }); !changed {
		t.Error("the peer is not wanted any more, but held")
	}
	check(r, "not wanted", "10.2.0.0/26-10.0.0.2")

	// Two paths of one peer, and GoBGP starts anew.
	r = newRIB()
	r.live[one] = []Path{{Prefix: one, NextHop: p, Peer: p}, {Prefix: one, NextHop: q, Peer: p}}
	r.hold(p, now.Add(time.Minute))
	r.reset()
	check(r, "both paths", "10.1.0.0/26-10.0.0.1-stale 10.1.0.0/26-10.0.0.1-stale")

	// A second change before the first was through.
	r = fill()
	r.hold(p, now.Add(time.Hour))
	check(r, "held on", held)

	// Lost without a word: GoBGP keeps the paths, they count as stale until all is told again.
	r = newRIB()
	r.live[one] = []Path{{Prefix: one, NextHop: p, Peer: p}, {Prefix: one, NextHop: q, Peer: q}}
	r.live[six] = []Path{{Prefix: six, NextHop: p, Peer: p}}
	r.state(p, false)
	check(r, "lost", "10.1.0.0/26-10.0.0.2 fd00:1::/122-10.0.0.1-stale")
	r.told(p, true)
	check(r, "told", "10.1.0.0/26-10.0.0.2 fd00:1::/122-10.0.0.1")
	r.told(p, false)
	check(r, "told all", "10.1.0.0/26-10.0.0.1 10.1.0.0/26-10.0.0.2 fd00:1::/122-10.0.0.1")
}
