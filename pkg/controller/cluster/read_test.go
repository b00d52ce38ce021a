package cluster

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/collect"
)

func TestReadPod(t *testing.T) {
	pod := func(status corev1.PodStatus, annotations map[string]string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}, Spec: corev1.PodSpec{NodeName: "n1"}, Status: status}
	}
	has := corev1.PodStatus{PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"nothing yet":     {pod(corev1.PodStatus{}, map[string]string{"cni.projectcalico.org/podIPs": "10.0.0.9/32"}), "[]"},
		"its status":      {pod(has, nil), "[10.0.0.1 fd00::1]"},
		"and annotations": {pod(has, map[string]string{"cni.projectcalico.org/podIPs": "10.0.0.9/32,fd00::9/128", "cni.projectcalico.org/podIP": "10.0.0.9/32"}), "[10.0.0.1 fd00::1 10.0.0.9 fd00::9]"},
		"more interfaces": {pod(has, map[string]string{networkStatus: `[{"ips":["10.0.0.1"]},{"ips":["10.7.0.1"]}]`}), "[10.0.0.1 fd00::1 10.7.0.1]"},
		"damaged":         {pod(has, map[string]string{networkStatus: `[`, "cni.projectcalico.org/podIPs": "x,"}), "[10.0.0.1 fd00::1]"},
	} {
		if got := fmt.Sprint(ReadPod(c.pod).Addrs); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if !ReadPod(pod(corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"}, nil)).Evicted || ReadPod(pod(corev1.PodStatus{Phase: corev1.PodFailed}, nil)).Evicted {
		t.Error("evicted pods are those that failed for this reason")
	}
}

func TestReadNode(t *testing.T) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{UID: "u", Annotations: map[string]string{
		"projectcalico.org/IPv4VXLANTunnelAddr": "10.0.0.1", "projectcalico.org/IPv4IPIPTunnelAddr": "no address",
	}}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}}}
	got := ReadNode(n)
	want := collect.Node{UID: "u", Silent: true}
	want.Tunnels = got.Tunnels
	if got != want || got.Tunnels[collect.TunnelVXLAN4-collect.TunnelIPIP].String() != "10.0.0.1" || got.Tunnels[0].IsValid() {
		t.Errorf("%+v", got)
	}
	n.Status.Conditions[0].Status = corev1.ConditionFalse // kubelet reports, and says no
	if ReadNode(n).Silent {
		t.Error("a node that reports is taken for silent")
	}
}

func TestReadPool(t *testing.T) {
	c := &Cluster{}
	for cidr, want := range map[string]string{"10.0.0.0/24": "26", "fd00::/64": "122", "10.0.0.0/28": "spec.blockSize 26 does not fit", "10.0.0.1/24": "spec.cidr"} {
		p := c.readPool(&v3.IPPool{Spec: v3.IPPoolSpec{CIDR: cidr}})
		got := fmt.Sprint(p.BlockBits)
		if p.Err != "" {
			got = p.Err
		}
		if len(got) < len(want) || got[:len(want)] != want {
			t.Errorf("%s: %s, want %s", cidr, got, want)
		}
	}
}
