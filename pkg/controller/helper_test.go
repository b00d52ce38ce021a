package controller_test

import (
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/margay-net/margay/pkg/ipam/block"
)

var (
	getOptions    = metav1.GetOptions{}
	updateOptions = metav1.UpdateOptions{}
	createOptions = metav1.CreateOptions{}
	deleteOptions = metav1.DeleteOptions{}

	ipamConfigs  = resource("ipamconfigurations")
	clusterInfos = resource("clusterinformations")
	ipPools      = resource("ippools")
	reservations = resource("ipreservations")
	controllers  = resource("kubecontrollersconfigurations")
)

func resource(name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "projectcalico.org", Version: "v3", Resource: name}
}

// object is one of our kinds.
func object(kind, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": map[string]any{"name": name}, "spec": spec,
	}}
}

// holders returns what the blocks hold: address to the pod or Service that the attributes name.
func (l *lab) holders() map[string]string {
	l.t.Helper()
	out := map[string]string{}
	list, err := l.any.Resource(resource("ipamblocks")).List(l.t.Context(), metav1.ListOptions{})
	l.must(err)
	for _, u := range list.Items {
		b, err := l.client.GetBlock(l.t.Context(), u.GetName())
		l.must(err)
		for o := range b.Spec.Allocations {
			if at := block.Attr(b, o); at != nil && at.HandleID != nil {
				out[block.AddrAt(mustPrefix(b.Spec.CIDR), o).String()] = at.Secondary["pod"] + at.Secondary["service"]
			}
		}
	}
	return out
}

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
