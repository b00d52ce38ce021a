package connect

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// restConfig makes of the settings what a client needs. context beats that of the settings.
func (s settings) restConfig(context string) (*rest.Config, error) {
	if err := s.checkDatastore(); err != nil {
		return nil, err
	}
	if context == "" {
		context = s.K8sCurrentContext
	}
	overrides := &clientcmd.ConfigOverrides{
		CurrentContext: context,
		AuthInfo:       clientcmdapi.AuthInfo{ClientCertificate: s.K8sCertFile, ClientKey: s.K8sKeyFile, Token: s.K8sAPIToken},
		ClusterInfo: clientcmdapi.Cluster{
			Server: s.K8sAPIEndpoint, CertificateAuthority: s.K8sCAFile, InsecureSkipTLSVerify: s.K8sInsecureSkipTLSVerify,
		},
	}
	if s.KubeconfigInline != "" {
		loaded, err := clientcmd.Load([]byte(s.KubeconfigInline))
		if err != nil {
			return nil, fmt.Errorf("read kubeconfigInline: %w", err)
		}
		return clientcmd.NewDefaultClientConfig(*loaded, overrides).ClientConfig()
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(s.rules(), overrides).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("find the cluster: nothing says how to reach it: set KUBECONFIG to a kubeconfig file, " +
			"or write one to ~/.kube/config, or name it in " + DefaultConfigFile)
	}
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w", err)
	}
	return config, nil
}

// checkDatastore refuses etcd, also where it is meant but not said.
func (s settings) checkDatastore() error {
	kind := s.DatastoreType
	if kind == "" && s.EtcdEndpoints != "" {
		kind = "etcdv3"
	}
	switch kind {
	case "", "kubernetes":
		return nil
	case "etcdv3":
		return errors.New("find the cluster: datastore type etcdv3: only the Kubernetes datastore is served: " +
			"set DATASTORE_TYPE (in a configuration file spec.datastoreType) to kubernetes, and KUBECONFIG; leave out the ETCD_ settings")
	default:
		return fmt.Errorf("find the cluster: datastore type %q is unknown: set DATASTORE_TYPE (in a configuration file spec.datastoreType) to kubernetes", kind)
	}
}

// rules say which kubeconfig is read. A file that is named has to be there.
func (s settings) rules() *clientcmd.ClientConfigLoadingRules {
	if paths := filepath.SplitList(s.Kubeconfig); len(paths) > 1 {
		return &clientcmd.ClientConfigLoadingRules{Precedence: paths}
	}
	if s.Kubeconfig != "" {
		return &clientcmd.ClientConfigLoadingRules{ExplicitPath: s.Kubeconfig}
	}
	rules := &clientcmd.ClientConfigLoadingRules{}
	if home, err := os.UserHomeDir(); err == nil && s.K8sAPIEndpoint == "" {
		rules.Precedence = []string{filepath.Join(home, clientcmd.RecommendedHomeDir, clientcmd.RecommendedFileName)}
	}
	return rules
}
