package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// EncapMode says when traffic between nodes is encapsulated.
// +kubebuilder:validation:Enum=Never;Always;CrossSubnet
type EncapMode string

// Values of EncapMode.
const (
	EncapNever       EncapMode = "Never"
	EncapAlways      EncapMode = "Always"
	EncapCrossSubnet EncapMode = "CrossSubnet"
)

// PoolUse is one thing that addresses of a pool may be used for.
// +kubebuilder:validation:Enum=Workload;Tunnel;LoadBalancer
type PoolUse string

// Values of PoolUse.
const (
	UseWorkload     PoolUse = "Workload"
	UseTunnel       PoolUse = "Tunnel"
	UseLoadBalancer PoolUse = "LoadBalancer"
)

// AssignmentMode says whether addresses are taken from a pool without being asked for by name.
// +kubebuilder:validation:Enum=Automatic;Manual
type AssignmentMode string

// Values of AssignmentMode.
const (
	AssignAutomatic AssignmentMode = "Automatic"
	AssignManual    AssignmentMode = "Manual"
)

// IPPool is a range of addresses for pods, tunnels or load balancers, and how traffic to them travels.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=ippools,shortName=ipp
// +kubebuilder:printcolumn:name="CIDR",type=string,JSONPath=".spec.cidr"
// +kubebuilder:printcolumn:name="NAT",type=boolean,JSONPath=".spec.natOutgoing"
// +kubebuilder:printcolumn:name="IPIPMode",type=string,JSONPath=".spec.ipipMode"
// +kubebuilder:printcolumn:name="VXLANMode",type=string,JSONPath=".spec.vxlanMode"
// +kubebuilder:printcolumn:name="Disabled",type=boolean,JSONPath=".spec.disabled"
// +kubebuilder:printcolumn:name="Selector",type=string,JSONPath=".spec.nodeSelector",priority=1
type IPPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              IPPoolSpec `json:"spec"`
}

// IPPoolSpec is what a person sets on a pool.
// +kubebuilder:validation:XValidation:rule="!(has(self.ipipMode) && self.ipipMode != 'Never' && has(self.vxlanMode) && self.vxlanMode != 'Never')",message="ipipMode and vxlanMode cannot both be enabled on the same pool: set one of them to Never",fieldPath=".vxlanMode"
// +kubebuilder:validation:XValidation:rule="(has(self.blockSize) ? self.blockSize : (isCIDR(self.cidr) && cidr(self.cidr).ip().family() == 6 ? 122 : 26)) == (has(oldSelf.blockSize) ? oldSelf.blockSize : (isCIDR(self.cidr) && cidr(self.cidr).ip().family() == 6 ? 122 : 26))",message="blockSize cannot be changed on a live pool (26 or 122 when not set): make a new pool, move the pods, delete the old one",fieldPath=".blockSize"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.cidr) || (has(self.blockSize) ? self.blockSize : (isCIDR(self.cidr) && cidr(self.cidr).ip().family() == 6 ? 122 : 26)) >= cidr(self.cidr).prefixLength()",message="blockSize must not be larger than the pool (26 or 122 when not set): use a prefix length at or above that of cidr",fieldPath=".blockSize"
// +kubebuilder:validation:XValidation:rule="!has(self.blockSize) || !isCIDR(self.cidr) || (cidr(self.cidr).ip().family() == 4 ? (self.blockSize >= 20 && self.blockSize <= 32) : (self.blockSize >= 116 && self.blockSize <= 128))",message="blockSize must be from 20 to 32 for IPv4 and from 116 to 128 for IPv6",fieldPath=".blockSize"
type IPPoolSpec struct {
	// CIDR is the range, in canonical form. It cannot be changed.
	// +kubebuilder:validation:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="cidr must be a network in CIDR form, such as 172.20.0.0/16"
	// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self).masked() == cidr(self)",message="cidr must not have host bits set: write the network's first address"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="cidr cannot be changed on a live pool: make a new pool, move the pods, delete the old one"
	CIDR string `json:"cidr"`

	// BlockSize is the prefix length of the blocks that nodes claim: 26 (IPv4) or 122 (IPv6) when not set.
	// +optional
	BlockSize int32 `json:"blockSize,omitempty"`

	// VXLANMode says when traffic to this pool travels in VXLAN. Never when not set.
	// +optional
	VXLANMode EncapMode `json:"vxlanMode,omitempty"`

	// IPIPMode says when traffic to this pool travels in IPIP. Never when not set.
	// +optional
	IPIPMode EncapMode `json:"ipipMode,omitempty"`

	// NATOutgoing masquerades traffic from this pool to addresses outside of all pools.
	// +optional
	NATOutgoing bool `json:"natOutgoing,omitempty"`

	// Disabled pools give out no new addresses; those in use stay valid.
	// +optional
	Disabled bool `json:"disabled,omitempty"`

	// DisableBGPExport keeps the pool's blocks from being announced.
	// +optional
	DisableBGPExport bool `json:"disableBGPExport,omitempty"`

	// NodeSelector says which nodes may take blocks. all() when not set.
	// +optional
	NodeSelector string `json:"nodeSelector,omitempty"`

	// NamespaceSelector says which namespaces' pods may take addresses. All when not set.
	// +optional
	NamespaceSelector string `json:"namespaceSelector,omitempty"`

	// AllowedUses says what the addresses are for. Workload and Tunnel when not set.
	// +optional
	// +listType=set
	AllowedUses []PoolUse `json:"allowedUses,omitempty"`

	// AssignmentMode Manual: only who asks for the pool by name gets addresses. Automatic when not set.
	// +optional
	AssignmentMode AssignmentMode `json:"assignmentMode,omitempty"`
}

// IPPoolList is a list of pools.
// +kubebuilder:object:root=true
type IPPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []IPPool `json:"items"`
}
