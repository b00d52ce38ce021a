package v3

import "k8s.io/apimachinery/pkg/util/intstr"

// Action is what a rule does with a packet that it matches.
type Action string

// Values of Action.
const (
	ActionAllow Action = "Allow"
	ActionDeny  Action = "Deny"
	ActionLog   Action = "Log"  // writes a line and goes on
	ActionPass  Action = "Pass" // goes on to the next tier
)

// Rule matches packets, by all that is set, and says what happens to them.
// +kubebuilder:validation:XValidation:rule="!has(self.http) || self.action == 'Allow'",message="http needs action Allow",fieldPath=".http"
// +kubebuilder:validation:XValidation:rule="!has(self.http) || !has(self.protocol) || string(self.protocol) in ['TCP', '6']",message="http needs protocol TCP, or none",fieldPath=".protocol"
// +kubebuilder:validation:XValidation:rule="!has(self.icmp) || (has(self.protocol) && string(self.protocol) in ['ICMP', 'ICMPv6', '1', '58'])",message="icmp needs protocol ICMP or ICMPv6",fieldPath=".protocol"
// +kubebuilder:validation:XValidation:rule="!has(self.notICMP) || (has(self.protocol) && string(self.protocol) in ['ICMP', 'ICMPv6', '1', '58'])",message="notICMP needs protocol ICMP or ICMPv6",fieldPath=".protocol"
// +kubebuilder:validation:XValidation:rule="!has(self.ipVersion) || self.ipVersion == 4 || !((has(self.protocol) && string(self.protocol) in ['ICMP', '1']) || (has(self.notProtocol) && string(self.notProtocol) in ['ICMP', '1']))",message="protocol ICMP is of IPv4: set ipVersion to 4, or use ICMPv6",fieldPath=".ipVersion"
// +kubebuilder:validation:XValidation:rule="!has(self.ipVersion) || self.ipVersion == 6 || !((has(self.protocol) && string(self.protocol) in ['ICMPv6', '58']) || (has(self.notProtocol) && string(self.notProtocol) in ['ICMPv6', '58']))",message="protocol ICMPv6 is of IPv6: set ipVersion to 6, or use ICMP",fieldPath=".ipVersion"
// +kubebuilder:validation:XValidation:rule="!has(self.protocol) || string(self.protocol) in ['TCP', 'UDP', 'SCTP', '6', '17', '132'] || ((!has(self.source) || !has(self.source.ports) || size(self.source.ports) == 0) && (!has(self.source) || !has(self.source.notPorts) || size(self.source.notPorts) == 0) && (!has(self.destination) || !has(self.destination.ports) || size(self.destination.ports) == 0) && (!has(self.destination) || !has(self.destination.notPorts) || size(self.destination.notPorts) == 0))",message="rules with ports need protocol TCP, UDP or SCTP",fieldPath=".protocol"
// +kubebuilder:validation:XValidation:rule="has(self.protocol) || !has(self.source) || !has(self.source.ports) || !self.source.ports.exists(p, string(p).matches('^[0-9:]+$'))",message="rules with port numbers need protocol TCP, UDP or SCTP; ports by name do not",fieldPath=".protocol"
// +kubebuilder:validation:XValidation:rule="has(self.protocol) || !has(self.source) || !has(self.source.notPorts) || !self.source.notPorts.exists(p, string(p).matches('^[0-9:]+$'))",message="rules with port numbers need protocol TCP, UDP or SCTP; ports by name do not",fieldPath=".protocol"
// +kubebuilder:validation:XValidation:rule="has(self.protocol) || !has(self.destination) || !has(self.destination.ports) || !self.destination.ports.exists(p, string(p).matches('^[0-9:]+$'))",message="rules with port numbers need protocol TCP, UDP or SCTP; ports by name do not",fieldPath=".protocol"
// +kubebuilder:validation:XValidation:rule="has(self.protocol) || !has(self.destination) || !has(self.destination.notPorts) || !self.destination.notPorts.exists(p, string(p).matches('^[0-9:]+$'))",message="rules with port numbers need protocol TCP, UDP or SCTP; ports by name do not",fieldPath=".protocol"
// +kubebuilder:validation:XValidation:rule="!has(self.destination) || !has(self.destination.services) || ((!has(self.destination.ports) || size(self.destination.ports) == 0) && (!has(self.destination.notPorts) || size(self.destination.notPorts) == 0))",message="ports and notPorts cannot be set beside services, which bring their own ports",fieldPath=".destination.ports"
// +kubebuilder:validation:XValidation:rule="!has(self.ipVersion) || ((!has(self.source) || !has(self.source.nets) || size(self.source.nets) == 0 || self.source.nets[0].contains(':') == (self.ipVersion == 6)) && (!has(self.source) || !has(self.source.notNets) || size(self.source.notNets) == 0 || self.source.notNets[0].contains(':') == (self.ipVersion == 6)) && (!has(self.destination) || !has(self.destination.nets) || size(self.destination.nets) == 0 || self.destination.nets[0].contains(':') == (self.ipVersion == 6)) && (!has(self.destination) || !has(self.destination.notNets) || size(self.destination.notNets) == 0 || self.destination.notNets[0].contains(':') == (self.ipVersion == 6)))",message="nets and notNets must be of the rule's ipVersion",fieldPath=".ipVersion"
// +kubebuilder:validation:XValidation:rule="[[has(self.source) && has(self.source.nets) && size(self.source.nets) > 0 ? (self.source.nets[0].contains(':') ? 6 : 4) : 0, has(self.source) && has(self.source.notNets) && size(self.source.notNets) > 0 ? (self.source.notNets[0].contains(':') ? 6 : 4) : 0, has(self.destination) && has(self.destination.nets) && size(self.destination.nets) > 0 ? (self.destination.nets[0].contains(':') ? 6 : 4) : 0, has(self.destination) && has(self.destination.notNets) && size(self.destination.notNets) > 0 ? (self.destination.notNets[0].contains(':') ? 6 : 4) : 0]].all(f, !(4 in f && 6 in f))",message="nets and notNets of a rule's source and destination must be of one family: make a rule for IPv4 and one for IPv6",fieldPath=".source.nets"
type Rule struct {
	// Action for packets that match: Allow, Deny, Log, Pass.
	// +kubebuilder:validation:Enum=Allow;Deny;Log;Pass
	Action Action `json:"action"`

	// IPVersion: only packets of IPv4 or IPv6.
	// +kubebuilder:validation:Enum=4;6
	// +optional
	IPVersion *int `json:"ipVersion,omitempty"`

	// Protocol of the packet: TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite, or a number from 1 to 255.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=8
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 && self <= 255 : self in ['TCP', 'UDP', 'ICMP', 'ICMPv6', 'SCTP', 'UDPLite'] || (self.matches('^[0-9]{1,3}$') && int(self) >= 1 && int(self) <= 255)",message="must be TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255"
	// +optional
	Protocol *intstr.IntOrString `json:"protocol,omitempty"`

	// ICMP type and code, with protocol ICMP or ICMPv6.
	// +optional
	ICMP *ICMPFields `json:"icmp,omitempty"`

	// NotProtocol: not packets of this protocol.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=8
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 && self <= 255 : self in ['TCP', 'UDP', 'ICMP', 'ICMPv6', 'SCTP', 'UDPLite'] || (self.matches('^[0-9]{1,3}$') && int(self) >= 1 && int(self) <= 255)",message="must be TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255"
	// +optional
	NotProtocol *intstr.IntOrString `json:"notProtocol,omitempty"`

	// NotICMP: not packets of this type and code.
	// +optional
	NotICMP *ICMPFields `json:"notICMP,omitempty"`

	// Source that the packet comes from.
	// +optional
	Source EntityRule `json:"source,omitzero"`

	// Destination that the packet goes to.
	// +optional
	Destination EntityRule `json:"destination,omitzero"`

	// HTTP requests, on rules that allow.
	// +optional
	HTTP *HTTPMatch `json:"http,omitempty"`

	// Metadata for people and tools.
	// +optional
	Metadata *RuleMetadata `json:"metadata,omitempty"`
}

// ICMPFields matches ICMP messages.
// +kubebuilder:validation:XValidation:rule="!has(self.code) || has(self.type)",message="code needs type",fieldPath=".type"
type ICMPFields struct {
	// Type of the message, such as 8 for an echo request of IPv4.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=254
	// +optional
	Type *int `json:"type,omitempty"`
	// Code of the message.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=255
	// +optional
	Code *int `json:"code,omitempty"`
}

// EntityRule matches one side of a packet, by all that is set.
// +kubebuilder:validation:XValidation:rule="!has(self.selector) || !self.selector.contains('global(')",message="global() belongs into namespaceSelector",fieldPath=".selector"
// +kubebuilder:validation:XValidation:rule="!has(self.notSelector) || !self.notSelector.contains('global(')",message="global() belongs into namespaceSelector",fieldPath=".notSelector"
// +kubebuilder:validation:XValidation:rule="!has(self.namespaceSelector) || !self.namespaceSelector.contains('global(') || self.namespaceSelector.matches('^ *global[(] *[)] *$')",message="global() stands alone: it cannot be a part of another selector",fieldPath=".namespaceSelector"
// +kubebuilder:validation:XValidation:rule="!has(self.services) || (!has(self.namespaceSelector) || size(self.namespaceSelector) == 0)",message="namespaceSelector cannot be set beside services: use services.namespace",fieldPath=".namespaceSelector"
// +kubebuilder:validation:XValidation:rule="!has(self.services) || !has(self.serviceAccounts)",message="serviceAccounts cannot be set beside services: make two rules",fieldPath=".serviceAccounts"
// +kubebuilder:validation:XValidation:rule="!has(self.services) || ((!has(self.selector) || size(self.selector) == 0) && (!has(self.notSelector) || size(self.notSelector) == 0))",message="selector and notSelector cannot be set beside services: make two rules",fieldPath=".selector"
// +kubebuilder:validation:XValidation:rule="!has(self.services) || ((!has(self.nets) || size(self.nets) == 0) && (!has(self.notNets) || size(self.notNets) == 0))",message="nets and notNets cannot be set beside services: make two rules",fieldPath=".nets"
type EntityRule struct {
	// Nets are networks of one family that the address must be in one of.
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:XValidation:rule="self.filter(n, n.contains(':')).size() in [0, self.size()]",message="must be of one family: make a rule for IPv4 and one for IPv6"
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:items:Format=cidr
	// +kubebuilder:validation:items:XValidation:rule="cidr(self).masked() == cidr(self)",message="must be a network without host bits, such as 10.1.0.0/16 or 10.1.2.3/32"
	// +listType=set
	// +optional
	Nets []string `json:"nets,omitempty"`

	// Selector of the endpoints' labels.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Selector string `json:"selector,omitempty"`

	// NamespaceSelector of the labels of the endpoints' namespaces; global() for what is in no namespace.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	NamespaceSelector string `json:"namespaceSelector,omitempty"`

	// Services: the endpoints and ports of a Service.
	// +optional
	Services *ServiceMatch `json:"services,omitempty"`

	// Ports are numbers, ranges such as 8000:8080, and names of endpoints' ports.
	// +kubebuilder:validation:MaxItems=50
	// +kubebuilder:validation:items:XIntOrString
	// +kubebuilder:validation:items:MaxLength=15
	// +kubebuilder:validation:items:XValidation:rule="type(self) == int ? self >= 1 && self <= 65535 : self.matches('^[0-9]{1,5}(:[0-9]{1,5})?$') ? int(self.split(':')[0]) >= 1 && int(self.split(':')[0]) <= int(self.substring(self.lastIndexOf(':') + 1)) && int(self.substring(self.lastIndexOf(':') + 1)) <= 65535 : self.matches('^[a-zA-Z0-9_.-]*[a-zA-Z_.-][a-zA-Z0-9_.-]*$')",message="must be a port from 1 to 65535, a range such as 8000:8080, or the name of a port"
	// +listType=atomic
	// +optional
	Ports []intstr.IntOrString `json:"ports,omitempty"`

	// NotNets are networks of one family that the address must not be in.
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:XValidation:rule="self.filter(n, n.contains(':')).size() in [0, self.size()]",message="must be of one family: make a rule for IPv4 and one for IPv6"
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:items:Format=cidr
	// +kubebuilder:validation:items:XValidation:rule="cidr(self).masked() == cidr(self) && self != '0.0.0.0/0' && self != '::/0'",message="must be a network without host bits, such as 10.1.0.0/16, and not of length 0: the rule would match nothing"
	// +listType=set
	// +optional
	NotNets []string `json:"notNets,omitempty"`

	// NotSelector: not endpoints with these labels; what is no endpoint matches.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	NotSelector string `json:"notSelector,omitempty"`

	// NotPorts are ports that the packet must not have.
	// +kubebuilder:validation:MaxItems=50
	// +kubebuilder:validation:items:XIntOrString
	// +kubebuilder:validation:items:MaxLength=15
	// +kubebuilder:validation:items:XValidation:rule="type(self) == int ? self >= 1 && self <= 65535 : self.matches('^[0-9]{1,5}(:[0-9]{1,5})?$') ? int(self.split(':')[0]) >= 1 && int(self.split(':')[0]) <= int(self.substring(self.lastIndexOf(':') + 1)) && int(self.substring(self.lastIndexOf(':') + 1)) <= 65535 : self.matches('^[a-zA-Z0-9_.-]*[a-zA-Z_.-][a-zA-Z0-9_.-]*$')",message="must be a port from 1 to 65535, a range such as 8000:8080, or the name of a port"
	// +listType=atomic
	// +optional
	NotPorts []intstr.IntOrString `json:"notPorts,omitempty"`

	// ServiceAccounts: pods that run as one of these.
	// +optional
	ServiceAccounts *ServiceAccountMatch `json:"serviceAccounts,omitempty"`
}

// ServiceMatch names a Service.
type ServiceMatch struct {
	// Name of the Service.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Namespace of the Service: the policy's when not set. A policy without a namespace must set it.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// ServiceAccountMatch selects ServiceAccounts, by all that is set.
type ServiceAccountMatch struct {
	// Names of ServiceAccounts.
	// +listType=set
	// +optional
	Names []string `json:"names,omitempty"`
	// Selector of ServiceAccounts' labels.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Selector string `json:"selector,omitempty"`
}

// HTTPMatch matches HTTP requests, by all that is set.
type HTTPMatch struct {
	// Methods such as GET.
	// +kubebuilder:validation:MaxItems=20
	// +listType=set
	// +optional
	Methods []string `json:"methods,omitempty"`
	// Paths, one of which the request must have.
	// +kubebuilder:validation:MaxItems=20
	// +listType=atomic
	// +optional
	Paths []HTTPPath `json:"paths,omitempty"`
}

// HTTPPath is a path or the beginning of one.
// +kubebuilder:validation:XValidation:rule="has(self.exact) != has(self.prefix)",message="a path is either exact or prefix: set one of them"
type HTTPPath struct {
	// Exact is the whole path.
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/[^?# ]*$`
	// +optional
	Exact string `json:"exact,omitempty"`
	// Prefix is what the path begins with.
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/[^?# ]*$`
	// +optional
	Prefix string `json:"prefix,omitempty"`
}

// RuleMetadata is what people and tools note on a rule.
type RuleMetadata struct {
	// Annotations of the rule.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}
