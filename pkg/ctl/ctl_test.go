package ctl_test

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/margay-net/margay/pkg/ctl"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/test/apiserver"
)

// TestCommands plays the scripts of testdata on a real API server with fixed objects of every kind.
func TestCommands(t *testing.T) {
	config := apiserver.Start(t)
	apiserver.InstallCRDs(t, config)
	apiserver.InstallCRDsV1(t, config)
	environment(t, config)
	objects(t, config)
	// What is stored in the older group looks the same.
	t.Run("v1", func(t *testing.T) {
		t.Setenv("CALICO_API_GROUP", kube.GroupV1)
		agents(t.Context(), t, config, kube.GroupV1)
		play(t, "[1-3]*.txt")
	})
	t.Run("v3", func(t *testing.T) {
		t.Setenv("CALICO_API_GROUP", kube.GroupV3)
		agents(t.Context(), t, config, kube.GroupV3)
		play(t, "[1-7]*.txt")
		t.Run("at once", atOnce)
		t.Run("version", versions)
	})
}

// atOnce: people who change one resource at the same time do not undo each other's changes.
func atOnce(t *testing.T) {
	var all sync.WaitGroup
	var done sync.Map
	for i := range 4 {
		for key, command := range map[string]string{
			fmt.Sprintf("label%d: x", i): fmt.Sprintf("label ippool second label%d=x", i),
			fmt.Sprintf("note%d: x", i):  fmt.Sprintf("patch ippool second -p '{\"metadata\": {\"annotations\": {\"note%d\": \"x\"}}}'", i),
		} {
			all.Go(func() {
				switch out := (step{line: "$ margayctl " + command}).run(t.Context()); {
				case strings.HasPrefix(out, "Successfully"):
					done.Store(key, true)
				case !strings.Contains(out, "update conflict"):
					t.Errorf("%s: %s", command, out)
				}
			})
		}
	}
	all.Wait()
	have := step{line: "$ margayctl get ippool second -o yaml"}.run(t.Context())
	n := 0
	done.Range(func(key, _ any) bool {
		n++
		if !strings.Contains(have, key.(string)) {
			t.Errorf("%s was said to be written, and is gone:\n%s", key, have)
		}
		return true
	})
	if n < 4 {
		t.Errorf("%d of 8 changes were made", n)
	}
}

// versions: a cluster of another version is refused unless that is allowed, and its version can be asked for.
func versions(t *testing.T) {
	for _, test := range []struct{ version, args, want string }{
		{"v0.2.0", "get tiers", "version mismatch.\nClient Version:   v0.2.0\nCluster Version:  v0.1.0\nUse --allow-version-mismatch to override"},
		{"v0.2.0", "get tiers --allow-version-mismatch", ""},
		{"v0.1.0-7-gabcdef-dirty", "get tiers", ""},
		{"unknown", "get tiers", ""},
		{"v0.2.0", "version", ""},
	} {
		cmd := ctl.New("margayctl", ctl.Build{Version: test.version})
		cmd.SetArgs(strings.Fields(test.args))
		cmd.SetOut(io.Discard)
		have := ""
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			have = err.Error()
		}
		if have != test.want {
			t.Errorf("%s, %s: %s", test.version, test.args, have)
		}
	}
}

// TestAlone plays the scripts of commands that ask no cluster.
func TestAlone(t *testing.T) {
	t.Setenv("KUBECONFIG", "/nowhere/kubeconfig")
	play(t, "alone*.txt")
}

// environment makes the API server the one that the environment names.
func environment(t *testing.T, config *rest.Config) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(api.Config{
		CurrentContext: "test",
		Contexts:       map[string]*api.Context{"test": {Cluster: "test", AuthInfo: "test"}},
		Clusters:       map[string]*api.Cluster{"test": {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*api.AuthInfo{"test": {Token: config.BearerToken}},
	}, path)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"KUBECONFIG": path, "DATASTORE_TYPE": "", "CALICO_API_GROUP": "", "K8S_CURRENT_CONTEXT": ""} {
		t.Setenv(name, value)
	}
}

// objects makes what Kubernetes has: namespaces, accounts, nodes and pods.
func objects(t *testing.T, config *rest.Config) {
	t.Helper()
	ctx := t.Context()
	core, err := kubernetes.NewForConfig(config)
	must(t, err)
	_, err = core.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "a"}}}, metav1.CreateOptions{})
	must(t, err)
	_, err = core.CoreV1().ServiceAccounts("shop").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "till", Labels: map[string]string{"role": "till"}}}, metav1.CreateOptions{})
	must(t, err)
	// The API server makes these when it gets to it.
	for _, ns := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		for {
			if _, err := core.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{}); err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	nodes(ctx, t, core)
	pods(ctx, t, core)
}

func nodes(ctx context.Context, t *testing.T, core kubernetes.Interface) {
	const p = "projectcalico.org/"
	for _, n := range []corev1.Node{
		{
			ObjectMeta: metav1.ObjectMeta{
				Name: "node1", Labels: map[string]string{"kubernetes.io/hostname": "node1"},
				Annotations: map[string]string{
					p + "IPv4Address": "192.168.10.11/24", p + "IPv6Address": "fd00:10::11/64", p + "IPv4VXLANTunnelAddr": "10.244.104.0",
					p + "VXLANTunnelMACAddr": "66:11:22:33:44:55", p + "labels": `{"rack":"a"}`, p + "Interfaces": `[{"name":"eth0","addresses":["192.168.10.11"]}]`,
				},
			},
			Spec:   corev1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24"}, PodCIDR: "10.244.1.0/24"},
			Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.10.11"}, {Type: corev1.NodeHostName, Address: "node1"}}},
		},
		{ObjectMeta: metav1.ObjectMeta{Name: "node2", Annotations: map[string]string{p + "IPv4Address": "192.168.10.12/24", p + "ASNumber": "64513", p + "RouteReflectorClusterID": "224.0.0.1"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "node3"}},
	} {
		_, err := core.CoreV1().Nodes().Create(ctx, &n, metav1.CreateOptions{})
		must(t, err)
		made, err := core.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
		must(t, err)
		made.Status = n.Status
		_, err = core.CoreV1().Nodes().UpdateStatus(ctx, made, metav1.UpdateOptions{})
		must(t, err)
	}
}

func pods(ctx context.Context, t *testing.T, core kubernetes.Interface) {
	pod := func(ns, name, node, ip string, phase corev1.PodPhase, annotations map[string]string) {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns, Labels: map[string]string{"app": name}, Annotations: annotations},
			Spec: corev1.PodSpec{
				NodeName: node, ServiceAccountName: "till", HostNetwork: name == "host",
				Containers: []corev1.Container{{Name: "c", Image: "c", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {ContainerPort: 9090}}}},
			},
		}
		made, err := core.CoreV1().Pods(ns).Create(ctx, p, metav1.CreateOptions{})
		must(t, err)
		made.Status = corev1.PodStatus{Phase: phase, PodIP: ip}
		if ip != "" {
			made.Status.PodIPs = []corev1.PodIP{{IP: ip}}
		}
		_, err = core.CoreV1().Pods(ns).UpdateStatus(ctx, made, metav1.UpdateOptions{})
		must(t, err)
	}
	pod("shop", "web-1", "node1", "10.244.104.7", corev1.PodRunning, map[string]string{"cni.projectcalico.org/floatingIPs": `["203.0.113.7"]`, "cni.projectcalico.org/containerID": "c1"})
	pod("shop", "done", "node1", "10.244.104.8", corev1.PodSucceeded, nil)
	pod("shop", "waits", "", "", corev1.PodPending, nil)
	pod("shop", "host", "node1", "192.168.10.11", corev1.PodRunning, nil)
	pod("default", "web-2", "node2", "10.244.135.1", corev1.PodRunning, nil)
}

// agents makes what agents write and people only read.
func agents(ctx context.Context, t *testing.T, config *rest.Config, group string) {
	client, err := kube.Connect(ctx, config, group)
	must(t, err)
	object := func(kind, name string, spec map[string]any) {
		k, ok := kube.KindOf(kind)
		if !ok {
			t.Fatal("no kind ", kind)
		}
		o := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": map[string]any{"name": name}, "spec": spec,
		}}
		_, err := client.CreateResource(ctx, k, o, false)
		must(t, err)
	}
	object("ClusterInformation", "default", map[string]any{"clusterGUID": "0123456789abcdef0123456789abcdef", "clusterType": "k8s,kdd", "calicoVersion": "v0.1.0", "datastoreReady": true})
	object("BlockAffinity", "node1-10-244-104-0-26", map[string]any{"node": "node1", "cidr": "10.244.104.0/26", "state": "confirmed", "type": "host", "deleted": false})
	object("IPAMHandle", "k8s-pod-network.c1", map[string]any{"handleID": "k8s-pod-network.c1", "block": map[string]any{"10.244.104.0/26": int64(1)}, "deleted": false})
	allocations, unallocated := []any{int64(0)}, []any{}
	for i := int64(1); i < 64; i++ {
		allocations, unallocated = append(allocations, nil), append(unallocated, i)
	}
	object("IPAMBlock", "10-244-104-0-26", map[string]any{
		"cidr": "10.244.104.0/26", "affinity": "host:node1", "allocations": allocations, "unallocated": unallocated,
		"attributes":     []any{map[string]any{"handle_id": "k8s-pod-network.c1", "secondary": map[string]any{"pod": "web-1", "namespace": "shop", "node": "node1"}}},
		"sequenceNumber": int64(7), "sequenceNumberForAllocation": map[string]any{"0": int64(6)}, "strictAffinity": false, "deleted": false,
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWords(t *testing.T) {
	for line, want := range map[string]string{
		"a b  c": "a|b|c", "a 'b c' d": "a|b c|d", "a -p '{\"x\": 1}'": "a|-p|{\"x\": 1}", "a x='b c' d": "a|x=b c|d", "": "",
	} {
		if have := words(line); joined(have) != want {
			t.Errorf("%s: %q", line, have)
		}
	}
}

func joined(all []string) string {
	out := ""
	for i, s := range all {
		if i > 0 {
			out += "|"
		}
		out += s
	}
	return out
}
