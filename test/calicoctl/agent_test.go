package calicoctl_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/netlink/nstest"
	"github.com/margay-net/margay/test/lab"
)

// TestAgents runs real agents on an API server that has crd.projectcalico.org/v1 alone, and calicoctl beside them.
func TestAgents(t *testing.T) {
	if os.Geteuid() != 0 {
		nstest.Need(t, "root")
	}
	c := findTool(t)
	cluster, err := lab.StartIn(kube.GroupV1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	useKubeconfig(t, cluster.Server.Config())
	l := cluster.New(t, lab.Options{Nodes: 2, Pools: []v3.IPPoolSpec{}, Env: map[string]string{
		"NO_DEFAULT_POOLS": "", "CALICO_IPV4POOL_CIDR": "172.20.0.0/16", "CALICO_IPV4POOL_VXLAN": "Always",
	}})
	if log := l.Nodes[0].Log(); !strings.Contains(log, "group="+kube.GroupV1) {
		t.Errorf("the agent does not say which group it found:\n%s", l.Nodes[0].LastLog(20))
	}
	pods := []*lab.Pod{l.Nodes[0].Pod("a"), l.Nodes[1].Pod("b")}
	reach(t, l, pods)

	l.Nodes[0].Kill()
	l.Nodes[0].Start()
	l.Nodes[0].WaitReady(30 * time.Second)
	pods = append(pods, l.Nodes[0].Pod("c"))
	reach(t, l, pods)

	for _, p := range pods {
		register(t, l, p)
	}
	describe(t, cluster.API)
	c.says("default-ipv4-ippool   172.20.0.0/16   true   Never      Always", "get", "ippool", "-o", "wide")
	c.says(l.Nodes[0].Addr4.String(), "get", "nodes", "-o", "wide")
	c.says("found 0 problems", "ipam", "check")

	// A pool changed by calicoctl changes the routes between nodes.
	through := func(device string) bool {
		for _, line := range l.Nodes[0].State() {
			if strings.HasPrefix(line, "route ") && strings.Contains(line, device) {
				return true
			}
		}
		return false
	}
	if !through("vxlan.calico") {
		t.Errorf("no route through vxlan.calico: %v", l.Nodes[0].State())
	}
	c.must("patch", "ippool", "default-ipv4-ippool", "-p", `{"spec":{"vxlanMode":"CrossSubnet"}}`)
	for end := time.Now().Add(10 * time.Second); through("vxlan.calico"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the pool's mode was changed, and not the routes: %v", l.Nodes[0].State())
		}
	}
	reach(t, l, pods)
	for _, p := range pods {
		if err := p.Remove(); err != nil {
			t.Error(err)
		}
	}
	l.Agrees(30 * time.Second)
}

// reach sends a packet from each pod to each other, and waits until all agrees.
func reach(t *testing.T, l *lab.Lab, pods []*lab.Pod) {
	t.Helper()
	l.WaitRoutes(30 * time.Second)
	for _, from := range pods {
		for _, to := range pods {
			if err := from.Echo(to.Addrs[0], 3*time.Second); err != nil {
				t.Error(err)
			}
		}
	}
	l.Agrees(30 * time.Second)
}

// register makes the pod's object, as kubelet would keep it.
func register(t *testing.T, l *lab.Lab, p *lab.Pod) {
	t.Helper()
	pods := l.Core.CoreV1().Pods("default")
	o, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name},
		Spec:       corev1.PodSpec{NodeName: p.Node.Name, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o.Status.Phase, o.Status.PodIP, o.Status.PodIPs = corev1.PodRunning, p.Addrs[0].String(), []corev1.PodIP{{IP: p.Addrs[0].String()}}
	if _, err := pods.UpdateStatus(t.Context(), o, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// useKubeconfig lets calicoctl find an API server.
func useKubeconfig(t *testing.T, config *rest.Config) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {Token: config.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{"c": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "c",
	}, file); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", file)
	t.Setenv("DATASTORE_TYPE", "kubernetes")
}
