package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAMBlock is a run of addresses that one node (its affinity) hands out, and the compare-and-swap unit of all IPAM.
// Its name is the CIDR with '.', ':' and '/' written '-', such as 10-0-0-0-26.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=ipamblocks
// +kubebuilder:printcolumn:name="CIDR",type=string,JSONPath=".spec.cidr"
// +kubebuilder:printcolumn:name="Affinity",type=string,JSONPath=".spec.affinity"
// +kubebuilder:printcolumn:name="ClaimTime",type=date,JSONPath=".spec.affinityClaimTime"
type IPAMBlock struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              IPAMBlockSpec `json:"spec"`
}

// IPAMBlockSpec is the block itself. Invariants: len(allocations) is the block's size; each ordinal is either
// allocated or in unallocated, once; each attribute is pointed at by at least one allocation.
type IPAMBlockSpec struct {
	// CIDR of the block.
	CIDR string `json:"cidr"`

	// Affinity is "host:<node>" or "virtual:load-balancer"; absent when nobody owns the block.
	// +optional
	Affinity *string `json:"affinity,omitempty"`

	// AffinityClaimTime is when the affinity was claimed.
	// +optional
	AffinityClaimTime *metav1.Time `json:"affinityClaimTime,omitempty"`

	// Allocations has one entry per ordinal: null when free, else an index into attributes.
	Allocations []*int `json:"allocations"`

	// Unallocated is the FIFO of free ordinals: assign takes the head, release appends to the tail.
	Unallocated []int `json:"unallocated"`

	// Attributes say whose the allocated addresses are.
	Attributes []AllocationAttribute `json:"attributes"`

	// SequenceNumber goes up with each write; it starts at the time of creation in nanoseconds.
	// +kubebuilder:default=0
	// +optional
	SequenceNumber uint64 `json:"sequenceNumber"`

	// SequenceNumberForAllocation maps an allocated ordinal, in decimal, to the sequence number it was allocated at.
	// +optional
	SequenceNumberForAllocation map[string]uint64 `json:"sequenceNumberForAllocation,omitempty"`

	// Deleted marks a block that is being deleted; readers pass over it.
	// +optional
	Deleted bool `json:"deleted,omitempty"`

	// StrictAffinity is written false and not read: see IPAMConfiguration.
	// +optional
	StrictAffinity bool `json:"strictAffinity"`
}

// AllocationAttribute says whose one or more allocated addresses are.
type AllocationAttribute struct {
	// HandleID groups the addresses of one owner.
	// +optional
	HandleID *string `json:"handle_id,omitempty"`

	// Secondary holds pod, namespace, node, type and timestamp, as far as they apply.
	// +optional
	Secondary map[string]string `json:"secondary,omitempty"`

	// AlternateOwnerAttrs say whose the address is beside, while a virtual machine moves. Kept, and not read.
	// +optional
	AlternateOwnerAttrs map[string]string `json:"alternateOwnerAttrs,omitempty"`

	// ReleasedAt is set while a released address waits for its cooldown to pass.
	// +optional
	ReleasedAt *metav1.Time `json:"releasedAt,omitempty"`
}

// IPAMBlockList is a list of blocks.
// +kubebuilder:object:root=true
type IPAMBlockList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []IPAMBlock `json:"items"`
}

// IPAMHandle says how many addresses of which blocks one owner holds. Its name is the handle in lower case.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=ipamhandles
// +kubebuilder:printcolumn:name="ID",type=string,JSONPath=".spec.handleID"
type IPAMHandle struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              IPAMHandleSpec `json:"spec"`
}

// IPAMHandleSpec is the content of a handle.
type IPAMHandleSpec struct {
	// HandleID as the owner wrote it, such as k8s-pod-network.<container ID>.
	HandleID string `json:"handleID"`
	// Block maps a block's CIDR to the number of addresses held in it.
	Block map[string]int `json:"block"`
	// Deleted marks a handle that is being deleted; readers pass over it.
	// +optional
	Deleted bool `json:"deleted,omitempty"`
}

// IPAMHandleList is a list of handles.
// +kubebuilder:object:root=true
type IPAMHandleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []IPAMHandle `json:"items"`
}

// AffinityState is how far a node's claim on a block has come.
// +kubebuilder:validation:Enum=pending;confirmed;pendingDeletion
type AffinityState string

// Values of AffinityState.
const (
	AffinityPending         AffinityState = "pending"
	AffinityConfirmed       AffinityState = "confirmed"
	AffinityPendingDeletion AffinityState = "pendingDeletion"
)

// BlockAffinity is a node's claim on a block.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=blockaffinities,shortName=affinity;affinities
// +kubebuilder:printcolumn:name="CIDR",type=string,JSONPath=".spec.cidr"
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=".spec.node"
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=".spec.state"
type BlockAffinity struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              BlockAffinitySpec `json:"spec"`
}

// BlockAffinitySpec is the content of a claim.
type BlockAffinitySpec struct {
	// State of the claim; only confirmed ones count.
	State AffinityState `json:"state"`
	// Node that claims.
	Node string `json:"node"`
	// Type is host or virtual. host when not set.
	// +optional
	Type string `json:"type,omitempty"`
	// CIDR of the block.
	CIDR string `json:"cidr"`
	// Deleted marks a claim that is being deleted; readers pass over it.
	// +optional
	Deleted bool `json:"deleted,omitempty"`
}

// BlockAffinityList is a list of claims.
// +kubebuilder:object:root=true
type BlockAffinityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []BlockAffinity `json:"items"`
}

// IPAMConfiguration is the cluster's IPAM configuration; the one named "default" counts.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=ipamconfigurations,shortName=ipamconfig;ipamconfigs
// +kubebuilder:printcolumn:name="StrictAffinity",type=boolean,JSONPath=".spec.strictAffinity"
// +kubebuilder:printcolumn:name="MaxBlocksPerHost",type=integer,JSONPath=".spec.maxBlocksPerHost"
// +kubebuilder:printcolumn:name="AutoAllocateBlocks",type=boolean,JSONPath=".spec.autoAllocateBlocks"
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="metadata.name must be default: nothing reads another",fieldPath=".metadata"
type IPAMConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              IPAMConfigurationSpec `json:"spec"`
}

// IPAMConfigurationSpec is the content of an IPAMConfiguration.
// +kubebuilder:validation:XValidation:rule="self.strictAffinity || self.autoAllocateBlocks",message="autoAllocateBlocks must be true when strictAffinity is false",fieldPath=".autoAllocateBlocks"
// +kubebuilder:validation:XValidation:rule="self.strictAffinity || !has(self.maxBlocksPerHost) || self.maxBlocksPerHost == 0",message="maxBlocksPerHost above 0 needs strictAffinity true",fieldPath=".maxBlocksPerHost"
type IPAMConfigurationSpec struct {
	// StrictAffinity: a node takes addresses from its own blocks alone.
	// +kubebuilder:default=false
	StrictAffinity bool `json:"strictAffinity"`
	// AutoAllocateBlocks: a node may claim blocks by itself.
	// +kubebuilder:default=true
	AutoAllocateBlocks bool `json:"autoAllocateBlocks"`
	// MaxBlocksPerHost is how many blocks a node may own; 0 means 20.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	// +optional
	MaxBlocksPerHost int32 `json:"maxBlocksPerHost,omitempty"`
	// IPCooldownSeconds is how long a released address stays unused at least.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1200
	// +optional
	IPCooldownSeconds int32 `json:"ipCooldownSeconds,omitempty"`
	// KubeVirtVMAddressPersistence is kept and has no effect: a virtual machine's new pod gets a new address.
	// +optional
	KubeVirtVMAddressPersistence *Switch `json:"kubeVirtVMAddressPersistence,omitempty"`
}

// IPAMConfigurationList is a list of IPAM configurations.
// +kubebuilder:object:root=true
type IPAMConfigurationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []IPAMConfiguration `json:"items"`
}
