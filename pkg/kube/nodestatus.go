package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

const nodestatuses = "caliconodestatuses"

// NodeStatusRequest is a CalicoNodeStatus that asks about a node, as far as the node must know it.
type NodeStatusRequest struct {
	Name    string
	UID     types.UID
	Classes string        // Agent, BGP, Routes, sorted, with blanks between them
	Period  time.Duration // from one report to the next; 0: no more
	Written bool          // it has had a report
}

// Asks says whether a class of information is asked for.
func (r NodeStatusRequest) Asks(c v3.StatusClass) bool {
	return slices.Contains(strings.Fields(r.Classes), string(c))
}

// FollowNodeStatuses tells of all CalicoNodeStatus resources that ask about a node, and of their changes, until ctx ends.
// Those that ask about other nodes are forgotten as soon as they are decoded: the API server cannot select by a field.
func (c *Client) FollowNodeStatuses(ctx context.Context, node string, put func(NodeStatusRequest), drop func(name string)) {
	lw := cache.ToListWatcherWithWatchListSemantics(cache.NewListWatchFromClient(c.v3, nodestatuses, "", fields.Everything()), c.v3)
	to := &reduced[v3.CalicoNodeStatus, *v3.CalicoNodeStatus, *NodeStatusRequest]{keys: map[Key]struct{}{}, Sink: Sink[*v3.CalicoNodeStatus, *NodeStatusRequest]{
		Read: func(s *v3.CalicoNodeStatus) *NodeStatusRequest { return readNodeStatus(node, s) },
		Put: func(k Key, r *NodeStatusRequest) {
			if r == nil { // another node's, from now on at least
				drop(k.Name)
			} else {
				put(*r)
			}
		},
		Drop:   func(k Key) { drop(k.Name) },
		Synced: func() {},
	}}
	cache.NewReflectorWithOptions(lw, &v3.CalicoNodeStatus{}, to, cache.ReflectorOptions{
		Name:    nodestatuses,
		Backoff: &wait.Backoff{Duration: 500 * time.Millisecond, Cap: 8 * time.Second, Steps: 8, Factor: 2, Jitter: 1},
	}).RunWithContext(ctx)
}

// readNodeStatus is nil for what asks about another node.
func readNodeStatus(node string, s *v3.CalicoNodeStatus) *NodeStatusRequest {
	if s.Spec.Node != node {
		return nil
	}
	classes := make([]string, 0, len(s.Spec.Classes))
	for _, class := range s.Spec.Classes {
		classes = append(classes, string(class))
	}
	slices.Sort(classes)
	out := &NodeStatusRequest{Name: s.Name, UID: s.UID, Classes: strings.Join(classes, " "), Written: !s.Status.LastUpdated.IsZero()}
	if p := s.Spec.UpdatePeriodSeconds; p != nil {
		out.Period = time.Duration(*p) * time.Second
	}
	return out
}

// ErrNotAsked means that the resource is gone, is another one of the same name, or asks about another node by now.
var ErrNotAsked = errors.New("nobody asks for this node's status there any more")

// ReportNodeStatus writes the answer to a request, by compare-and-swap.
func (c *Client) ReportNodeStatus(ctx context.Context, node string, r NodeStatusRequest, report v3.CalicoNodeStatusStatus) error {
	s, err := get[v3.CalicoNodeStatus](ctx, c.v3, nodestatuses, r.Name)
	if apierrors.IsNotFound(err) || err == nil && (s.UID != r.UID || s.Spec.Node != node) {
		return ErrNotAsked
	}
	if err != nil {
		return fmt.Errorf("get CalicoNodeStatus %s: %w", r.Name, err)
	}
	s.Status = report
	err = c.v3.Put().Resource(nodestatuses).Name(r.Name).SubResource("status").Timeout(requestTimeout).Body(s).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("write status of CalicoNodeStatus %s: %w", r.Name, err)
	}
	return nil
}
