package pods

import (
	"context"
	"errors"
)

// Pod is what is known of a pod.
type Pod struct {
	Namespace, Name, UID string
	// Static is the UID that kubelet gives a static pod, whose mirror in the API has another one; "" for other pods.
	Static      string
	Labels      map[string]string
	Annotations map[string]string // see KeepPod
}

// Namespace is what is known of a namespace.
type Namespace struct {
	Name        string
	Labels      map[string]string
	Annotations map[string]string // see KeepNamespace
}

// Ref names a pod as the runtime does. UID may be "".
type Ref struct{ Namespace, Name, UID string }

// KeepPod returns those of a pod's annotations that this package reads; nil when there are none, as with most pods.
func KeepPod(annotations map[string]string) map[string]string {
	return keep(annotations, podAnnotations)
}

// KeepNamespace is KeepPod for a namespace.
func KeepNamespace(annotations map[string]string) map[string]string {
	return keep(annotations, namespaceAnnotations)
}

func keep(annotations map[string]string, names []string) (out map[string]string) {
	for _, name := range names {
		if v := annotations[prefix+name]; v != "" {
			if out == nil {
				out = map[string]string{}
			}
			out[prefix+name] = v
		}
	}
	return out
}

// ErrNotFound is what a Source says of an object that the API server does not have.
var ErrNotFound = errors.New("not found")

// Source is where to ask for what no watch has told of yet.
type Source interface {
	Pod(ctx context.Context, namespace, name string) (Pod, error)
	Namespace(ctx context.Context, name string) (Namespace, error)
}

// kubelets says whether kubelet may have given a pod this UID: a UUID, or for a static pod a hash of 32 hexadecimal
// digits. Containers of others, such as of a test of plugins, have no object in the API that could be waited for.
func kubelets(uid string) bool {
	digits := 0
	for i, c := range []byte(uid) {
		switch {
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F':
			digits++
		case c != '-' || len(uid) != 36 || i != 8 && i != 13 && i != 18 && i != 23:
			return false
		}
	}
	return digits == 32
}
