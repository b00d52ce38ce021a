package kube

import (
	"context"
	"errors"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	corev1 "k8s.io/api/core/v1"

	"github.com/margay-net/margay/pkg/pods"
)

// annMirror is what kubelet notes on the API's copy of a static pod: the UID that the pod has on its node.
const annMirror = "kubernetes.io/config.mirror"

// Of pods and namespaces only the metadata is asked for: the rest is many times as large, and changes much more often
// than it is looked at.
var (
	podResource       = corev1.SchemeGroupVersion.WithResource("pods")
	namespaceResource = corev1.SchemeGroupVersion.WithResource("namespaces")
)

func readPod(o *metav1.PartialObjectMetadata) pods.Pod {
	// Text that is kept must not keep the whole message alive that it was decoded from.
	return pods.Pod{
		Namespace: strings.Clone(o.Namespace), Name: strings.Clone(o.Name), UID: strings.Clone(string(o.UID)),
		Static: strings.Clone(o.Annotations[annMirror]), Labels: cloneAll(o.Labels), Annotations: pods.KeepPod(o.Annotations),
	}
}

func cloneAll(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[strings.Clone(k)] = strings.Clone(v)
	}
	return out
}

func readNamespace(o *metav1.PartialObjectMetadata) pods.Namespace {
	return pods.Namespace{Name: o.Name, Labels: o.Labels, Annotations: pods.KeepNamespace(o.Annotations)}
}

// WithPods has the watcher keep a directory of the pods of a node and of all namespaces, and the node's labels in the
// store. It is to be called before Run.
func (w *Watcher) WithPods(node string, d *pods.Directory) *Watcher {
	w.node, w.pods = node, d
	return w
}

// podRuns watch what WithPods asked for.
func (w *Watcher) podRuns() []func(context.Context) {
	if w.pods == nil {
		return nil
	}
	own := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", w.node).String()}
	return []func(context.Context){
		w.reflectMetadata(w.client.metadata(podResource.Resource, own), "pods", &sink[*metav1.PartialObjectMetadata]{
			key: func(o *metav1.PartialObjectMetadata) string { return o.Namespace + "/" + o.Name },
			put: func(o *metav1.PartialObjectMetadata) { w.pods.SetPod(readPod(o)) },
			drop: func(key string) {
				namespace, name, _ := strings.Cut(key, "/")
				w.pods.DeletePod(namespace, name)
			},
			synced: w.pods.ReadPods,
		}),
		w.reflectMetadata(w.client.metadata(namespaceResource.Resource, metav1.ListOptions{}), "namespaces", &sink[*metav1.PartialObjectMetadata]{
			put:    func(o *metav1.PartialObjectMetadata) { w.pods.SetNamespace(readNamespace(o)) },
			drop:   w.pods.DeleteNamespace,
			synced: w.pods.ReadNamespaces,
		}),
	}
}

// metadata lists and watches the metadata of a core kind's objects, those that only selects.
func (c *Client) metadata(resource string, only metav1.ListOptions) cache.ListerWatcher {
	objects := c.meta.Resource(corev1.SchemeGroupVersion.WithResource(resource))
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only.FieldSelector
			return objects.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only.FieldSelector
			return objects.Watch(ctx, o)
		},
	}, c.meta)
}

func (w *Watcher) reflectMetadata(lw cache.ListerWatcher, name string, to cache.ReflectorStore) func(context.Context) {
	return w.reflector(lw, name, &metav1.PartialObjectMetadata{}, to)
}

// Pod and Namespace make Client a pods.Source.
func (c *Client) Pod(ctx context.Context, namespace, name string) (pods.Pod, error) {
	o, err := c.meta.Resource(podResource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return pods.Pod{}, notFound(err)
	}
	return readPod(o), nil
}

// Namespace asks for a namespace; see Pod.
func (c *Client) Namespace(ctx context.Context, name string) (pods.Namespace, error) {
	o, err := c.meta.Resource(namespaceResource).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return pods.Namespace{}, notFound(err)
	}
	return readNamespace(o), nil
}

func notFound(err error) error {
	if apierrors.IsNotFound(err) {
		return errors.Join(pods.ErrNotFound, err)
	}
	return err
}
