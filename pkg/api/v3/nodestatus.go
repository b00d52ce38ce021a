package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CalicoNodeStatus asks a node to write down what it knows of itself, again and again, in status.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=caliconodestatuses
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=".spec.node"
// +kubebuilder:printcolumn:name="Classes",type=string,JSONPath=".spec.classes"
type CalicoNodeStatus struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              CalicoNodeStatusSpec `json:"spec"`
	// +optional
	Status CalicoNodeStatusStatus `json:"status"`
}

// StatusClass is one part of a node's status.
// +kubebuilder:validation:Enum=Agent;BGP;Routes
type StatusClass string

// Values of StatusClass.
const (
	StatusAgent  StatusClass = "Agent"
	StatusBGP    StatusClass = "BGP"
	StatusRoutes StatusClass = "Routes"
)

// CalicoNodeStatusSpec says what to write, and how often.
type CalicoNodeStatusSpec struct {
	// Node is the name of the node to report on.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="node must be the name of a node, as kubectl get nodes shows it"
	Node string `json:"node"`

	// Classes are the parts to report: Agent, BGP, Routes.
	// +kubebuilder:validation:MinItems=1
	// +listType=set
	Classes []StatusClass `json:"classes"`

	// UpdatePeriodSeconds is the time between two reports, a day at most. 0: no reports any more.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	UpdatePeriodSeconds *uint32 `json:"updatePeriodSeconds"`
}

// CalicoNodeStatusStatus is the report, written by the node's agent.
type CalicoNodeStatusStatus struct {
	// LastUpdated is when the agent wrote this.
	// +nullable
	// +optional
	LastUpdated metav1.Time `json:"lastUpdated"`
	// Agent: whether the parts that speak BGP are well. Filled with class Agent.
	// +optional
	Agent CalicoNodeAgentStatus `json:"agent"`
	// BGP holds the sessions. Filled with class BGP.
	// +optional
	BGP CalicoNodeBGPStatus `json:"bgp"`
	// Routes holds the routes that BGP knows. Filled with class Routes.
	// +optional
	Routes CalicoNodeBGPRouteStatus `json:"routes"`
}

// CalicoNodeAgentStatus is the state of the BGP speaker, by family. Its fields have Calico's names: there is no BIRD.
type CalicoNodeAgentStatus struct {
	// BIRDV4 is the IPv4 side.
	// +optional
	BIRDV4 BGPDaemonStatus `json:"birdV4"`
	// BIRDV6 is the IPv6 side.
	// +optional
	BIRDV6 BGPDaemonStatus `json:"birdV6"`
}

// BGPDaemonState says whether a BGP speaker is well.
// +kubebuilder:validation:Enum=Ready;NotReady
type BGPDaemonState string

// Values of BGPDaemonState.
const (
	BGPDaemonReady    BGPDaemonState = "Ready"
	BGPDaemonNotReady BGPDaemonState = "NotReady"
)

// BGPDaemonStatus describes a BGP speaker.
type BGPDaemonStatus struct {
	// State says whether it is well.
	// +optional
	State BGPDaemonState `json:"state,omitempty"`
	// Version of the program.
	// +optional
	Version string `json:"version,omitempty"`
	// RouterID in dotted form.
	// +optional
	RouterID string `json:"routerID,omitempty"`
	// LastBootTime is when it started.
	// +optional
	LastBootTime string `json:"lastBootTime,omitempty"`
	// LastReconfigurationTime is when its configuration changed last.
	// +optional
	LastReconfigurationTime string `json:"lastReconfigurationTime,omitempty"`
}

// CalicoNodeBGPStatus counts and lists a node's sessions.
type CalicoNodeBGPStatus struct {
	// NumberEstablishedV4 counts IPv4 sessions that are up.
	NumberEstablishedV4 int `json:"numberEstablishedV4"`
	// NumberNotEstablishedV4 counts IPv4 sessions that are not.
	NumberNotEstablishedV4 int `json:"numberNotEstablishedV4"`
	// NumberEstablishedV6 counts IPv6 sessions that are up.
	NumberEstablishedV6 int `json:"numberEstablishedV6"`
	// NumberNotEstablishedV6 counts IPv6 sessions that are not.
	NumberNotEstablishedV6 int `json:"numberNotEstablishedV6"`
	// PeersV4 are the IPv4 sessions.
	// +listType=atomic
	// +optional
	PeersV4 []CalicoNodePeer `json:"peersV4,omitempty"`
	// PeersV6 are the IPv6 sessions.
	// +listType=atomic
	// +optional
	PeersV6 []CalicoNodePeer `json:"peersV6,omitempty"`
}

// BGPPeerType says where a session comes from.
// +kubebuilder:validation:Enum=NodeMesh;NodePeer;GlobalPeer
type BGPPeerType string

// Values of BGPPeerType.
const (
	PeerNodeMesh BGPPeerType = "NodeMesh"
	PeerNode     BGPPeerType = "NodePeer"
	PeerGlobal   BGPPeerType = "GlobalPeer"
)

// BGPSessionState is a session's state: those of RFC 4271 and Close.
// +kubebuilder:validation:Enum=Idle;Connect;Active;OpenSent;OpenConfirm;Established;Close
type BGPSessionState string

// Values of BGPSessionState.
const (
	SessionIdle        BGPSessionState = "Idle"
	SessionConnect     BGPSessionState = "Connect"
	SessionActive      BGPSessionState = "Active"
	SessionOpenSent    BGPSessionState = "OpenSent"
	SessionOpenConfirm BGPSessionState = "OpenConfirm"
	SessionEstablished BGPSessionState = "Established"
	SessionClose       BGPSessionState = "Close"
)

// CalicoNodePeer is one session.
type CalicoNodePeer struct {
	// PeerIP is the other side's address.
	// +optional
	PeerIP string `json:"peerIP,omitempty"`
	// Type says where the session comes from.
	// +optional
	Type BGPPeerType `json:"type,omitempty"`
	// State of the session.
	// +optional
	State BGPSessionState `json:"state,omitempty"`
	// Since when it is in this state.
	// +optional
	Since string `json:"since,omitempty"`
}

// CalicoNodeBGPRouteStatus lists a node's routes.
type CalicoNodeBGPRouteStatus struct {
	// RoutesV4 are the IPv4 routes.
	// +listType=atomic
	// +optional
	RoutesV4 []CalicoNodeRoute `json:"routesV4,omitempty"`
	// RoutesV6 are the IPv6 routes.
	// +listType=atomic
	// +optional
	RoutesV6 []CalicoNodeRoute `json:"routesV6,omitempty"`
}

// RouteType says whether a route is used.
// +kubebuilder:validation:Enum=FIB;RIB
type RouteType string

// Values of RouteType.
const (
	RouteFIB RouteType = "FIB" // forwards
	RouteRIB RouteType = "RIB" // known only
)

// RouteSource says who made a route.
// +kubebuilder:validation:Enum=Kernel;Static;Direct;NodeMesh;BGPPeer
type RouteSource string

// Values of RouteSource.
const (
	FromKernel   RouteSource = "Kernel"
	FromStatic   RouteSource = "Static"
	FromDirect   RouteSource = "Direct"
	FromNodeMesh RouteSource = "NodeMesh"
	FromBGPPeer  RouteSource = "BGPPeer"
)

// CalicoNodeRoute is one route.
type CalicoNodeRoute struct {
	// Type says whether the route is used.
	// +optional
	Type RouteType `json:"type,omitempty"`
	// Destination network.
	// +optional
	Destination string `json:"destination,omitempty"`
	// Gateway is the next hop.
	// +optional
	Gateway string `json:"gateway,omitempty"`
	// Interface that packets leave by.
	// +optional
	Interface string `json:"interface,omitempty"`
	// LearnedFrom says who made the route.
	// +optional
	LearnedFrom CalicoNodeRouteLearnedFrom `json:"learnedFrom,omitempty"`
}

// CalicoNodeRouteLearnedFrom is where a route comes from.
type CalicoNodeRouteLearnedFrom struct {
	// SourceType is the kind of source.
	// +optional
	SourceType RouteSource `json:"sourceType,omitempty"`
	// PeerIP is the router's address with NodeMesh and BGPPeer.
	// +optional
	PeerIP string `json:"peerIP,omitempty"`
}

// CalicoNodeStatusList is a list of reports.
// +kubebuilder:object:root=true
type CalicoNodeStatusList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CalicoNodeStatus `json:"items"`
}
