package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// kubeCluster is a cluster of test/kube with one node.
type kubeCluster struct {
	t      *testing.T
	b      *bench
	cni    string
	state  string // the cluster's folder
	client *kubernetes.Clientset
}

func (c *kubeCluster) name() string { return "bench-" + c.cni }

// script runs one of test/kube's scripts for the cluster.
func (c *kubeCluster) script(name string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(c.b.root, "test", "kube", name), args...)
	cmd.Env = append(os.Environ(), "CLUSTER="+c.name(), "CNI="+c.cni, "NODES=1", "DNS=0", "SUBNETS=1", "FAMILY=4",
		"MARGAY_IMAGE="+c.b.bin("margay.tar"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// up brings a cluster up. It ends with the test, or with down.
func (b *bench) up(t *testing.T, cni string) *kubeCluster {
	t.Helper()
	c := &kubeCluster{t: t, b: b, cni: cni}
	c.down()
	t.Cleanup(c.down)
	if _, err := c.script("up"); err != nil {
		t.Fatal(err)
	}
	path, err := c.script("kubeconfig")
	if err != nil {
		t.Fatal(err)
	}
	c.state = filepath.Dir(filepath.Dir(path))
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	if c.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "default service account exists", func() bool {
		_, err := c.client.CoreV1().ServiceAccounts("default").Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
	return c
}

func (c *kubeCluster) down() {
	if _, err := c.script("down"); err != nil {
		c.t.Error(err)
	}
}

// spent is what a burst took: time, CPU time of the whole machine, and of the cluster's own processes.
type spent struct {
	wall         time.Duration
	machine, own float64 // seconds
}

// burst creates pods at once, waits until all are Ready, and deletes them.
func (c *kubeCluster) burst(n int, hostNetwork bool) (s spent) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	api := c.client.CoreV1().Pods("default")
	watch, err := api.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	defer watch.Stop()
	begin, machine, own := time.Now(), machineCPU(c.t), c.ownCPU()
	var g errgroup.Group
	g.SetLimit(10)
	for i := range n {
		g.Go(func() error {
			_, err := api.Create(ctx, pausePod(fmt.Sprintf("p%d", i), hostNetwork), metav1.CreateOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		c.t.Fatal(err)
	}
	ready := map[string]bool{}
	for len(ready) < n {
		e, ok := <-watch.ResultChan()
		if !ok {
			c.t.Fatalf("%s: %d of %d pods got ready", c.name(), len(ready), n)
		}
		if p, ok := e.Object.(*corev1.Pod); ok && isReady(p) {
			ready[p.Name] = true
		}
	}
	s = spent{time.Since(begin), machineCPU(c.t) - machine, c.ownCPU() - own}
	if err := api.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, 5*time.Minute, "pods are gone", func() bool {
		list, err := api.List(ctx, metav1.ListOptions{})
		return err == nil && len(list.Items) == 0
	})
	c.calm()
	return s
}

// calm waits until the kubelet has cleared up, which it does for a while after the pods are gone from the API: until the
// cluster's processes use less than a quarter of a core for some seconds.
func (c *kubeCluster) calm() {
	c.t.Helper()
	const look = 4 * time.Second
	for range 30 {
		before := c.ownCPU()
		time.Sleep(look)
		if c.ownCPU()-before < 0.25*look.Seconds() {
			return
		}
	}
	c.t.Logf("%s: the node is still busy two minutes after its pods were deleted", c.name())
}

func pausePod(name string, hostNetwork bool) *corev1.Pod {
	grace := int64(1) // with 0 the kubelet clears up after the pods are gone from the API
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			HostNetwork: hostNetwork, TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{Name: "pause", Image: "kube.test/pause:1", ImagePullPolicy: corev1.PullIfNotPresent}},
		},
	}
}

func isReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// machineCPU is the CPU time that the machine has used, in seconds.
func machineCPU(t *testing.T) float64 {
	t.Helper()
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	const hz = 100 // USER_HZ, the same on all architectures that Go knows
	var sum float64
	for i, f := range strings.Fields(strings.SplitN(string(b), "\n", 2)[0])[1:8] {
		x, err := strconv.ParseFloat(f, 64)
		if err != nil {
			t.Fatal(err)
		}
		if i != 3 && i != 4 { // idle, iowait
			sum += x / hz
		}
	}
	return sum
}

// ownCPU is the CPU time of the node's control group and of the control plane's processes, in seconds.
func (c *kubeCluster) ownCPU() float64 {
	c.t.Helper()
	sum := groupCPU(c.t, "margay-kube-"+c.name()+"/node1")
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		b, err := os.ReadFile(filepath.Join(c.state, "pids", name))
		if err != nil {
			c.t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			c.t.Fatal(err)
		}
		sum += cpuTime(c.t, pid).Seconds()
	}
	return sum
}

// groupCPU is the CPU time of a control group of either version, in seconds.
func groupCPU(t *testing.T, group string) (sum float64) {
	t.Helper()
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist): // groups come and go
			return err
		case strings.HasSuffix(path, group+"/cpuacct.usage"):
			sum = figure(t, path, "") / 1e9
		case strings.HasSuffix(path, group+"/cpu.stat") && sum == 0:
			sum = figure(t, path, "usage_usec") / 1e6
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// figure reads the number behind a key of a file, or the file's only one; 0 when there is no such key.
func figure(t *testing.T, path, key string) float64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(b), key)
	if f := strings.Fields(after); ok && len(f) > 0 {
		x, err := strconv.ParseFloat(f[0], 64)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	return 0
}

// spents are the bursts of one kind on one cluster.
type spents struct{ wall, machine, own sample }

func (s *spents) add(x spent) {
	s.wall = append(s.wall, x.wall.Seconds())
	s.machine = append(s.machine, x.machine)
	s.own = append(s.own, x.own)
}

// pods measures pods' starts on real clusters, which come one after the other: with our CNI, with ptp, and on the host's
// network, of which each cluster has its own bursts in turn with the other kind's.
func pods(t *testing.T, b *bench, r *report) {
	n := count("N", 60)
	var cni, host [2]spents
	for range count("ROUNDS", 3) {
		for k, name := range []string{"margay", "ptp"} {
			c := b.up(t, name)
			c.burst(5, false)
			c.burst(5, true)
			inTurn(2, func(_, kind int) {
				to := []*spents{&cni[k], &host[k]}[kind]
				s := c.burst(n, kind == 1)
				to.add(s)
				fmt.Fprintf(os.Stderr, "pods: %s, host network %v: %d Ready in %.1f s, CPU %.1f s, of it the cluster's own %.1f s, load %s\n",
					c.name(), kind == 1, n, s.wall.Seconds(), s.machine, s.own, loadavg())
			})
			c.down()
		}
	}
	rows := func(peer string, p spents, a aim) {
		what := fmt.Sprintf("%d pods on a node, ", n)
		r.add(
			row{what: what + "all Ready", unit: "s", ours: cni[0].wall, peer: peer, theirs: p.wall, aim: a},
			row{what: what + "CPU of the machine", unit: "s", ours: cni[0].machine, peer: peer, theirs: p.machine, aim: a},
			row{what: what + "CPU of the cluster's own", unit: "s", ours: cni[0].own, peer: peer, theirs: p.own, aim: a})
	}
	rows("host", host[0], ratioUpTo(1.1))
	rows("ptp", cni[1], aim{})
	beside := func(x, y sample) float64 { return x.p50() / y.p50() }
	r.note("ptp beside the host network on its own cluster: all Ready %.2f, CPU of the machine %.2f, of the cluster's own %.2f",
		beside(cni[1].wall, host[1].wall), beside(cni[1].machine, host[1].machine), beside(cni[1].own, host[1].own))
	r.note("clusters of one node; the cluster's own: the node's control group and the control plane's processes, without the kernel's work for them. The machine's CPU has in it what others did meanwhile")
}
