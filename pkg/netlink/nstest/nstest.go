// Package nstest gives tests network namespaces of their own and ways to look at and disturb them.
//
// It needs root. Without it tests are skipped, loudly; with MARGAY_REQUIRE_ROOT=1 in the environment they fail.
package nstest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/margay-net/margay/pkg/netlink"
)

// NS is a network namespace that ends with the test.
type NS struct {
	Handle netns.NsHandle
	conn   *netlink.Conn
}

// New makes a namespace with its loopback device up. Under -short the test is skipped.
func New(tb testing.TB) *NS {
	tb.Helper()
	Root(tb)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := netns.Get()
	if err != nil {
		tb.Fatal(err)
	}
	defer old.Close()
	ns, err := netns.New()
	if err != nil {
		tb.Fatalf("make network namespace: %v", err)
	}
	if err := netns.Set(old); err != nil {
		tb.Fatal(err)
	}
	n := &NS{Handle: ns}
	tb.Cleanup(func() { ns.Close() })
	n.conn = n.Conn(tb)
	n.Exec(tb, "ip link set lo up")
	return n
}

// Root ends the test unless it may work on the kernel: as root, and not under -short.
func Root(tb testing.TB) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("SKIPPED under -short: works on the kernel")
	}
	if os.Geteuid() != 0 {
		Need(tb, "root")
	}
}

// Need ends the test because something is missing.
func Need(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("MARGAY_REQUIRE_ROOT") == "1" {
		tb.Fatalf("NEEDS %s", what)
	}
	tb.Skipf("SKIPPED: NEEDS %s", what)
}

// NeedIPIP ends the test when the kernel has no IPIP: test/guest runs it, by its name, in one that has.
func (n *NS) NeedIPIP(tb testing.TB) {
	tb.Helper()
	err := n.conn.AddIPIP("tunl0")
	switch {
	case errors.Is(err, netlink.ErrNoIPIP) && os.Getenv("MARGAY_GUEST") == "":
		tb.Skip("SKIPPED: this kernel has no IPIP. LEFT TO test/guest, which runs this test in one that has")
	case err != nil:
		tb.Fatal(err)
	}
}

// Conn opens a Conn in the namespace, closed at the end of the test.
func (n *NS) Conn(tb testing.TB) *netlink.Conn {
	tb.Helper()
	c, err := netlink.NewAt(n.Handle)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

// Try runs a command line, split at spaces, in the namespace.
func (n *NS) Try(line string) (string, error) {
	args := strings.Fields(line)
	var out []byte
	err := n.conn.Do(func() (err error) {
		out, err = exec.Command(args[0], args[1:]...).CombinedOutput()
		return err
	})
	return strings.TrimSpace(string(out)), err
}

// Exec runs command lines that must work, and returns what the last one printed.
func (n *NS) Exec(tb testing.TB, lines ...string) (out string) {
	tb.Helper()
	for _, line := range lines {
		var err error
		out, err = n.Try(line)
		if err != nil && strings.Contains(line, " flush ") && strings.Contains(out, "complete") {
			continue // what it removed was put back while it was still removing
		}
		if err != nil {
			tb.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	return out
}

// Batch runs lines of ip(8) in one process.
func (n *NS) Batch(tb testing.TB, lines ...string) {
	tb.Helper()
	err := n.conn.Do(func() error {
		cmd := exec.Command("ip", "-force", "-batch", "-")
		cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
		out, err := cmd.CombinedOutput()
		if err != nil {
			tb.Errorf("ip -batch: %s", out)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// Read returns a file's content as the namespace sees it, trimmed; "" when there is none.
func (n *NS) Read(path string) (s string) {
	_ = n.conn.Do(func() error {
		b, err := os.ReadFile(path)
		s = strings.TrimSpace(string(b))
		return err
	})
	return s
}

// Write writes a file as the namespace sees it.
func (n *NS) Write(tb testing.TB, path, value string) {
	tb.Helper()
	if err := n.conn.Do(func() error { return os.WriteFile(path, []byte(value), 0) }); err != nil {
		tb.Fatal(err)
	}
}

// Events counts, by type, what happens in a namespace.
type Events struct {
	mu    sync.Mutex
	count map[uint16]int
	total int
}

// Monitor counts the events of these groups that match from now on.
func (n *NS) Monitor(tb testing.TB, match func(netlink.Event) bool, groups ...netlink.Group) *Events {
	tb.Helper()
	sub, err := n.conn.Subscribe(groups...)
	if err != nil {
		tb.Fatal(err)
	}
	m := &Events{count: map[uint16]int{}}
	Go(tb, func(ctx context.Context) error {
		return sub.Run(ctx, func(e netlink.Event) {
			if !match(e) {
				return
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			m.count[e.Type]++
			m.total++
		}, func() { tb.Error("monitor lost events") })
	})
	return m
}

// Count returns how many events of a type there were.
func (m *Events) Count(typ uint16) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count[typ]
}

// Total returns how many events there were.
func (m *Events) Total() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}

// Go runs f until the returned function is called, or the test ends; f must return nil then.
func Go(tb testing.TB, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				tb.Errorf("run: %v", err)
			}
		})
	}
	tb.Cleanup(stop)
	return stop
}

// patience is how many times its aim Within waits: a machine that does other work, too, must not fail a test.
const patience = 20

// Within waits until ok returns true, which should take d at most, and returns the time it took. It says so when it took
// longer, and fails the test when it took several times as long.
func Within(tb testing.TB, d time.Duration, what string, ok func() bool) time.Duration {
	tb.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > patience*d {
			tb.Fatalf("not within %s: %s", patience*d, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
	took := time.Since(start)
	if took > d {
		tb.Logf("LATE: %s took %s, should take %s at most", what, took, d)
	}
	return took
}
