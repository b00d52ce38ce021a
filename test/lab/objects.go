package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// Dump returns the Nodes' names and annotations, and all objects of our group as people wrote them: without what the API
// server adds.
func (l *Lab) Dump() (out []*unstructured.Unstructured, err error) {
	ctx, cancel := l.ctx(10 * time.Second)
	defer cancel()
	all := []schema.GroupVersionResource{{Version: "v1", Resource: "nodes"}}
	for _, r := range resources {
		all = append(all, v3.GroupVersion.WithResource(r))
	}
	for _, r := range all {
		list, err := l.any.Resource(r).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		for _, o := range list.Items {
			o := o.DeepCopy()
			meta := map[string]any{"name": o.GetName()}
			for _, key := range []string{"annotations", "labels"} {
				if v, ok := o.Object["metadata"].(map[string]any)[key]; ok {
					meta[key] = v
				}
			}
			o.Object["metadata"] = meta
			if r.Resource == "nodes" {
				delete(o.Object, "spec")
				delete(o.Object, "status")
			}
			out = append(out, o)
		}
	}
	return out, nil
}

// Restore makes objects that Dump returned; of Nodes, which must exist, the annotations.
func (l *Lab) Restore(list []*unstructured.Unstructured) error {
	ctx, cancel := l.ctx(10 * time.Second)
	defer cancel()
	for _, o := range list {
		resource := strings.ToLower(o.GetKind()) + "s"
		if o.GetKind() == "BlockAffinity" {
			resource = "blockaffinities"
		}
		var err error
		switch {
		case o.GetKind() == "Node":
			var patch []byte
			if patch, err = json.Marshal(map[string]any{"metadata": map[string]any{"annotations": o.GetAnnotations()}}); err != nil {
				return err
			}
			_, err = l.Core.CoreV1().Nodes().Patch(ctx, o.GetName(), types.MergePatchType, patch, metav1.PatchOptions{})
		case slices.Contains(resources, resource):
			_, err = l.any.Resource(v3.GroupVersion.WithResource(resource)).Create(ctx, o, metav1.CreateOptions{})
		default:
			err = fmt.Errorf("kind %s is none that a lab knows", o.GetKind())
		}
		if err != nil {
			return fmt.Errorf("restore %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// results is where libcni keeps ADD's result of a pod.
func (p *Pod) results() string {
	return filepath.Join(p.Node.dir, "cache", "results", "k8s-pod-network-"+p.ID+"-eth0")
}

// Result is what ADD printed, as the runtime keeps it.
func (p *Pod) Result() (json.RawMessage, error) {
	b, err := os.ReadFile(p.results())
	if err != nil {
		return nil, err
	}
	var kept struct{ Result json.RawMessage }
	err = json.Unmarshal(b, &kept)
	return kept.Result, err
}

// Adopt has the runtime remember an ADD of this sandbox that somebody else has made: its result.
func (p *Pod) Adopt(result json.RawMessage) error {
	b, err := json.Marshal(map[string]any{
		"kind": "cniCacheV1", "containerId": p.ID, "ifName": "eth0", "networkName": "k8s-pod-network", "result": result,
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.results()), 0o700); err != nil {
		return err
	}
	p.Node.lab.mu.Lock()
	p.Node.lab.pods[p] = struct{}{}
	p.Node.lab.mu.Unlock()
	return os.WriteFile(p.results(), b, 0o600)
}
