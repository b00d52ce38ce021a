package kube

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/ipam/block"
)

var _ ipam.Datastore = (*Client)(nil)

// Resources of the group projectcalico.org.
const (
	ippools     = "ippools"
	blocks      = "ipamblocks"
	handles     = "ipamhandles"
	affinities  = "blockaffinities"
	ipamconfigs = "ipamconfigurations"
	felixes     = "felixconfigurations"
	clusterinfo = "clusterinformations"

	reservations = "ipreservations"
)

// GetBlock and the following methods make Client an ipam.Datastore.
func (c *Client) GetBlock(ctx context.Context, name string) (*v3.IPAMBlock, error) {
	return get[v3.IPAMBlock](ctx, c.v3, blocks, name)
}

// CreateBlock creates a block.
func (c *Client) CreateBlock(ctx context.Context, b *v3.IPAMBlock) (*v3.IPAMBlock, error) {
	return create(ctx, c.v3, blocks, b)
}

// UpdateBlock updates a block by compare-and-swap.
func (c *Client) UpdateBlock(ctx context.Context, b *v3.IPAMBlock) (*v3.IPAMBlock, error) {
	return update(ctx, c.v3, blocks, b)
}

// DeleteBlock deletes a block in just this state.
func (c *Client) DeleteBlock(ctx context.Context, b *v3.IPAMBlock) error {
	return remove(ctx, c.v3, blocks, b)
}

// GetHandle returns a handle.
func (c *Client) GetHandle(ctx context.Context, name string) (*v3.IPAMHandle, error) {
	return get[v3.IPAMHandle](ctx, c.v3, handles, name)
}

// CreateHandle creates a handle.
func (c *Client) CreateHandle(ctx context.Context, h *v3.IPAMHandle) (*v3.IPAMHandle, error) {
	return create(ctx, c.v3, handles, h)
}

// UpdateHandle updates a handle by compare-and-swap.
func (c *Client) UpdateHandle(ctx context.Context, h *v3.IPAMHandle) (*v3.IPAMHandle, error) {
	return update(ctx, c.v3, handles, h)
}

// DeleteHandle deletes a handle in just this state.
func (c *Client) DeleteHandle(ctx context.Context, h *v3.IPAMHandle) error {
	return remove(ctx, c.v3, handles, h)
}

// NodeAffinities lists the claims of one node: those with its label, and those of older Calico, which have no labels.
func (c *Client) NodeAffinities(ctx context.Context, node string) ([]v3.BlockAffinity, error) {
	own, err := list[v3.BlockAffinityList](ctx, c.v3, affinities, metav1.ListOptions{LabelSelector: block.AffinitySelector(node)})
	if err != nil {
		return nil, err
	}
	old, err := list[v3.BlockAffinityList](ctx, c.v3, affinities, metav1.ListOptions{LabelSelector: block.NoAffinitySelector})
	if err != nil {
		return nil, err
	}
	for _, a := range old.Items {
		if a.Spec.Node == node && a.Spec.Type != "virtual" {
			own.Items = append(own.Items, a)
		}
	}
	return own.Items, nil
}

// GetAffinity returns a claim.
func (c *Client) GetAffinity(ctx context.Context, name string) (*v3.BlockAffinity, error) {
	return get[v3.BlockAffinity](ctx, c.v3, affinities, name)
}

// CreateAffinity creates a claim.
func (c *Client) CreateAffinity(ctx context.Context, a *v3.BlockAffinity) (*v3.BlockAffinity, error) {
	return create(ctx, c.v3, affinities, a)
}

// UpdateAffinity updates a claim by compare-and-swap.
func (c *Client) UpdateAffinity(ctx context.Context, a *v3.BlockAffinity) (*v3.BlockAffinity, error) {
	return update(ctx, c.v3, affinities, a)
}

// DeleteAffinity deletes a claim in just this state.
func (c *Client) DeleteAffinity(ctx context.Context, a *v3.BlockAffinity) error {
	return remove(ctx, c.v3, affinities, a)
}

// Handles lists all handles.
func (c *Client) Handles(ctx context.Context) ([]v3.IPAMHandle, error) {
	all, err := list[v3.IPAMHandleList](ctx, c.v3, handles, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	return all.Items, nil
}
