package bgp

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Two reflectors with clusters of their own in one AS, each the other's client, both with all clients: one is killed and
// stays away, then the other comes and goes.
func TestTwoClusters(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12, 13, 14)
	client := func(n int, cluster string, active bool) Peer {
		p := peer4(n, 64512)
		p.Client, p.ClusterID, p.Passive = true, addr(cluster), !active
		return p
	}
	one := node(11, client(12, "224.0.0.1", true), client(13, "224.0.0.1", false), client(14, "224.0.0.1", false))
	two := node(12, client(11, "224.0.0.2", false), client(13, "224.0.0.2", false), client(14, "224.0.0.2", false))
	for _, c := range []*Config{&one, &two} {
		c.RestartTime = 5 * time.Second
	}
	a, b := speaker(t, l.hosts[11], one), speaker(t, l.hosts[12], two)
	c, d := speaker(t, l.hosts[13], node(13, peer4(11, 64512), peer4(12, 64512))), speaker(t, l.hosts[14], node(14, peer4(11, 64512), peer4(12, 64512)))
	know := func(s *process, n ...int) bool {
		out := s.routes()
		for _, n := range n {
			if !strings.Contains(out, block4(n)+" via "+v4(n)) {
				return false
			}
		}
		return true
	}
	within(t, "all know all", func() bool {
		return know(a, 12, 13, 14) && know(b, 11, 13, 14) && know(c, 11, 12, 14) && know(d, 11, 12, 13)
	})
	misses := always(t, func() bool { return know(c, 14) && know(d, 13) })
	a.kill()
	within(t, "the dead reflector's own block gone everywhere", func() bool {
		return !know(b, 11) && !know(c, 11) && !know(d, 11)
	})
	a = speaker(t, l.hosts[11], one)
	within(t, "all know all again", func() bool { return know(a, 12, 13, 14) && know(c, 11) && a.get().Synced })
	time.Sleep(time.Second)
	b.kill()
	within(t, "the other's gone", func() bool { return !know(c, 12) && !know(d, 12) })
	if bad, all := misses(); bad > 0 {
		t.Errorf("clients missed each other at %d of %d looks", bad, all)
	}
}

// Two ASes with a reflector each, that alone speak to each other: walkthrough 10, layout 2.
func TestTwoASes(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12, 14, 15)
	side := func(rr, other, n int, as, otherAS uint32, cluster string) (Config, Config) {
		p := passive(peer4(n, as))
		p.Client, p.ClusterID = true, addr(cluster)
		q := peer4(other, otherAS)
		q.Passive = rr > other
		a, b := node(rr, p, q), node(n, peer4(rr, as))
		a.AS, b.AS = as, as
		return a, b
	}
	c1, c2 := side(11, 14, 12, 64512, 64513, "224.0.0.1")
	c4, c5 := side(14, 11, 15, 64513, 64512, "224.0.0.2")
	n1, n2, n4, n5 := speaker(t, l.hosts[11], c1), speaker(t, l.hosts[12], c2), speaker(t, l.hosts[14], c4), speaker(t, l.hosts[15], c5)
	for _, want := range []struct {
		s              *process
		block, nextHop int
	}{{n1, 12, 12}, {n1, 14, 14}, {n1, 15, 14}, {n2, 11, 11}, {n2, 14, 14}, {n2, 15, 14}, {n4, 15, 15}, {n4, 11, 11}, {n4, 12, 11}, {n5, 14, 14}, {n5, 11, 11}, {n5, 12, 11}} {
		within(t, fmt.Sprintf("block %d via %d", want.block, want.nextHop), func() bool {
			return want.s.path(block4(want.block)).NextHop == addr(v4(want.nextHop))
		})
	}
	// Next hop self within the AS: its clients need not reach the other AS.
	c1.Peers[0].NextHop = NextHopSelf
	n1.set(c1)
	within(t, "block 15 via 11 at 12", func() bool { return n2.path(block4(15)).NextHop == addr(v4(11)) })
	since := n2.sessions()
	// What the client was told of its reflector is withheld, without a new session, and let through again.
	for _, action := range []Action{Reject, Accept} {
		c1.Filters = map[string]Filter{"f": {Export4: []Rule{{CIDR: prefix(block4(15)), Operator: In, RemotePeers: true, Action: action}}}}
		c1.Peers[0].Filters = []string{"f"}
		n1.set(c1)
		within(t, "block 15 at 12: "+string(action), func() bool { return n2.path(block4(15)).NextHop.IsValid() == (action == Accept) })
		if n2.path(block4(14)).NextHop != addr(v4(11)) || n1.path(block4(15)).NextHop != addr(v4(14)) {
			t.Error("other routes suffered")
		}
	}
	if now := n2.sessions(); now != since {
		t.Errorf("a session was touched: up since %s, was %s", now, since)
	}
}

// BIRD as reflector, as Calico configures it, and BIRD as our client; a service's address from two nodes comes with both
// paths, by ADD-PATH.
func TestBirdReflects(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12, 13, 14, 15)
	proto := func(n int, extra string) string {
		return fmt.Sprintf(`protocol bgp n%d { local %%A as 64512; neighbor 192.168.10.%d as 64512; multihop; graceful restart on; connect delay time 1; connect retry time 1; error wait time 1,2; %s
	ipv4 { import all; export all; add paths on; }; }
`, n, n, extra)
	}
	conf := ""
	for _, n := range []int{11, 13, 14} {
		conf += proto(n, "rr client; rr cluster id 224.0.0.1; passive on;")
	}
	l.bird(12, conf)
	with := func(n int, peers ...Peer) Config {
		for i := range peers {
			peers[i].AddPaths = true
		}
		return node(n, peers...)
	}
	one, two := with(13, peer4(12, 64512)), with(14, peer4(12, 64512))
	one.Announce = append(one.Announce, Announcement{Prefix: prefix("10.96.0.10/32")})
	two.Announce = append(two.Announce, Announcement{Prefix: prefix("10.96.0.10/32")})
	speaker(t, l.hosts[13], one)
	other := speaker(t, l.hosts[14], two)
	// 11 is a reflector itself, for a BIRD.
	client := peer4(15, 64512)
	client.Client, client.ClusterID = true, addr("224.0.0.2")
	s := speaker(t, l.hosts[11], with(11, peer4(12, 64512), client))
	b := l.bird(15, proto(11, "passive on;"))
	both := "10.96.0.10/32 via 192.168.10.13\n10.96.0.10/32 via 192.168.10.14"
	within(t, "both nodes of the service", func() bool { return strings.Contains(s.routes(), both) })
	within(t, "both at the BIRD behind us", func() bool {
		out := b.birdc("show route for 10.96.0.10/32 all")
		return strings.Contains(out, "192.168.10.13") && strings.Contains(out, "192.168.10.14") && strings.Contains(out, "BGP.cluster_list: 224.0.0.2 224.0.0.1")
	})
	two.Announce = two.Announce[:2]
	other.set(two)
	within(t, "one node of the service", func() bool {
		return strings.Contains(s.routes(), "10.96.0.10/32 via 192.168.10.13") && !strings.Contains(s.routes(), both) &&
			!strings.Contains(b.birdc("show route for 10.96.0.10/32 all"), "192.168.10.14")
	})
}
