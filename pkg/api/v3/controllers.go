package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// KubeControllersConfiguration says what the controller does; the one named "default" counts.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=kubecontrollersconfigurations,shortName=kcc;kccs
// +kubebuilder:subresource:status
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="metadata.name must be default: the controller reads no other",fieldPath=".metadata"
type KubeControllersConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              KubeControllersConfigurationSpec `json:"spec"`
	// +optional
	Status KubeControllersConfigurationStatus `json:"status"`
}

// Switch is on or off.
// +kubebuilder:validation:Enum=Enabled;Disabled
type Switch string

// Values of Switch.
const (
	Enabled  Switch = "Enabled"
	Disabled Switch = "Disabled"
)

// KubeControllersConfigurationSpec holds the controller's parameters. A variable of its environment beats the field.
type KubeControllersConfigurationSpec struct {
	// LogSeverityScreen is the least severe that is logged. Info when not set.
	// +kubebuilder:validation:Enum=None;Debug;Info;Warning;Error;Fatal;Panic
	// +optional
	LogSeverityScreen string `json:"logSeverityScreen,omitempty"`

	// HealthChecks says whether the controller tells probes how it is.
	// +kubebuilder:default=Enabled
	// +optional
	HealthChecks Switch `json:"healthChecks,omitempty"`

	// EtcdV3CompactionPeriod is kept and has no effect: only the Kubernetes datastore is served.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|ms|s|m|h))+$|^0$')",message="must be a duration such as 90s, 10m or 1h30m, or 0"
	// +optional
	EtcdV3CompactionPeriod *metav1.Duration `json:"etcdV3CompactionPeriod,omitempty"`

	// PrometheusMetricsPort is the TCP port of the metrics, 9094 when not set; 0: no metrics.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +optional
	PrometheusMetricsPort *int `json:"prometheusMetricsPort,omitempty"`

	// DebugProfilePort is the TCP port of Go's profiles; none when not set or 0.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +optional
	DebugProfilePort *int32 `json:"debugProfilePort,omitempty"`

	// Controllers says which parts run. A part that is not named does not.
	Controllers ControllersConfig `json:"controllers"`
}

// ControllersConfig has one field for each part of the controller.
type ControllersConfig struct {
	// Node collects what nodes and pods that are gone left behind.
	// +optional
	Node *NodeControllerConfig `json:"node,omitempty"`
	// Policy is kept and has no effect with the Kubernetes datastore.
	// +optional
	Policy *ReconcilerConfig `json:"policy,omitempty"`
	// WorkloadEndpoint is kept and has no effect with the Kubernetes datastore.
	// +optional
	WorkloadEndpoint *ReconcilerConfig `json:"workloadEndpoint,omitempty"`
	// ServiceAccount is kept and has no effect with the Kubernetes datastore.
	// +optional
	ServiceAccount *ReconcilerConfig `json:"serviceAccount,omitempty"`
	// Namespace is kept and has no effect with the Kubernetes datastore.
	// +optional
	Namespace *ReconcilerConfig `json:"namespace,omitempty"`
	// LoadBalancer gives addresses of pools to Services.
	// +optional
	LoadBalancer *LoadBalancerControllerConfig `json:"loadBalancer,omitempty"`
	// Migration is kept and has no effect: there are no old names to change.
	// +optional
	Migration *MigrationControllerConfig `json:"migration,omitempty"`
}

// ReconcilerConfig is the content of the parts that only compare from time to time.
type ReconcilerConfig struct {
	// ReconcilerPeriod is the time between two passes. 5m when not set.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|ms|s|m|h))+$|^0$')",message="must be a duration such as 90s, 10m or 1h30m, or 0"
	// +optional
	ReconcilerPeriod *metav1.Duration `json:"reconcilerPeriod,omitempty"`
}

// NodeControllerConfig is the part that cleans up.
type NodeControllerConfig struct {
	// ReconcilerPeriod is the time between two full passes. 5m when not set.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|ms|s|m|h))+$|^0$')",message="must be a duration such as 90s, 10m or 1h30m, or 0"
	// +optional
	ReconcilerPeriod *metav1.Duration `json:"reconcilerPeriod,omitempty"`

	// SyncLabels is kept and has no effect: nodes' labels are read where they are.
	// +optional
	SyncLabels Switch `json:"syncLabels,omitempty"`

	// HostEndpoint says whether each node gets HostEndpoints by itself.
	// +optional
	HostEndpoint *AutoHostEndpointConfig `json:"hostEndpoint,omitempty"`

	// LeakGracePeriod is how long an address without an owner stays before it is collected: 15m when not set; 0: nothing
	// is collected.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|ms|s|m|h))+$|^0$')",message="must be a duration such as 90s, 10m or 1h30m, or 0"
	// +optional
	LeakGracePeriod *metav1.Duration `json:"leakGracePeriod,omitempty"`
}

// AutoHostEndpointConfig says which HostEndpoints are made by themselves.
type AutoHostEndpointConfig struct {
	// AutoCreate switches all of it. Disabled when not set.
	// +optional
	AutoCreate Switch `json:"autoCreate,omitempty"`
	// CreateDefaultHostEndpoint: one for all interfaces of each node. Enabled when not set.
	// +optional
	CreateDefaultHostEndpoint Switch `json:"createDefaultHostEndpoint,omitempty"`
	// Templates make more of them.
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	// +optional
	Templates []HostEndpointTemplate `json:"templates,omitempty"`
}

// HostEndpointTemplate makes HostEndpoints on the nodes it selects.
// +kubebuilder:validation:XValidation:rule="(has(self.interfaceCIDRs) && size(self.interfaceCIDRs) > 0) || (has(self.interfacePattern) && size(self.interfacePattern) > 0)",message="a template needs interfaceCIDRs or interfacePattern",fieldPath=".interfaceCIDRs"
type HostEndpointTemplate struct {
	// GenerateName ends the name of what is made.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be a part of a name: lower-case letters, digits, '-' and '.'"
	// +optional
	GenerateName string `json:"generateName,omitempty"`
	// InterfaceCIDRs are networks; only node addresses in them count.
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self) || isIP(self)",message="must be a network or an address, such as 192.168.10.0/24"
	// +listType=set
	// +optional
	InterfaceCIDRs []string `json:"interfaceCIDRs,omitempty"`
	// InterfacePattern is a regular expression of interface names.
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="''.matches(self) ? true : true",message="must be a regular expression (RE2)"
	// +optional
	InterfacePattern string `json:"interfacePattern,omitempty"`
	// Labels of what is made, beside the node's; they win.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// Annotations of what is made.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
	// NodeSelector says on which nodes. All when not set.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	NodeSelector string `json:"nodeSelector,omitempty"`
}

// AssignIPs says which Services get addresses.
// +kubebuilder:validation:Enum=AllServices;RequestedServicesOnly
type AssignIPs string

// Values of AssignIPs.
const (
	AssignAllServices           AssignIPs = "AllServices"
	AssignRequestedServicesOnly AssignIPs = "RequestedServicesOnly"
)

// LoadBalancerControllerConfig is the part that gives addresses to Services of type LoadBalancer.
type LoadBalancerControllerConfig struct {
	// AssignIPs: all Services, or only those that ask by loadBalancerClass or annotation.
	// +kubebuilder:default=AllServices
	// +optional
	AssignIPs AssignIPs `json:"assignIPs,omitempty"`
}

// MigrationControllerConfig is the part that renames policies of Calico before v3.31.
type MigrationControllerConfig struct {
	// PolicyNameMigrator is kept and has no effect.
	// +kubebuilder:default=Enabled
	// +optional
	PolicyNameMigrator Switch `json:"policyNameMigrator,omitempty"`
}

// KubeControllersConfigurationStatus says what the controller really uses.
type KubeControllersConfigurationStatus struct {
	// RunningConfig is the spec after the environment's variables.
	// +optional
	RunningConfig *KubeControllersConfigurationSpec `json:"runningConfig,omitempty"`
	// EnvironmentVars are the variables that changed it.
	// +optional
	EnvironmentVars map[string]string `json:"environmentVars,omitempty"`
}

// KubeControllersConfigurationList is a list of controller configurations.
// +kubebuilder:object:root=true
type KubeControllersConfigurationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []KubeControllersConfiguration `json:"items"`
}
