package bgp

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// gone counts routes that the kernel of a namespace loses.
func gone(t *testing.T, ns *nstest.NS) func() int {
	events := ns.Monitor(t, func(e netlink.Event) bool { return e.Type == unix.RTM_DELROUTE }, netlink.GroupRoute4, netlink.GroupRoute6)
	return func() int { return events.Count(unix.RTM_DELROUTE) }
}

// always polls a condition until the returned function is called, which tells how often it did not hold.
func always(t *testing.T, ok func() bool) (misses func() (bad, all int)) {
	var mu sync.Mutex
	var bad, all int
	stop := nstest.Go(t, func(ctx context.Context) error {
		for ctx.Err() == nil {
			good := ok()
			mu.Lock()
			if all++; !good {
				bad++
			}
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
		}
		return nil
	})
	return func() (int, int) {
		stop()
		return bad, all
	}
}

const birdKernel = "protocol kernel { ipv4 { export all; }; scan time 1; }\nprotocol kernel { ipv6 { export all; }; scan time 1; }\n"

const frrBoth = `
router bgp 64513
 bgp router-id %A
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 bgp graceful-restart
 bgp graceful-restart preserve-fw-state
 timers bgp 3 9
 neighbor 192.168.10.11 remote-as 64512
 neighbor 192.168.10.11 timers connect 2
 neighbor fd00:10::11 remote-as 64512
 neighbor fd00:10::11 timers connect 2
 address-family ipv4 unicast
  network 10.13.0.0/26
  neighbor 192.168.10.11 activate
 exit-address-family
 address-family ipv6 unicast
  network fd00:13::/122
  neighbor fd00:10::11 activate
 exit-address-family
`

// We are killed, or end by ourselves, and come back: BIRD and FRR keep our routes, and never touch those in the kernel; so
// does a node that runs this speaker, too.
func TestRestartLosesNoRoute(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12, 13, 14)
	b := l.bird(12, birdKernel+birdMesh)
	f := l.frr(13, frrBoth)
	other := speaker(t, l.hosts[14], node(14, passive(peer4(11, 64512)), passive(peer6(11, 64512))))
	c := node(11, peer4(12, 64512), peer6(12, 64512), peer4(13, 64513), peer6(13, 64513), peer4(14, 64512), peer6(14, 64512))
	kernel := gone(t, l.hosts[12])
	there := func() bool {
		return b.has(block4(11)) && b.has(block6(11)) && strings.Contains(f.vtysh("show bgp ipv4 unicast"), block4(11)) &&
			strings.Contains(f.vtysh("show bgp ipv6 unicast"), block6(11)) && other.path(block4(11)).NextHop.IsValid() && other.path(block6(11)).NextHop.IsValid()
	}
	up := func(s *process) bool {
		v := s.get()
		for _, p := range v.Peers {
			if p.State != Established {
				return false
			}
		}
		return v.Synced && len(v.Peers) == 6
	}
	s := speaker(t, l.hosts[11], c)
	within(t, "all up", func() bool { return up(s) && there() })
	before := kernel()
	misses := always(t, there)
	for _, how := range []string{"kill", "end"} {
		if how == "kill" {
			s.kill()
		} else {
			s.tell("end")
		}
		time.Sleep(time.Second)
		s = speaker(t, l.hosts[11], c)
		took := within(t, "all up again after "+how, func() bool { return up(s) })
		t.Logf("%s: all six sessions up and in sync after %s", how, took)
		time.Sleep(time.Second) // what is stale would go now
	}
	if bad, all := misses(); bad > 0 {
		t.Errorf("routes were missing at %d of %d looks", bad, all)
	} else {
		t.Logf("routes there at all of %d looks", all)
	}
	if n := kernel() - before; n > 0 {
		t.Errorf("BIRD removed %d routes from its kernel", n)
	}
}

func passive(p Peer) Peer {
	p.Passive = true
	return p
}

// Two nodes restart at once, and one of them gets no answer from a third: it ends its restart late. The other does not take
// itself to be in sync until it has heard its routes.
func TestOverlappingRestarts(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12, 13)
	configs := map[int]Config{11: node(11, peer4(12, 64512)), 12: node(12, passive(peer4(11, 64512)), peer4(13, 64512)), 13: node(13, passive(peer4(12, 64512)))}
	all := map[int]*process{}
	for n, c := range configs {
		all[n] = speaker(t, l.hosts[n], c)
	}
	know := func(n, m int) bool { return all[n].path(block4(m)).NextHop.IsValid() }
	within(t, "routes all ways", func() bool { return know(11, 12) && know(12, 11) && know(12, 13) && know(13, 12) })
	kept := always(t, func() bool { return know(13, 12) })
	all[11].kill()
	all[12].kill()
	l.hosts[13].Exec(t, "nft add table ip t", "nft add chain ip t o { type filter hook output priority 0 ; }", "nft add rule ip t o tcp sport 179 drop")
	for n := 11; n <= 12; n++ {
		all[n] = speaker(t, l.hosts[n], configs[n])
	}
	within(t, "each other's session", func() bool { return all[11].peer(v4(12)).State == Established })
	took := within(t, "in sync", func() bool { return all[11].get().Synced })
	if !know(11, 12) {
		t.Errorf("in sync after %s without the routes of a peer that restarts, too", took)
	}
	l.hosts[13].Exec(t, "nft delete table ip t")
	within(t, "the other in sync", func() bool { return all[12].get().Synced })
	if !know(12, 11) || !know(12, 13) {
		t.Errorf("in sync without all routes: %s", all[12].routes())
	}
	if bad, looks := kept(); bad > 0 {
		t.Errorf("routes were missing at %d of %d looks", bad, looks)
	}
}

// A peer is killed and comes back: its routes stay with us all the time. When it does not come back, they go when the
// restart time is over, that it has told.
func TestHelperKeepsRoutes(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12)
	b := l.bird(12, strings.ReplaceAll(birdMesh, "graceful restart on;", "graceful restart on; graceful restart time 30;"))
	s := speaker(t, l.hosts[11], node(11, peer4(12, 64512), peer6(12, 64512)))
	there := func() bool { return s.path(block4(12)).NextHop.IsValid() && s.path(block6(12)).NextHop.IsValid() }
	within(t, "all learned", there)
	within(t, "in sync", func() bool { return s.get().Synced })
	misses := always(t, there)
	b.kill()
	within(t, "stale", func() bool { return s.path(block4(12)).Stale && s.peer(v4(12)).Restarting })
	b.start()
	within(t, "fresh", func() bool {
		return s.peer(v4(12)).State == Established && s.peer(v6(12)).State == Established && !s.path(block4(12)).Stale && !s.path(block6(12)).Stale
	})
	if bad, all := misses(); bad > 0 {
		t.Errorf("routes were missing at %d of %d looks", bad, all)
	}
	b.kill()
	time.Sleep(3 * time.Second)
	if !there() {
		t.Error("routes gone before the restart time is over")
	}
	took := within(t, "gone at last", func() bool { return s.routes() == "" })
	t.Logf("dead peer's routes gone after %s (restart time 30 s)", took+3*time.Second)
}

// A peer that restarts accepts a connection and closes it, as GoBGP does before it knows the peer: its routes stay. They go
// when its restart time is over.
func TestBrokenConnection(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12)
	c := node(12, passive(peer4(11, 64512)))
	c.RestartTime = 20 * time.Second
	s, o := speaker(t, l.hosts[11], node(11, peer4(12, 64512))), speaker(t, l.hosts[12], c)
	there := func() bool { return s.path(block4(12)).NextHop.IsValid() }
	within(t, "learned", func() bool { return there() && s.get().Synced && o.get().Synced })
	broken := func() {
		t.Helper()
		var ln net.Listener
		must(t, l.hosts[12].Conn(t).Do(func() (err error) {
			ln, err = net.Listen("tcp4", v4(12)+":179")
			return err
		}))
		conn, err := ln.Accept()
		must(t, err)
		conn.Close()
		ln.Close()
		time.Sleep(500 * time.Millisecond) // the other side notices
	}
	misses := always(t, there)
	o.kill()
	broken()
	o = speaker(t, l.hosts[12], c)
	within(t, "fresh", func() bool { return s.peer(v4(12)).State == Established && !s.path(block4(12)).Stale })
	if bad, all := misses(); bad > 0 {
		t.Errorf("routes were missing at %d of %d looks", bad, all)
	}
	o.kill()
	broken()
	if !there() {
		t.Error("gone before the restart time is over")
	}
	within(t, "gone at last", func() bool { return s.routes() == "" })
}

// A reflector is killed and comes back: what its clients have of each other stays, though they come back to it one after
// the other, and one of them late.
func TestReflectorRestartLosesNoRoute(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12, 13, 14)
	rr := node(11)
	rr.SyncWait = 30 * time.Second
	for n := 12; n <= 14; n++ {
		p := passive(peer4(n, 64512))
		p.Client, p.ClusterID = true, addr("224.0.0.1")
		rr.Peers = append(rr.Peers, p)
	}
	s := speaker(t, l.hosts[11], rr)
	clients := map[int]*process{}
	for n := 12; n <= 14; n++ {
		clients[n] = speaker(t, l.hosts[n], node(n, peer4(11, 64512)))
	}
	there := func() bool {
		for n, c := range clients {
			for m := 11; m <= 14; m++ {
				if m != n && c.path(block4(m)).NextHop != addr(v4(m)) {
					return false
				}
			}
		}
		return true
	}
	within(t, "all know all, next hops unchanged", there)
	within(t, "in sync", func() bool { return s.get().Synced })
	misses := always(t, there)
	s.kill()
	l.hosts[14].Exec(t, "nft add table ip t", "nft add chain ip t o { type filter hook output priority 0 ; }", "nft add rule ip t o tcp dport 179 drop")
	s = speaker(t, l.hosts[11], rr)
	within(t, "two are back", func() bool {
		return s.peer(v4(12)).State == Established && s.peer(v4(13)).State == Established
	})
	if s.get().Synced {
		t.Error("in sync although a client is not back")
	}
	l.hosts[14].Exec(t, "nft delete table ip t")
	took := within(t, "in sync again", func() bool { return s.get().Synced })
	t.Logf("in sync %s after two of three clients were back", took)
	time.Sleep(time.Second)
	if bad, all := misses(); bad > 0 {
		t.Errorf("routes were missing at %d of %d looks", bad, all)
	}
}

// Both sides change their password, one a while after the other: routes stay on both.
func TestPasswordChangeLosesNoRoute(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12, 13)
	conf := func(n, m int, password string) Config {
		p, q := peer4(m, 64512), peer6(m, 64512)
		p.Password, p.Passive = password, n > m
		q.Password, q.Passive = password, n > m
		if n != 11 {
			return node(n, p, q)
		}
		return node(n, p, q, passive(peer4(13, 64512)))
	}
	a, b := speaker(t, l.hosts[11], conf(11, 12, "one")), speaker(t, l.hosts[12], conf(12, 11, "one"))
	c := speaker(t, l.hosts[13], node(13, peer4(11, 64512)))
	there := func() bool {
		for n, s := range map[int]*process{11: b, 12: a} {
			if !s.path(block4(n)).NextHop.IsValid() || !s.path(block6(n)).NextHop.IsValid() {
				return false
			}
		}
		return true
	}
	within(t, "routes both ways", func() bool {
		return there() && c.path(block4(11)).NextHop.IsValid() && a.get().Synced && b.get().Synced
	})
	since := a.peer(v4(13)).Since
	misses := always(t, there)
	for _, password := range []string{"two", "three", ""} {
		a.set(conf(11, 12, password))
		time.Sleep(2 * time.Second)
		changed := time.Now().Unix()
		b.set(conf(12, 11, password))
		took := within(t, "session with the new password", func() bool {
			p, q := a.peer(v4(12)), a.peer(v6(12))
			return p.State == Established && q.State == Established && p.Since.Unix() >= changed && q.Since.Unix() >= changed
		})
		t.Logf("password %q: up %s after the second change", password, took)
	}
	within(t, "nothing held any more", func() bool { return !a.path(block4(12)).Stale && !b.path(block6(11)).Stale })
	if bad, all := misses(); bad > 0 {
		t.Errorf("routes were missing at %d of %d looks", bad, all)
	}
	if now := a.peer(v4(13)).Since; now != since {
		t.Errorf("the other session started anew: since %s, was %s", now, since)
	}
}

// Long-lived graceful restart: beyond the restart time routes stay as a last resort, of BIRD and of a speaker.
func TestLongLived(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12, 13, 14)
	b := l.bird(12, strings.ReplaceAll(birdMesh, "graceful restart on;", "graceful restart on; graceful restart time 2; long lived graceful restart on; long lived stale time 600;"))
	c := node(11, peer4(12, 64512), peer6(12, 64512), peer4(13, 64512), peer4(14, 64512)) // BIRD waits for both of its sessions
	c.LongLived = 10 * time.Minute
	s := speaker(t, l.hosts[11], c)
	of := func(n int, longLived time.Duration) *process {
		c := node(n, passive(peer4(11, 64512)))
		c.RestartTime, c.LongLived = 2*time.Second, longLived
		return speaker(t, l.hosts[n], c)
	}
	o, none := of(13, 10*time.Minute), of(14, 0)
	there := func(n int) bool { return s.path(block4(n)).NextHop == addr(v4(n)) }
	within(t, "learned", func() bool { return there(12) && there(13) && there(14) && s.get().Synced })
	b.kill()
	o.kill()
	none.kill()
	for _, n := range []int{12, 13} {
		within(t, "kept as stale for long", func() bool {
			p := s.path(block4(n))
			return p.Stale && fmt.Sprint(p.Communities) == "[65535:6]" // LLGR_STALE
		})
	}
	within(t, "one that did not ask for it is forgotten", func() bool { return !there(14) })
	if !there(12) || !there(13) {
		t.Error("gone")
	}
	b.start()
	of(13, 10*time.Minute)
	for _, n := range []int{12, 13} {
		within(t, "fresh when it is back", func() bool {
			p := s.path(block4(n))
			return there(n) && !p.Stale && len(p.Communities) == 0
		})
	}
}
