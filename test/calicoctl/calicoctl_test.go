package calicoctl_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/ctltest"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/test/apiserver"
)

// tool is a calicoctl that talks to a lab's API server.
type tool struct {
	*ctltest.Lab
	t       *testing.T
	path    string
	version string // as it tells
	ours    bool   // the one that testdata is from
}

// findTool finds the program. It has no cluster yet.
func findTool(t *testing.T) *tool {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED under -short: needs a real kube-apiserver and calicoctl")
	}
	path := os.Getenv("MARGAY_CALICOCTL")
	own := path == ""
	if own {
		path = built(t)
	}
	if _, err := exec.LookPath(path); err != nil {
		t.Fatalf("find calicoctl: %v: build it with \"test/kube/build calicoctl\" (a minute or two, once), "+
			"or name one in MARGAY_CALICOCTL", err)
	}
	out, _ := exec.Command(path, "version").Output() // fails, since there is no cluster yet
	version, _, _ := strings.Cut(strings.TrimPrefix(string(out), "Client Version:"), "\n")
	return &tool{t: t, path: path, version: strings.TrimSpace(version), ours: own}
}

// newTool finds the program and starts an API server with just this group.
func newTool(t *testing.T, group string) *tool {
	t.Helper()
	c := findTool(t)
	if group == kube.GroupV3 && !c.knowsGroups() {
		t.Skipf("SKIPPED: calicoctl %s does not know projectcalico.org/v3; one that does is named in MARGAY_CALICOCTL", c.version)
	}
	c.Lab = ctltest.NewIn(t, group)
	return c
}

// knowsGroups looks for the name of the variable that says which group: an older calicoctl takes a cluster of
// projectcalico.org/v3 for an empty one.
func (c *tool) knowsGroups() bool {
	b, err := os.ReadFile(c.path)
	if err != nil {
		c.t.Fatal(err)
	}
	return bytes.Contains(b, []byte("CALICO_API_GROUP"))
}

// built asks the cluster scripts where the program is.
func built(t *testing.T) string {
	t.Helper()
	root, err := apiserver.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", `. lib/settings.sh && . lib/calicoctl.sh && echo "$BIN/$CALICOCTL"`)
	cmd.Dir, cmd.Stderr = filepath.Join(root, "test", "kube"), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run test/kube/lib/calicoctl.sh: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// run runs a command line and returns what it printed, errors too, and whether it ended with 0.
func (c *tool) run(args ...string) (string, bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.path, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run() // DATASTORE_TYPE and KUBECONFIG are the lab's
	return out.String(), err == nil
}

// must is run for what must work.
func (c *tool) must(args ...string) string {
	c.t.Helper()
	out, ok := c.run(args...)
	if !ok {
		c.t.Fatalf("calicoctl %s:\n%s", strings.Join(args, " "), out)
	}
	return out
}

// says is must, and a part of what is printed.
func (c *tool) says(want string, args ...string) {
	c.t.Helper()
	if out := c.must(args...); !strings.Contains(out, want) {
		c.t.Errorf("calicoctl %s: want %q in\n%s", strings.Join(args, " "), want, out)
	}
}

// prints compares what is printed with testdata/NAME.
func (c *tool) prints(name string, args ...string) {
	c.t.Helper()
	out := c.must(args...)
	if c.ours {
		ctltest.Golden(c.t, name, ctltest.Plain(out))
	}
}

// in lets subtests fail by themselves.
func (c *tool) in(name string, f func(c *tool)) {
	c.t.Run(name, func(t *testing.T) {
		sub := *c
		sub.t = t
		f(&sub)
	})
}

// fill makes a pool, two nodes and three pods.
func (c *tool) fill() []*ctltest.Node {
	c.Pool("default-ipv4-ippool", v3.IPPoolSpec{CIDR: "10.244.0.0/16", BlockSize: 26, VXLANMode: "Always", NATOutgoing: true, NodeSelector: "all()"})
	one := c.Node("node1", 11)
	one.Pod("a")
	one.Pod("b")
	two := c.Node("node2", 12)
	two.Pod("c")
	return []*ctltest.Node{one, two}
}

// TestV1 is what a person does on a cluster of crd.projectcalico.org/v1.
func TestV1(t *testing.T) { testGroup(t, kube.GroupV1) }

// TestV3 is the same on one of projectcalico.org/v3, for a calicoctl that knows it.
func TestV3(t *testing.T) { testGroup(t, kube.GroupV3) }

func testGroup(t *testing.T, group string) {
	c := newTool(t, group)
	nodes := c.fill()
	c.in("version", testVersion)
	c.in("resources", testResources)
	c.in("ours", testOurs)
	c.in("node", testNode)
	c.in("get", testGet)
	c.in("ipam", func(c *tool) { testIPAM(c, nodes) })
	c.in("lock", testLock)
}

// testVersion: a ClusterInformation that says a version shuts every other calicoctl out; the agent writes none.
func testVersion(c *tool) {
	out, ok := c.run("get", "nodes")
	if ok || !strings.Contains(strings.ToLower(out), "version mismatch") {
		c.t.Errorf("a cluster of version v0.1.0: %t\n%s", ok, out)
	}
	c.must("get", "nodes", "--allow-version-mismatch")
	k, _ := kube.KindOf("ClusterInformation")
	_, err := c.Kube.PatchResource(c.t.Context(), k, "", "default", types.MergePatchType, []byte(`{"spec":{"calicoVersion":null}}`), false)
	if err != nil {
		c.t.Fatal(err)
	}
	c.must("get", "nodes")
	c.says("Cluster Type:      k8s", "version")
}
