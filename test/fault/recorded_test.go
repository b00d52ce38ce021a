package fault

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// TestRecordedNode starts an agent on a node as the version before this one left it: see recorded. It keeps the pods, does
// the spooled release, settles what was not settled, and touches nothing that is right.
func TestRecordedNode(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true, Pools: []v3.IPPoolSpec{}, Stopped: true})
	n := l.Nodes[0]
	var objects []*unstructured.Unstructured
	readJSON(t, "objects.json", &objects)
	if err := l.Restore(objects); err != nil {
		t.Fatal(err)
	}
	pods := restoreNode(t, n)
	state := lab.State(strings.Split(strings.TrimSpace(readFile(t, "state")), "\n"))
	if diff := n.State().Diff(state); diff != "" {
		t.Fatalf("the recorded node is not what it was:\n%s", diff)
	}
	warm(t, pods...) // the devices are new here, and check their link-local addresses for a while
	journal := restoreFiles(t, n)
	m := n.Monitor()
	p := pings{still: between(pods[0], pods[1])}
	n.Start()
	t.Logf("the new agent is ready after %s", n.WaitReady(30*time.Second))
	l.Agrees(30 * time.Second)
	if files := n.Spooled(); len(files) != 0 {
		t.Errorf("spool still has %v", files)
	}
	if diff := n.State().Cluster().Diff(state.Cluster()); diff != "" {
		t.Errorf("the kernel's state changed:\n%s", diff)
	}
	if strings.Contains(n.Log(), "journal was damaged") {
		t.Errorf("the recorded journal is taken for a damaged one:\n%s", n.LastLog(20))
	}
	events, _, wrong := m.Stop()
	t.Logf("%d kernel events, %d of them for what was right", events, len(wrong))
	for _, w := range wrong {
		t.Error(w)
	}
	for _, pod := range pods {
		if err := pod.Check(); err != nil {
			t.Errorf("CHECK of a pod that the old version added: %v", err)
		}
	}
	p.stop(t, "the new version starts")
	oldReads(t, journal, filepath.Join(n.Journal, "journal"))
	fresh := n.Pod("fresh")
	warm(t, append(pods, fresh)...)
	for _, pod := range append(pods, fresh) {
		if err := pod.Remove(); err != nil {
			t.Errorf("DEL: %v", err)
		}
	}
	l.Agrees(30 * time.Second)
}

// restoreNode makes the node's kernel, and its pods, what they were.
func restoreNode(t *testing.T, n *lab.Node) (pods []*lab.Pod) {
	t.Helper()
	var kept []recordedPod
	readJSON(t, "pods.json", &kept)
	var names []string
	for _, r := range kept {
		p := n.NewPod(r.Name)
		p.ID, p.Addrs = r.ID, r.Addrs
		if err := p.Adopt(r.Result); err != nil {
			t.Fatal(err)
		}
		pods = append(pods, p)
		names = append(names, "$POD_"+r.Name, p.NS.Path())
	}
	lines := strings.Split(strings.TrimSpace(strings.NewReplacer(names...).Replace(readFile(t, "node.ip"))), "\n")
	if err := n.NS.Batch(lines...); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(readFile(t, "node.bridge")) {
		if _, err := n.NS.Run("bridge " + line); err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range kept {
		if err := pods[i].NS.Batch(r.IP...); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range pods {
		for _, s := range podSysctls(p.HostVeth()) {
			if err := n.NS.SetSysctl(s[0], s[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return pods
}

// restoreFiles puts journal and spool where they were. The journal is made one of this boot.
func restoreFiles(t *testing.T, n *lab.Node) (journal string) {
	t.Helper()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(readFile(t, "journal"), "\n")
	_, body, _ := strings.Cut(first, " ")
	var e struct{ Op, Boot string }
	if err := json.Unmarshal([]byte(body), &e); err != nil || e.Op != "boot" {
		t.Fatalf("journal begins with %q: %v", first, err)
	}
	body = strings.Replace(body, e.Boot, strings.TrimSpace(string(boot)), 1)
	journal = fmt.Sprintf("%08x %s\n%s", crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli)), body, rest)
	files := map[string]string{filepath.Join(n.Journal, "journal"): journal}
	spooled, err := os.ReadDir(filepath.Join(recorded, "spool"))
	if err != nil || len(spooled) == 0 {
		t.Fatalf("there is no recorded spool: %v", err)
	}
	for _, f := range spooled {
		files[filepath.Join(n.Spool, f.Name())] = readFile(t, "spool/"+f.Name())
	}
	for path, content := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return journal
}

// oldReads checks that the version that wrote one journal could read another: each operation's fields that it wrote are
// there, with the same kinds of values. Fields that it does not know it passes over.
func oldReads(t *testing.T, wrote, path string) {
	t.Helper()
	now, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, have := journalShape(t, wrote), journalShape(t, string(now))
	for op, fields := range want {
		if have[op] == nil && (op == "boot" || op == "assign") {
			t.Errorf("the new journal has no line of op %s", op)
		}
		for field, kind := range fields {
			if got, ok := have[op][field]; have[op] != nil && (!ok && alwaysThere(field) || ok && got != kind) {
				t.Errorf("journal, op %s, field %s: is %q, the old version wrote %q", op, field, got, kind)
			}
		}
	}
	t.Logf("the new journal has operations %v", slices.Sorted(maps.Keys(have)))
}

// alwaysThere says whether an entry needs a field: those that are off or empty are left out.
func alwaysThere(field string) bool {
	return !slices.Contains([]string{"assign.active", "assign.released", "assign.settled", "assign.tunnel"}, field)
}

// journalShape returns the fields of a journal's lines by operation, with the kinds of their values.
func journalShape(t *testing.T, journal string) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	for line := range strings.Lines(journal) {
		_, body, _ := strings.Cut(line, " ")
		var e map[string]any
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Fatalf("journal's line %q: %v", line, err)
		}
		op := fmt.Sprint(e["op"])
		if out[op] == nil {
			out[op] = map[string]string{}
		}
		var walk func(prefix string, v map[string]any)
		walk = func(prefix string, v map[string]any) {
			for key, value := range v {
				out[op][prefix+key] = fmt.Sprintf("%T", value)
				if inner, ok := value.(map[string]any); ok {
					walk(prefix+key+".", inner)
				}
			}
		}
		walk("", e)
	}
	return out
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(recorded, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(readFile(t, name)), v); err != nil {
		t.Fatal(err)
	}
}
