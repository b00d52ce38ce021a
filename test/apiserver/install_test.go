package apiserver

import (
	"testing"

	authv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// TestInstall creates everything in the install manifest, strictly checked, and asks what the agent's account may do.
func TestInstall(t *testing.T) {
	s := StartServer(t)
	if err := Install(t.Context(), s.Config()); err != nil {
		t.Fatal(err)
	}
	if err := Install(t.Context(), s.Config()); err != nil {
		t.Fatalf("a second time: %v", err)
	}
	agent := kubernetes.NewForConfigOrDie(s.ConfigAs("kube-system", "margay-node"))
	const calico = "projectcalico.org"
	for _, c := range []struct {
		allowed                    bool
		verb, group, resource, sub string
	}{
		{true, "watch", "", "nodes", ""},
		{true, "patch", "", "nodes", ""},
		{true, "patch", "", "nodes", "status"},
		{true, "create", calico, "ippools", ""},
		{true, "update", calico, "ipamblocks", ""},
		{true, "delete", calico, "blockaffinities", ""},
		{true, "create", calico, "ipamhandles", ""},
		{true, "watch", calico, "felixconfigurations", ""},
		{true, "create", calico, "clusterinformations", ""},
		{true, "watch", "crd." + calico, "ippools", ""},
		{true, "update", "crd." + calico, "ipamblocks", ""},
		{true, "watch", "crd." + calico, "ipamconfigs", ""},
		{false, "update", "crd." + calico, "ippools", ""},
		{false, "delete", calico, "ippools", ""},
		{false, "update", calico, "ippools", ""},
		{false, "update", calico, "ipamconfigurations", ""},
		{false, "update", "", "nodes", ""},
		{false, "delete", "", "nodes", ""},
		{false, "delete", "", "pods", ""},
		{false, "patch", "", "pods", ""},
		{true, "list", "", "pods", ""},
		{false, "update", calico, "clusterinformations", ""},
		{false, "get", "", "secrets", ""},
		{false, "get", "", "configmaps", ""},
	} {
		review := &authv1.SelfSubjectAccessReview{Spec: authv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authv1.ResourceAttributes{
				Namespace: "kube-system", Verb: c.verb, Group: c.group, Resource: c.resource, Subresource: c.sub,
			},
		}}
		got, err := agent.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Status.Allowed != c.allowed {
			t.Errorf("%s %s %s/%s: allowed is %t, want %t", c.verb, c.group, c.resource, c.sub, got.Status.Allowed, c.allowed)
		}
	}
}
