package v3

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BGPPeer is one or more BGP sessions: of all nodes, of one, or of those selected, with an address, with other nodes, or
// with pods.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=bgppeers,shortName=bgpp
// +kubebuilder:printcolumn:name="Node Selector",type=string,JSONPath=".spec.nodeSelector"
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=".spec.node"
// +kubebuilder:printcolumn:name="Local ASN",type=string,JSONPath=".spec.localASNumber"
// +kubebuilder:printcolumn:name="Peer Selector",type=string,JSONPath=".spec.peerSelector"
// +kubebuilder:printcolumn:name="Peer IP",type=string,JSONPath=".spec.peerIP"
// +kubebuilder:printcolumn:name="Peer ASN",type=string,JSONPath=".spec.asNumber"
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              BGPPeerSpec `json:"spec"`
}

// SourceAddress says which of a node's addresses its sessions come from.
// +kubebuilder:validation:Enum=UseNodeIP;None
type SourceAddress string

// Values of SourceAddress.
const (
	SourceNodeIP SourceAddress = "UseNodeIP" // the node's own address
	SourceNone   SourceAddress = "None"      // what the kernel chooses
)

// NextHopMode says which next hop a session announces.
// +kubebuilder:validation:Enum=Auto;Self;Keep
type NextHopMode string

// Values of NextHopMode.
const (
	NextHopAuto NextHopMode = "Auto"
	NextHopSelf NextHopMode = "Self"
	NextHopKeep NextHopMode = "Keep"
)

// ReversePeering says whether the selected nodes get the other half of a session by themselves.
// +kubebuilder:validation:Enum=Auto;Manual
type ReversePeering string

// Values of ReversePeering.
const (
	ReverseAuto   ReversePeering = "Auto"
	ReverseManual ReversePeering = "Manual"
)

// BGPPeerSpec is the content of a BGPPeer. Which nodes: node, or nodeSelector, or all. With whom: peerIP, or
// peerSelector, or localWorkloadSelector.
// +kubebuilder:validation:XValidation:rule="!has(self.node) || size(self.node) == 0 || !has(self.nodeSelector) || size(self.nodeSelector) == 0",message="node and nodeSelector cannot both be set: use one of them, or none for all nodes",fieldPath=".nodeSelector"
// +kubebuilder:validation:XValidation:rule="!has(self.peerSelector) || size(self.peerSelector) == 0 || !has(self.peerIP) || size(self.peerIP) == 0",message="peerIP and peerSelector cannot both be set: use peerIP for a router, peerSelector for nodes of this cluster",fieldPath=".peerSelector"
// +kubebuilder:validation:XValidation:rule="!has(self.peerSelector) || size(self.peerSelector) == 0 || !has(self.asNumber)",message="asNumber must be left out with peerSelector: the selected nodes' own AS numbers count",fieldPath=".asNumber"
// +kubebuilder:validation:XValidation:rule="!has(self.localWorkloadSelector) || size(self.localWorkloadSelector) == 0 || !has(self.peerIP) || size(self.peerIP) == 0",message="peerIP and localWorkloadSelector cannot both be set: use peerIP for a router, localWorkloadSelector for pods",fieldPath=".peerIP"
// +kubebuilder:validation:XValidation:rule="!has(self.localWorkloadSelector) || size(self.localWorkloadSelector) == 0 || !has(self.peerSelector) || size(self.peerSelector) == 0",message="peerSelector and localWorkloadSelector cannot both be set: use peerSelector for nodes, localWorkloadSelector for pods",fieldPath=".peerSelector"
// +kubebuilder:validation:XValidation:rule="!has(self.localWorkloadSelector) || size(self.localWorkloadSelector) == 0 || has(self.asNumber)",message="asNumber is needed with localWorkloadSelector: the AS number of the pods",fieldPath=".asNumber"
// +kubebuilder:validation:XValidation:rule="(has(self.peerIP) && size(self.peerIP) > 0) || (has(self.peerSelector) && size(self.peerSelector) > 0) || (has(self.localWorkloadSelector) && size(self.localWorkloadSelector) > 0)",message="a peer needs one of peerIP (a router), peerSelector (nodes), localWorkloadSelector (pods)",fieldPath=".peerIP"
// +kubebuilder:validation:XValidation:rule="!has(self.reachableBy) || size(self.reachableBy) == 0 || (has(self.peerIP) && size(self.peerIP) > 0)",message="reachableBy is the way to peerIP, and there is none: set peerIP, or leave reachableBy out",fieldPath=".reachableBy"
// +kubebuilder:validation:XValidation:rule="!has(self.reachableBy) || !has(self.peerIP) || !isIP(self.reachableBy) || size(self.peerIP) == 0 || (ip(self.reachableBy).family() == 6) == (self.peerIP.contains('[') || self.peerIP.matches(':.*:'))",message="reachableBy and peerIP must be of one family, IPv4 or IPv6",fieldPath=".reachableBy"
// +kubebuilder:validation:XValidation:rule="!has(self.keepOriginalNextHop) || !self.keepOriginalNextHop || !has(self.nextHopMode)",message="keepOriginalNextHop and nextHopMode cannot both be set: use nextHopMode, Keep is the same as keepOriginalNextHop",fieldPath=".keepOriginalNextHop"
type BGPPeerSpec struct {
	// Node is the name of the one node that has this session.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be the name of a node, as kubectl get nodes shows it"
	// +optional
	Node string `json:"node,omitempty"`

	// NodeSelector says which nodes have this session.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	NodeSelector string `json:"nodeSelector,omitempty"`

	// PeerIP is the other side's address, with a port if need be: 192.168.42.1, 192.168.42.1:1790, fd00::1, [fd00::1]:1790.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self == '' || isIP(self) || (self.matches('^[0-9.]+:[0-9]{1,5}$') && isIP(self.split(':')[0])) || (self.matches('^[\\\\[][0-9a-fA-F:.]+\\\\]:[0-9]{1,5}$') && isIP(self.substring(1, self.indexOf(']'))) && ip(self.substring(1, self.indexOf(']'))).family() == 6)",message="must be an address, and a port if need be: 192.168.42.1, 192.168.42.1:1790, fd00::1 or [fd00::1]:1790"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9.]+|[\\\\[].*\\\\]):[0-9]{1,5}$') || (int(self.substring(self.lastIndexOf(':') + 1)) >= 1 && int(self.substring(self.lastIndexOf(':') + 1)) <= 65535)",message="the port of peerIP must be from 1 to 65535"
	// +optional
	PeerIP string `json:"peerIP,omitempty"`

	// ASNumber of the other side, with peerIP and localWorkloadSelector. A node whose address is peerIP has its own.
	// +optional
	ASNumber *ASNumber `json:"asNumber,omitempty"`

	// LocalASNumber is the AS number to show the other side. The node's own when not set.
	// +optional
	LocalASNumber *ASNumber `json:"localASNumber,omitempty"`

	// PeerSelector says which nodes of this cluster the session is with, by each family that both have an address of.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	PeerSelector string `json:"peerSelector,omitempty"`

	// KeepOriginalNextHop is what nextHopMode Keep says.
	// +optional
	KeepOriginalNextHop bool `json:"keepOriginalNextHop,omitempty"`

	// NextHopMode: Auto as BGP has it, Self: the node, Keep: as learned. Auto when not set.
	// +optional
	NextHopMode *NextHopMode `json:"nextHopMode,omitempty"`

	// Password of the sessions.
	// +optional
	Password *BGPPassword `json:"password,omitempty"`

	// SourceAddress: sessions come from the node's own address, or, None, from what the kernel chooses. UseNodeIP when
	// not set.
	// +optional
	SourceAddress SourceAddress `json:"sourceAddress,omitempty"`

	// MaxRestartTime is how long the other side keeps a node's routes while it restarts. 120s when not set.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|ms|s|m|h))+$|^0$')",message="must be a duration such as 90s, 10m or 1h30m"
	// +optional
	MaxRestartTime *metav1.Duration `json:"maxRestartTime,omitempty"`

	// KeepaliveTime is the time between two keepalive messages. A third of the hold time when not set.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|ms|s|m|h))+$|^0$')",message="must be a duration such as 10s or 1m"
	// +optional
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`

	// NumAllowedLocalASNumbers is how often the own AS number may be in a learned path. 0 when not set.
	// +kubebuilder:validation:Minimum=0
	// +optional
	NumAllowedLocalASNumbers *int32 `json:"numAllowedLocalASNumbers,omitempty"`

	// TTLSecurity is the number of hops to the other side: packets from further away are dropped (RFC 5082). Off when
	// not set.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=255
	// +optional
	TTLSecurity *uint8 `json:"ttlSecurity,omitempty"`

	// ReachableBy is the gateway to peerIP, for a route of its own.
	// +kubebuilder:validation:MaxLength=39
	// +kubebuilder:validation:XValidation:rule="self == '' || isIP(self)",message="must be the address of a gateway, such as 192.168.10.254"
	// +optional
	ReachableBy string `json:"reachableBy,omitempty"`

	// Filters are names of BGPFilters, in the order in which they are asked.
	// +kubebuilder:validation:MaxItems=200
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be the name of a BGPFilter"
	// +listType=atomic
	// +optional
	Filters []string `json:"filters,omitempty"`

	// LocalWorkloadSelector says which pods on the node the session is with.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	LocalWorkloadSelector string `json:"localWorkloadSelector,omitempty"`

	// ReversePeering: nodes that peerSelector selects get their half of the session by themselves, or, Manual, by a
	// BGPPeer of their own. Auto when not set.
	// +optional
	ReversePeering *ReversePeering `json:"reversePeering,omitempty"`
}

// BGPPassword says where the password of a session is.
// +kubebuilder:validation:XValidation:rule="has(self.secretKeyRef) && has(self.secretKeyRef.name) && size(self.secretKeyRef.name) > 0 && size(self.secretKeyRef.key) > 0",message="a password is a key of a Secret in the agents' namespace: set secretKeyRef.name and secretKeyRef.key",fieldPath=".secretKeyRef"
type BGPPassword struct {
	// SecretKeyRef is a key of a Secret in the namespace of the agents.
	// +optional
	SecretKeyRef *corev1.SecretKeySelector `json:"secretKeyRef,omitempty"`
}

// BGPPeerList is a list of peers.
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []BGPPeer `json:"items"`
}
