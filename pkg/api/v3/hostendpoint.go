package v3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// HostEndpoint is an interface of a node, or all of them, as policies see it.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=hostendpoints,shortName=hep;heps
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=".spec.node"
// +kubebuilder:printcolumn:name="Interface",type=string,JSONPath=".spec.interfaceName"
type HostEndpoint struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              HostEndpointSpec `json:"spec"`
}

// HostEndpointSpec is the content of a HostEndpoint.
// +kubebuilder:validation:XValidation:rule="(has(self.interfaceName) && size(self.interfaceName) > 0) || (has(self.expectedIPs) && size(self.expectedIPs) > 0)",message="an endpoint needs interfaceName or expectedIPs",fieldPath=".interfaceName"
type HostEndpointSpec struct {
	// Node that the interface is on.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be the name of a node, as kubectl get nodes shows it"
	Node string `json:"node"`

	// InterfaceName of the interface; * for all traffic of the node; when not set, the one that has an expected address.
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="self == '' || self == '*' || self.matches('^[a-zA-Z0-9_.-]+$')",message="must be * or an interface name of letters, digits and '_.-'"
	// +optional
	InterfaceName string `json:"interfaceName,omitempty"`

	// ExpectedIPs are the endpoint's addresses, for selectors of policies.
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=39
	// +kubebuilder:validation:items:XValidation:rule="isIP(self)",message="must be an address, such as 192.168.10.11"
	// +listType=set
	// +optional
	ExpectedIPs []string `json:"expectedIPs,omitempty"`

	// Profiles whose rules count after the policies.
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be the name of a profile: lower-case letters, digits, '-' and '.'"
	// +listType=set
	// +optional
	Profiles []string `json:"profiles,omitempty"`

	// Ports have names, for rules to use.
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	// +optional
	Ports []EndpointPort `json:"ports,omitempty"`
}

// EndpointPort gives a port a name.
type EndpointPort struct {
	// Name of the port.
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.matches('[a-z]') && !self.contains('--')",message="must be up to 15 lower-case letters, digits and single '-', with a letter"
	Name string `json:"name"`
	// Protocol of the port: TCP, UDP, SCTP, or its number.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=8
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self in [6, 17, 132] : self in ['TCP', 'UDP', 'SCTP', '6', '17', '132']",message="must be a protocol with ports: TCP, UDP or SCTP"
	Protocol intstr.IntOrString `json:"protocol"`
	// Port is the number.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port uint16 `json:"port"`
}

// HostEndpointList is a list of host endpoints.
// +kubebuilder:object:root=true
type HostEndpointList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []HostEndpoint `json:"items"`
}
