// Package imports tests which package may import which, so that the house keeps the shape that ARCHITECTURE.md draws,
// and keeps a list of everything that gets into the CNI plugin.
package imports

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/margay-net/margay/"
	golden = "testdata/margay-deps.txt"
)

var update = flag.Bool("update", false, "write "+golden+" anew")

// layers says which of our own packages each tree of packages may import, beside itself. A package that is in none of
// them may import all but pkg/agent.
var layers = []struct {
	pkg     string
	imports []string
}{
	{"pkg/model", nil},
	{"pkg/reconcile", nil},
	{"pkg/api/v3", nil},
	{"pkg/cni/wire", nil},
	{"pkg/selector", []string{"pkg/model"}},
	{"pkg/pods", []string{"pkg/model", "pkg/selector"}},
	{"pkg/store", []string{"pkg/model", "pkg/selector"}},
	{"pkg/topology", []string{"pkg/model", "pkg/selector", "pkg/store"}},
	{"pkg/policy", []string{"pkg/model", "pkg/selector", "pkg/store"}},
	{"pkg/ruleset", []string{"pkg/model", "pkg/selector", "pkg/store"}},
	{"pkg/netlink", []string{"pkg/model"}},
	{"pkg/dataplane", []string{"pkg/model", "pkg/netlink", "pkg/reconcile"}},
	{"pkg/bgp", []string{"pkg/model", "pkg/reconcile"}},
	{"pkg/advertise", []string{"pkg/api/v3"}},
	{"pkg/peering", []string{"pkg/model", "pkg/selector", "pkg/api/v3", "pkg/bgp"}},
	{"pkg/config", []string{"pkg/model", "pkg/cni/wire", "pkg/api/v3"}}, // api/v3 in its test alone
	{"pkg/uplink", []string{"pkg/netlink"}},
	{"pkg/install", []string{"pkg/model", "pkg/netlink", "pkg/ipam"}}, // ipam in its test alone
	{"pkg/cni/plugin", []string{"pkg/model", "pkg/cni/wire"}},
	{"pkg/ipam", []string{"pkg/model", "pkg/api/v3"}},
	{"pkg/ipam/block", []string{"pkg/api/v3"}},
}

// pure packages do no I/O and know neither kernel nor Kubernetes.
var pure = []string{"pkg/model", "pkg/selector", "pkg/store", "pkg/topology", "pkg/policy", "pkg/ruleset", "pkg/advertise"}

var impure = []string{
	"os", "net", "net/http", "syscall", "log/slog", "golang.org/x/sys", "github.com/vishvananda", "k8s.io", "sigs.k8s.io",
}

// clientGo packages talk to the API server; all others get what they need from these.
var clientGo = []string{"pkg/kube", "pkg/controller", "pkg/ctl", "pkg/agent", "test", "cmd"}

func TestDirection(t *testing.T) {
	for _, p := range list(t, "./...") {
		pkg, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours {
			continue
		}
		for _, imported := range p.Imports {
			if err := check(pkg, imported); err != nil {
				t.Errorf("%s imports %s: %v", pkg, imported, err)
			}
		}
	}
}

func check(pkg, imported string) error {
	own, isOwn := strings.CutPrefix(imported, module)
	if isOwn {
		if within(own, "pkg/agent") && !within(pkg, "cmd", "pkg/agent") {
			return errors.New("only cmd may")
		}
		for _, l := range layers {
			if within(pkg, l.pkg) && !within(own, l.pkg) && !within(own, l.imports...) {
				return errors.New("it may import of ours: " + strings.Join(l.imports, ", "))
			}
		}
		return nil
	}
	if within(pkg, pure...) && within(imported, impure...) && imported != "net/netip" {
		return errors.New("it is pure: no I/O, no kernel, no Kubernetes")
	}
	if within(imported, "github.com/osrg/gobgp") && !within(pkg, "pkg/bgp") {
		return errors.New("only pkg/bgp may")
	}
	if within(imported, "k8s.io/client-go") && !within(pkg, clientGo...) {
		return errors.New("only these may: " + strings.Join(clientGo, ", "))
	}
	return nil
}

// within says whether the package is one of the trees or below one.
func within(pkg string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool { return pkg == tree || strings.HasPrefix(pkg, tree+"/") })
}

// TestPluginDependencies compares what the CNI plugin is made of with the list in testdata. It starts twice for each
// pod: what comes in here is paid for in megabytes and milliseconds.
func TestPluginDependencies(t *testing.T) {
	var have []string
	for _, p := range list(t, "-deps", "./cmd/margay") {
		if !strings.Contains(p.ImportPath+"/", "/internal/") && !strings.HasPrefix(p.ImportPath, "internal/") && !strings.HasPrefix(p.ImportPath, "vendor/") {
			have = append(have, p.ImportPath)
		}
	}
	slices.Sort(have)
	if *update {
		if err := os.WriteFile(golden, []byte(strings.Join(have, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(string(b))
	for _, p := range have {
		if !slices.Contains(want, p) {
			t.Errorf("new in the plugin: %s", p)
		}
	}
	for _, p := range want {
		if !slices.Contains(have, p) {
			t.Errorf("no longer in the plugin: %s", p)
		}
	}
	if t.Failed() {
		t.Log("if it should be so: go test ./test/imports -update")
	}
}

type listed struct {
	ImportPath string
	Imports    []string
}

// list asks go list, from the top of the module, for the program as it is released.
func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,Imports"}, args...)...)
	cmd.Dir, cmd.Stderr = "../..", os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
