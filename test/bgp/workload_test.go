package bgp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// podBIRD is a BIRD in a pod, AS 65001, with a network of its own behind it.
const podBIRD = `log "%%D/log" all;
router id %[1]s;
protocol device { scan time 1; }
protocol kernel { learn; ipv4 { import all; export none; }; }
protocol static { ipv4; route 10.50.0.0/24 blackhole; }
protocol bgp node {
	local %[1]s as 65001; neighbor 169.254.77.1 as 64512; multihop; graceful restart on;
	connect delay time 1; connect retry time 1; error wait time 1,2;
	ipv4 { import all; export where source = RTS_STATIC; next hop self; };
}
`

// TestWorkloadPeers has a node speak BGP with a pod of its own that a BGPPeer's localWorkloadSelector selects.
func TestWorkloadPeers(t *testing.T) {
	l := bird(t, lab.Options{Nodes: 2, Pools: []v3.IPPoolSpec{plain4}})
	one, two := l.Nodes[0], l.Nodes[1]
	pods := l.Core.CoreV1().Pods("default")
	object := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "speaker"}, Spec: corev1.PodSpec{NodeName: one.Name, Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	if _, err := pods.Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		now := int64(0)
		_ = pods.Delete(context.Background(), "speaker", metav1.DeleteOptions{GracePeriodSeconds: &now})
	})
	label := func(value string) {
		t.Helper()
		if _, err := pods.Patch(t.Context(), "speaker", types.MergePatchType, []byte(`{"metadata":{"labels":{"bgp":`+value+`}}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	pod, other := one.Pod("speaker"), two.Pod("other")
	if err := pod.NS.Batch("addr add 10.50.0.7/32 dev lo"); err != nil {
		t.Fatal(err)
	}
	r := newRouter(t)
	r.write(fmt.Sprintf(podBIRD, pod.V4()))
	r.runIn(l, pod.NS, "/usr/sbin/bird", "-f", "-R", "-c", r.dir+"/conf", "-s", r.dir+"/ctl")
	waitTable(l, one, 4, inMesh(l, one, 4)...)
	was, err := sessions(one)
	if err != nil {
		t.Fatal(err)
	}

	apply(t, resource("BGPPeer", "pods", "localWorkloadSelector: bgp == 'yes'", "asNumber: 65001"))
	label(`"yes"`)
	says := []string{"BGPPeer pods: ", "localWorkloadPeeringIPV4"}
	l.Within(patience, "the missing address is reported", func() error { return reported(one, says, "") })
	apply(t, resource("BGPConfiguration", "default", "localWorkloadPeeringIPV4: 169.254.77.1"))
	waitTable(l, one, 4, inMesh(l, one, 4, up(pod.V4(), "global"))...)
	state := func(wanted bool) error {
		addrs, err := one.NS.Run("ip -4 addr show dev " + pod.HostVeth())
		routes, err2 := one.NS.Run("ip -4 route show proto bird")
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		route := fmt.Sprintf("10.50.0.0/24 via %s dev %s", pod.V4(), pod.HostVeth())
		if strings.Contains(addrs, "inet 169.254.77.1/32 scope link") != wanted || strings.Contains(routes, route) != wanted {
			return fmt.Errorf("addresses:\n%sroutes:\n%s", addrs, routes)
		}
		return nil
	}
	l.Within(patience, "address and route", func() error { return state(true) })
	if out, err := one.NS.Run("ping -c 1 -W 5 10.50.0.7"); err != nil {
		t.Errorf("the network behind the pod does not answer: %v %s", err, out)
	}
	l.Within(patience, "the pod has the blocks of both nodes", func() error {
		out := r.birdc("show route all")
		for _, p := range []*lab.Pod{pod, other} {
			if block, _ := p.V4().Prefix(26); !strings.Contains(out, block.String()) {
				return errors.New(out)
			}
		}
		if strings.Count(out, "BGP.next_hop: 169.254.77.1") < 2 {
			return errors.New(out)
		}
		return nil
	})

	label("null")
	waitTable(l, one, 4, inMesh(l, one, 4)...)
	l.Within(patience, "address and route are gone", func() error { return state(false) })
	if now, err := sessions(one); err != nil || fmt.Sprint(now) != fmt.Sprint(was) {
		t.Errorf("other sessions were touched: they are %v, were %v (%v)", now, was, err)
	}
}
