package v3

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// FelixConfiguration holds the agents' parameters: "default" for all nodes, "node.<name>" for one.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=felixconfigurations,shortName=felixconfig;felixconfigs
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default' || self.metadata.name.matches('^node[.].+')",message="metadata.name must be default (all nodes) or node.NAME (one node): nothing reads another",fieldPath=".metadata"
type FelixConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              FelixConfigurationSpec `json:"spec"`
}

// FelixConfigurationSpec holds the parameters that this version reads; package config has their defaults, units and
// meanings (manifests/parameters.md). An environment variable FELIX_<parameter> on the agent beats the node's resource,
// which beats the default one. Calico's other parameters are kept as they are written, and have no effect.
// +kubebuilder:pruning:PreserveUnknownFields
type FelixConfigurationSpec struct {
	// Fields holds every field as it was written, known or not, after reading from JSON.
	Fields map[string]json.RawMessage `json:"-"`

	// +kubebuilder:validation:Pattern=`^(?i)(Trace|Debug|Info|Warning|Error|Fatal)?$`
	// +optional
	LogSeverityScreen string `json:"logSeverityScreen,omitempty"`
	// +optional
	HealthEnabled *bool `json:"healthEnabled,omitempty"`
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9:._+-]*$`
	// +optional
	HealthHost *string `json:"healthHost,omitempty"`
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	HealthPort *int `json:"healthPort,omitempty"`
	// +optional
	PrometheusMetricsEnabled *bool `json:"prometheusMetricsEnabled,omitempty"`
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9:._+-]*$`
	// +optional
	PrometheusMetricsHost *string `json:"prometheusMetricsHost,omitempty"`
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	PrometheusMetricsPort *int `json:"prometheusMetricsPort,omitempty"`
	// +optional
	PrometheusGoMetricsEnabled *bool `json:"prometheusGoMetricsEnabled,omitempty"`
	// +optional
	PrometheusProcessMetricsEnabled *bool `json:"prometheusProcessMetricsEnabled,omitempty"`
	// +optional
	IPv6Support *bool `json:"ipv6Support,omitempty"`
	// +kubebuilder:validation:Pattern=`^(?i)(Enabled|Disabled)?$`
	// +optional
	IPForwarding string `json:"ipForwarding,omitempty"`
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16777215
	// +optional
	VXLANVNI *int `json:"vxlanVNI,omitempty"`
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	VXLANPort *int `json:"vxlanPort,omitempty"`
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +optional
	VXLANMTU *int `json:"vxlanMTU,omitempty"`
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +optional
	VXLANMTUV6 *int `json:"vxlanMTUV6,omitempty"`
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +optional
	IPIPMTU *int `json:"ipipMTU,omitempty"`
	// +kubebuilder:validation:Pattern=`^(?i)(Enabled|Disabled)?$`
	// +optional
	ProgramClusterRoutes string `json:"programClusterRoutes,omitempty"`
	// +kubebuilder:validation:Pattern=`^(?i)(IPPoolsOnly|IPPoolsAndHostIPs)?$`
	// +optional
	NATOutgoingExclusions string `json:"natOutgoingExclusions,omitempty"`
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="self == '' || (isIP(self) && ip(self).family() == 4)",message="natOutgoingAddress must be an IPv4 address"
	// +optional
	NATOutgoingAddress string `json:"natOutgoingAddress,omitempty"`
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? (self >= 1 && self <= 65535) : self.matches('^[0-9]+(:[0-9]+)?$')",message="natPortRange must be a port from 1 to 65535 or a range such as 32768:65535"
	// +optional
	NATPortRange *intstr.IntOrString `json:"natPortRange,omitempty"`
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9:._+-]*$`
	// +optional
	IptablesNATOutgoingInterfaceFilter string `json:"iptablesNATOutgoingInterfaceFilter,omitempty"`
	// +kubebuilder:validation:Pattern=`^(?i)(Auto|Enabled|Disabled)?$`
	// +optional
	NFTablesMode string `json:"nftablesMode,omitempty"`
	// +kubebuilder:validation:Pattern=`^(?i)(Enabled|Disabled)?$`
	// +optional
	FloatingIPs string `json:"floatingIPs,omitempty"`
	// +kubebuilder:validation:Pattern=`^(?i)(Auto|Legacy|NFT)?$`
	// +optional
	IptablesBackend string `json:"iptablesBackend,omitempty"`
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$|^0$`
	// +optional
	RouteRefreshInterval string `json:"routeRefreshInterval,omitempty"`
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$|^0$`
	// +optional
	InterfaceRefreshInterval string `json:"interfaceRefreshInterval,omitempty"`
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$|^0$`
	// +optional
	NFTablesRefreshInterval string `json:"nftablesRefreshInterval,omitempty"`
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$|^0$`
	// +optional
	IptablesRefreshInterval string `json:"iptablesRefreshInterval,omitempty"`
	// +kubebuilder:validation:Pattern=`^([a-zA-Z0-9_-]+=(true|false|),)*([a-zA-Z0-9_-]+=(true|false|))?$`
	// +optional
	FeatureDetectOverride string `json:"featureDetectOverride,omitempty"`
}

// UnmarshalJSON keeps all fields beside those with a Go type, so that a reader can name those it does not know.
func (s *FelixConfigurationSpec) UnmarshalJSON(b []byte) error {
	type plain FelixConfigurationSpec
	if err := json.Unmarshal(b, (*plain)(s)); err != nil {
		return err
	}
	return json.Unmarshal(b, &s.Fields)
}

// FelixConfigurationList is a list of agent configurations.
// +kubebuilder:object:root=true
type FelixConfigurationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []FelixConfiguration `json:"items"`
}

// ClusterInformation describes the cluster; the one named "default" counts.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=clusterinformations,shortName=clusterinfo;clusterinfos
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=".spec.calicoVersion"
// +kubebuilder:printcolumn:name="Ready",type=boolean,JSONPath=".spec.datastoreReady"
// +kubebuilder:printcolumn:name="Types",type=string,JSONPath=".spec.clusterType"
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="metadata.name must be default: nothing reads another",fieldPath=".metadata"
type ClusterInformation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ClusterInformationSpec `json:"spec"`
}

// ClusterInformationSpec is the content of a ClusterInformation.
type ClusterInformationSpec struct {
	// ClusterGUID identifies the cluster, 32 hexadecimal digits.
	// +optional
	ClusterGUID string `json:"clusterGUID,omitempty"`
	// ClusterType is a comma-separated list of hints.
	// +optional
	ClusterType string `json:"clusterType,omitempty"`
	// CalicoVersion is the version that calicoctl compares itself with.
	// +optional
	CalicoVersion string `json:"calicoVersion,omitempty"`
	// DatastoreReady false locks the datastore: no addresses are given out. True when not set.
	// +optional
	DatastoreReady *bool `json:"datastoreReady,omitempty"`
	// Variant is the product's name.
	// +optional
	Variant string `json:"variant,omitempty"`
}

// ClusterInformationList is a list of cluster descriptions.
// +kubebuilder:object:root=true
type ClusterInformationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []ClusterInformation `json:"items"`
}
