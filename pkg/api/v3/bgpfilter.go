package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPFilter is a list of rules for what sessions export and import; BGPPeers name it. The first rule that matches
// decides; a route that none matches goes through.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=bgpfilters
type BGPFilter struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              BGPFilterSpec `json:"spec"`
}

// BGPFilterSpec is the content of a BGPFilter.
type BGPFilterSpec struct {
	// ExportV4 rules IPv4 routes on their way out.
	// +kubebuilder:validation:MaxItems=500
	// +listType=atomic
	// +optional
	ExportV4 []BGPFilterRuleV4 `json:"exportV4,omitempty"`
	// ImportV4 rules IPv4 routes on their way in.
	// +kubebuilder:validation:MaxItems=500
	// +listType=atomic
	// +optional
	ImportV4 []BGPFilterRuleV4 `json:"importV4,omitempty"`
	// ExportV6 rules IPv6 routes on their way out.
	// +kubebuilder:validation:MaxItems=500
	// +listType=atomic
	// +optional
	ExportV6 []BGPFilterRuleV6 `json:"exportV6,omitempty"`
	// ImportV6 rules IPv6 routes on their way in.
	// +kubebuilder:validation:MaxItems=500
	// +listType=atomic
	// +optional
	ImportV6 []BGPFilterRuleV6 `json:"importV6,omitempty"`
}

// MatchOperator compares a route with a network.
// +kubebuilder:validation:Enum=Equal;NotEqual;In;NotIn
type MatchOperator string

// Values of MatchOperator.
const (
	MatchEqual    MatchOperator = "Equal"
	MatchNotEqual MatchOperator = "NotEqual"
	MatchIn       MatchOperator = "In"
	MatchNotIn    MatchOperator = "NotIn"
)

// FilterAction is what a rule decides.
// +kubebuilder:validation:Enum=Accept;Reject
type FilterAction string

// Values of FilterAction.
const (
	FilterAccept FilterAction = "Accept"
	FilterReject FilterAction = "Reject"
)

// FilterSource says where a route must come from.
// +kubebuilder:validation:Enum=RemotePeers
type FilterSource string

// FromRemotePeers are routes that were learned by BGP.
const FromRemotePeers FilterSource = "RemotePeers"

// FilterPeerType says which sessions a rule is for.
// +kubebuilder:validation:Enum=eBGP;iBGP
type FilterPeerType string

// Values of FilterPeerType.
const (
	PeerEBGP FilterPeerType = "eBGP"
	PeerIBGP FilterPeerType = "iBGP"
)

// BGPFilterRuleV4 is a rule for IPv4 routes: all that is set must match.
// +structType=atomic
// +kubebuilder:validation:XValidation:rule="!has(self.cidr) || size(self.cidr) == 0 || (isCIDR(self.cidr) && cidr(self.cidr).ip().family() == 4 && cidr(self.cidr).masked() == cidr(self.cidr))",message="cidr must be an IPv4 network without host bits, such as 172.20.0.0/16",fieldPath=".cidr"
type BGPFilterRuleV4 struct {
	// CIDR is a network to compare the route with.
	// +kubebuilder:validation:MaxLength=18
	// +optional
	CIDR string `json:"cidr,omitempty"`
	// PrefixLength limits the route's length. From that of cidr to 32 when not set.
	// +optional
	PrefixLength *PrefixLengthV4 `json:"prefixLength,omitempty"`

	BGPFilterRule `json:",inline"`
}

// BGPFilterRuleV6 is a rule for IPv6 routes: all that is set must match.
// +structType=atomic
// +kubebuilder:validation:XValidation:rule="!has(self.cidr) || size(self.cidr) == 0 || (isCIDR(self.cidr) && cidr(self.cidr).ip().family() == 6 && cidr(self.cidr).masked() == cidr(self.cidr))",message="cidr must be an IPv6 network without host bits, such as fd00::/48",fieldPath=".cidr"
type BGPFilterRuleV6 struct {
	// CIDR is a network to compare the route with.
	// +kubebuilder:validation:MaxLength=43
	// +optional
	CIDR string `json:"cidr,omitempty"`
	// PrefixLength limits the route's length. From that of cidr to 128 when not set.
	// +optional
	PrefixLength *PrefixLengthV6 `json:"prefixLength,omitempty"`

	BGPFilterRule `json:",inline"`
}

// BGPFilterRule is what rules of both families have.
// +kubebuilder:validation:XValidation:rule="(has(self.cidr) && size(self.cidr) > 0) == has(self.matchOperator)",message="cidr and matchOperator go together: set both, or none",fieldPath=".matchOperator"
// +kubebuilder:validation:XValidation:rule="!has(self.prefixLength) || (has(self.cidr) && size(self.cidr) > 0)",message="prefixLength needs cidr",fieldPath=".prefixLength"
// +kubebuilder:validation:XValidation:rule="!has(self.operations) || self.action == 'Accept'",message="operations change routes that are accepted: set action to Accept, or leave operations out",fieldPath=".operations"
type BGPFilterRule struct {
	// MatchOperator says how to compare the route with cidr: Equal, NotEqual, In, NotIn.
	// +optional
	MatchOperator MatchOperator `json:"matchOperator,omitempty"`
	// Source RemotePeers: only routes that were learned by BGP.
	// +optional
	Source FilterSource `json:"source,omitempty"`
	// Interface that the route leaves by; '*' stands for any characters.
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[a-zA-Z0-9_.*-]+$')",message="must be an interface name of letters, digits and '_.-', in which '*' stands for any characters"
	// +optional
	Interface string `json:"interface,omitempty"`
	// PeerType: only sessions with another AS (eBGP), or only those inside one (iBGP).
	// +optional
	PeerType FilterPeerType `json:"peerType,omitempty"`
	// Communities that the route must have.
	// +optional
	Communities *CommunityMatch `json:"communities,omitempty"`
	// ASPathPrefix is how the route's AS path must begin.
	// +kubebuilder:validation:MaxItems=25
	// +listType=atomic
	// +optional
	ASPathPrefix []ASNumber `json:"asPathPrefix,omitempty"`
	// Priority that the route must have.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483646
	// +optional
	Priority *int `json:"priority,omitempty"`
	// Action for a route that matches.
	Action FilterAction `json:"action"`
	// Operations change a route before it is accepted, in this order.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	// +optional
	Operations []FilterOperation `json:"operations,omitempty"`
}

// PrefixLengthV4 is a range of IPv4 prefix lengths.
// +structType=atomic
// +kubebuilder:validation:XValidation:rule="!has(self.min) || !has(self.max) || self.min <= self.max",message="min must not be above max",fieldPath=".min"
type PrefixLengthV4 struct {
	// Min is the least length.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=32
	// +optional
	Min *int32 `json:"min,omitempty"`
	// Max is the greatest length.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=32
	// +optional
	Max *int32 `json:"max,omitempty"`
}

// PrefixLengthV6 is a range of IPv6 prefix lengths.
// +structType=atomic
// +kubebuilder:validation:XValidation:rule="!has(self.min) || !has(self.max) || self.min <= self.max",message="min must not be above max",fieldPath=".min"
type PrefixLengthV6 struct {
	// Min is the least length.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=128
	// +optional
	Min *int32 `json:"min,omitempty"`
	// Max is the greatest length.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=128
	// +optional
	Max *int32 `json:"max,omitempty"`
}

// CommunityMatch says which community a route must have.
// +structType=atomic
type CommunityMatch struct {
	// Values is one community.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1
	// +listType=atomic
	Values []CommunityValue `json:"values"`
}

// FilterOperation is one change to a route: exactly one field is set.
// +structType=atomic
// +kubebuilder:validation:XValidation:rule="[has(self.addCommunity), has(self.prependASPath), has(self.setPriority)].filter(x, x).size() == 1",message="an operation is one of addCommunity, prependASPath, setPriority: use several operations for several changes"
type FilterOperation struct {
	// AddCommunity gives the route a community.
	// +optional
	AddCommunity *AddCommunity `json:"addCommunity,omitempty"`
	// PrependASPath puts AS numbers before the route's path.
	// +optional
	PrependASPath *PrependASPath `json:"prependASPath,omitempty"`
	// SetPriority sets the route's metric.
	// +optional
	SetPriority *SetPriority `json:"setPriority,omitempty"`
}

// AddCommunity gives a route a community.
// +structType=atomic
type AddCommunity struct {
	// Value of the community.
	Value *CommunityValue `json:"value"`
}

// PrependASPath puts AS numbers before a route's path.
// +structType=atomic
type PrependASPath struct {
	// Prefix is what the path begins with afterwards, in this order.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	Prefix []ASNumber `json:"prefix"`
}

// SetPriority sets a route's metric.
// +structType=atomic
type SetPriority struct {
	// Value is the metric.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483646
	Value *int `json:"value"`
}

// BGPFilterList is a list of filters.
// +kubebuilder:object:root=true
type BGPFilterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []BGPFilter `json:"items"`
}
