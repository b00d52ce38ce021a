package ipam

import (
	"context"
	"net/netip"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// Datastore is what IPAM needs of the Kubernetes API. Updates and deletes are compare-and-swap on the object's
// resourceVersion (and UID); errors are those of k8s.io/apimachinery/pkg/api/errors.
type Datastore interface {
	GetBlock(ctx context.Context, name string) (*v3.IPAMBlock, error)
	CreateBlock(ctx context.Context, b *v3.IPAMBlock) (*v3.IPAMBlock, error)
	UpdateBlock(ctx context.Context, b *v3.IPAMBlock) (*v3.IPAMBlock, error)
	DeleteBlock(ctx context.Context, b *v3.IPAMBlock) error

	GetHandle(ctx context.Context, name string) (*v3.IPAMHandle, error)
	CreateHandle(ctx context.Context, h *v3.IPAMHandle) (*v3.IPAMHandle, error)
	UpdateHandle(ctx context.Context, h *v3.IPAMHandle) (*v3.IPAMHandle, error)
	DeleteHandle(ctx context.Context, h *v3.IPAMHandle) error

	// NodeAffinities lists the affinities of one node.
	NodeAffinities(ctx context.Context, node string) ([]v3.BlockAffinity, error)
	GetAffinity(ctx context.Context, name string) (*v3.BlockAffinity, error)
	CreateAffinity(ctx context.Context, a *v3.BlockAffinity) (*v3.BlockAffinity, error)
	UpdateAffinity(ctx context.Context, a *v3.BlockAffinity) (*v3.BlockAffinity, error)
	DeleteAffinity(ctx context.Context, a *v3.BlockAffinity) error
}

// Cluster is what IPAM needs to know of the rest of the cluster. It is asked often and answers from memory.
type Cluster interface {
	// Pools returns the pools in the order in which addresses are taken from them.
	Pools() []Pool
	// Reserved returns the networks whose addresses are given only to who asks for them by name.
	Reserved() []netip.Prefix
	// Config returns the cluster's IPAM configuration.
	Config() Config
	// BlockExists says whether a block of this CIDR, or one that overlaps it, is known to exist.
	BlockExists(cidr netip.Prefix) bool
	// BlockOwner returns the node that owns the known block of just this CIDR, "" when none does.
	BlockOwner(cidr netip.Prefix) string
}
