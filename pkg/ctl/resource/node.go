package resource

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// node is Calico's Node: what the Kubernetes Node says of itself, and what its annotations say.
type node struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              nodeSpec   `json:"spec,omitempty"`
	Status            nodeStatus `json:"status,omitempty"`
}

type nodeSpec struct {
	BGP                  *nodeBGP        `json:"bgp,omitempty"`
	IPv4VXLANTunnelAddr  string          `json:"ipv4VXLANTunnelAddr,omitempty"`
	VXLANTunnelMACAddr   string          `json:"vxlanTunnelMACAddr,omitempty"`
	IPv6VXLANTunnelAddr  string          `json:"ipv6VXLANTunnelAddr,omitempty"`
	VXLANTunnelMACAddrV6 string          `json:"vxlanTunnelMACAddrV6,omitempty"`
	OrchRefs             []orchRef       `json:"orchRefs,omitempty"`
	Wireguard            *nodeWireguard  `json:"wireguard,omitempty"`
	Addresses            []nodeAddress   `json:"addresses,omitempty"`
	Interfaces           []nodeInterface `json:"interfaces,omitempty"`
}

type nodeBGP struct {
	ASNumber                *v3.ASNumber `json:"asNumber,omitempty"`
	IPv4Address             string       `json:"ipv4Address,omitempty"`
	IPv6Address             string       `json:"ipv6Address,omitempty"`
	IPv4IPIPTunnelAddr      string       `json:"ipv4IPIPTunnelAddr,omitempty"`
	RouteReflectorClusterID string       `json:"routeReflectorClusterID,omitempty"`
}

type nodeWireguard struct {
	InterfaceIPv4Address string `json:"interfaceIPv4Address,omitempty"`
	InterfaceIPv6Address string `json:"interfaceIPv6Address,omitempty"`
}

type orchRef struct {
	NodeName     string `json:"nodeName,omitempty"`
	Orchestrator string `json:"orchestrator"`
}

type nodeAddress struct {
	Address string `json:"address"`
	Type    string `json:"type,omitempty"`
}

type nodeInterface struct {
	Name      string   `json:"name,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
}

type nodeStatus struct {
	WireguardPublicKey   string   `json:"wireguardPublicKey,omitempty"`
	WireguardPublicKeyV6 string   `json:"wireguardPublicKeyV6,omitempty"`
	PodCIDRs             []string `json:"podCIDRs,omitempty"`
}

// Annotations of the Kubernetes Node. The last three hold JSON: of labels and annotations that are Calico's Node's alone,
// and of the interfaces that an agent found. kubeLabels is never stored: a Node that is read has it, so that the labels that
// are Kubernetes' can be told from others when it is written.
const (
	prefix            = "projectcalico.org/"
	labelsAnnotation  = prefix + "labels"
	annotationsOfNode = prefix + "annotations"
	interfacesOfNode  = prefix + "Interfaces"
	kubeLabels        = prefix + "kube-labels"
)

// annotation is one field that an annotation holds.
type annotation struct {
	name  string // after projectcalico.org/
	field string
	at    func(*node) *string
	valid func(string) bool
}

func (n *node) annotations() []annotation {
	s, b, w := &n.Spec, n.Spec.BGP, n.Spec.Wireguard
	return []annotation{
		{"IPv4Address", "spec.bgp.ipv4Address", func(*node) *string { return &b.IPv4Address }, isPrefix4},
		{"IPv6Address", "spec.bgp.ipv6Address", func(*node) *string { return &b.IPv6Address }, isPrefix6},
		{"IPv4IPIPTunnelAddr", "spec.bgp.ipv4IPIPTunnelAddr", func(*node) *string { return &b.IPv4IPIPTunnelAddr }, isIP4},
		{"RouteReflectorClusterID", "spec.bgp.routeReflectorClusterID", func(*node) *string { return &b.RouteReflectorClusterID }, isIP4},
		{"IPv4VXLANTunnelAddr", "spec.ipv4VXLANTunnelAddr", func(*node) *string { return &s.IPv4VXLANTunnelAddr }, isIP4},
		{"VXLANTunnelMACAddr", "spec.vxlanTunnelMACAddr", func(*node) *string { return &s.VXLANTunnelMACAddr }, isMAC},
		{"IPv6VXLANTunnelAddr", "spec.ipv6VXLANTunnelAddr", func(*node) *string { return &s.IPv6VXLANTunnelAddr }, isIP6},
		{"VXLANTunnelMACAddrV6", "spec.vxlanTunnelMACAddrV6", func(*node) *string { return &s.VXLANTunnelMACAddrV6 }, isMAC},
		{"IPv4WireguardInterfaceAddr", "spec.wireguard.interfaceIPv4Address", func(*node) *string { return &w.InterfaceIPv4Address }, isIP4},
		{"IPv6WireguardInterfaceAddr", "spec.wireguard.interfaceIPv6Address", func(*node) *string { return &w.InterfaceIPv6Address }, isIP6},
		{"WireguardPublicKey", "status.wireguardPublicKey", func(n *node) *string { return &n.Status.WireguardPublicKey }, isAny},
		{"WireguardPublicKeyV6", "status.wireguardPublicKeyV6", func(n *node) *string { return &n.Status.WireguardPublicKeyV6 }, isAny},
	}
}

// readNode makes a Node of a Kubernetes Node. Annotations that are no valid values are passed over.
func readNode(k *corev1.Node) (*unstructured.Unstructured, error) {
	n := &node{TypeMeta: metav1.TypeMeta{APIVersion: APIVersion, Kind: "Node"}}
	n.Name, n.UID, n.ResourceVersion, n.CreationTimestamp = k.Name, k.UID, k.ResourceVersion, k.CreationTimestamp
	if err := n.readMeta(k); err != nil {
		return nil, err
	}
	n.Spec.BGP, n.Spec.Wireguard = &nodeBGP{}, &nodeWireguard{}
	for _, a := range n.annotations() {
		if v := k.Annotations[prefix+a.name]; v != "" && a.valid(v) {
			*a.at(n) = v
		}
	}
	if as, err := v3.ParseASNumber(k.Annotations[prefix+"ASNumber"]); err == nil {
		n.Spec.BGP.ASNumber = &as
	}
	n.Spec.OrchRefs = []orchRef{{NodeName: k.Name, Orchestrator: "k8s"}}
	for _, addr := range []string{n.Spec.BGP.IPv4Address, n.Spec.BGP.IPv6Address} {
		if addr != "" {
			n.Spec.Addresses = append(n.Spec.Addresses, nodeAddress{addr, "CalicoNodeIP"})
		}
	}
	for _, a := range k.Status.Addresses {
		if a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP {
			n.Spec.Addresses = append(n.Spec.Addresses, nodeAddress{a.Address, string(a.Type)})
		}
	}
	if v := k.Annotations[interfacesOfNode]; v != "" {
		_ = json.Unmarshal([]byte(v), &n.Spec.Interfaces) // what cannot be read is not shown
	}
	n.Status.PodCIDRs = k.Spec.PodCIDRs
	if *n.Spec.BGP == (nodeBGP{}) {
		n.Spec.BGP = nil
	}
	if *n.Spec.Wireguard == (nodeWireguard{}) {
		n.Spec.Wireguard = nil
	}
	return toUnstructured(n)
}

// readMeta takes labels and annotations: those that are the Node's own from the two annotations, and Kubernetes' labels
// over them.
func (n *node) readMeta(k *corev1.Node) error {
	n.Labels, n.Annotations = map[string]string{}, map[string]string{}
	if v := k.Annotations[labelsAnnotation]; v != "" {
		_ = json.Unmarshal([]byte(v), &n.Labels)
	}
	if v := k.Annotations[annotationsOfNode]; v != "" {
		_ = json.Unmarshal([]byte(v), &n.Annotations)
	}
	if n.Annotations == nil {
		n.Annotations = map[string]string{}
	}
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	maps.Copy(n.Labels, k.Labels)
	text, err := json.Marshal(k.Labels)
	if err != nil {
		return fmt.Errorf("write labels of node %s: %w", k.Name, err)
	}
	n.Annotations[kubeLabels] = string(text)
	return nil
}

// toUnstructured leaves out what is empty, as a person would.
func toUnstructured(o any) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, err
	}
	if v, ok := value(content, "metadata.creationTimestamp").(string); !ok || v == "" {
		unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	}
	return &unstructured.Unstructured{Object: content}, nil
}

func isAny(string) bool { return true }

func isIP4(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is4()
}

func isIP6(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6() && a.Zone() == ""
}

func isPrefix4(s string) bool {
	p, err := netip.ParsePrefix(s)
	return err == nil && p.Addr().Is4()
}

func isPrefix6(s string) bool {
	p, err := netip.ParsePrefix(s)
	return err == nil && p.Addr().Is6()
}

func isMAC(s string) bool {
	if len(s) != 17 {
		return false
	}
	for i := 0; i < len(s); i += 3 {
		if _, err := strconv.ParseUint(s[i:i+2], 16, 8); err != nil || i+2 < len(s) && s[i+2] != ':' {
			return false
		}
	}
	return true
}
