package e2e

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const namespace = "margay-e2e"

// agents is where Margay's own pods are.
const agents = "kube-system"

// cluster is the cluster under test and the pods that the tests made in it.
type cluster struct {
	client   kubernetes.Interface
	kubectl  string
	hack     string   // "": the API server and the nodes cannot be stopped, and there is no outside
	families []family // those that it has, the first of them first
	nodes    []node   // sorted by name
	slow     pod
	service  map[family]netip.Addr // web's cluster addresses
	port     uint16                // web's node port
}

func connect() (*cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	c := &cluster{client: client, kubectl: cmp.Or(os.Getenv("KUBECTL"), "kubectl"), hack: os.Getenv("MARGAY_E2E_HACK")}
	if c.hack == "" {
		return c, nil
	}
	governed, err := command(context.Background(), "", filepath.Join(c.hack, "../test/kube/kubeconfig"))
	if err != nil {
		return nil, err
	}
	if have := strings.TrimSpace(governed); have != os.Getenv("KUBECONFIG") {
		return nil, fmt.Errorf("the scripts of %s govern the cluster of %s (see CLUSTER), KUBECONFIG names another", c.hack, have)
	}
	return c, nil
}

// setUp makes the tests' pods and waits for them.
func (c *cluster) setUp(ctx context.Context) error {
	b, err := os.ReadFile(filepath.Join("testdata", "pods.yaml"))
	if err != nil {
		return err
	}
	if err := c.applyPods(ctx, string(b)); err != nil {
		return err
	}
	for _, what := range []string{"daemonset/web", "daemonset/tools", "daemonset/shell"} {
		if _, err := c.ctl(ctx, "-n", namespace, "rollout", "status", what, "--timeout=180s"); err != nil {
			pods, _ := c.ctl(ctx, "-n", namespace, "get", "pods", "-o", "wide")
			return fmt.Errorf("%w\n%s", err, pods)
		}
	}
	if _, err := c.ctl(ctx, "-n", namespace, "wait", "--for=condition=Ready", "pod/slow", "--timeout=180s"); err != nil {
		return err
	}
	return c.read(ctx)
}

// applyPods makes what is missing of the tests' pods.
func (c *cluster) applyPods(ctx context.Context, template string) error {
	_, err := c.apply(ctx, strings.NewReplacer("$NAMESPACE", namespace,
		"$TOOLS", cmp.Or(os.Getenv("MARGAY_E2E_TOOLS"), "kube.test/netutils:1"),
		"$AGNHOST", cmp.Or(os.Getenv("MARGAY_E2E_AGNHOST"), "kube.test/agnhost:1")).Replace(template))
	return err
}

func (c *cluster) tearDown(ctx context.Context) {
	if _, err := c.ctl(ctx, "delete", "namespace", namespace, "--ignore-not-found", "--timeout=120s"); err != nil {
		fmt.Fprintln(os.Stderr, "test/e2e: clean up:", err)
	}
}

// ctl runs kubectl and returns its standard output.
func (c *cluster) ctl(ctx context.Context, args ...string) (string, error) {
	return command(ctx, "", c.kubectl, args...)
}

func (c *cluster) apply(ctx context.Context, yaml string) (string, error) {
	return command(ctx, yaml, c.kubectl, "apply", "-f", "-")
}

// sh runs a bash script in a pod.
func (c *cluster) sh(ctx context.Context, p pod, script string) (string, error) {
	return command(ctx, script, c.kubectl, "-n", namespace, "exec", "-i", p.name, "--", "bash")
}

// mustSh is sh that fails the test.
func (c *cluster) mustSh(t *testing.T, p pod, script string) string {
	t.Helper()
	out, err := c.sh(t.Context(), p, script)
	if err != nil {
		t.Fatalf("in pod %s: %v\n%s", p.name, err, out)
	}
	return out
}

// mustCtl is ctl that fails the test.
func (c *cluster) mustCtl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.ctl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// mustHack runs a script of hack, if the cluster is one that they govern; else it skips the test.
func (c *cluster) mustHack(t *testing.T, script string, args ...string) string {
	t.Helper()
	if c.hack == "" {
		t.Skipf("SKIPPED: needs hack/%s, and MARGAY_E2E_HACK is not set", script)
	}
	out, err := command(context.Background(), "", filepath.Join(c.hack, script), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// command runs a program for at most four minutes. The error has what it wrote to its standard error.
func command(ctx context.Context, stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, bytes.TrimSpace(errOut.Bytes()))
	}
	return out.String(), nil
}
