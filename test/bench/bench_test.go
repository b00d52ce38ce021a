package bench

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/test/apiserver"
	"github.com/margay-net/margay/test/lab"
)

// sections are what can be measured, in the order in which it is.
var sections = []struct {
	name string
	f    func(t *testing.T, b *bench, r *report)
}{
	{"start", start},
	{"add", addDel},
	{"burst", burst},
	{"api", apiRequests},
	{"agent", agentCost},
	{"traffic", traffic},
	{"ipam", ipamInProcess},
	{"claim", claims},
	{"fill", fill},
	{"bgp", bgpSection},
	{"go", goBenchmarks},
	{"pods", pods},
}

// bench is what the sections share.
type bench struct {
	cluster *lab.Cluster // nil until a section asks for it
	root    string       // of the repository
}

// bin is the path of a program that hack/bench has built.
func (b *bench) bin(name string) string { return filepath.Join(b.root, "bin", "bench", name) }

func TestMain(m *testing.M) {
	if helper(os.Args[1:]) {
		return
	}
	os.Exit(m.Run())
}

// count is a number from the environment, for shorter runs while one works on the benchmark itself.
func count(name string, def int) int {
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil || n < 1 {
		return def
	}
	return n
}

// TestBench runs the sections that MARGAY_BENCH names ("all" for all of them) and prints the table.
func TestBench(t *testing.T) {
	wanted := strings.Fields(os.Getenv("MARGAY_BENCH"))
	if len(wanted) == 0 {
		t.Skip("SKIPPED: measurements are run by hack/bench (make bench)")
	}
	known := map[string]bool{}
	for _, s := range sections {
		known[s.name] = true
	}
	if slices.Equal(wanted, []string{"all"}) {
		wanted = slices.Collect(maps.Keys(known))
	}
	for _, name := range wanted {
		if !known[name] {
			t.Fatalf("unknown section %q: want some of %s", name, strings.Join(slices.Sorted(maps.Keys(known)), " "))
		}
	}
	root, err := apiserver.Root()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{root: root}
	defer b.stop(t)
	var reports []*report
	for _, s := range sections {
		if !slices.Contains(wanted, s.name) {
			continue
		}
		r := &report{section: s.name}
		begin := time.Now()
		r.load[0] = loadavg()
		t.Run(s.name, func(t *testing.T) { s.f(t, b, r) })
		r.load[1], r.took = loadavg(), time.Since(begin)
		reports = append(reports, r)
		fmt.Fprint(os.Stderr, render("", []*report{r}))
	}
	out := render(head(b.root), reports)
	fmt.Print(out)
	if err := os.WriteFile(filepath.Join(b.root, "bin", "bench.txt"), []byte(out), 0o644); err != nil {
		t.Error(err)
	}
}

// lab returns the API server and the programs that sections share.
func (b *bench) lab(t *testing.T) *lab.Cluster {
	if b.cluster == nil {
		var err error
		if b.cluster, err = lab.Start(); err != nil {
			t.Fatal(err)
		}
	}
	return b.cluster
}

func (b *bench) stop(t *testing.T) {
	if b.cluster != nil {
		if err := b.cluster.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// head says what was measured, when and where.
func head(root string) string {
	version, err := exec.Command("git", "-C", root, "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		version = []byte("of unknown version")
	}
	var u unix.Utsname
	_ = unix.Uname(&u) // it cannot fail
	return fmt.Sprintf("margay %s, %s, %d cores, Linux %s, %s", strings.TrimSpace(string(version)), time.Now().UTC().Format("2006-01-02 15:04 MST"),
		runtime.NumCPU(), unix.ByteSliceToString(u.Release[:]), runtime.Version())
}
