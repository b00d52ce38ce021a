package bgp

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// meshFigures is what a mesh in one process finds.
type meshFigures struct {
	Start time.Duration   // until all have all routes and are in sync
	Claim []time.Duration // from one more announcement at one to the route at all
	CPU   time.Duration   // of the start, all speakers
	RSS   int             // KiB, all speakers
}

// meshChild runs MARGAY_MESH="speakers blocks" speakers on 127.0.1.0/24 in this process.
func meshChild() {
	var n, blocks int
	if _, err := fmt.Sscan(os.Getenv("MARGAY_MESH"), &n, &blocks); err != nil {
		panic(err)
	}
	g, ctx := errgroup.WithContext(context.Background())
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}) }
	log := slog.New(slog.DiscardHandler)
	all, configs := make([]*Speaker, n), make([]Config, n)
	for i := range n {
		c := Config{AS: 64512, RouterID: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), Listen: []netip.Addr{at(i)}}
		for j := range n {
			if j != i {
				c.Peers = append(c.Peers, Peer{Kind: Mesh, Address: at(j), LocalAddress: at(i), AS: 64512, Passive: j > i})
			}
		}
		for b := range blocks {
			c.Announce = append(c.Announce, Announcement{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), byte(b), 0}), 26)})
		}
		all[i], configs[i] = New(Options{Log: log, Fresh: true}), c
	}
	start, used := time.Now(), cpu()
	for i, s := range all {
		s.Set(configs[i])
		g.Go(func() error { return s.Run(ctx) })
	}
	wait := func(routes func(i int) int) {
		for i, s := range all {
			for s.rib.size() < routes(i) {
				time.Sleep(time.Millisecond)
			}
		}
	}
	wait(func(int) int { return (n - 1) * blocks })
	out := meshFigures{Start: time.Since(start), CPU: cpu() - used, RSS: rss()}
	for _, s := range all {
		for !s.Synced() {
			time.Sleep(10 * time.Millisecond)
		}
	}
	time.Sleep(2 * time.Second)
	for k := range 20 {
		begin := time.Now()
		configs[0].Announce = append(slices.Clone(configs[0].Announce), Announcement{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 200, byte(k), 0}), 26)})
		all[0].Set(configs[0])
		wait(func(i int) int {
			if i == 0 {
				return 0
			}
			return (n-1)*blocks + k + 1
		})
		out.Claim = append(out.Claim, time.Since(begin))
		time.Sleep(100 * time.Millisecond)
	}
	_ = json.NewEncoder(os.Stdout).Encode(out)
	os.Exit(0)
}

func (r *rib) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.live)
}

// Meshes of 20 speakers in one process: GoBGP alone, without an agent, an API server or a kernel, which section bgp of hack/bench
// has. Connecting starts with a pause of one to two seconds at random, which is GoBGP's.
func BenchmarkMesh(b *testing.B) {
	const n = 20
	for _, blocks := range []int{1, 10} {
		b.Run(fmt.Sprintf("speakers=%d/blocks=%d", n, blocks), func(b *testing.B) {
			for b.Loop() {
				ns := nstest.New(b)
				cmd := exec.Command("/proc/self/exe")
				cmd.Env = append(os.Environ(), childEnv+"=mesh", fmt.Sprintf("MARGAY_MESH=%d %d", n, blocks))
				cmd.Stderr = os.Stderr
				var out []byte
				err := ns.Conn(b).Do(func() (err error) {
					out, err = cmd.Output()
					return err
				})
				must(b, err)
				var f meshFigures
				must(b, json.Unmarshal(out, &f))
				slices.Sort(f.Claim)
				b.ReportMetric(f.Start.Seconds(), "s/start")
				b.ReportMetric(f.CPU.Seconds()/float64(n), "cpu-s/speaker")
				b.ReportMetric(float64(f.RSS)/1024/float64(n), "MiB/speaker")
				b.ReportMetric(f.Claim[len(f.Claim)/2].Seconds()*1e3, "ms/claim-p50")
				b.ReportMetric(f.Claim[len(f.Claim)-1].Seconds()*1e3, "ms/claim-max")
			}
		})
	}
}
