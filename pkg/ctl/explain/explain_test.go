package explain

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/address"
	"github.com/margay-net/margay/pkg/ctl/ctltest"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/kube"
)

// TestExplain asks about addresses and pods of every kind on one cluster.
func TestExplain(t *testing.T) {
	l := ctltest.New(t)
	ctx := t.Context()
	l.Pool("default-ipv4-ippool", v3.IPPoolSpec{CIDR: "10.244.0.0/16", BlockSize: 26, VXLANMode: v3.EncapAlways, NATOutgoing: true})
	l.Pool("spare", v3.IPPoolSpec{CIDR: "10.250.0.0/16", Disabled: true})
	a, b := l.Node("node1", 11), l.Node("node2", 12)
	a.Pod("web-1")
	b.Pod("web-2")
	b.Pod("web-3")
	l.Must(address.Command, "ipam", "configure", "--ip-cooldown-seconds=600")
	l.Must(address.Command, "ipam", "release", "--ip=10.244.11.65") // web-2's: its agent is asleep here
	l.Must(address.Command, "ipam", "release", "--ip=10.244.11.66")
	if err := l.Core.CoreV1().Pods("default").Delete(ctx, "web-3", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	lend(t, l)
	kind, _ := kube.KindOf("IPReservation")
	if _, err := l.Kube.CreateResource(ctx, kind, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "projectcalico.org/v3", "kind": "IPReservation", "metadata": map[string]any{"name": "routers"},
		"spec": map[string]any{"reservedCIDRs": []any{"10.244.200.0/24"}},
	}}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Core.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "shop"}, Spec: corev1.ServiceSpec{ClusterIP: serviceAddr(t, l), Ports: []corev1.ServicePort{{Port: 80}}, ExternalIPs: []string{"203.0.113.7"}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, addr := range map[string]string{
		"ip-pod": "10.244.197.1", "ip-tunnel": "10.244.197.0", "ip-cooling": "10.244.11.65", "ip-cooling-free": "10.244.11.66", "ip-borrowed": "10.244.197.40", "ip-next": "10.244.197.2",
		"ip-tail": "10.244.197.60", "ip-no-block": "10.244.100.1", "ip-reserved": "10.244.200.5", "ip-disabled": "10.250.0.1", "ip-node": "192.168.10.12",
		"ip-stranger": "198.51.100.1", "ip-external": "203.0.113.7", "ip-service": serviceAddr(t, l),
	} {
		t.Run(name, func(t *testing.T) {
			ctltest.Golden(t, name+".txt", plain(l.Must(Command, "explain", "ip", addr)))
		})
	}
	t.Run("pod", func(t *testing.T) { explainPods(t, l) })
	for want, args := range map[string][]string{
		`"pods" is no address`:      {"ip", "pods"},
		"find pod default/nobody":   {"pod", "default/nobody"},
		"name the pod as NAMESPACE": {"pod", "/x"},
	} {
		if _, err := l.Run(Command, append([]string{"explain"}, args...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}

// lend gives an address of node1's block to a pod of node2.
func lend(t *testing.T, l *ctltest.Lab) {
	t.Helper()
	b, err := l.Kube.GetBlock(t.Context(), "10-244-197-0-26")
	if err != nil {
		t.Fatal(err)
	}
	if err := block.Take(b, 40, "k8s-pod-network.guest", map[string]string{
		block.AttrNode: "node2", block.AttrNamespace: "default", block.AttrPod: "guest", block.AttrTimestamp: "2026-11-22 08:14:36.61115573 +0000 UTC",
	}); err != nil {
		t.Fatal(err)
	}
	b.Spec.SequenceNumber++
	if _, err := l.Kube.UpdateBlock(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	l.PodWith("guest", "node2", netip.MustParseAddr("10.244.197.40"))
}

// serviceAddr is a free address of the API server's range of Services.
func serviceAddr(t *testing.T, l *ctltest.Lab) string {
	t.Helper()
	s, err := l.Core.CoreV1().Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	for range 300 {
		if err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
		s, err = l.Core.CoreV1().Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	a := netip.MustParseAddr(s.Spec.ClusterIP)
	for range 6 {
		a = a.Next()
	}
	return a.String()
}

// plain takes out how long ago something was.
func plain(text string) string {
	lines := strings.Split(ctltest.Plain(text), "\n")
	for i, line := range lines {
		if before, _, ok := strings.Cut(line, "since TIME ("); ok {
			lines[i] = before + "since TIME (AGO)"
		}
	}
	return strings.Join(lines, "\n")
}

// explainPods explains pods as seen from their own node, with its kernel right and wrong, and from elsewhere.
func explainPods(t *testing.T, l *ctltest.Lab) {
	s, err := address.Load(t.Context(), l.Cluster)
	if err != nil {
		t.Fatal(err)
	}
	s.PodList = append(s.PodList, []corev1.Pod{
		{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "host"}, Spec: corev1.PodSpec{NodeName: "node1", HostNetwork: true}, Status: corev1.PodStatus{Phase: corev1.PodRunning}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "waits"}, Status: corev1.PodStatus{Phase: corev1.PodPending}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "starts"}, Spec: corev1.PodSpec{NodeName: "node1"}, Status: corev1.PodStatus{Phase: corev1.PodPending}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "done"}, Spec: corev1.PodSpec{NodeName: "node1"}, Status: corev1.PodStatus{Phase: corev1.PodSucceeded}},
	}...)
	right := kernel{here: true, up: true, routes: []netip.Prefix{netip.MustParsePrefix("10.244.197.1/32")}}
	for _, test := range []struct {
		golden, pod string
		kernel      kernel
		err         error
	}{
		{"pod-here.txt", "web-1", right, nil},
		{"pod-broken.txt", "web-1", kernel{here: true}, nil},
		{"pod-elsewhere.txt", "web-1", kernel{}, nil},
		{"pod-borrowed.txt", "guest", kernel{}, nil},
		{"pod-released.txt", "web-2", kernel{}, errors.New("permission denied")},
		{"pod-host.txt", "host", kernel{}, nil},
		{"pod-waits.txt", "waits", kernel{}, nil},
		{"pod-starts.txt", "starts", kernel{}, nil},
		{"pod-done.txt", "done", kernel{}, nil},
	} {
		var out bytes.Buffer
		if err := explainPod(&out, s, "default", test.pod, func(string) (kernel, error) { return test.kernel, test.err }); err != nil {
			t.Fatal(err)
		}
		ctltest.Golden(t, test.golden, plain(out.String()))
	}
}
