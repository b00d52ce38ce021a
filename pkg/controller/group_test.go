package controller_test

import (
	"context"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/ipam/collect"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/test/apiserver"
)

// TestOlderGroup: the same on a cluster whose resources are of crd.projectcalico.org/v1: what a node that is gone left goes,
// and a Service gets its address.
func TestOlderGroup(t *testing.T) {
	l := newLab(t)
	if err := apiserver.InstallV1(t.Context(), server.Config()); err != nil {
		t.Fatal(err)
	}
	old := func(c *kube.Client, err error) *kube.Client {
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	l.client = old(kube.Connect(t.Context(), server.Config(), kube.GroupV1))
	l.acting = old(kube.Connect(t.Context(), account(), kube.GroupV1))
	l.restart(l.acting)
	l.node("n2", nil)
	l.own("n1", cidr1)
	l.own("n2", cidr2)
	l.takePod(cidr1, 1, "a", "n1")
	l.takePod(cidr2, 1, "b", "n2")
	l.pod("b", "n2", "10.0.0.17")
	l.once()
	l.pass(collect.DefaultHold)
	l.once()
	l.once()
	for name, err := range map[string]error{
		"block":    second(l.client.GetBlock(t.Context(), "10-0-0-0-28")),
		"affinity": second(l.client.GetAffinity(t.Context(), block.AffinityName("n1", mustPrefix(cidr1)))),
		"handle":   second(l.client.GetHandle(t.Context(), "k8s-pod-network.a")),
	} {
		if !apierrors.IsNotFound(err) {
			t.Errorf("%s of n1: %v, want it gone", name, err)
		}
	}
	if _, err := l.client.GetHandle(t.Context(), "k8s-pod-network.b"); err != nil {
		t.Error(err)
	}
	l.must(l.client.CreatePool(t.Context(), &v3.IPPool{
		ObjectMeta: metav1.ObjectMeta{Name: "lb"}, Spec: v3.IPPoolSpec{CIDR: "10.20.0.0/28", BlockSize: 30, AllowedUses: []v3.PoolUse{v3.UseLoadBalancer}, NodeSelector: "all()"},
	}))
	l.balance(v3.AssignAllServices)
	l.service("web", nil, nil)
	l.settles("web", "10.20.0.0")
	if b, err := l.client.GetBlock(context.Background(), "10-20-0-0-30"); err != nil || block.Attr(b, 0) == nil {
		t.Errorf("block of the Service: %v", err)
	}
	l.deleteService("web")
}

func second[T any](_ T, err error) error { return err }
