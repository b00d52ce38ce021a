package address

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ipam/check"
)

// tunnels are the Node annotations that hold addresses of IPAM, and the type that their allocations carry (Calico's).
var tunnels = []struct{ annotation, kind string }{
	{"projectcalico.org/IPv4VXLANTunnelAddr", "vxlanTunnelAddress"},
	{"projectcalico.org/IPv6VXLANTunnelAddr", "vxlanV6TunnelAddress"},
	{"projectcalico.org/IPv4WireguardInterfaceAddr", "wireguardTunnelAddress"},
	{"projectcalico.org/IPv6WireguardInterfaceAddr", "wireguardV6TunnelAddress"},
	{"projectcalico.org/IPv4IPIPTunnelAddr", "ipipTunnelAddress"},
}

// Annotations of pods and Services (Calico's).
const (
	annPodIP   = "cni.projectcalico.org/podIP"
	annPodIPs  = "cni.projectcalico.org/podIPs"
	annNoIPAM  = "cni.projectcalico.org/ipAddrsNoIpam"
	annV4Pools = "projectcalico.org/ipv4pools"
	annV6Pools = "projectcalico.org/ipv6pools"
	annLBIPs   = "projectcalico.org/loadBalancerIPs"
)

// uses fills in who has which address: nodes first, then Services, then pods, as calicoctl lists them.
func (s *Snapshot) uses(assign string) {
	for i := range s.NodeList {
		n := &s.NodeList[i]
		s.Nodes = append(s.Nodes, n.Name)
		s.Uses = append(s.Uses, nodeUses(n)...)
	}
	given := slices.ContainsFunc(s.Pools, func(p v3.IPPool) bool { return slices.Contains(p.Spec.AllowedUses, v3.UseLoadBalancer) })
	for i := range s.ServiceList {
		svc := &s.ServiceList[i]
		if !managed(svc, assign) {
			continue
		}
		s.LoadBalancers++
		for _, ingress := range svc.Status.LoadBalancer.Ingress {
			if a, err := netip.ParseAddr(ingress.IP); err == nil && given { // else somebody else gives addresses
				s.Uses = append(s.Uses, check.Use{Addr: a, Kind: check.Service, Namespace: svc.Namespace, Name: svc.Name, Label: svc.Name})
			}
		}
	}
	for i := range s.PodList {
		s.Uses = append(s.Uses, PodUses(&s.PodList[i])...)
	}
}

// nodeUses are the addresses of a node's tunnels.
func nodeUses(n *corev1.Node) (out []check.Use) {
	for _, t := range tunnels {
		if p, ok := parsePrefix(n.Annotations[t.annotation]); ok {
			out = append(out, check.Use{Addr: p.Addr(), Kind: check.Node, Name: n.Name, Tunnel: t.kind, Label: "Node(" + n.Name + ")"})
		}
	}
	return out
}

// PodUses are a pod's addresses. A pod that starts or ends has one without an address; none has a pod that is over, or
// that shares its node's network.
func PodUses(p *corev1.Pod) (out []check.Use) {
	if p.Spec.HostNetwork || p.Spec.NodeName == "" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil
	}
	addr, annotated := p.Annotations[annPodIP]
	if annotated && addr == "" {
		return nil // Calico's plugin has emptied it: the sandbox is gone
	}
	use := check.Use{Kind: check.Pod, Namespace: p.Namespace, Name: p.Name, Node: p.Spec.NodeName, Label: "Workload(" + p.Namespace + "/" + endpointName(p) + ")"}
	if p.Status.Phase == corev1.PodPending || p.DeletionTimestamp != nil {
		out = append(out, use)
	}
	if p.DeletionTimestamp != nil {
		return out // the sandbox may be gone, and its addresses somebody else's
	}
	own := ownAddrs(p)
	texts := strings.Split(p.Annotations[annPodIPs], ",")
	for _, ip := range p.Status.PodIPs {
		texts = append(texts, ip.IP)
	}
	seen := map[netip.Addr]bool{}
	for _, text := range append(texts, addr, p.Status.PodIP) {
		if q, ok := parsePrefix(text); ok && !seen[q.Addr()] {
			seen[q.Addr()] = true
			use.Addr, use.Own = q.Addr(), slices.Contains(own, q.Addr())
			out = append(out, use)
		}
	}
	return out
}

// ownAddrs are the addresses that a pod brought along by its annotation: a list of addresses in JSON.
func ownAddrs(p *corev1.Pod) (out []netip.Addr) {
	if text := p.Annotations[annNoIPAM]; text != "" {
		_ = json.Unmarshal([]byte(text), &out) // one that cannot be read gave the pod nothing
	}
	return out
}

// endpointName is the name of a pod's WorkloadEndpoint: node-k8s-pod-eth0, with each '-' of the names doubled.
func endpointName(p *corev1.Pod) string {
	double := strings.NewReplacer("-", "--")
	return double.Replace(p.Spec.NodeName) + "-k8s-" + double.Replace(p.Name) + "-eth0"
}

// assignMode reads which Services get addresses of pools: AllServices or RequestedServicesOnly.
func assignMode(ctx context.Context, c *connect.Cluster) (string, error) {
	kind, err := kindOf("KubeControllersConfiguration")
	if err != nil {
		return "", err
	}
	obj, err := c.Kube.GetResource(ctx, kind, "", "default")
	if apierrors.IsNotFound(err) {
		return allServices, nil
	}
	if err != nil {
		return "", fmt.Errorf("read KubeControllersConfiguration default: %w", err)
	}
	mode, _, _ := unstructured.NestedString(obj.Object, "spec", "controllers", "loadBalancer", "assignIPs")
	return cmp.Or(mode, allServices), nil
}

const allServices = "AllServices"

// managed says whether a Service gets its addresses of pools.
func managed(svc *corev1.Service, assign string) bool {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return false
	}
	if class := svc.Spec.LoadBalancerClass; class != nil {
		return *class == "calico"
	}
	asked := svc.Annotations[annV4Pools] + svc.Annotations[annV6Pools] + svc.Annotations[annLBIPs] + svc.Spec.LoadBalancerIP
	return assign == allServices || asked != ""
}
