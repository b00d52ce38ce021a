package fault

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/margay-net/margay/test/lab"
)

// growth is how much an agent's memory may grow.
const growth = 1.10

// figures are what a settled cluster has, by name: of an agent "node1 heap kB", of the cluster "blocks".
type figures map[string]float64

// measure looks at the agents that live all the time, and at the cluster.
func (s *soak) measure() figures {
	s.t.Helper()
	f := figures{}
	set := func(name string, v float64, err error) {
		if err != nil {
			s.t.Errorf("%s: %v", name, err)
		}
		f[name] = v
	}
	for _, n := range s.lasts {
		heap, err := n.Heap(time.Minute)
		set(n.Name+" heap kB", math.Round(heap/1024), err)
		rss, anonymous, err := leastMemory(n.Agent())
		set(n.Name+" RSS kB", float64(rss>>10), err)
		set(n.Name+" anonymous kB", float64(anonymous>>10), err)
		routines, err := n.Metric("go_goroutines")
		set(n.Name+" goroutines", routines, err)
		set(n.Name+" files", float64(n.Agent().Files()), nil)
		kinds := map[string]int{}
		for _, line := range n.State() {
			kinds[strings.Fields(line)[0]]++
		}
		for _, kind := range []string{"route", "pod", "neigh", "fdb", "addr"} {
			set(n.Name+" "+kind, float64(kinds[kind]), nil)
		}
		damaged, err := filepath.Glob(filepath.Join(n.Journal, "*.damaged"))
		set(n.Name+" damaged journals", float64(len(damaged)), err)
		info, err := os.Stat(filepath.Join(n.Journal, "journal"))
		if err == nil {
			set(n.Name+" journal kB", float64(info.Size()>>10), nil)
		}
	}
	blocks, err := s.l.Blocks()
	set("blocks", float64(len(blocks)), err)
	objects, err := s.l.Dump()
	for _, kind := range []string{"IPAMHandle", "BlockAffinity", "IPPool", "Node"} {
		count := 0
		for _, o := range objects {
			if o.GetKind() == kind {
				count++
			}
		}
		set(kind, float64(count), err)
	}
	held := 0
	for _, b := range blocks {
		held += len(b.Spec.Allocations) - len(b.Spec.Unallocated)
	}
	set("addresses held", float64(held), nil)
	return f
}

// leastMemory is the least that a process has in memory within a few seconds.
func leastMemory(p *lab.Process) (rss, anonymous int, err error) {
	rss, anonymous = math.MaxInt, math.MaxInt
	for range 10 {
		r, a, err := p.Memory()
		if err != nil {
			return 0, 0, err
		}
		rss, anonymous = min(rss, r), min(anonymous, a)
		time.Sleep(200 * time.Millisecond)
	}
	return rss, anonymous, nil
}

// table shows both measurements side by side.
func table(first, last figures) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tafter a third\tat the end\tchange\t")
	var names []string
	for name := range last {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		change := ""
		if first[name] != last[name] && first[name] != 0 {
			change = fmt.Sprintf("%+.1f %%", 100*(last[name]/first[name]-1))
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%s\t\n", name, first[name], last[name], change)
	}
	w.Flush()
	return b.String()
}

// judge compares the end with the first third: of memory a little more is allowed, of goroutines and files two (a request
// to the API server may be under way), of all else what clean has found to be right. What the process has in memory beside
// live objects follows the runtime's pace, and is looked at only after a long time.
func (s *soak) judge(first, last figures, long bool) {
	s.t.Helper()
	for name, now := range last {
		was := first[name]
		switch {
		case strings.HasSuffix(name, " heap kB"), long && (strings.HasSuffix(name, " anonymous kB") || strings.HasSuffix(name, " RSS kB")):
			if now > growth*was {
				s.t.Errorf("%s: %.0f after a third, %.0f at the end: it grows", name, was, now)
			}
		case strings.HasSuffix(name, " goroutines"), strings.HasSuffix(name, " files"):
			if now > was+2 {
				s.t.Errorf("%s: %.0f after a third, %.0f at the end: it grows", name, was, now)
			}
		case strings.HasSuffix(name, " damaged journals") && now > 0:
			s.t.Errorf("%s: %.0f", name, now)
		}
	}
}
