package cluster_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/cluster"
	"github.com/margay-net/margay/pkg/ctl/ctltest"
	"github.com/margay-net/margay/pkg/ctl/datastore"
)

// TestCluster checks a cluster that is well and one in which much is wrong, and writes an archive of it.
func TestCluster(t *testing.T) {
	l := ctltest.New(t)
	l.Pool("default-ipv4-ippool", v3.IPPoolSpec{CIDR: "10.244.0.0/16", BlockSize: 26, VXLANMode: v3.EncapAlways})
	l.Node("node1", 11).Pod("web-1")
	l.Node("node2", 12).Pod("web-2")
	ctltest.Golden(t, "check.txt", l.Must(cluster.Command, "cluster", "check", "--again=0s"))

	ctx := t.Context()
	l.Pool("a-tiny", v3.IPPoolSpec{CIDR: "192.168.10.8/29", BlockSize: 29})
	l.Pool("b-overlap", v3.IPPoolSpec{CIDR: "10.244.128.0/17", BlockSize: 26})
	l.PodWith("stray", "node2", netip.MustParseAddr("10.244.1.1"))
	for _, n := range []*corev1.Node{
		{ObjectMeta: metav1.ObjectMeta{Name: "node3"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "node4", Annotations: map[string]string{"projectcalico.org/IPv4Address": "192.168.10.12/24"}}},
	} {
		if _, err := l.Core.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Core.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system"}}, metav1.CreateOptions{}); err != nil && !strings.Contains(err.Error(), "already exists") {
		t.Fatal(err)
	}
	agent, err := l.Core.CoreV1().Pods("kube-system").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "margay-node-x", Labels: map[string]string{"k8s-app": "margay-node"}},
		Spec:       corev1.PodSpec{NodeName: "node1", HostNetwork: true, Containers: []corev1.Container{{Name: "margay-node", Image: "i"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	agent.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	if _, err := l.Core.CoreV1().Pods("kube-system").UpdateStatus(ctx, agent, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	l.Must(datastore.Command, "datastore", "migrate", "lock")
	out, err := l.Run(cluster.Command, "cluster", "check", "--again=0s")
	if err == nil {
		t.Error("a cluster with problems is no error")
	}
	ctltest.Golden(t, "check-problems.txt", out)

	dir := t.TempDir()
	out = l.Must(cluster.Command, "cluster", "diags", "--dir", dir)
	_, name, ok := strings.Cut(out, "archive ")
	name, _, _ = strings.Cut(name, " ")
	if !ok {
		t.Fatalf("printed\n%s", out)
	}
	files := unpack(t, name)
	for file, want := range map[string]string{
		"resources/ippools.yaml": "default-ipv4-ippool", "resources/ipamblocks.yaml": "10-244-", "cluster/nodes.yaml": "node3", "cluster/pods.txt": "default/web-1 Running node1",
		"cluster/check.txt": "PROBLEM", "logs/node1_margay-node-x_margay-node.log": "NOT COLLECTED", "resources/tiers.yaml": "",
	} {
		if text, ok := files["diagnostics/"+file]; !ok || !strings.Contains(text, want) {
			t.Errorf("%s: %.300q, want %q in it", file, text, want)
		}
	}
}

func unpack(t *testing.T, name string) map[string]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = string(b)
	}
}
