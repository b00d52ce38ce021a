package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/model"
)

// NodeIPs returns the addresses of type InternalIP that the Node object has, as kubelet or a cloud wrote them.
func (c *Client) NodeIPs(ctx context.Context, node string) ([]netip.Addr, error) {
	n, err := get[corev1.Node](ctx, c.core, "nodes", node)
	if err != nil {
		return nil, fmt.Errorf("get node %s: %w", node, err)
	}
	var out []netip.Addr
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			out = append(out, ip)
		}
	}
	return out, nil
}

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
	return c.patchNode(ctx, n.Name, "", map[string]any{"metadata": map[string]any{"annotations": annotations}})
}

// Up sets the node's condition NetworkUnavailable to false, with Calico's reason.
func (c *Client) Up(ctx context.Context, node string) error {
	now := metav1.NewTime(time.Now())
	return c.patchNode(ctx, node, "status", map[string]any{"status": map[string]any{"conditions": []any{corev1.NodeCondition{
		Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, Reason: "CalicoIsUp",
		Message: "margay-agent is running on this node", LastHeartbeatTime: now, LastTransitionTime: now,
	}}}})
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
