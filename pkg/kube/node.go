package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/model"
)

// Annotate writes what other nodes must know of this one. A value that it has not is removed.
func (c *Client) Annotate(ctx context.Context, n model.Node) error {
	annotations := map[string]any{}
	set := func(key string, valid bool, value string) {
		annotations[key] = nil
		if valid {
			annotations[key] = value
		}
	}
	set(annAddr4, n.Addr4.IsValid(), n.Addr4.String())
	set(annAddr6, n.Addr6.IsValid(), n.Addr6.String())
	set(annVXLANAddr4, n.VXLANAddr4.IsValid(), n.VXLANAddr4.String())
	set(annVXLANAddr6, n.VXLANAddr6.IsValid(), n.VXLANAddr6.String())
	set(annVXLANMAC4, n.VXLANAddr4.IsValid(), n.VXLANMAC4.String())
	set(annVXLANMAC6, n.VXLANAddr6.IsValid(), n.VXLANMAC6.String())
	set(annIPIPAddr4, n.IPIPAddr4.IsValid(), n.IPIPAddr4.String())
	if n.AS != 0 { // else what people wrote stays
		set(annAS, true, strconv.FormatUint(uint64(n.AS), 10))
	}
	return c.patchNode(ctx, n.Name, "", map[string]any{"metadata": map[string]any{"annotations": annotations}})
}

// Condition is one condition of a Node.
type Condition struct {
	Type            string
	On              bool
	Reason, Message string
}

// SetCondition sets a condition of a Node. One that is there in the same state keeps the time of its last transition.
func (c *Client) SetCondition(ctx context.Context, node string, want Condition) error {
	n, err := get[corev1.Node](ctx, c.core, "nodes", node)
	if err != nil {
		return fmt.Errorf("get node %s: %w", node, err)
	}
	now := metav1.NewTime(time.Now())
	set := corev1.NodeCondition{
		Type: corev1.NodeConditionType(want.Type), Status: corev1.ConditionFalse, Reason: want.Reason, Message: want.Message,
		LastHeartbeatTime: now, LastTransitionTime: now,
	}
	if want.On {
		set.Status = corev1.ConditionTrue
	}
	for _, have := range n.Status.Conditions {
		if have.Type == set.Type && have.Status == set.Status {
			set.LastTransitionTime = have.LastTransitionTime
		}
	}
	return c.patchNode(ctx, node, "status", map[string]any{"status": map[string]any{"conditions": []any{set}}})
}

// EndCondition sets a condition of a Node to false if it is there and true.
func (c *Client) EndCondition(ctx context.Context, node, conditionType, reason string) error {
	n, err := get[corev1.Node](ctx, c.core, "nodes", node)
	if err != nil {
		return fmt.Errorf("get node %s: %w", node, err)
	}
	for _, have := range n.Status.Conditions {
		if string(have.Type) == conditionType && have.Status == corev1.ConditionTrue {
			return c.SetCondition(ctx, node, Condition{Type: conditionType, Reason: reason})
		}
	}
	return nil
}

// Up sets the node's condition NetworkUnavailable to false, with Calico's reason.
func (c *Client) Up(ctx context.Context, node string) error {
	return c.SetCondition(ctx, node, Condition{
		Type: string(corev1.NodeNetworkUnavailable), Reason: "CalicoIsUp", Message: "margay-agent is running on this node",
	})
}

// Warn tells of something odd as an Event of type Warning on the Node, where kubectl describe node shows it.
func (c *Client) Warn(ctx context.Context, node, reason, message string) error {
	now := metav1.NewTime(time.Now())
	e := &corev1.Event{
		TypeMeta:       metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:     metav1.ObjectMeta{GenerateName: node + ".", Namespace: metav1.NamespaceDefault},
		InvolvedObject: corev1.ObjectReference{Kind: "Node", Name: node, UID: types.UID(node)}, // kubelet's way: kubectl looks for the name there
		Reason:         reason, Message: message, Type: corev1.EventTypeWarning,
		Source:         corev1.EventSource{Component: "margay-agent", Host: node},
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}
	if err := c.core.Post().Namespace(e.Namespace).Resource("events").Timeout(requestTimeout).Body(e).Do(ctx).Error(); err != nil {
		return fmt.Errorf("create event of node %s: %w", node, err)
	}
	return nil
}

func (c *Client) patchNode(ctx context.Context, node, sub string, patch any) error {
	b, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	r := c.core.Patch(types.StrategicMergePatchType).Resource("nodes").Name(node).Timeout(requestTimeout).Body(b)
	if sub != "" {
		r = r.SubResource(sub)
	}
	if err := r.Do(ctx).Error(); err != nil {
		return fmt.Errorf("patch node %s: %w", node, err)
	}
	return nil
}

// CreatePool makes a pool unless one of its name exists.
func (c *Client) CreatePool(ctx context.Context, p *v3.IPPool) error {
	p.TypeMeta = metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "IPPool"}
	if _, err := create(ctx, c.v3, ippools, p); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create IP pool %s: %w", p.Name, err)
	}
	return nil
}

// EnsureClusterInformation makes the object named default unless it exists.
func (c *Client) EnsureClusterInformation(ctx context.Context, spec v3.ClusterInformationSpec) error {
	_, err := get[v3.ClusterInformation](ctx, c.v3, clusterinfo, "default")
	if !apierrors.IsNotFound(err) {
		return err
	}
	_, err = create(ctx, c.v3, clusterinfo, &v3.ClusterInformation{
		TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "ClusterInformation"},
		ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: spec,
	})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// DisablePool keeps a pool from giving out new addresses.
func (c *Client) DisablePool(ctx context.Context, name string) error {
	p, err := get[v3.IPPool](ctx, c.v3, ippools, name)
	if err != nil {
		return err
	}
	p.Spec.Disabled = true
	_, err = update(ctx, c.v3, ippools, p)
	return err
}
