package bgp

import (
	"strings"
	"testing"
	"time"
)

// birdMesh is a BIRD as Calico configures it, but for both families in one program.
const birdMesh = `
protocol static { ipv4; route 10.12.0.0/26 blackhole; route 10.12.1.7/32 blackhole; }
protocol static { ipv6; route fd00:12::/122 blackhole; }
protocol bgp n4 {
	local %A as 64512; neighbor 192.168.10.11 as 64512; multihop; graceful restart on;
	connect delay time 1; connect retry time 2; error wait time 1,2;
	ipv4 { import all; export all; gateway recursive; add paths on; };
}
protocol bgp n6 {
	local %B as 64512; neighbor fd00:10::11 as 64512; multihop; graceful restart on;
	connect delay time 1; connect retry time 2; error wait time 1,2;
	ipv6 { import all; export all; };
}
`

// A node that just joined does not wait for peers that are dead, one that has restarted does.
func TestFreshNodeIsHeardAtOnce(t *testing.T) {
	t.Parallel()
	for _, fresh := range []bool{true, false} {
		l := newLab(t, 11, 12)
		b := l.bird(12, birdMesh)
		var env []string
		if fresh {
			env = append(env, childEnv+"=fresh")
		}
		c := node(11, peer4(12, 64512), peer6(12, 64512), peer4(13, 64512))
		c.RestartTime = 25 * time.Second // which is how long the third is waited for
		start := time.Now()
		s := speaker(t, l.hosts[11], c, env...)
		within(t, "learned", func() bool { return s.path(block4(12)).NextHop.IsValid() })
		took := within(t, "heard", func() bool { return b.has(block4(11)) })
		if fresh && (took > DefaultSyncWait/2 || s.get().Synced) || !fresh && time.Since(start) < DefaultSyncWait {
			t.Errorf("fresh %t: heard after %s, %s after learning", fresh, time.Since(start), took)
		}
		if !fresh {
			within(t, "in sync", func() bool { return s.get().Synced })
		}
	}
}

func TestBirdAsMeshPeer(t *testing.T) {
	t.Parallel()
	l := newLab(t, 11, 12)
	b := l.bird(12, birdMesh)
	p4, p6 := peer4(12, 64512), peer6(12, 64512)
	p4.Kind, p6.Kind, p4.LocalAddress = Mesh, Mesh, addr(v4(11))
	c := node(11, p4, p6)
	s := speaker(t, l.hosts[11], c)
	took := within(t, "both sessions up, routes both ways", func() bool {
		return s.routes() == "10.12.0.0/26 via 192.168.10.12\n10.12.1.7/32 via 192.168.10.12\nfd00:12::/122 via fd00:10::12" &&
			b.has("10.11.0.0/26", "BGP.next_hop: 192.168.10.11", "BGP.local_pref: 100") && b.has("fd00:11::/122", "BGP.next_hop: fd00:10::11")
	})
	t.Logf("cold start to all routes: %s", took)
	within(t, "in sync", func() bool { return s.get().Synced })
	if st := s.peer(v4(12)); st.State != Established || st.Kind != Mesh || st.Received != 2 || st.Since.IsZero() {
		t.Errorf("peer's state: %+v", st)
	}
	// One more, one less: soon, without a new session.
	since := s.peer(v4(12)).Since
	c.Announce = append(c.Announce[1:], Announcement{Prefix: prefix("10.99.0.3/32"), Communities: []Community{"64512:7", "64512:1:2"}, Preference: Preference(512)})
	s.set(c)
	took = within(t, "changed announcements", func() bool {
		return !b.has("10.11.0.0/26") && b.has("10.99.0.3/32", "BGP.community: (64512,7)", "BGP.large_community: (64512, 1, 2)", "BGP.local_pref: 2147483135")
	})
	t.Logf("announcement to route at BIRD: %s", took)
	if again := s.peer(v4(12)).Since; again != since {
		t.Errorf("session started anew: since %s, was %s", again, since)
	}
	s.tell("stop")
	within(t, "all withdrawn after Stop", func() bool { return !strings.Contains(b.birdc("show route"), "192.168.10.11") })
}
