package fault

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/margay-net/margay/test/lab"
)

// growth is how much an agent's memory may grow. In a short run the first measurement comes less than a minute after the
// agents' start, before their tables have reached the size that they then keep.
const growth, growthWarmingUp = 1.10, 1.25

// figures are what a settled cluster has, by name: of an agent "node1 heap kB", of the cluster "blocks".
type figures map[string]float64

// measure looks at the agents that live all the time, and at the cluster. Nobody bothers the agents for a while first, so
// that the runtime gives back what it does not need.
func (s *soak) measure(quiet time.Duration) figures {
	s.t.Helper()
	f := figures{}
	time.Sleep(quiet)
	set := func(name string, v float64, err error) {
		if err != nil {
			s.t.Errorf("%s: %v", name, err)
		}
		f[name] = v
	}
	var looks sync.WaitGroup
	var mu sync.Mutex
	for _, n := range s.lasts {
		looks.Go(func() {
			rss, anonymous, errMemory := memory(n)
			heap, errHeap := n.Heap(time.Minute)
			least, most, err := counts(n)
			mu.Lock()
			defer mu.Unlock()
			set(n.Name+" RSS kB", float64(rss>>10), errMemory)
			set(n.Name+" anonymous kB", float64(anonymous>>10), errMemory)
			set(n.Name+" heap kB", math.Round(heap/1024), errHeap)
			set(n.Name+" goroutines", least[0], err)
			set(n.Name+" goroutines, most", most[0], err)
			set(n.Name+" files", least[1], err)
			set(n.Name+" files, most", most[1], err)
		})
	}
	looks.Wait()
	for _, n := range s.lasts {
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

// counts are an agent's goroutines and open files, the least and the most within a while: watches that a cut has ended are
// on their way back.
func counts(n *lab.Node) (least, most [2]float64, err error) {
	least = [2]float64{math.MaxFloat64, math.MaxFloat64}
	for range 60 {
		routines, err := n.Metric("go_goroutines")
		if err != nil {
			return least, most, err
		}
		for i, v := range [2]float64{routines, float64(n.Agent().Files())} {
			least[i], most[i] = min(least[i], v), max(most[i], v)
		}
		time.Sleep(200 * time.Millisecond)
	}
	return least, most, nil
}

// memory is the median of what an agent has in memory while it is asked for its metrics all the time: RSS, and of it what is
// no file's. Its heap then goes through the runtime's cycle some ten times a second; at rest RSS is what the last cycle has
// left, anything within 14 % without anything being done.
func memory(n *lab.Node) (rss, anonymous int, err error) {
	var all [2][]int
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		if _, err := n.Metric("go_memstats_heap_alloc_bytes"); err != nil {
			return 0, 0, err
		}
		rss, anonymous, err := n.Agent().Memory()
		if err != nil {
			return 0, 0, err
		}
		all[0], all[1] = append(all[0], rss), append(all[1], anonymous)
	}
	for i := range all {
		slices.Sort(all[i])
	}
	return all[0][len(all[0])/2], all[1][len(all[1])/2], nil
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

// judge compares the end with the first third: of memory a little more is allowed, of goroutines and files what comes and goes
// with requests to the API server, of all else what clean has found to be right. What the process has in memory beside
// live objects is looked at only after a long time. Anonymous memory, a part of RSS, is for the reader.
func (s *soak) judge(first, last figures, long bool) {
	s.t.Helper()
	for name, now := range last {
		was := first[name]
		switch {
		case strings.HasSuffix(name, " heap kB"), long && strings.HasSuffix(name, " RSS kB"):
			limit := growth
			if !long {
				limit = growthWarmingUp
			}
			if now > limit*was {
				s.t.Errorf("%s: %.0f after a third, %.0f at the end: it grows", name, was, now)
			}
		case strings.HasSuffix(name, " goroutines"), strings.HasSuffix(name, " files"):
			if was = first[name+", most"]; now > was+2 { // another connection to the API server; a leak is more
				s.t.Errorf("%s: at most %.0f after a third, at least %.0f at the end: it grows", name, was, now)
			}
		case strings.HasSuffix(name, " damaged journals") && now > 0:
			s.t.Errorf("%s: %.0f", name, now)
		}
	}
}
