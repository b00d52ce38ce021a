// Package ctltest gives tests of margayctl's commands a cluster whose addresses are real: a real API server, filled by the
// agents' own allocators. There is no kernel in it, no kubelet, no controller.
//
// Names and order are fixed, so that what commands print can be compared with files in testdata. What differs from run to
// run (times, UIDs, versions) Plain takes out.
package ctltest

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/store"
	"github.com/margay-net/margay/test/apiserver"
)

var update = flag.Bool("update", false, "write the files in testdata anew")

// Lab is a cluster for one test.
type Lab struct {
	*connect.Cluster
	Options *connect.Options
	t       *testing.T
}

// New starts an API server with our resources and a description of the cluster.
func New(t *testing.T) *Lab {
	t.Helper()
	return NewIn(t, kube.GroupV3)
}

// NewIn is New for a cluster that keeps our resources in just this group.
func NewIn(t *testing.T, group string) *Lab {
	t.Helper()
	config := apiserver.Start(t)
	if group == kube.GroupV1 {
		apiserver.InstallCRDsV1(t, config)
	} else {
		apiserver.InstallCRDs(t, config)
	}
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
	l := &Lab{Options: &connect.Options{Version: "v0.1.0"}, t: t}
	var err error
	if l.Cluster, err = l.Options.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	ready := true
	err = l.Kube.EnsureClusterInformation(t.Context(), v3.ClusterInformationSpec{
		ClusterGUID: "0123456789abcdef0123456789abcdef", ClusterType: "k8s", CalicoVersion: "v0.1.0", DatastoreReady: &ready,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Pool makes a pool.
func (l *Lab) Pool(name string, spec v3.IPPoolSpec) {
	l.t.Helper()
	if err := l.Kube.CreatePool(l.t.Context(), &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}); err != nil {
		l.t.Fatal(err)
	}
}

// Run runs a command line, without the program's name, and returns what it printed.
func (l *Lab) Run(cmd func(*connect.Options) *cobra.Command, args ...string) (string, error) {
	l.t.Helper()
	root := &cobra.Command{Use: "margayctl", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(cmd(l.Options))
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	ctx, cancel := context.WithTimeout(l.t.Context(), 2*time.Minute)
	defer cancel()
	err := root.ExecuteContext(ctx)
	return out.String(), err
}

// Must is Run for commands that must work.
func (l *Lab) Must(cmd func(*connect.Options) *cobra.Command, args ...string) string {
	l.t.Helper()
	out, err := l.Run(cmd, args...)
	if err != nil {
		l.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// Golden compares a text with testdata/NAME; with -update it writes the file.
func Golden(t *testing.T, name, have string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if have != string(want) {
		t.Errorf("%s (-update writes it anew): have\n%s\nwant\n%s", path, have, want)
	}
}

var variable = []struct {
	*regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?( \+0000 UTC|Z| UTC)?`), "TIME"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UID"},
	{regexp.MustCompile(`("?resourceVersion"?: |"Revision": |"clusterInformationRevision": )"\d+"`), `$1"VERSION"`},
	{regexp.MustCompile(`("sequenceNumber(?:ForAllocation)?": |"\d+": )\d{16,}`), "${1}SEQUENCE"},
}

// Plain takes out what differs from run to run.
func Plain(text string) string {
	for _, v := range variable {
		text = v.ReplaceAllString(text, v.with)
	}
	return text
}

// Node is a Kubernetes node with an allocator of addresses.
type Node struct {
	Name  string
	Alloc *ipam.Allocator
	lab   *Lab
}

// Node registers a node with its number's address, 192.168.10.NUMBER, and a tunnel address of each family that has a
// pool, and starts its allocator.
func (l *Lab) Node(name string, number int) *Node {
	l.t.Helper()
	ctx := l.t.Context()
	client, err := kube.Connect(ctx, l.REST, l.Kube.Group())
	if err != nil {
		l.t.Fatal(err)
	}
	s, log := store.New(), slog.New(slog.NewTextHandler(io.Discard, nil))
	n := &Node{Name: name, lab: l}
	n.Alloc, err = ipam.New(ipam.Options{Node: name, Dir: filepath.Join(l.t.TempDir(), name), Boot: "1", Store: client, Cluster: s, Log: log})
	if err != nil {
		l.t.Fatal(err)
	}
	addr := fmt.Sprintf("192.168.10.%d", number)
	made, err := l.Core.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: name, Annotations: map[string]string{"projectcalico.org/IPv4Address": addr + "/24"},
	}}, metav1.CreateOptions{})
	if err != nil {
		l.t.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { _ = kube.NewWatcher(client, s, n.Alloc, log).Run(run) })
	l.t.Cleanup(func() { stop(); n.Alloc.Close(); done.Wait() })
	for !s.InSync() {
		time.Sleep(5 * time.Millisecond)
	}
	if err := n.Alloc.Sync(ctx, map[netip.Addr]string{}); err != nil {
		l.t.Fatal(err)
	}
	for _, six := range []bool{false, true} {
		handle, kind, annotation := "vxlan-tunnel-addr-"+name, block.TypeVXLAN4, "projectcalico.org/IPv4VXLANTunnelAddr"
		if six {
			handle, kind, annotation = "vxlan-v6-tunnel-addr-"+name, block.TypeVXLAN6, "projectcalico.org/IPv6VXLANTunnelAddr"
		}
		if a, err := n.Alloc.TunnelAddr(ctx, handle, kind, six); err == nil {
			made.Annotations[annotation] = a.String()
		}
	}
	if _, err := l.Core.CoreV1().Nodes().Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		l.t.Fatal(err)
	}
	n.Settle()
	return n
}

// Settle writes what the allocator gave out to the datastore.
func (n *Node) Settle() {
	n.lab.t.Helper()
	var err error
	for range 50 {
		if err = n.Alloc.Settle(n.lab.t.Context()); err == nil && n.Alloc.Stats().Unsettled == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	n.lab.t.Fatalf("%s: not settled: %v", n.Name, err)
}

// Pod makes a running pod of namespace default on the node, with addresses that the allocator gave it.
func (n *Node) Pod(name string) []netip.Addr {
	n.lab.t.Helper()
	ep := model.Endpoint{Network: "k8s-pod-network", ContainerID: name, IfName: "eth0", Namespace: "default", Pod: name, HostVeth: model.HostVeth("default", name)}
	ep, err := n.Alloc.Assign(n.lab.t.Context(), ipam.Request{Endpoint: ep})
	if err == nil {
		err = n.Alloc.Activate(ep.Key())
	}
	if err != nil {
		n.lab.t.Fatal(err)
	}
	n.Settle()
	n.lab.PodWith(name, n.Name, ep.Addrs...)
	return ep.Addrs
}

// Release gives a pod's addresses back; the Pod object stays.
func (n *Node) Release(name string) {
	n.Alloc.Release(name + "/eth0")
	n.Settle()
}

// PodWith makes the object of a running pod that has these addresses, whatever IPAM knows of them.
func (l *Lab) PodWith(name, node string, addrs ...netip.Addr) {
	l.t.Helper()
	pods := l.Core.CoreV1().Pods("default")
	p, err := pods.Create(l.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		l.t.Fatal(err)
	}
	p.Status.Phase = corev1.PodRunning
	for i, a := range addrs {
		if i == 0 {
			p.Status.PodIP = a.String()
		}
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a.String()})
	}
	if _, err := pods.UpdateStatus(l.t.Context(), p, metav1.UpdateOptions{}); err != nil {
		l.t.Fatal(err)
	}
}
