package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/bgp"
	"github.com/margay-net/margay/pkg/status"
)

// port is where the speakers of a test listen, each on an address of its own.
const port = 11790

// loopback is host n's address: 127.0.0.0/8 has room for every test process.
func loopback(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(64 + os.Getpid()>>8&63), byte(os.Getpid()), byte(n)})
}

// speak runs the speaker of host n until the test ends.
func speak(t *testing.T, n int, c bgp.Config) *bgp.Speaker {
	t.Helper()
	c.RouterID, c.Listen, c.Port = netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), []netip.Addr{loopback(n)}, port
	for i := range c.Peers {
		c.Peers[i].LocalAddress, c.Peers[i].Port = loopback(n), port
	}
	s := bgp.New(bgp.Options{Log: slog.New(slog.DiscardHandler), Fresh: true})
	s.Set(c)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait(); s.Stop(context.Background()) })
	return s
}

func announce(prefixes ...string) (out []bgp.Announcement) {
	for _, p := range prefixes {
		out = append(out, bgp.Announcement{Prefix: netip.MustParsePrefix(p), Communities: []bgp.Community{"64512:7"}})
	}
	return out
}

// within waits until f returns "".
func within(t *testing.T, what string, f func() string) {
	t.Helper()
	var last string
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if last = f(); last == "" {
			return
		}
	}
	t.Fatalf("not within 40 s: %s: %s", what, last)
}

// neighbourhood is host 1 with peers of every kind: 2 is in its mesh and 3 the fabric, which both are up; nobody listens on
// 4, nobody comes from 5, and 6 names a filter that is not there. Of 2 and 3 it learns 10.2.0.0/26, of 3 10.3.0.0/26, and
// takes no 10.66.0.0/26.
func neighbourhood(t *testing.T) *bgp.Speaker {
	all := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	reject := bgp.Filter{Import4: []bgp.Rule{{CIDR: netip.MustParsePrefix("10.66.0.0/16"), Operator: bgp.In, Action: bgp.Reject}}}
	s := speak(t, 1, bgp.Config{
		AS: 64512, Announce: announce("10.1.0.0/26"), Transit: all, Filters: map[string]bgp.Filter{"fabric": reject}, Peers: []bgp.Peer{
			{Kind: bgp.Mesh, Address: loopback(2), AS: 64512},
			{Kind: bgp.Global, Address: loopback(3), AS: 64513, Filters: []string{"fabric"}},
			{Kind: bgp.Node, Address: loopback(4), AS: 64512},
			{Kind: bgp.Mesh, Address: loopback(5), AS: 64512, Passive: true},
			{Kind: bgp.Global, Address: loopback(6), AS: 64513, Filters: []string{"missing"}},
		},
	})
	speak(t, 2, bgp.Config{AS: 64512, Announce: announce("10.2.0.0/26"), Peers: []bgp.Peer{{Kind: bgp.Mesh, Address: loopback(1), AS: 64512, Passive: true}}})
	speak(t, 3, bgp.Config{
		AS: 64513, Announce: announce("10.2.0.0/26", "10.3.0.0/26", "10.66.0.0/26"),
		Peers: []bgp.Peer{{Kind: bgp.Global, Address: loopback(1), AS: 64512, Passive: true}},
	})
	return s
}

// TestSessions: what people are told of sessions, of learned paths and of who hears of what.
func TestSessions(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED under -short: sessions take seconds")
	}
	speaker := neighbourhood(t)
	born := time.Now()
	s := newSessions(speaker, born)
	want := []string{
		"2 mesh up Established ", "3 global up Established ", "4 node start Active Socket: Connection refused",
		"5 mesh start Passive ", `6 global down Refused Error: There is no BGPFilter "missing"`,
	}
	within(t, "sessions", func() string {
		var have []string
		for _, p := range s.Peers(t.Context()) {
			have = append(have, fmt.Sprintf("%d %s %s %s %s", p.Addr.AsSlice()[3], p.Type, p.Proto(), p.State, p.Info))
		}
		if !slices.Equal(have, want) {
			return "have\n" + strings.Join(have, "\n")
		}
		return ""
	})
	to := netip.MustParsePrefix
	within(t, "paths", func() string {
		if v4, v6 := s.count(); v4 != 2 || v6 != 0 {
			return fmt.Sprint(v4, v6)
		}
		if told := s.tells(t, to("10.2.0.0/26")); !strings.HasSuffix(told, "10.2.0.0/26 own=false to=3") {
			return told // it is passed on a moment later
		}
		return ""
	})
	for network, want := range map[string]string{
		"10.2.0.7/32":  "10.2.0.0/26 mesh 64512 2 path=[] pref=100 [64512:7] used; 10.2.0.0/26 global 64513 3 path=[64513] pref=0 [64512:7]; 10.2.0.0/26 own=false to=3",
		"10.2.0.0/26":  "10.2.0.0/26 mesh 64512 2 path=[] pref=100 [64512:7] used; 10.2.0.0/26 global 64513 3 path=[64513] pref=0 [64512:7]; 10.2.0.0/26 own=false to=3",
		"10.66.0.1/32": "10.66.0.0/26 global 64513 3 path=[64513] pref=0 [64512:7] refused",
		"10.1.0.1/32":  "10.1.0.0/26 own=true to=2,3",
		"10.0.0.0/8":   "",
		"fd00::1/128":  "",
	} {
		if have := s.tells(t, to(network)); have != want {
			t.Errorf("%s:\nhave %s\nwant %s", network, have, want)
		}
	}
	for _, p := range s.Peers(t.Context()) {
		switch p.Addr {
		case loopback(2), loopback(3):
			if p.Sessions == 0 || p.UpdatesIn == 0 || p.UpdatesOut == 0 || p.Received == 0 || p.AS == 0 || time.Since(p.Since) > time.Minute {
				t.Errorf("counts of a session that is up: %+v", p)
			}
		case loopback(4):
			if p.Reason != "connect: connection refused" || p.At.Before(born) {
				t.Errorf("reason of a session that is not up: %+v", p)
			}
		}
	}
	if all := s.all(t.Context()); len(all) != 3 {
		t.Errorf("all paths that were taken in: %+v", all)
	}
	if used := s.Paths(); len(used) != 2 || used[0].Type != status.PeerMesh || used[1].Type != status.PeerGlobal || !used[1].Used {
		t.Errorf("used paths: %+v", used)
	}
}

// tells is Find in a line.
func (s *sessions) tells(t *testing.T, to netip.Prefix) string {
	t.Helper()
	paths, announced := s.Find(t.Context(), to)
	var out []string
	for _, p := range paths {
		text := fmt.Sprintf("%s %s %d %d path=%v pref=%d %v", p.Prefix, p.Type, p.AS, p.Peer.AsSlice()[3], p.ASPath, p.Preference, p.Communities)
		if p.NextHop != p.Peer {
			text += " by " + p.NextHop.String()
		}
		for word, is := range map[string]bool{" used": p.Used, " refused": p.Refused, " stale": p.Stale} {
			if is {
				text += word
			}
		}
		out = append(out, text)
	}
	for _, a := range announced {
		var who []string
		for _, peer := range a.To {
			who = append(who, fmt.Sprint(peer.AsSlice()[3]))
		}
		out = append(out, fmt.Sprintf("%s own=%t to=%s", a.Prefix, a.Own, strings.Join(who, ",")))
	}
	return strings.Join(out, "; ")
}
