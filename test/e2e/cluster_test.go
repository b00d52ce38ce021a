package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const namespace = "margay-e2e"

// agents is where Margay's own pods are.
const agents = "kube-system"

// cluster is the cluster under test and the pods that the tests made in it.
type cluster struct {
	client  kubernetes.Interface
	kubectl string
	hack    string // "": the API server and the nodes cannot be stopped
	nodes   []node // sorted by name
	slow    pod
	service netip.Addr // web's cluster address
	port    int32      // web's node port
}

// node is one node with the tests' pods on it.
type node struct {
	name   string
	addr   netip.Prefix // its own, with the subnet's length
	tunnel netip.Addr
	mac    string // of its VXLAN device
	web    pod
	tools  pod
	shell  pod // in the node's own namespaces
}

type pod struct {
	name string
	addr netip.Addr
	id   string // of its container
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
	text := strings.NewReplacer("$NAMESPACE", namespace,
		"$TOOLS", cmp.Or(os.Getenv("MARGAY_E2E_TOOLS"), "kube.test/netutils:1"),
		"$AGNHOST", cmp.Or(os.Getenv("MARGAY_E2E_AGNHOST"), "kube.test/agnhost:1")).Replace(string(b))
	if _, err := c.apply(ctx, text); err != nil {
		return err
	}
	for _, what := range []string{"daemonset/web", "daemonset/tools", "daemonset/shell"} {
		if _, err := c.ctl(ctx, "-n", namespace, "rollout", "status", what, "--timeout=90s"); err != nil {
			pods, _ := c.ctl(ctx, "-n", namespace, "get", "pods", "-o", "wide")
			return fmt.Errorf("%w\n%s", err, pods)
		}
	}
	if _, err := c.ctl(ctx, "-n", namespace, "wait", "--for=condition=Ready", "pod/slow", "--timeout=60s"); err != nil {
		return err
	}
	return c.read(ctx)
}

func (c *cluster) tearDown(ctx context.Context) {
	if _, err := c.ctl(ctx, "delete", "namespace", namespace, "--ignore-not-found", "--timeout=60s"); err != nil {
		fmt.Fprintln(os.Stderr, "test/e2e: clean up:", err)
	}
}

// read takes nodes, pods and services from the API server.
func (c *cluster) read(ctx context.Context) error {
	nodes, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	pods, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	web, err := c.client.CoreV1().Services(namespace).Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	c.port = web.Spec.Ports[0].NodePort
	if c.service, err = netip.ParseAddr(web.Spec.ClusterIP); err != nil {
		return err
	}
	c.nodes = nil
	var errs []error
	for _, n := range nodes.Items {
		one, err := readNode(n, pods.Items)
		errs = append(errs, err)
		c.nodes = append(c.nodes, one)
	}
	slices.SortFunc(c.nodes, func(a, b node) int { return cmp.Compare(a.name, b.name) })
	for _, p := range pods.Items {
		if p.Name == "slow" {
			c.slow = readPod(p)
		}
	}
	return errors.Join(errs...)
}

func readNode(n corev1.Node, pods []corev1.Pod) (node, error) {
	out := node{name: n.Name, mac: n.Annotations["projectcalico.org/VXLANTunnelMACAddr"]}
	for _, p := range pods {
		if p.Spec.NodeName != n.Name || p.DeletionTimestamp != nil {
			continue
		}
		switch p.Labels["app"] {
		case "web":
			out.web = readPod(p)
		case "tools":
			out.tools = readPod(p)
		case "shell":
			out.shell = readPod(p)
		}
	}
	var err1, err2 error
	out.addr, err1 = netip.ParsePrefix(n.Annotations["projectcalico.org/IPv4Address"])
	out.tunnel, err2 = netip.ParseAddr(n.Annotations["projectcalico.org/IPv4VXLANTunnelAddr"])
	if err := errors.Join(err1, err2); err != nil {
		return node{}, fmt.Errorf("read annotations of node %s: %w", n.Name, err)
	}
	if !out.web.addr.IsValid() || !out.tools.addr.IsValid() || !out.shell.addr.IsValid() {
		return node{}, fmt.Errorf("node %s has no pod of web, tools or shell with an address", n.Name)
	}
	return out, nil
}

func readPod(p corev1.Pod) pod {
	out := pod{name: p.Name}
	out.addr, _ = netip.ParseAddr(p.Status.PodIP)
	if len(p.Status.ContainerStatuses) > 0 {
		out.id = p.Status.ContainerStatuses[0].ContainerID
	}
	return out
}

// list reads all objects of one of our resources.
func list[T any](ctx context.Context, c *cluster, resource string) (*T, error) {
	b, err := c.client.CoreV1().RESTClient().Get().AbsPath("/apis/projectcalico.org/v3/" + resource).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", resource, err)
	}
	var out T
	return &out, json.Unmarshal(b, &out)
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
