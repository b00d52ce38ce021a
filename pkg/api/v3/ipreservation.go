package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPReservation keeps addresses of pools from being given out by themselves. Addresses in use stay in use, and who asks
// for a reserved address by name gets it.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=ipreservations
type IPReservation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              IPReservationSpec `json:"spec"`
}

// IPReservationSpec is the content of a reservation.
type IPReservationSpec struct {
	// ReservedCIDRs are networks, or single addresses, of either family.
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self) || isIP(self)",message="must be a network or an address, such as 172.20.1.0/24 or 172.20.1.7/32"
	// +listType=set
	// +optional
	ReservedCIDRs []string `json:"reservedCIDRs,omitempty"`
}

// IPReservationList is a list of reservations.
// +kubebuilder:object:root=true
type IPReservationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []IPReservation `json:"items"`
}
