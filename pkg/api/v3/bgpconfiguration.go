package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPConfiguration holds the BGP speakers' parameters: "default" for all nodes, "node.<name>" for one.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=bgpconfigurations,shortName=bgpconfig;bgpconfigs
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default' || self.metadata.name.matches('^node[.].+')",message="metadata.name must be default (all nodes) or node.NAME (one node): nothing reads another",fieldPath=".metadata"
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default' || !has(self.spec.nodeMeshPassword)",message="nodeMeshPassword belongs to the mesh as a whole: set it in the BGPConfiguration default",fieldPath=".spec.nodeMeshPassword"
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default' || !has(self.spec.nodeMeshMaxRestartTime)",message="nodeMeshMaxRestartTime belongs to the mesh as a whole: set it in the BGPConfiguration default",fieldPath=".spec.nodeMeshMaxRestartTime"
type BGPConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              BGPConfigurationSpec `json:"spec"`
}

// BindMode says which addresses a BGP speaker listens on.
// +kubebuilder:validation:Enum=None;NodeIP
type BindMode string

// Values of BindMode.
const (
	BindNone   BindMode = "None"   // all addresses
	BindNodeIP BindMode = "NodeIP" // the node's own alone
)

// ClusterRoutes says which routes to other nodes' blocks come from BGP.
// +kubebuilder:validation:Enum=Enabled;Disabled;EnabledIPIPOnly;EnabledNoEncapOnly
type ClusterRoutes string

// Values of ClusterRoutes.
const (
	ClusterRoutesEnabled     ClusterRoutes = "Enabled"
	ClusterRoutesDisabled    ClusterRoutes = "Disabled"
	ClusterRoutesIPIPOnly    ClusterRoutes = "EnabledIPIPOnly"
	ClusterRoutesNoEncapOnly ClusterRoutes = "EnabledNoEncapOnly"
)

// BGPConfigurationSpec is the content of a BGPConfiguration.
// +kubebuilder:validation:XValidation:rule="!has(self.nodeMeshPassword) || !has(self.nodeToNodeMeshEnabled) || self.nodeToNodeMeshEnabled",message="nodeMeshPassword needs the mesh: set nodeToNodeMeshEnabled to true, or give the BGPPeers passwords",fieldPath=".nodeMeshPassword"
// +kubebuilder:validation:XValidation:rule="!has(self.nodeMeshMaxRestartTime) || !has(self.nodeToNodeMeshEnabled) || self.nodeToNodeMeshEnabled",message="nodeMeshMaxRestartTime needs the mesh: set nodeToNodeMeshEnabled to true, or use maxRestartTime of the BGPPeers",fieldPath=".nodeMeshMaxRestartTime"
// +kubebuilder:validation:XValidation:rule="!has(self.communities) || size(self.communities) == 0 || (has(self.prefixAdvertisements) && size(self.prefixAdvertisements) > 0)",message="communities are names for prefixAdvertisements to use, and there are none: add some, or leave communities out",fieldPath=".communities"
// +kubebuilder:validation:XValidation:rule="!has(self.prefixAdvertisements) || self.prefixAdvertisements.all(p, !has(p.communities) || p.communities.all(c, c.contains(':') || (has(self.communities) && self.communities.exists(d, d.name == c))))",message="prefixAdvertisements use a community that is neither a value (aa:nn, aa:nn:mm) nor a name of spec.communities",fieldPath=".prefixAdvertisements"
type BGPConfigurationSpec struct {
	// LogSeverityScreen is the least severe that is logged of BGP.
	// +kubebuilder:default=Info
	// +kubebuilder:validation:Enum=Trace;Debug;Info;Warning;Error;Fatal
	// +optional
	LogSeverityScreen string `json:"logSeverityScreen,omitempty"`

	// NodeToNodeMeshEnabled: each node has a session with each other node. True when not set.
	// +optional
	NodeToNodeMeshEnabled *bool `json:"nodeToNodeMeshEnabled,omitempty"`

	// ASNumber of the nodes that have none of their own. 64512 when not set.
	// +optional
	ASNumber *ASNumber `json:"asNumber,omitempty"`

	// ServiceLoadBalancerIPs are the networks whose load balancer addresses are announced.
	// +kubebuilder:validation:MaxItems=500
	// +listType=atomic
	// +optional
	ServiceLoadBalancerIPs []ServiceIPBlock `json:"serviceLoadBalancerIPs,omitempty"`

	// ServiceExternalIPs are the networks whose external addresses of Services are announced.
	// +kubebuilder:validation:MaxItems=500
	// +listType=atomic
	// +optional
	ServiceExternalIPs []ServiceIPBlock `json:"serviceExternalIPs,omitempty"`

	// ServiceClusterIPs are the networks of Services' cluster addresses, announced as a whole.
	// +kubebuilder:validation:MaxItems=500
	// +listType=atomic
	// +optional
	ServiceClusterIPs []ServiceIPBlock `json:"serviceClusterIPs,omitempty"`

	// ServiceLoadBalancerAggregation: serviceLoadBalancerIPs are announced as whole networks, or, Disabled, each
	// Service's address alone.
	// +kubebuilder:default=Enabled
	// +optional
	ServiceLoadBalancerAggregation *Switch `json:"serviceLoadBalancerAggregation,omitempty"`

	// Communities give names to community values.
	// +kubebuilder:validation:MaxItems=50
	// +listType=atomic
	// +optional
	Communities []Community `json:"communities,omitempty"`

	// PrefixAdvertisements say which communities go with which networks.
	// +kubebuilder:validation:MaxItems=200
	// +listType=atomic
	// +optional
	PrefixAdvertisements []PrefixAdvertisement `json:"prefixAdvertisements,omitempty"`

	// ListenPort is the TCP port that the nodes listen on. 179 when not set.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	ListenPort uint16 `json:"listenPort,omitempty"`

	// NodeMeshPassword is the password of the mesh's sessions.
	// +optional
	NodeMeshPassword *BGPPassword `json:"nodeMeshPassword,omitempty"`

	// NodeMeshMaxRestartTime is how long the mesh's peers keep a node's routes while it restarts. 120s when not set.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|ms|s|m|h))+$|^0$')",message="must be a duration such as 90s, 10m or 1h30m"
	// +optional
	NodeMeshMaxRestartTime *metav1.Duration `json:"nodeMeshMaxRestartTime,omitempty"`

	// BindMode says which addresses a node listens on. None, which is all, when not set.
	// +optional
	BindMode *BindMode `json:"bindMode,omitempty"`

	// IgnoredInterfaces are interfaces whose networks are not announced; '*' stands for any characters. None ever are, so nothing needs to be here.
	// +kubebuilder:validation:MaxItems=200
	// +kubebuilder:validation:items:MaxLength=15
	// +kubebuilder:validation:items:XValidation:rule="self != '*' && self.matches('^[a-zA-Z0-9_.*-]+$')",message="must be an interface name of letters, digits and '_.-', in which '*' stands for any characters, but not '*' alone"
	// +listType=set
	// +optional
	IgnoredInterfaces []string `json:"ignoredInterfaces,omitempty"`

	// LocalWorkloadPeeringIPV4 is the address that pods find their node's BGP speaker at.
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="self == '' || (isIP(self) && ip(self).family() == 4)",message="must be an IPv4 address, such as 169.254.1.2"
	// +optional
	LocalWorkloadPeeringIPV4 string `json:"localWorkloadPeeringIPV4,omitempty"`

	// LocalWorkloadPeeringIPV6 is the same for IPv6.
	// +kubebuilder:validation:MaxLength=39
	// +kubebuilder:validation:XValidation:rule="self == '' || (isIP(self) && ip(self).family() == 6)",message="must be an IPv6 address, such as fe80::1:2"
	// +optional
	LocalWorkloadPeeringIPV6 string `json:"localWorkloadPeeringIPV6,omitempty"`

	// ProgramClusterRoutes: for the pools that are meant, routes to other nodes' blocks come from BGP; for the others
	// from the datastore. EnabledNoEncapOnly when not set.
	// +optional
	ProgramClusterRoutes *ClusterRoutes `json:"programClusterRoutes,omitempty"`

	// IPv4NormalRoutePriority is the metric of pods' IPv4 routes. 1024 when not set.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483646
	// +optional
	IPv4NormalRoutePriority *int `json:"ipv4NormalRoutePriority,omitempty"`

	// IPv6NormalRoutePriority is the metric of pods' IPv6 routes. 1024 when not set.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483646
	// +optional
	IPv6NormalRoutePriority *int `json:"ipv6NormalRoutePriority,omitempty"`
}

// ServiceIPBlock is a network of Services' addresses.
// +structType=atomic
type ServiceIPBlock struct {
	// CIDR is the network, or a single address as a /32 or /128.
	// +kubebuilder:validation:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="isCIDR(self) && cidr(self).masked() == cidr(self)",message="must be a network in CIDR form without host bits, such as 192.168.50.0/24"
	CIDR string `json:"cidr"`
}

// Community gives a name to a community value.
// +structType=atomic
type Community struct {
	// Name for prefixAdvertisements to use.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be lower-case letters, digits, '-' and '.'"
	Name string `json:"name"`
	// Value is aa:nn with numbers of 16 bits, or aa:nn:mm with numbers of 32 bits (RFC 1997, RFC 8092).
	Value CommunityValue `json:"value"`
}

// CommunityValue is a standard or a large community: aa:nn with numbers of 16 bits, or aa:nn:mm with numbers of 32 bits.
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9]{1,5}:[0-9]{1,5}$') ? self.split(':').all(n, int(n) <= 65535) : self.matches('^[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') && self.split(':').all(n, int(n) <= 4294967295)",message="must be aa:nn with numbers up to 65535, or aa:nn:mm with numbers up to 4294967295"
type CommunityValue string

// PrefixAdvertisement says which communities go with a network.
// +structType=atomic
type PrefixAdvertisement struct {
	// CIDR is the network.
	// +kubebuilder:validation:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="isCIDR(self) && cidr(self).masked() == cidr(self)",message="must be a network in CIDR form without host bits, such as 172.20.0.0/16"
	CIDR string `json:"cidr"`
	// Communities are values, or names of spec.communities.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:XValidation:rule="!self.contains(':') || (self.matches('^[0-9]{1,5}:[0-9]{1,5}$') ? self.split(':').all(n, int(n) <= 65535) : self.matches('^[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') && self.split(':').all(n, int(n) <= 4294967295))",message="must be a name of spec.communities, aa:nn with numbers up to 65535, or aa:nn:mm with numbers up to 4294967295"
	// +listType=atomic
	Communities []string `json:"communities"`
}

// BGPConfigurationList is a list of BGP configurations.
// +kubebuilder:object:root=true
type BGPConfigurationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []BGPConfiguration `json:"items"`
}
