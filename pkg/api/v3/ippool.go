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
// +kubebuilder:resource:scope=Cluster,path=ippools,shortName=ipp;ipps;pool;pools
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="CIDR",type=string,JSONPath=".spec.cidr"
// +kubebuilder:printcolumn:name="NAT",type=boolean,JSONPath=".spec.natOutgoing"
// +kubebuilder:printcolumn:name="IPIPMode",type=string,JSONPath=".spec.ipipMode"
// +kubebuilder:printcolumn:name="VXLANMode",type=string,JSONPath=".spec.vxlanMode"
// +kubebuilder:printcolumn:name="Disabled",type=boolean,JSONPath=".spec.disabled"
// +kubebuilder:printcolumn:name="Allocatable",type=string,JSONPath=".status.conditions[?(@.type=='Allocatable')].status",priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp",priority=1
// +kubebuilder:printcolumn:name="Selector",type=string,JSONPath=".spec.nodeSelector",priority=1
type IPPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              IPPoolSpec `json:"spec"`
	// +optional
	Status *IPPoolStatus `json:"status,omitempty"`
}

// Allocatable is the condition of a pool that gives out addresses; its reasons are below.
const Allocatable = "Allocatable"

// Reasons of the condition Allocatable.
const (
	AllocatableOK          = "OK"
	AllocatableDisabled    = "PoolDisabled"
	AllocatableOverlap     = "CIDROverlap"
	AllocatableTerminating = "Terminating"
)

// IPPoolStatus says how a pool is.
type IPPoolStatus struct {
	// Conditions of the pool: Allocatable.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// IPPoolSpec is what a person sets on a pool.
// +kubebuilder:validation:XValidation:rule="!(has(self.ipipMode) && self.ipipMode != 'Never' && has(self.vxlanMode) && self.vxlanMode != 'Never')",message="ipipMode and vxlanMode cannot both be enabled on the same pool: set one of them to Never",fieldPath=".vxlanMode"
// +kubebuilder:validation:XValidation:rule="(has(self.blockSize) ? self.blockSize : (isCIDR(self.cidr) && cidr(self.cidr).ip().family() == 6 ? 122 : 26)) == (has(oldSelf.blockSize) ? oldSelf.blockSize : (isCIDR(self.cidr) && cidr(self.cidr).ip().family() == 6 ? 122 : 26))",message="blockSize cannot be changed on a live pool (26 or 122 when not set): make a new pool, move the pods, delete the old one",fieldPath=".blockSize"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.cidr) || (has(self.disabled) && self.disabled) || (has(self.blockSize) ? self.blockSize : (isCIDR(self.cidr) && cidr(self.cidr).ip().family() == 6 ? 122 : 26)) >= cidr(self.cidr).prefixLength()",message="blockSize must not be larger than the pool (26 or 122 when not set): use a prefix length at or above that of cidr",fieldPath=".blockSize"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.cidr) || cidr(self.cidr).ip().family() == 4 || !has(self.ipipMode) || self.ipipMode == 'Never'",message="IPIP is for IPv4: leave ipipMode out, or use vxlanMode",fieldPath=".ipipMode"
// +kubebuilder:validation:XValidation:rule="!has(self.allowedUses) || !('LoadBalancer' in self.allowedUses) || ((!has(self.ipipMode) || self.ipipMode == 'Never') && (!has(self.vxlanMode) || self.vxlanMode == 'Never'))",message="a LoadBalancer pool has no traffic between nodes: ipipMode and vxlanMode must be Never",fieldPath=".allowedUses"
// +kubebuilder:validation:XValidation:rule="!has(self.allowedUses) || !('LoadBalancer' in self.allowedUses) || size(self.allowedUses) == 1",message="LoadBalancer cannot stand beside Workload or Tunnel: make a pool for each",fieldPath=".allowedUses"
// +kubebuilder:validation:XValidation:rule="!has(self.allowedUses) || !('LoadBalancer' in self.allowedUses) || !has(self.disableBGPExport) || !self.disableBGPExport",message="a LoadBalancer pool is there to be announced: disableBGPExport must be false",fieldPath=".disableBGPExport"
// +kubebuilder:validation:XValidation:rule="!has(self.allowedUses) || !('LoadBalancer' in self.allowedUses) || !has(self.nodeSelector) || self.nodeSelector == 'all()'",message="a LoadBalancer pool belongs to no node: nodeSelector must be all()",fieldPath=".nodeSelector"
// +kubebuilder:validation:XValidation:rule="!has(self.allowedUses) || !('Tunnel' in self.allowedUses) || !has(self.namespaceSelector) || size(self.namespaceSelector) == 0",message="tunnels are in no namespace: take Tunnel out of allowedUses, or leave namespaceSelector out",fieldPath=".namespaceSelector"
// +kubebuilder:validation:XValidation:rule="!has(self.blockSize) || !isCIDR(self.cidr) || (cidr(self.cidr).ip().family() == 4 ? (self.blockSize >= 20 && self.blockSize <= 32) : (self.blockSize >= 116 && self.blockSize <= 128))",message="blockSize must be from 20 to 32 for IPv4 and from 116 to 128 for IPv6",fieldPath=".blockSize"
type IPPoolSpec struct {
	// CIDR is the range, in canonical form. It cannot be changed.
	// +kubebuilder:validation:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="cidr must be a network in CIDR form, such as 172.20.0.0/16"
	// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self).masked() == cidr(self)",message="cidr must not have host bits set: write the network's first address"
	// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || !(cidr('169.254.0.0/16').containsIP(cidr(self).ip()) || cidr(self).containsIP('169.254.0.0') || cidr('fe80::/10').containsIP(cidr(self).ip()) || cidr(self).containsIP('fe80::'))",message="cidr must not overlap with the link-local networks 169.254.0.0/16 and fe80::/10"
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

	// NodeSelector says which nodes may take blocks.
	// +kubebuilder:default="all()"
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="!self.contains('global(')",message="global() selects no node: use all()"
	// +optional
	NodeSelector string `json:"nodeSelector,omitempty"`

	// NamespaceSelector says which namespaces' pods may take addresses. All when not set.
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="!self.contains('global(')",message="global() selects no namespace: leave namespaceSelector out for all"
	// +optional
	NamespaceSelector string `json:"namespaceSelector,omitempty"`

	// AllowedUses says what the addresses are for. Workload and Tunnel when not set.
	// +kubebuilder:validation:MaxItems=10
	// +optional
	// +listType=set
	AllowedUses []PoolUse `json:"allowedUses,omitempty"`

	// AssignmentMode Manual: only who asks for the pool by name gets addresses.
	// +kubebuilder:default=Automatic
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
