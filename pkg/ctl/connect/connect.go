package connect

import (
	"context"
	"fmt"
	"os"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/margay-net/margay/pkg/kube"
)

// Cluster is the cluster that was found.
type Cluster struct {
	Kube *kube.Client         // our resources, in the form of projectcalico.org/v3 whatever the group
	Core kubernetes.Interface // Kubernetes' own: nodes, pods, namespaces
	REST *rest.Config
}

// Cluster returns the cluster, provided that its version is this program's or a mismatch is allowed.
func (o *Options) Cluster(ctx context.Context) (*Cluster, error) {
	c, err := o.Open(ctx)
	if err != nil {
		return nil, err
	}
	if o.AllowVersionMismatch {
		return c, nil
	}
	return c, o.checkVersion(ctx, c)
}

// Open returns the cluster, whatever its version.
func (o *Options) Open(ctx context.Context) (*Cluster, error) {
	log, err := o.Log(os.Stderr)
	if err != nil {
		return nil, err
	}
	klog.SetSlogLogger(log) // client-go's
	s, err := o.load()
	if err != nil {
		return nil, err
	}
	config, err := s.restConfig(o.Context)
	if err != nil {
		return nil, err
	}
	config.UserAgent = "margayctl/" + o.Version
	config.QPS = -1 // a person waits
	config.WarningHandler = rest.NewWarningWriter(os.Stderr, rest.WarningWriterOptions{Deduplicate: true})
	log.Debug("cluster is found", "server", config.Host, "group", s.CalicoAPIGroup)

	core, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	client, err := kube.Connect(ctx, config, s.CalicoAPIGroup)
	if err != nil {
		return nil, err
	}
	return &Cluster{Kube: client, Core: core, REST: config}, nil
}

var clusterInformation, _ = kube.KindOf("ClusterInformation")

// checkVersion compares as calicoctl does: what is before the first '-', without the v; and where either side does not
// say, nothing is compared.
func (o *Options) checkVersion(ctx context.Context, c *Cluster) error {
	info, err := c.Kube.GetResource(ctx, clusterInformation, metav1.NamespaceNone, "default")
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read ClusterInformation default for the cluster's version (--allow-version-mismatch leaves that out): %w", err)
	}
	spec, _ := info.Object["spec"].(map[string]any)
	cluster, _ := spec["calicoVersion"].(string)
	if !released(cluster) || !released(o.Version) || release(cluster) == release(o.Version) {
		return nil
	}
	return fmt.Errorf("version mismatch.\nClient Version:   %s\nCluster Version:  %s\nUse --allow-version-mismatch to override", o.Version, cluster)
}

// release of v1.2.3-4-gabcdef is 1.2.3.
func release(version string) string {
	v, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), "-")
	return v
}

// released says whether a version is one: a build without a tag has just its commit.
func released(version string) bool { return strings.Count(release(version), ".") == 2 }
