package lab

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Metric returns a metric of the agent's, summed over its labels. It is an error when there is none of that name.
func (n *Node) Metric(name string) (float64, error) {
	text, err := n.Metrics()
	if err != nil {
		return 0, err
	}
	sum, found := 0.0, false
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		if i := strings.LastIndexByte(rest, '}'); i >= 0 {
			rest = rest[i+1:]
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("there is no metric %s", name)
	}
	return sum, nil
}

// Heap is how many bytes the agent's live objects take: what its heap has just after a garbage collection, the least of a
// few. Each question for the metrics makes a little garbage, so that collections come by themselves.
func (n *Node) Heap(limit time.Duration) (least float64, err error) {
	const rounds = 3
	var seen float64
	for end, round := time.Now().Add(limit), -1; round < rounds; {
		if time.Now().After(end) {
			return 0, fmt.Errorf("%s: not %d garbage collections within %s", n.Name, rounds, limit)
		}
		count, err := n.Metric("go_gc_duration_seconds_count")
		if err != nil {
			return 0, err
		}
		if count == seen {
			continue
		}
		seen = count
		heap, err := n.Metric("go_memstats_heap_alloc_bytes")
		if err != nil {
			return 0, err
		}
		if round++; round > 0 && (least == 0 || heap < least) { // the first may be long past
			least = heap
		}
	}
	return least, nil
}

// Memory is what the process has in memory, in bytes: all, and without the pages of files.
func (p *Process) Memory() (rss, anonymous int, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text()) // such as: Rss: 1234 kB
		if words[0] != "Rss:" && words[0] != "Anonymous:" {
			continue
		}
		kb, err := strconv.Atoi(words[1])
		if err != nil {
			return 0, 0, err
		}
		if words[0] == "Rss:" {
			rss = kb << 10
		} else {
			anonymous = kb << 10
		}
	}
	return rss, anonymous, nil
}
