package resource

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// nodes keeps Calico's Nodes in the annotations of Kubernetes' ones.
type nodes struct {
	client corev1client.NodeInterface
	kind   *Kind
}

func openNodes(c Cluster, k *Kind) Store { return nodes{c.Core.CoreV1().Nodes(), k} }

func (s nodes) Get(ctx context.Context, _, name string) (*unstructured.Unstructured, error) {
	k, err := s.client.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, s.kind.explain(err, "", name, "get")
	}
	return readNode(k)
}

func (s nodes) List(ctx context.Context, _ string) (*unstructured.UnstructuredList, error) {
	l, err := s.client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, s.kind.explain(err, "", "", "list")
	}
	var items []unstructured.Unstructured
	for i := range l.Items {
		n, err := readNode(&l.Items[i])
		if err != nil {
			return nil, err
		}
		items = append(items, *n)
	}
	return s.kind.newList(l.ResourceVersion, items), nil
}

// Create is refused, but says that a Node exists where it does, so that it can be applied.
func (s nodes) Create(ctx context.Context, o *unstructured.Unstructured, _ bool) (*unstructured.Unstructured, error) {
	if _, err := s.client.Get(ctx, o.GetName(), metav1.GetOptions{}); err == nil {
		return nil, s.kind.explain(alreadyExists(s.kind, o.GetName()), "", o.GetName(), "create")
	}
	return nil, fmt.Errorf("operation Create is not supported on Node(%s): Kubernetes' node has it: kubelet registers nodes, and here they can be changed", o.GetName())
}

// Delete is refused.
func (s nodes) Delete(_ context.Context, _, name, _ string) error {
	return fmt.Errorf("operation Delete is not supported on Node(%s): Kubernetes' node has it: kubectl delete node %s", name, name)
}

// Update writes what differs into the annotations, provided that the Node still has the version it was read with.
func (s nodes) Update(ctx context.Context, o *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	n, err := parseNode(o)
	if err != nil {
		return nil, err
	}
	old, err := s.client.Get(ctx, n.Name, metav1.GetOptions{})
	if err != nil {
		return nil, s.kind.explain(err, "", n.Name, "update")
	}
	want, err := n.write()
	if err != nil {
		return nil, err
	}
	changes := map[string]any{}
	for key, v := range want {
		if have, ok := old.Annotations[key]; ok != (v != nil) || v != nil && have != v {
			changes[key] = v
		}
	}
	if len(changes) == 0 {
		return readNode(old)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": n.ResourceVersion, "annotations": changes}})
	if err != nil {
		return nil, err
	}
	options := metav1.PatchOptions{}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	k, err := s.client.Patch(ctx, n.Name, types.MergePatchType, patch, options)
	if err != nil {
		return nil, s.kind.explain(err, "", n.Name, "update")
	}
	return readNode(k)
}

// write returns the annotations that hold the Node, nil for those to be removed.
func (n *node) write() (map[string]any, error) {
	out := map[string]any{}
	for _, a := range n.annotations() {
		out[prefix+a.name] = nil
		if v := *a.at(n); v != "" {
			out[prefix+a.name] = v
		}
	}
	out[prefix+"ASNumber"] = nil
	if as := n.Spec.BGP.ASNumber; as != nil {
		out[prefix+"ASNumber"] = strconv.FormatUint(uint64(*as), 10)
	}
	own, err := n.ownMeta()
	if err != nil {
		return nil, err
	}
	for key, v := range own {
		out[key] = nil
		if len(v) > 0 {
			text, err := json.Marshal(v)
			if err != nil {
				return nil, err
			}
			out[key] = string(text)
		}
	}
	out[interfacesOfNode] = nil
	if n.Spec.Interfaces != nil {
		text, err := json.Marshal(n.Spec.Interfaces)
		if err != nil {
			return nil, err
		}
		out[interfacesOfNode] = string(text)
	}
	return out, nil
}

// ownMeta are labels and annotations that are not Kubernetes'.
func (n *node) ownMeta() (map[string]map[string]string, error) {
	labels, annotations := maps.Clone(n.Labels), maps.Clone(n.Annotations)
	if text := annotations[kubeLabels]; text != "" {
		theirs := map[string]string{}
		if err := json.Unmarshal([]byte(text), &theirs); err != nil {
			return nil, &FieldError{"metadata.annotations[" + kubeLabels + "]", "is no JSON of labels: leave it as get shows it"}
		}
		for key := range theirs {
			delete(labels, key)
		}
	}
	delete(annotations, kubeLabels)
	return map[string]map[string]string{labelsAnnotation: labels, annotationsOfNode: annotations}, nil
}

// KubernetesLabels are the labels of a Node that was read that are Kubernetes', which changing here would not change.
func KubernetesLabels(o *unstructured.Unstructured) map[string]string {
	theirs := map[string]string{}
	_ = json.Unmarshal([]byte(o.GetAnnotations()[kubeLabels]), &theirs)
	return theirs
}
