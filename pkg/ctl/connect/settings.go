package connect

import (
	"fmt"
	"strconv"

	"sigs.k8s.io/yaml"
)

// settings say how to reach the cluster: spec of a CalicoAPIConfig, or environment variables. Where a variable's name is
// none, the setting is of files alone.
type settings struct {
	DatastoreType string `json:"datastoreType"` // DATASTORE_TYPE
	EtcdEndpoints string `json:"etcdEndpoints"` // ETCD_ENDPOINTS

	Kubeconfig               string `json:"kubeconfig"`               // KUBECONFIG: a path, or several with colons between
	KubeconfigInline         string `json:"kubeconfigInline"`         // the text itself
	K8sAPIEndpoint           string `json:"k8sAPIEndpoint"`           // K8S_API_ENDPOINT
	K8sKeyFile               string `json:"k8sKeyFile"`               // K8S_KEY_FILE
	K8sCertFile              string `json:"k8sCertFile"`              // K8S_CERT_FILE
	K8sCAFile                string `json:"k8sCAFile"`                // K8S_CA_FILE
	K8sAPIToken              string `json:"k8sAPIToken"`              // K8S_API_TOKEN
	K8sInsecureSkipTLSVerify bool   `json:"k8sInsecureSkipTLSVerify"` // K8S_INSECURE_SKIP_TLS_VERIFY
	K8sCurrentContext        string `json:"k8sCurrentContext"`        // K8S_CURRENT_CONTEXT
	CalicoAPIGroup           string `json:"calicoAPIGroup"`           // CALICO_API_GROUP
}

// passedOver are fields of a CalicoAPIConfig that mean nothing here: of etcd, and of calicoctl's own client.
type passedOver struct {
	EtcdDiscoverySrv   any `json:"etcdDiscoverySrv"`
	EtcdUsername       any `json:"etcdUsername"`
	EtcdPassword       any `json:"etcdPassword"`
	EtcdKeyFile        any `json:"etcdKeyFile"`
	EtcdCertFile       any `json:"etcdCertFile"`
	EtcdCACertFile     any `json:"etcdCACertFile"`
	EtcdKey            any `json:"etcdKey"`
	EtcdCert           any `json:"etcdCert"`
	EtcdCACert         any `json:"etcdCACert"`
	K8sDisableNodePoll any `json:"k8sDisableNodePoll"`
	UsePodCIDR         any `json:"usePodCIDR"`
	K8sClientQPS       any `json:"k8sClientQPS"`
	K8sClientBurst     any `json:"k8sClientBurst"`
}

// file is the form of a configuration file.
type file struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   any    `json:"metadata"`
	Spec       struct {
		settings
		passedOver
	} `json:"spec"`
}

func fromFile(name string, text []byte) (settings, error) {
	var f file
	if err := yaml.UnmarshalStrict(text, &f); err != nil {
		return settings{}, fmt.Errorf("read configuration file %s: %w", name, err)
	}
	if f.APIVersion != "projectcalico.org/v3" || f.Kind != "CalicoAPIConfig" {
		return settings{}, fmt.Errorf("read configuration file %s: apiVersion %q, kind %q: want projectcalico.org/v3, CalicoAPIConfig", name, f.APIVersion, f.Kind)
	}
	return f.Spec.settings, nil
}

// fromEnviron reads the variables, CALICO_NAME before NAME.
func fromEnviron(lookup func(string) (string, bool)) (settings, error) {
	get := func(name string) string {
		if v, ok := lookup("CALICO_" + name); ok {
			return v
		}
		v, _ := lookup(name)
		return v
	}
	s := settings{
		DatastoreType:     get("DATASTORE_TYPE"),
		EtcdEndpoints:     get("ETCD_ENDPOINTS"),
		Kubeconfig:        get("KUBECONFIG"),
		K8sAPIEndpoint:    get("K8S_API_ENDPOINT"),
		K8sKeyFile:        get("K8S_KEY_FILE"),
		K8sCertFile:       get("K8S_CERT_FILE"),
		K8sCAFile:         get("K8S_CA_FILE"),
		K8sAPIToken:       get("K8S_API_TOKEN"),
		K8sCurrentContext: get("K8S_CURRENT_CONTEXT"),
		CalicoAPIGroup:    get("CALICO_API_GROUP"),
	}
	if skip := get("K8S_INSECURE_SKIP_TLS_VERIFY"); skip != "" {
		var err error
		if s.K8sInsecureSkipTLSVerify, err = strconv.ParseBool(skip); err != nil {
			return s, fmt.Errorf("read environment: K8S_INSECURE_SKIP_TLS_VERIFY %q: use true or false", skip)
		}
	}
	return s, nil
}
