package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Tier is a group of policies that is asked as a whole, before or after other groups.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=tiers
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Order",type=integer,JSONPath=".spec.order"
// +kubebuilder:printcolumn:name="DefaultAction",type=string,JSONPath=".spec.defaultAction"
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=".status.conditions[?(@.type=='Ready')].reason"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",message="metadata.name must be up to 63 lower-case letters, digits and '-': names of policies begin with it",fieldPath=".metadata"
// +kubebuilder:validation:XValidation:rule="self.metadata.name != 'default' || self.spec.defaultAction == 'Deny'",message="the tier default must have defaultAction Deny",fieldPath=".spec.defaultAction"
// +kubebuilder:validation:XValidation:rule="!(self.metadata.name in ['kube-admin', 'kube-baseline']) || self.spec.defaultAction == 'Pass'",message="the tiers kube-admin and kube-baseline must have defaultAction Pass",fieldPath=".spec.defaultAction"
// +kubebuilder:validation:XValidation:rule="self.metadata.name != 'default' || (has(self.spec.order) && self.spec.order == 1000000.0)",message="the tier default must have order 1000000",fieldPath=".spec.order"
// +kubebuilder:validation:XValidation:rule="self.metadata.name != 'kube-admin' || (has(self.spec.order) && self.spec.order == 1000.0)",message="the tier kube-admin must have order 1000",fieldPath=".spec.order"
// +kubebuilder:validation:XValidation:rule="self.metadata.name != 'kube-baseline' || (has(self.spec.order) && self.spec.order == 10000000.0)",message="the tier kube-baseline must have order 10000000",fieldPath=".spec.order"
type Tier struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              TierSpec `json:"spec"`
	// +optional
	Status TierStatus `json:"status,omitzero"`
}

// TierSpec is the content of a tier.
type TierSpec struct {
	// Order among tiers: small ones first, those without an order last, equal ones by name.
	// +optional
	Order *float64 `json:"order,omitempty"`
	// DefaultAction for what a policy of the tier is for, and none of its rules matches.
	// +kubebuilder:default=Deny
	// +kubebuilder:validation:Enum=Pass;Deny
	// +optional
	DefaultAction Action `json:"defaultAction,omitempty"`
}

// TierStatus says how a tier is.
type TierStatus struct {
	// Conditions of the tier; Ready says whether it works.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// TierList is a list of tiers.
// +kubebuilder:object:root=true
type TierList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []Tier `json:"items"`
}
