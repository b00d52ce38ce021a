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
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// meshFigures is what a mesh in one process finds.
type meshFigures struct {
	Start time.Duration   // until all have all routes and are in sync
	Claim []time.Duration // from one more announcement at one to the route at all
	Idle  float64         // mCPU of one speaker
	CPU   time.Duration   // of the start, all speakers
	RSS   int             // KiB, all speakers
}

// meshChild runs MARGAY_MESH="speakers blocks idle-seconds" speakers on 127.0.1.0/24 in this process.
func meshChild() {
	var n, blocks, idle int
	if _, err := fmt.Sscan(os.Getenv("MARGAY_MESH"), &n, &blocks, &idle); err != nil {
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
	used = cpu()
	time.Sleep(time.Duration(idle) * time.Second)
	if idle > 0 {
		out.Idle = float64(cpu()-used) / float64(time.Duration(idle)*time.Second) / float64(n) * 1000
	}
	_ = json.NewEncoder(os.Stdout).Encode(out)
	os.Exit(0)
}

// Meshes of speakers in one process: until each has all routes; one more block to all. Connecting starts with a pause of
// one to two seconds at random, which is GoBGP's. Those of 50 and 100 speakers take minutes and only run with
// MARGAY_BENCH_FULL=1 in the environment.
func BenchmarkMesh(b *testing.B) {
	for _, n := range []int{20, 50, 100} {
		for _, blocks := range []int{1, 10} {
			b.Run(fmt.Sprintf("speakers=%d/blocks=%d", n, blocks), func(b *testing.B) {
				if n > 20 && os.Getenv("MARGAY_BENCH_FULL") == "" {
					b.Skip("SKIPPED: takes minutes; MARGAY_BENCH_FULL=1 in the environment runs it")
				}
				for b.Loop() {
					idle := 0
					if n == 100 && blocks == 1 {
						idle = 60 // a speaker with 99 peers
					}
					ns := nstest.New(b)
					cmd := exec.Command("/proc/self/exe")
					cmd.Env = append(os.Environ(), childEnv+"=mesh", fmt.Sprintf("MARGAY_MESH=%d %d %d", n, blocks, idle))
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
					if idle > 0 {
						b.ReportMetric(f.Idle, "mCPU-idle/speaker")
					}
				}
			})
		}
	}
}

// A BIRD as reflector tells 5,000 routes to this speaker and to another BIRD, one after the other.
func BenchmarkReflector(b *testing.B) {
	const routes = 5000
	var static strings.Builder
	static.WriteString("protocol static { ipv4;\n")
	for i := range routes {
		fmt.Fprintf(&static, "route 10.%d.%d.%d/26 via 192.168.10.12;\n", i/1000, i/4%250, i%4*64)
	}
	static.WriteString("}\n")
	for b.Loop() {
		l := newLab(b, 11, 12, 13)
		conf := static.String()
		for _, n := range []int{11, 13} {
			conf += fmt.Sprintf(`protocol bgp n%d { local %%A as 64512; neighbor 192.168.10.%d as 64512; multihop; graceful restart on; rr client; rr cluster id 224.0.0.1; passive on;
	ipv4 { import all; export all; next hop keep; }; }
`, n, n)
		}
		l.bird(12, conf)
		time.Sleep(time.Second)
		s := speaker(b, l.hosts[11], node(11, peer4(12, 64512)))
		var v view
		within(b, "all learned", func() bool { v = s.ask("count"); return v.Count == routes && v.Synced })
		// Paths, with what it costs to make them.
		begin := time.Now()
		if got := len(s.get().Paths); got != routes {
			b.Fatal(got)
		}
		b.ReportMetric(time.Since(begin).Seconds()*1e3, "ms/paths-as-json")
		b.ReportMetric(v.Learned.Seconds(), "s/start-to-learned")
		b.ReportMetric((v.Learned-v.First).Seconds()*1e3, "ms/first-to-last")
		b.ReportMetric(float64(v.RSS)/1024, "MiB")
		b.ReportMetric(v.CPU.Seconds()*1e3, "cpu-ms")

		begin = time.Now()
		o := l.bird(13, `protocol bgp n { local %A as 64512; neighbor 192.168.10.12 as 64512; multihop; graceful restart on; connect delay time 1; connect retry time 2;
	ipv4 { import all; export all; }; }`)
		var first time.Time
		within(b, "BIRD has all", func() bool {
			out := o.birdc("show route count")
			if first.IsZero() && !strings.Contains(out, "0 of 0 routes") {
				first = time.Now()
			}
			return strings.Contains(out, fmt.Sprintf("%d of %d routes", routes+1, routes+1)) // one is ours
		})
		b.ReportMetric(time.Since(begin).Seconds(), "s/BIRD-start-to-learned")
		pid := fmt.Sprintf("/proc/%d/", o.cmd.Process.Pid)
		b.ReportMetric(float64(statusKB(pid+"status", "VmRSS:"))/1024, "BIRD-MiB")
		s.kill()
		o.kill()
	}
}
