package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// FelixConfiguration holds the agents' parameters: "default" for all nodes, "node.<name>" for one.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=felixconfigurations,shortName=felixconfig;felixconfigs
type FelixConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              FelixConfigurationSpec `json:"spec"`
}

// FelixConfigurationSpec holds the parameters that this version reads. An environment variable FELIX_<parameter> on the
// agent beats the node's resource, which beats the default one. Calico's other parameters are kept as they are written,
// and not read.
// +kubebuilder:pruning:PreserveUnknownFields
type FelixConfigurationSpec struct {
	// LogSeverityScreen is the least level that is logged. Info when not set.
	// +kubebuilder:validation:Pattern=`^(?i)(Trace|Debug|Info|Warning|Error|Fatal)?$`
	// +optional
	LogSeverityScreen string `json:"logSeverityScreen,omitempty"`
	// PrometheusMetricsEnabled serves metrics. false when not set.
	// +optional
	PrometheusMetricsEnabled *bool `json:"prometheusMetricsEnabled,omitempty"`
	// PrometheusMetricsPort is the metrics' TCP port. 9091 when not set.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	PrometheusMetricsPort *int `json:"prometheusMetricsPort,omitempty"`
	// VXLANMTU is the MTU of the VXLAN device, in bytes; 0 or not set: found from the underlay.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +optional
	VXLANMTU *int `json:"vxlanMTU,omitempty"`
	// VXLANVNI is the VXLAN network identifier. 4096 when not set.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16777215
	// +optional
	VXLANVNI *int `json:"vxlanVNI,omitempty"`
	// VXLANPort is the VXLAN devices' UDP port. 4789 when not set.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	VXLANPort *int `json:"vxlanPort,omitempty"`
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
// +kubebuilder:resource:scope=Cluster,path=clusterinformations,shortName=clusterinfo
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
	// DatastoreReady is for Calico's tools: made true, and not read.
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
