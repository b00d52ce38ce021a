// Package kube is the door to the Kubernetes API: one client for our resources and the few core kinds that the agent
// needs, watches that fill the store, and the writers of the node's own status.
//
// It keeps no objects: a watch turns each into a small value of package model and forgets it. All writes of the agent are
// compare-and-swap or patches of fields that are this node's alone.
//
// A cluster keeps our resources in one of two groups (Kinds, Client.Use). Everything here is written for
// projectcalico.org/v3; where the cluster has crd.projectcalico.org/v1, the transport below the client turns requests and
// answers from the one form into the other (bridge.go, form.go).
package kube

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// requestTimeout bounds each request that is not a watch.
const requestTimeout = 10 * time.Second

// Client talks to one cluster.
type Client struct {
	core      rest.Interface     // core/v1
	discovery rest.Interface     // discovery.k8s.io/v1
	v3        rest.Interface     // projectcalico.org/v3, typed
	dynamic   dynamic.Interface  // the same, untyped
	meta      metadata.Interface // metadata alone, of any kind
	v1        *atomic.Bool       // it is kept in crd.projectcalico.org/v1
}

// Config returns how to reach the API: by the kubeconfig file if one is named, else by the pod's service account.
func Config(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", kubeconfig)
}

// New returns a client of a cluster that keeps our resources in projectcalico.org/v3; Use says otherwise. It makes no
// request.
func New(config *rest.Config) (*Client, error) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := discoveryv1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := v3.AddToScheme(scheme); err != nil {
		return nil, err
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	codecs := serializer.NewCodecFactory(scheme)
	v1 := new(atomic.Bool)
	config = rest.CopyConfig(config)
	config.QPS = -1 // the agent batches its writes; a limiter would only delay them
	if config.UserAgent == "" {
		config.UserAgent = "margay-agent"
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &bridge{next: next, v1: v1} })
	door := func(gv schema.GroupVersion, path, contentType string) (rest.Interface, error) {
		c := rest.CopyConfig(config)
		c.GroupVersion = &gv
		c.APIPath = path
		c.ContentType = contentType
		c.AcceptContentTypes = contentType
		c.NegotiatedSerializer = codecs.WithoutConversion()
		client, err := rest.RESTClientFor(c)
		if err != nil {
			return nil, fmt.Errorf("make client of %s: %w", gv, err)
		}
		return client, nil
	}
	core, err := door(corev1.SchemeGroupVersion, "/api", "application/vnd.kubernetes.protobuf")
	if err != nil {
		return nil, err
	}
	discovery, err := door(discoveryv1.SchemeGroupVersion, "/apis", "application/vnd.kubernetes.protobuf")
	if err != nil {
		return nil, err
	}
	crds, err := door(v3.GroupVersion, "/apis", "application/json")
	if err != nil {
		return nil, err
	}
	untyped, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client of %s: %w", v3.GroupVersion, err)
	}
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client of metadata: %w", err)
	}
	return &Client{core: core, discovery: discovery, v3: crds, dynamic: untyped, meta: meta, v1: v1}, nil
}

// object is a pointer to T that is an API object.
type object[T any] interface {
	*T
	runtime.Object
	metav1.Object
}

func get[T any, P object[T]](ctx context.Context, c rest.Interface, resource, name string) (*T, error) {
	out := P(new(T))
	err := c.Get().Resource(resource).Name(name).Timeout(requestTimeout).Do(ctx).Into(out)
	return out, err
}

func list[T any, P interface {
	*T
	runtime.Object
}](ctx context.Context, c rest.Interface, resource string, o metav1.ListOptions) (*T, error) {
	out := P(new(T))
	err := c.Get().Resource(resource).VersionedParams(&o, metav1.ParameterCodec).Timeout(requestTimeout).Do(ctx).Into(out)
	return out, err
}

func create[T any, P object[T]](ctx context.Context, c rest.Interface, resource string, obj P) (*T, error) {
	out := P(new(T))
	err := c.Post().Resource(resource).Timeout(requestTimeout).Body(obj).Do(ctx).Into(out)
	return out, err
}

func update[T any, P object[T]](ctx context.Context, c rest.Interface, resource string, obj P) (*T, error) {
	out := P(new(T))
	err := c.Put().Resource(resource).Name(obj.GetName()).Timeout(requestTimeout).Body(obj).Do(ctx).Into(out)
	return out, err
}

// remove deletes just this object in just this state.
func remove(ctx context.Context, c rest.Interface, resource string, obj metav1.Object) error {
	uid, version := obj.GetUID(), obj.GetResourceVersion()
	return c.Delete().Resource(resource).Name(obj.GetName()).Timeout(requestTimeout).Body(&metav1.DeleteOptions{
		TypeMeta:      metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: "v1"},
		Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version},
	}).Do(ctx).Error()
}
