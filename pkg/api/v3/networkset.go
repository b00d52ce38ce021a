package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NetworkSet gives labels to networks, for the policies of a namespace.
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=networksets,shortName=netset;netsets
type NetworkSet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              NetworkSetSpec `json:"spec"`
}

// NetworkSetSpec is the content of a NetworkSet or a GlobalNetworkSet.
type NetworkSetSpec struct {
	// Nets are networks, or single addresses, of both families.
	// +kubebuilder:validation:MaxItems=65536
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self) || isIP(self)",message="must be a network or an address, such as 198.51.100.0/24 or 198.51.100.7"
	// +listType=set
	// +optional
	Nets []string `json:"nets,omitempty"`
}

// NetworkSetList is a list of sets.
// +kubebuilder:object:root=true
type NetworkSetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []NetworkSet `json:"items"`
}

// GlobalNetworkSet gives labels to networks, for the policies of all namespaces.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=globalnetworksets,shortName=gns
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
type GlobalNetworkSet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              NetworkSetSpec `json:"spec"`
}

// GlobalNetworkSetList is a list of sets.
// +kubebuilder:object:root=true
type GlobalNetworkSetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []GlobalNetworkSet `json:"items"`
}
