package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PolicyType is a direction that a policy rules.
// +kubebuilder:validation:Enum=Ingress;Egress
type PolicyType string

// Values of PolicyType.
const (
	PolicyIngress PolicyType = "Ingress"
	PolicyEgress  PolicyType = "Egress"
)

// PerformanceHint never changes what a policy does.
// +kubebuilder:validation:Enum=AssumeNeededOnEveryNode
type PerformanceHint string

// NeededOnEveryNode: prepare the policy on each node, before an endpoint needs it.
const NeededOnEveryNode PerformanceHint = "AssumeNeededOnEveryNode"

// PolicySpec is what policies of all kinds have.
// +kubebuilder:validation:XValidation:rule="!has(self.selector) || !self.selector.contains('global(')",message="global() belongs into the namespaceSelector of a rule's source or destination",fieldPath=".selector"
// +kubebuilder:validation:XValidation:rule="!has(self.serviceAccountSelector) || !self.serviceAccountSelector.contains('global(')",message="global() belongs into the namespaceSelector of a rule's source or destination",fieldPath=".serviceAccountSelector"
// +kubebuilder:validation:XValidation:rule="!has(self.egress) || !self.egress.exists(r, has(r.http))",message="http is for ingress rules alone",fieldPath=".egress"
// +kubebuilder:validation:XValidation:rule="!has(self.egress) || !self.egress.exists(r, has(r.source) && has(r.source.services))",message="an egress rule's services belong into its destination",fieldPath=".egress"
// +kubebuilder:validation:XValidation:rule="!has(self.ingress) || !self.ingress.exists(r, has(r.destination) && has(r.destination.services))",message="an ingress rule's services belong into its source",fieldPath=".ingress"
type PolicySpec struct {
	// Tier that the policy is in.
	// +kubebuilder:default=default
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="must be the name of a Tier: lower-case letters, digits and '-'"
	// +optional
	Tier string `json:"tier,omitempty"`

	// Order among the policies of a tier: small ones first, those without an order last, equal ones by name.
	// +optional
	Order *float64 `json:"order,omitempty"`

	// Ingress rules; the first that matches decides.
	// +kubebuilder:validation:MaxItems=384
	// +listType=atomic
	// +optional
	Ingress []Rule `json:"ingress,omitempty"`

	// Egress rules; the first that matches decides.
	// +kubebuilder:validation:MaxItems=384
	// +listType=atomic
	// +optional
	Egress []Rule `json:"egress,omitempty"`

	// Selector of the endpoints that the policy is for. All when not set.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Selector string `json:"selector,omitempty"`

	// Types are the directions that the policy rules. When not set: Ingress, unless there are egress rules alone;
	// Egress, if there are egress rules.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +listType=set
	// +optional
	Types []PolicyType `json:"types,omitempty"`

	// ServiceAccountSelector of the pods that the policy is for.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	ServiceAccountSelector string `json:"serviceAccountSelector,omitempty"`

	// PerformanceHints never change what the policy does.
	// +listType=set
	// +optional
	PerformanceHints []PerformanceHint `json:"performanceHints,omitempty"`
}

// GlobalPolicySpec is what policies without a namespace have beside.
// +kubebuilder:validation:XValidation:rule="!(has(self.doNotTrack) && self.doNotTrack && has(self.preDNAT) && self.preDNAT)",message="doNotTrack and preDNAT cannot both be true: make two policies",fieldPath=".preDNAT"
// +kubebuilder:validation:XValidation:rule="!has(self.preDNAT) || !self.preDNAT || !has(self.egress) || size(self.egress) == 0",message="a preDNAT policy cannot have egress rules: make another policy for them",fieldPath=".egress"
// +kubebuilder:validation:XValidation:rule="!has(self.preDNAT) || !self.preDNAT || !has(self.types) || !('Egress' in self.types)",message="a preDNAT policy cannot have type Egress: make another policy for it",fieldPath=".types"
// +kubebuilder:validation:XValidation:rule="(has(self.applyOnForward) && self.applyOnForward) || !((has(self.doNotTrack) && self.doNotTrack) || (has(self.preDNAT) && self.preDNAT))",message="applyOnForward must be true with doNotTrack or preDNAT",fieldPath=".applyOnForward"
// +kubebuilder:validation:XValidation:rule="!has(self.namespaceSelector) || !self.namespaceSelector.contains('global(')",message="global() belongs into the namespaceSelector of a rule's source or destination",fieldPath=".namespaceSelector"
// +kubebuilder:validation:XValidation:rule="!has(self.ingress) || !self.ingress.exists(r, has(r.source) && has(r.source.services) && !has(r.source.services.namespace))",message="services need a namespace in a policy that has none: set services.namespace",fieldPath=".ingress"
// +kubebuilder:validation:XValidation:rule="!has(self.egress) || !self.egress.exists(r, has(r.destination) && has(r.destination.services) && !has(r.destination.services.namespace))",message="services need a namespace in a policy that has none: set services.namespace",fieldPath=".egress"
type GlobalPolicySpec struct {
	// DoNotTrack: rules before connection tracking, and what they allow is not tracked.
	// +optional
	DoNotTrack bool `json:"doNotTrack,omitempty"`
	// PreDNAT: rules before addresses are translated.
	// +optional
	PreDNAT bool `json:"preDNAT,omitempty"`
	// ApplyOnForward: rules for what a host forwards, too.
	// +optional
	ApplyOnForward bool `json:"applyOnForward,omitempty"`
	// NamespaceSelector of the pods that the policy is for.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	NamespaceSelector string `json:"namespaceSelector,omitempty"`
}

// NetworkPolicy says what the pods of a namespace may send and get.
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=networkpolicies,shortName=cnp;caliconetworkpolicy
// +kubebuilder:selectablefield:JSONPath=`.spec.tier`
// +kubebuilder:printcolumn:name="Tier",type=string,JSONPath=".spec.tier"
// +kubebuilder:printcolumn:name="Order",type=number,JSONPath=".spec.order"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)?|(knp|ossg)[.]default[.][a-z0-9]([-.a-z0-9]*[a-z0-9])?)$')",message="metadata.name must be lower-case letters, digits and '-', with one '.' at most",fieldPath=".metadata"
type NetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              NetworkPolicySpec `json:"spec"`
}

// NetworkPolicySpec is the content of a NetworkPolicy.
type NetworkPolicySpec struct {
	PolicySpec `json:",inline"`
}

// NetworkPolicyList is a list of policies.
// +kubebuilder:object:root=true
type NetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []NetworkPolicy `json:"items"`
}

// GlobalNetworkPolicy says what pods of all namespaces and hosts may send and get.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=globalnetworkpolicies,shortName=gnp;cgnp
// +kubebuilder:selectablefield:JSONPath=`.spec.tier`
// +kubebuilder:printcolumn:name="Tier",type=string,JSONPath=".spec.tier"
// +kubebuilder:printcolumn:name="Order",type=number,JSONPath=".spec.order"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)?$')",message="metadata.name must be lower-case letters, digits and '-', with one '.' at most",fieldPath=".metadata"
type GlobalNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              GlobalNetworkPolicySpec `json:"spec"`
}

// GlobalNetworkPolicySpec is the content of a GlobalNetworkPolicy.
type GlobalNetworkPolicySpec struct {
	PolicySpec       `json:",inline"`
	GlobalPolicySpec `json:",inline"`
}

// GlobalNetworkPolicyList is a list of policies.
// +kubebuilder:object:root=true
type GlobalNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []GlobalNetworkPolicy `json:"items"`
}
