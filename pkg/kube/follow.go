package kube

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// Key names an object; Namespace is "" for kinds without.
type Key struct{ Namespace, Name string }

// Sink takes what Follow reads. Its functions are called from one goroutine.
type Sink[P Object, V any] struct {
	Read   func(P) V    // what is kept of an object; the object is dropped
	Put    func(Key, V) // an object is there, or has changed
	Drop   func(Key)    // … is gone
	Synced func()       // all that there was at the start has been put
}

// Object is an API object.
type Object interface {
	runtime.Object
	metav1.Object
}

// Follow reads all objects of a kind and follows their changes until ctx ends. Each is reduced to what Sink.Read makes of it
// as soon as it is decoded, so that a list of many objects is never in memory whole. T is one of the kinds of Followed.
func Follow[T any, P object[T], V any](ctx context.Context, c *Client, s Sink[P, V]) {
	door, resource := c.followed(P(new(T)))
	follow[T](ctx, door, resource, "", s)
}

// follow follows the objects that a label selector selects; "": all.
func follow[T any, P object[T], V any](ctx context.Context, door rest.Interface, resource, labels string, s Sink[P, V]) {
	lw := cache.ToListWatcherWithWatchListSemantics(cache.NewFilteredListWatchFromClient(door, resource, metav1.NamespaceAll,
		func(o *metav1.ListOptions) { o.LabelSelector = labels }), door)
	cache.NewReflectorWithOptions(lw, P(new(T)), &reduced[T, P, V]{Sink: s, keys: map[Key]struct{}{}}, cache.ReflectorOptions{
		Name:    resource,
		Backoff: &wait.Backoff{Duration: 500 * time.Millisecond, Cap: 8 * time.Second, Steps: 8, Factor: 2, Jitter: 1},
	}).RunWithContext(ctx)
}

// followed says where objects of a kind are. It panics when Follow does not know the kind.
func (c *Client) followed(of runtime.Object) (rest.Interface, string) {
	switch of.(type) {
	case *corev1.Node:
		return c.core, "nodes"
	case *corev1.Pod:
		return c.core, "pods"
	case *corev1.Service:
		return c.core, "services"
	case *corev1.Namespace:
		return c.core, "namespaces"
	case *v3.IPPool:
		return c.v3, ippools
	case *v3.IPReservation:
		return c.v3, reservations
	case *v3.IPAMBlock:
		return c.v3, blocks
	case *v3.IPAMHandle:
		return c.v3, handles
	case *v3.BlockAffinity:
		return c.v3, affinities
	case *v3.IPAMConfiguration:
		return c.v3, ipamconfigs
	case *v3.ClusterInformation:
		return c.v3, clusterinfo
	case *v3.KubeControllersConfiguration:
		return c.v3, controllerconfigs
	}
	panic("kube.Follow of an unknown kind")
}

// reduced is the store of a reflector.
type reduced[T any, P object[T], V any] struct {
	Sink[P, V]
	keys map[Key]struct{}
}

// kept is a reduced object, while a list is being read.
type kept[V any] struct {
	Key
	value V
}

// GetObjectMeta tells a reflector the object's name.
func (k *kept[V]) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: k.Namespace, Name: k.Name}
}

func (r *reduced[T, P, V]) reduce(obj any) *kept[V] {
	if k, ok := obj.(*kept[V]); ok {
		return k
	}
	o, ok := obj.(P)
	if !ok {
		return nil
	}
	return &kept[V]{Key{o.GetNamespace(), o.GetName()}, r.Read(o)}
}

// Transformer has a reflector reduce each object of a list when it comes.
func (r *reduced[T, P, V]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return r.reduce(obj), nil }
}

// Add puts an object.
func (r *reduced[T, P, V]) Add(obj any) error {
	if k := r.reduce(obj); k != nil {
		r.keys[k.Key] = struct{}{}
		r.Put(k.Key, k.value)
	}
	return nil
}

// Update puts an object.
func (r *reduced[T, P, V]) Update(obj any) error { return r.Add(obj) }

// Delete drops an object.
func (r *reduced[T, P, V]) Delete(obj any) error {
	if d, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = d.Obj
	}
	if k := r.reduce(obj); k != nil {
		delete(r.keys, k.Key)
		r.Drop(k.Key)
	}
	return nil
}

// Replace puts all objects and drops those that are no longer there.
func (r *reduced[T, P, V]) Replace(list []any, _ string) error {
	old := r.keys
	r.keys = make(map[Key]struct{}, len(list))
	for i, obj := range list {
		if err := r.Add(obj); err != nil {
			return err
		}
		list[i] = nil
	}
	for k := range old {
		if _, ok := r.keys[k]; !ok {
			r.Drop(k)
		}
	}
	r.Synced()
	return nil
}

// Resync does nothing: the state is level-triggered.
func (r *reduced[T, P, V]) Resync() error { return nil }
