package plugin

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var buildPtp = sync.OnceValue(func() error {
	for _, p := range []string{"main/ptp", "ipam/host-local"} {
		if err := build("../../../test/kube", filepath.Base(p), "github.com/containernetworking/plugins/plugins/"+p); err != nil {
			return err
		}
	}
	return nil
})

// BenchmarkAdd is the whole life of one ADD and one DEL, process start included, against the in-test agent and, next to
// it, ptp with host-local. It reports medians of single calls, and of 20 ADDs at once until all are done; the target of
// each is 0.6 of ptp. The agent here does not take devices away, so that DEL is the plugin's own path.
func BenchmarkAdd(b *testing.B) {
	l := newLab(b)
	b.Run("margay", func(b *testing.B) { benchmark(b, l, "margay", "") })
	l.agent.addrs = []netip.Addr{pod4, pod6}
	b.Run("margay-dual", func(b *testing.B) { benchmark(b, l, "margay", "") })
	if err := buildPtp(); err != nil {
		b.Fatal(err)
	}
	ptp := `{"cniVersion":"1.0.0","name":"bench","type":"ptp","ipam":{"type":"host-local","subnet":"10.9.0.0/16","dataDir":"` + b.TempDir() + `"}}`
	b.Run("ptp", func(b *testing.B) { benchmark(b, l, "ptp", ptp) })
}

func benchmark(b *testing.B, l *lab, bin, conf string) {
	var adds, dels, bursts []time.Duration
	n := 0
	run := func(verb, id string, pod *ns) time.Duration {
		cmd := l.command(call{verb: verb, id: id, pod: id, netns: pod.path})
		cmd.Path = filepath.Join(binDir, bin)
		if conf != "" {
			cmd.Stdin = strings.NewReader(conf)
		}
		start := time.Now()
		if err := l.node.do(func() error { return quiet(cmd) }); err != nil {
			b.Error(err)
		}
		return time.Since(start)
	}
	for b.Loop() {
		n++
		id, pod := fmt.Sprintf("%s%d", bin, n), newNS(b)
		adds = append(adds, run("ADD", id, pod))
		dels = append(dels, run("DEL", id, pod))
		pod.remove()
	}
	for burst := range 5 {
		var wg sync.WaitGroup
		var pods []*ns
		for range 20 {
			pods = append(pods, newNS(b))
		}
		start := time.Now()
		for i, pod := range pods {
			wg.Go(func() { run("ADD", fmt.Sprintf("%s-burst-%d-%d", bin, burst, i), pod) })
		}
		wg.Wait()
		bursts = append(bursts, time.Since(start))
		for i, pod := range pods {
			run("DEL", fmt.Sprintf("%s-burst-%d-%d", bin, burst, i), pod)
			pod.remove()
		}
	}
	for name, all := range map[string][]time.Duration{"ADD": adds, "DEL": dels, "20-ADDs": bursts} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1e3, "ms-"+name+"-p50")
	}
}

// quiet runs cmd; what it printed is in the error.
func quiet(cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, out.String())
	}
	return nil
}
