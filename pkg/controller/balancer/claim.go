package balancer

import (
	"context"
	"net/netip"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/controller/cluster"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// claimIn claims the first block of a pool that nobody has and that has an address that is not reserved.
func (b *Balancer) claimIn(ctx context.Context, p cluster.Pool, taken, reserved []netip.Prefix) (netip.Prefix, bool, error) {
	n := uint64(1) << min(p.BlockBits-p.CIDR.Bits(), 20) // of a large IPv6 pool no more are ever needed
	for i := range n {
		cidr := block.Nth(p.CIDR, p.BlockBits, i)
		covers := func(r netip.Prefix) bool { return r.Bits() <= cidr.Bits() && r.Overlaps(cidr) }
		if slices.ContainsFunc(taken, cidr.Overlaps) || slices.ContainsFunc(reserved, covers) {
			continue
		}
		if ok, err := b.claim(ctx, cidr); ok || err != nil {
			return cidr, ok, err
		}
	}
	return netip.Prefix{}, false, nil
}

// claim claims a block: affinity pending, block created, affinity confirmed. False: somebody else has it. Repeating it
// after a crash in between carries on.
func (b *Balancer) claim(ctx context.Context, cidr netip.Prefix) (bool, error) {
	aff, err := b.wantAffinity(ctx, cidr)
	if err != nil {
		return false, err
	}
	obj, err := b.client.CreateBlock(ctx, block.New(cidr, block.LoadBalancer, time.Now()))
	if apierrors.IsAlreadyExists(err) {
		obj, err = b.client.GetBlock(ctx, block.Name(cidr))
	}
	if err != nil {
		return false, err
	}
	if obj.Spec.Deleted || obj.Spec.Affinity == nil || *obj.Spec.Affinity != block.LoadBalancer {
		return false, b.client.DeleteAffinity(ctx, aff)
	}
	b.cluster.Wrote(obj)
	if aff.Spec.State != v3.AffinityConfirmed {
		aff = aff.DeepCopy()
		aff.Spec.State = v3.AffinityConfirmed
		if _, err := b.client.UpdateAffinity(ctx, aff); err != nil {
			return false, err
		}
	}
	b.log.Info("claimed a block for load balancers", "block", cidr.String())
	return true, nil
}

func (b *Balancer) wantAffinity(ctx context.Context, cidr netip.Prefix) (*v3.BlockAffinity, error) {
	want := &v3.BlockAffinity{
		TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "BlockAffinity"},
		ObjectMeta: metav1.ObjectMeta{Name: block.AffinityName(host, cidr), Labels: block.AffinityLabels(block.LoadBalancer, cidr.Addr().Is6())},
		Spec:       v3.BlockAffinitySpec{State: v3.AffinityPending, Node: host, Type: virtual, CIDR: cidr.String()},
	}
	aff, err := b.client.CreateAffinity(ctx, want)
	if !apierrors.IsAlreadyExists(err) {
		return aff, err
	}
	if aff, err = b.client.GetAffinity(ctx, want.Name); err != nil {
		return nil, err
	}
	if aff.Spec.State == v3.AffinityPendingDeletion || aff.Spec.Deleted {
		aff = aff.DeepCopy()
		aff.Spec.State, aff.Spec.Deleted = v3.AffinityPending, false
		return b.client.UpdateAffinity(ctx, aff)
	}
	return aff, nil
}
