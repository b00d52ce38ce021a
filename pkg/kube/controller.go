package kube

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// controllerconfigs is a resource that only the controller uses.
const controllerconfigs = "kubecontrollersconfigurations"

// ControllersConfig is the name of the KubeControllersConfiguration that counts.
const ControllersConfig = "default"

// GetNode reads a Node from the API server, not from a cache.
func (c *Client) GetNode(ctx context.Context, name string) (*corev1.Node, error) {
	return get[corev1.Node](ctx, c.core, "nodes", name)
}

// PodsOf lists the pods that are bound to a node, as they are at this moment: no cache is asked that may lag behind.
func (c *Client) PodsOf(ctx context.Context, node string) ([]corev1.Pod, error) {
	all, err := list[corev1.PodList](ctx, c.core, "pods", metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String()})
	if err != nil {
		return nil, err
	}
	return all.Items, nil
}

// GetPod reads a Pod from the API server, not from a cache.
func (c *Client) GetPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	out := &corev1.Pod{}
	err := c.core.Get().Namespace(namespace).Resource("pods").Name(name).Timeout(requestTimeout).Do(ctx).Into(out)
	return out, err
}

// GetService reads a Service from the API server, not from a cache.
func (c *Client) GetService(ctx context.Context, namespace, name string) (*corev1.Service, error) {
	out := &corev1.Service{}
	err := c.core.Get().Namespace(namespace).Resource("services").Name(name).Timeout(requestTimeout).Do(ctx).Into(out)
	return out, err
}

// UpdateServiceStatus writes a Service's status by compare-and-swap.
func (c *Client) UpdateServiceStatus(ctx context.Context, s *corev1.Service) (*corev1.Service, error) {
	out := &corev1.Service{}
	err := c.core.Put().Namespace(s.Namespace).Resource("services").Name(s.Name).SubResource("status").Timeout(requestTimeout).Body(s).Do(ctx).Into(out)
	return out, err
}

// Tell writes an Event on an object: kind is corev1.EventTypeNormal or Warning.
func (c *Client) Tell(ctx context.Context, on corev1.ObjectReference, kind, component, reason, message string) error {
	namespace := on.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	now := metav1.NewTime(time.Now())
	e := &corev1.Event{
		TypeMeta:       metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:     metav1.ObjectMeta{GenerateName: on.Name + ".", Namespace: namespace},
		InvolvedObject: on, Reason: reason, Message: message, Type: kind,
		Source: corev1.EventSource{Component: component}, FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}
	if err := c.core.Post().Namespace(namespace).Resource("events").Timeout(requestTimeout).Body(e).Do(ctx).Error(); err != nil {
		return fmt.Errorf("create event of %s %s: %w", on.Kind, on.Name, err)
	}
	return nil
}

// EnsureControllersConfig returns the controller's configuration, which it makes from spec when there is none.
func (c *Client) EnsureControllersConfig(ctx context.Context, spec v3.KubeControllersConfigurationSpec) (*v3.KubeControllersConfiguration, error) {
	have, err := get[v3.KubeControllersConfiguration](ctx, c.v3, controllerconfigs, ControllersConfig)
	if !apierrors.IsNotFound(err) {
		return have, err
	}
	return create(ctx, c.v3, controllerconfigs, &v3.KubeControllersConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "KubeControllersConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: ControllersConfig}, Spec: spec,
	})
}

// UpdateControllersStatus writes the status of the controller's configuration by compare-and-swap.
func (c *Client) UpdateControllersStatus(ctx context.Context, k *v3.KubeControllersConfiguration) error {
	return c.v3.Put().Resource(controllerconfigs).Name(k.Name).SubResource("status").Timeout(requestTimeout).Body(k).Do(ctx).Error()
}
