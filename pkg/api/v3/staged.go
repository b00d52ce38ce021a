package v3

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StagedAction is what is planned with a policy.
// +kubebuilder:validation:Enum=Set;Delete;Learn;Ignore
type StagedAction string

// Values of StagedAction.
const (
	StagedSet    StagedAction = "Set"
	StagedDelete StagedAction = "Delete"
	StagedLearn  StagedAction = "Learn"
	StagedIgnore StagedAction = "Ignore"
)

// StagedNetworkPolicy is a NetworkPolicy that is only planned.
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=stagednetworkpolicies,shortName=scnp;snp
// +kubebuilder:selectablefield:JSONPath=`.spec.tier`
// +kubebuilder:printcolumn:name="Tier",type=string,JSONPath=".spec.tier"
// +kubebuilder:printcolumn:name="Order",type=number,JSONPath=".spec.order"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)?|(knp|ossg)[.]default[.][a-z0-9]([-.a-z0-9]*[a-z0-9])?)$')",message="metadata.name must be lower-case letters, digits and '-', with one '.' at most",fieldPath=".metadata"
type StagedNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              StagedNetworkPolicySpec `json:"spec"`
}

// StagedNetworkPolicySpec is the content of a StagedNetworkPolicy.
// +kubebuilder:validation:XValidation:rule="!has(self.stagedAction) || self.stagedAction != 'Delete' || !(has(self.order) || has(self.ingress) || has(self.egress) || has(self.selector) || has(self.types) || has(self.serviceAccountSelector) || has(self.performanceHints))",message="with stagedAction Delete only tier may be set",fieldPath=".stagedAction"
type StagedNetworkPolicySpec struct {
	// StagedAction: the policy would be written (Set), deleted, learned from traffic, or is not looked at.
	// +kubebuilder:default=Set
	// +optional
	StagedAction StagedAction `json:"stagedAction,omitempty"`
	PolicySpec   `json:",inline"`
}

// StagedNetworkPolicyList is a list of planned policies.
// +kubebuilder:object:root=true
type StagedNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []StagedNetworkPolicy `json:"items"`
}

// StagedGlobalNetworkPolicy is a GlobalNetworkPolicy that is only planned.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=stagedglobalnetworkpolicies,shortName=sgnp
// +kubebuilder:selectablefield:JSONPath=`.spec.tier`
// +kubebuilder:printcolumn:name="Tier",type=string,JSONPath=".spec.tier"
// +kubebuilder:printcolumn:name="Order",type=number,JSONPath=".spec.order"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)?$')",message="metadata.name must be lower-case letters, digits and '-', with one '.' at most",fieldPath=".metadata"
type StagedGlobalNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              StagedGlobalNetworkPolicySpec `json:"spec"`
}

// StagedGlobalNetworkPolicySpec is the content of a StagedGlobalNetworkPolicy.
// +kubebuilder:validation:XValidation:rule="!has(self.stagedAction) || self.stagedAction != 'Delete' || !(has(self.order) || has(self.ingress) || has(self.egress) || has(self.selector) || has(self.types) || has(self.serviceAccountSelector) || has(self.performanceHints) || has(self.namespaceSelector) || has(self.doNotTrack) || has(self.preDNAT) || has(self.applyOnForward))",message="with stagedAction Delete only tier may be set",fieldPath=".stagedAction"
type StagedGlobalNetworkPolicySpec struct {
	// StagedAction: the policy would be written (Set), deleted, learned from traffic, or is not looked at.
	// +kubebuilder:default=Set
	// +optional
	StagedAction     StagedAction `json:"stagedAction,omitempty"`
	PolicySpec       `json:",inline"`
	GlobalPolicySpec `json:",inline"`
}

// StagedGlobalNetworkPolicyList is a list of planned policies.
// +kubebuilder:object:root=true
type StagedGlobalNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []StagedGlobalNetworkPolicy `json:"items"`
}

// StagedKubernetesNetworkPolicy is a NetworkPolicy of Kubernetes that is only planned.
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=stagedkubernetesnetworkpolicies,shortName=sknp
type StagedKubernetesNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              StagedKubernetesNetworkPolicySpec `json:"spec"`
}

// StagedKubernetesNetworkPolicySpec is the content of a StagedKubernetesNetworkPolicy: Kubernetes' own fields.
// +kubebuilder:validation:XValidation:rule="!has(self.stagedAction) || self.stagedAction != 'Delete' || !(has(self.ingress) || has(self.egress) || has(self.policyTypes))",message="with stagedAction Delete nothing else may be set",fieldPath=".stagedAction"
type StagedKubernetesNetworkPolicySpec struct {
	// StagedAction: the policy would be written (Set), deleted, learned from traffic, or is not looked at.
	// +kubebuilder:default=Set
	// +optional
	StagedAction StagedAction `json:"stagedAction,omitempty"`
	// PodSelector selects the pods that the policy is for. All of the namespace when empty.
	// +optional
	PodSelector metav1.LabelSelector `json:"podSelector"`
	// Ingress rules.
	// +listType=atomic
	// +optional
	Ingress []networkingv1.NetworkPolicyIngressRule `json:"ingress,omitempty"`
	// Egress rules.
	// +listType=atomic
	// +optional
	Egress []networkingv1.NetworkPolicyEgressRule `json:"egress,omitempty"`
	// PolicyTypes are the directions that the policy rules.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:Enum=Ingress;Egress
	// +listType=set
	// +optional
	PolicyTypes []networkingv1.PolicyType `json:"policyTypes,omitempty"`
}

// StagedKubernetesNetworkPolicyList is a list of planned policies.
// +kubebuilder:object:root=true
type StagedKubernetesNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []StagedKubernetesNetworkPolicy `json:"items"`
}
