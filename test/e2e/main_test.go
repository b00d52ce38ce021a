package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

// lab is the cluster that all tests share; nil when there is none.
var lab *cluster

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	flag.Parse()
	if os.Getenv("MARGAY_E2E") == "" || testing.Short() {
		fmt.Fprintln(os.Stderr, "test/e2e: ALL SKIPPED: needs MARGAY_E2E=1 and KUBECONFIG, and not -short")
		return m.Run()
	}
	if os.Getenv("KUBECONFIG") == "" {
		fmt.Fprintln(os.Stderr, "test/e2e: KUBECONFIG names no cluster")
		return 1
	}
	ctx := context.Background()
	start := time.Now()
	c, err := connect()
	if err == nil {
		defer c.tearDown(ctx)
		err = c.setUp(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/e2e: set up cluster:", err)
		return 1
	}
	fmt.Fprintf(os.Stderr, "test/e2e: %d nodes, %v, pods ready after %.1f s\n", len(c.nodes), c.families, time.Since(start).Seconds())
	lab = c
	return m.Run()
}

// ready returns the cluster, with nodes and pods read anew. When the test has ended, all addresses must agree.
func ready(t *testing.T) *cluster {
	t.Helper()
	if lab == nil {
		t.Skip("SKIPPED: needs a cluster, see doc.go")
	}
	if err := lab.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			lab.mustAgree(t, context.Background(), nil)
		}
	})
	return lab
}

// several is ready on a cluster of at least two nodes.
func several(t *testing.T) *cluster {
	t.Helper()
	c := ready(t)
	if len(c.nodes) < 2 {
		t.Skip("SKIPPED: needs two nodes")
	}
	return c
}

// eventually tries until f succeeds, and fails the test with f's last error after the given time.
func eventually(t *testing.T, limit time.Duration, f func() error) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		err := f()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			t.Fatalf("after %v still: %v", limit, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
