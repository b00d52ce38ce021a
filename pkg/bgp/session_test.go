package bgp

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What keeps a session from coming up is told, and the others do not notice.
func TestReasons(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12, 13, 14, 15, 16)
	bgp := func(n int, more string) string {
		return `protocol static { ipv4; route 10.` + fmt.Sprint(n) + `.0.0/26 blackhole; }
protocol bgp n { local %A as 64512; neighbor 192.168.10.11 as 64512; multihop; connect delay time 1; connect retry time 1; error wait time 1,2; ` +
			more + ` ipv4 { import all; export all; }; }`
	}
	l.bird(12, bgp(12, `password "right";`))
	l.bird(13, bgp(13, `password "other";`))
	l.bird(14, bgp(14, ""))
	l.bird(15, strings.ReplaceAll(bgp(15, ""), "neighbor 192.168.10.11 as 64512", "neighbor 192.168.10.11 as 64777"))
	md5 := func(n int) Peer {
		p := peer4(n, 64512)
		p.Password = "right"
		return p
	}
	c := node(11, md5(12), md5(13), peer4(14, 64999), peer4(15, 64512), peer4(16, 64512), peer4(17, 64512), Peer{Kind: Node, Address: addr("192.168.10.18")},
		Peer{Kind: Node, Address: addr("192.168.10.19"), AS: 64512, Filters: []string{"missing"}})
	s := speaker(t, l.hosts[11], c)
	for n, want := range map[int]string{
		13: "wrong password", 14: "as number mismatch expected 64999, received 64512", 15: "peer closed while opening",
		16: "connect: connection refused", 17: "connect: timeout", 18: "no AS number", 19: `no BGPFilter "missing"`,
	} {
		within(t, fmt.Sprintf("peer %d: %s", n, want), func() bool {
			p := s.peer(v4(n))
			return p.State != Established && strings.Contains(p.Reason, want)
		})
		t.Logf("%d: %s: %s", n, s.peer(v4(n)).State, s.peer(v4(n)).Reason)
	}
	within(t, "the right one is up", func() bool { return s.path(block4(12)).NextHop == addr(v4(12)) })

	// Each is put right; the one that is up stays up.
	since := s.peer(v4(12)).Since
	c.Peers[1].Password, c.Peers[2].AS = "other", 64512
	s.set(c)
	within(t, "two more are up", func() bool { return s.path(block4(13)).NextHop.IsValid() && s.path(block4(14)).NextHop.IsValid() })
	if p := s.peer(v4(13)); p.Reason == "" || p.At.IsZero() {
		t.Errorf("the last failure is forgotten: %+v", p)
	}
	// One is removed, and added again without its password, which nobody has there any longer.
	c.Peers = append(c.Peers[:1:1], c.Peers[2:]...)
	s.set(c)
	within(t, "its routes are gone at once", func() bool { return !s.path(block4(13)).NextHop.IsValid() })
	if now := s.peer(v4(12)).Since; now != since {
		t.Errorf("a session that was not changed started anew: since %s, was %s", now, since)
	}
}

// The address that a password was for can have a peer without one afterwards, that connects to us.
func TestPasswordIsForgotten(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12)
	p := passive(peer4(12, 64512))
	p.Password = "secret"
	s := speaker(t, l.hosts[11], node(11, p))
	within(t, "configured", func() bool { return s.peer(v4(12)).State == Active })
	s.set(node(11))
	within(t, "removed", func() bool { return len(s.get().Peers) == 0 })
	s.set(node(11, passive(peer4(12, 64512))))
	o := speaker(t, l.hosts[12], node(12, peer4(11, 64512)))
	within(t, "up", func() bool { return o.path(block4(11)).NextHop.IsValid() })
}

// Global settings change: everything starts anew, and what was learned stays meanwhile, on both sides.
func TestGlobalChange(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12)
	c, d := node(11, peer4(12, 64512)), node(12, passive(peer4(11, 64512)))
	a, b := speaker(t, l.hosts[11], c), speaker(t, l.hosts[12], d)
	there := func() bool { return a.path(block4(12)).NextHop.IsValid() && b.path(block4(11)).NextHop.IsValid() }
	within(t, "learned", func() bool { return there() && a.get().Synced && b.get().Synced })
	misses := always(t, there)
	c.RouterID = HashID("node1")
	a.set(c)
	within(t, "new router ID", func() bool {
		return a.peer(v4(12)).State == Established && b.peer(v4(11)).Sessions >= 2 && a.get().Synced
	})
	c.Port, d.Peers[0].Port = 1790, 1790
	c.Peers[0].Port, d.Port = 1791, 1791
	a.set(c)
	b.set(d)
	within(t, "other ports", func() bool {
		return b.get().Synced && a.get().Synced && b.peer(v4(11)).State == Established && a.peer(v4(12)).State == Established && !a.path(block4(12)).Stale
	})
	if bad, all := misses(); bad > 0 {
		t.Errorf("routes were missing at %d of %d looks", bad, all)
	}
	if out := l.hosts[11].Exec(t, "ss -Htln"); !strings.Contains(out, ":1790") || strings.Contains(out, ":179 ") {
		t.Errorf("listening on: %s", out)
	}
}

// A node gets another address, and one of its peers does not answer: the other one, to whom it is new, hears of its routes
// without waiting for that.
func TestAddressChange(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12)
	at := func(n int) Config {
		c := node(11, peer4(12, 64512), peer4(13, 64512))
		c.RouterID, c.SyncWait = addr(v4(n)), 10*time.Minute
		for i := range c.Peers {
			c.Peers[i].LocalAddress = addr(v4(n))
		}
		return c
	}
	a, b := speaker(t, l.hosts[11], at(11), childEnv+"=fresh"), speaker(t, l.hosts[12], node(12, passive(peer4(11, 64512))))
	within(t, "routes both ways", func() bool { return a.path(block4(12)).NextHop.IsValid() && b.path(block4(11)).NextHop == addr(v4(11)) })
	l.hosts[11].Exec(t, "ip addr del "+v4(11)+"/24 dev eth0", "ip addr add "+v4(21)+"/24 dev eth0")
	a.set(at(21))
	b.set(node(12, passive(peer4(21, 64512))))
	within(t, "the route by the new address", func() bool { return b.path(block4(11)).NextHop == addr(v4(21)) })
	if a.get().Synced {
		t.Error("in sync without having heard the other one")
	}
}

// The new port is taken: what was learned by the old one is not kept for ever.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12)
	c, d := node(11, peer4(12, 64512)), node(12, passive(peer4(11, 64512)))
	c.RestartTime, d.RestartTime = 3*time.Second, 3*time.Second
	a, b := speaker(t, l.hosts[11], c), speaker(t, l.hosts[12], d)
	within(t, "learned", func() bool { return a.path(block4(12)).NextHop.IsValid() })
	speaker(t, l.hosts[11], Config{AS: 64512, RouterID: addr("10.0.0.1"), Port: 1790})
	within(t, "port taken", func() bool { return strings.Contains(l.hosts[11].Exec(t, "ss -Htln"), ":1790") })
	b.kill()
	c.Port = 1790
	a.set(c)
	within(t, "forgotten", func() bool { return a.routes() == "" })
}

// A dead peer is noticed by the hold time.
func TestHoldTime(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12)
	c := node(11, peer4(12, 64512))
	c.Hold = 3 * time.Second
	s := speaker(t, l.hosts[11], c)
	o := speaker(t, l.hosts[12], node(12, passive(peer4(11, 64512))))
	within(t, "up", func() bool { return s.peer(v4(12)).State == Established && o.get().Synced })
	l.hosts[12].Exec(t, "ip link set eth0 down")
	took := within(t, "down", func() bool { return s.peer(v4(12)).State != Established })
	t.Logf("down after %s", took)
	if took > 20*time.Second { // the default is 90
		t.Errorf("took %s with a hold time of 3 s", took)
	}
	if p := s.peer(v4(12)); !strings.Contains(p.Reason, "hold timer") || !p.Restarting {
		t.Errorf("%+v", p)
	}
}
