package garbage

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/margay-net/margay/pkg/controller/cluster"
	"github.com/margay-net/margay/pkg/ipam/collect"
)

// work is what one pass asks for.
type work struct {
	*Garbage
	cooldown time.Duration
}

// look is what the API server said of a node and its pods a moment ago.
type look struct {
	node *collect.Node // nil: there is none
	pods map[collect.PodKey]collect.PodState
}

func (l *look) pod(k collect.PodKey) (collect.PodState, bool) {
	p, ok := l.pods[k]
	return p, ok
}

// look reads a node and its pods. For allocations that name no node it reads just their pods.
func (w *work) look(ctx context.Context, node string, list []collect.Release) (*look, error) {
	l := &look{pods: map[collect.PodKey]collect.PodState{}}
	put := func(p *corev1.Pod) {
		l.pods[collect.PodKey{Namespace: collect.NameOf(p.Namespace), Name: p.Name}] = cluster.ReadPod(p)
	}
	if node == "" {
		for _, r := range list {
			for i := range r.Held {
				a := &r.Held[i].Alloc
				p, err := w.client.GetPod(ctx, a.Namespace.Value(), a.Name)
				if err == nil {
					put(p)
				} else if !apierrors.IsNotFound(err) {
					return nil, fmt.Errorf("get pod %s/%s: %w", a.Namespace.Value(), a.Name, err)
				}
			}
		}
		return l, nil
	}
	// The pods first: should the node be made anew in between, it is seen, and nothing is done.
	pods, err := w.client.PodsOf(ctx, node)
	if err != nil {
		return nil, fmt.Errorf("list pods of node %s: %w", node, err)
	}
	for i := range pods {
		put(&pods[i])
	}
	l.node, err = w.node(ctx, node)
	return l, err
}

// node reads a node; nil when there is none.
func (w *work) node(ctx context.Context, name string) (*collect.Node, error) {
	n, err := w.client.GetNode(ctx, name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get node %s: %w", name, err)
	}
	out := cluster.ReadNode(n)
	return &out, nil
}

// still says whether a release is right by what the API server has just said.
func (l *look) still(r *collect.Release) bool {
	uid := ""
	if l.node != nil {
		uid = l.node.UID
	}
	if uid != r.NodeUID || l.node != nil && l.node.Silent && !r.AtOnce {
		return false
	}
	for i := range r.Held {
		if h := &r.Held[i]; collect.Judge(&h.Alloc, h.Addr, l.node, l.pod) == "" {
			return false
		}
	}
	return true
}
