package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/store"
	"github.com/margay-net/margay/test/lab"
)

// ipamInProcess measures what an address costs the agent itself, that owns one block, ten, a thousand: journal on tmpfs, real
// API server behind. Blocks are large enough for each round to fit into the owner's part of one, so that no API request is
// in these figures.
func ipamInProcess(t *testing.T, b *bench, r *report) {
	for _, own := range []int{1, 10, 1000} {
		t.Run(fmt.Sprint(own), func(t *testing.T) { inProcess(t, b, r, own) })
	}
}

func inProcess(t *testing.T, b *bench, r *report, own int) {
	const atOnce = 100 // endpoints in a round; a block of 256 keeps 128 for its owner
	l := b.lab(t).New(t, lab.Options{Stopped: true, Pools: []v3.IPPoolSpec{{CIDR: "172.20.0.0/14", BlockSize: 24, VXLANMode: v3.EncapAlways}}})
	if own > 1 {
		ownBlocks(t, l.API, l.Nodes[0].Name, netip.MustParsePrefix("172.20.0.0/14"), 24, own)
	}
	a := allocator(t, l)
	var assign, activate, release, settle sample
	for round := range count("ROUNDS", 30) {
		var eps []model.Endpoint
		for i := range atOnce {
			id := fmt.Sprintf("c%d-%d", round, i)
			want := model.Endpoint{Network: "k8s-pod-network", ContainerID: id, IfName: "eth0", Namespace: "default", Pod: id, HostVeth: model.HostVeth("default", id)}
			begin := time.Now()
			ep, err := a.Assign(t.Context(), ipam.Request{Endpoint: want})
			assigned := time.Now()
			if err == nil {
				err = a.Activate(ep.Key())
			}
			if err != nil {
				t.Fatal(err)
			}
			assign.us(assigned.Sub(begin))
			activate.us(time.Since(assigned))
			eps = append(eps, ep)
		}
		settle.ms(settled(t, a))
		for _, ep := range eps {
			begin := time.Now()
			a.Release(ep.Key())
			release.us(time.Since(begin))
		}
		settled(t, a)
	}
	of := fmt.Sprintf(", %d own blocks", own)
	if own == 1 {
		of = ""
	}
	r.add(
		row{what: "ipam: Assign" + of, unit: "µs", ours: assign, aim: upTo(20)}, row{what: "ipam: Activate" + of, unit: "µs", ours: activate},
		row{what: "ipam: Release" + of, unit: "µs", ours: release, aim: upTo(20)},
		row{what: fmt.Sprintf("ipam: settle %d endpoints%s", atOnce, of), unit: "ms", ours: settle})
}

// allocator is an allocator as the agent of the lab's first node has one, with watches.
func allocator(t *testing.T, l *lab.Lab) *ipam.Allocator {
	t.Helper()
	dir := journalDir(t)
	s, log := store.New(), slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	a, err := ipam.New(ipam.Options{Node: l.Nodes[0].Name, Dir: dir, Boot: "1", Store: l.API, Cluster: s, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- kube.NewWatcher(l.API, s, a, log).Run(ctx) }()
	t.Cleanup(func() { stop(); <-done; a.Close() })
	eventually(t, 20*time.Second, "watches are in sync", s.InSync)
	if err := a.Sync(ctx, nil); err != nil {
		t.Fatal(err)
	}
	return a
}

func settled(t *testing.T, a *ipam.Allocator) time.Duration {
	t.Helper()
	begin := time.Now()
	if err := a.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}

// goBenchmarks runs the benchmarks that the packages have beside their tests.
func goBenchmarks(t *testing.T, b *bench, r *report) {
	packages := map[string]bool{}
	err := filepath.WalkDir(filepath.Join(b.root, "pkg"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte("\nfunc Benchmark")) {
			rel, _ := filepath.Rel(b.root, filepath.Dir(path))
			packages["./"+rel] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(packages, "./pkg/cni/plugin") // sections add and burst are that, with the real agent
	for _, pkg := range slices.Sorted(maps.Keys(packages)) {
		cmd := exec.Command("go", "test", "-run", "^$", "-bench", ".", "-benchtime", "300ms", "-count", strconv.Itoa(count("ROUNDS", 5)), pkg)
		cmd.Dir, cmd.Stderr = b.root, os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("go test -bench %s: %v: %s", pkg, err, out)
		}
		r.add(parseBenchmarks(strings.TrimPrefix(pkg, "./pkg/"), out)...)
	}
	r.note("p50 and p99 are over the means of repeated runs; n is the operations of all of them")
}

// parseBenchmarks reads what go test -bench prints: a name, a count, and pairs of figure and unit.
func parseBenchmarks(pkg string, out []byte) (rows []row) {
	index := map[string]int{}
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		n, err := strconv.Atoi(f[1])
		if err != nil {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(f[0], "Benchmark"), "-")
		for i := 2; i+1 < len(f); i += 2 {
			x, err := strconv.ParseFloat(f[i], 64)
			unit := f[i+1]
			if err != nil || unit == "B/op" || unit == "allocs/op" {
				continue
			}
			what := pkg + ": " + name
			if unit == "ns/op" {
				x, unit = x/1e3, "µs"
			} else {
				what += ", " + unit
			}
			k, ok := index[what]
			if !ok {
				k = len(rows)
				index[what] = k
				rows = append(rows, row{what: what, unit: unit})
			}
			rows[k].n += n
			rows[k].ours = append(rows[k].ours, x)
		}
	}
	return rows
}
