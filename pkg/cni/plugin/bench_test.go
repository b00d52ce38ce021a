package plugin

import (
	"bytes"
	"fmt"
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
// it, ptp with host-local. It reports medians; the target of ADD is 0.6 of ptp.
func BenchmarkAdd(b *testing.B) {
	l := newLab(b)
	b.Run("margay", func(b *testing.B) { benchmark(b, l, "margay", "") })
	if err := buildPtp(); err != nil {
		b.Fatal(err)
	}
	ptp := `{"cniVersion":"1.0.0","name":"bench","type":"ptp","ipam":{"type":"host-local","subnet":"10.9.0.0/16","dataDir":"` + b.TempDir() + `"}}`
	b.Run("ptp", func(b *testing.B) { benchmark(b, l, "ptp", ptp) })
}

func benchmark(b *testing.B, l *lab, bin, conf string) {
	var adds, dels []time.Duration
	n := 0
	for b.Loop() {
		n++
		id := fmt.Sprintf("%s%d", bin, n)
		pod := newNS(b)
		for _, verb := range []string{"ADD", "DEL"} {
			cmd := l.command(call{verb: verb, id: id, pod: id, netns: pod.path})
			cmd.Path = filepath.Join(binDir, bin)
			if conf != "" {
				cmd.Stdin = strings.NewReader(conf)
			}
			start := time.Now()
			err := l.node.do(func() error { return quiet(cmd) })
			took := time.Since(start)
			if err != nil {
				b.Fatal(err)
			}
			if verb == "ADD" {
				adds = append(adds, took)
			} else {
				dels = append(dels, took)
			}
		}
		pod.remove()
	}
	slices.Sort(adds)
	slices.Sort(dels)
	b.ReportMetric(float64(adds[len(adds)/2].Microseconds())/1e3, "ms-ADD-p50")
	b.ReportMetric(float64(dels[len(dels)/2].Microseconds())/1e3, "ms-DEL-p50")
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
