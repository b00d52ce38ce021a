package balancer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/controller/cluster"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/ipam/collect"
	"github.com/margay-net/margay/pkg/kube"
)

// host is who owns the blocks, in claims and labels; virtual is the claims' type (Calico's names).
const (
	host    = "load-balancer"
	virtual = "virtual"
)

// attributes are what a block says of a Service's address (Calico's names).
func attributes(k kube.Key, now time.Time) map[string]string {
	return map[string]string{
		"service": k.Name, block.AttrNamespace: k.Namespace, block.AttrType: string(corev1.ServiceTypeLoadBalancer),
		block.AttrTimestamp: now.UTC().Format("2006-01-02 15:04:05.999999999 -0700 MST"),
	}
}

// takeAddr takes just this address.
func (b *Balancer) takeAddr(ctx context.Context, handle string, addr netip.Addr, secondary map[string]string) (lacks, err error) {
	pools := b.cluster.Pools()
	i := slices.IndexFunc(pools, func(p cluster.Pool) bool { return gives(p) && !p.Disabled && p.CIDR.Contains(addr) })
	if i < 0 {
		return fmt.Errorf("address %s is in no enabled IP pool with LoadBalancer in spec.allowedUses", addr), nil
	}
	cidr := netip.PrefixFrom(addr, pools[i].BlockBits).Masked()
	try := func() error {
		lacks = nil
		_, err := b.cluster.ChangeBlock(ctx, block.Name(cidr), func(obj *v3.IPAMBlock) bool {
			o := block.OrdinalOf(cidr, addr)
			lacks = nil
			switch {
			case obj.Spec.Affinity == nil || *obj.Spec.Affinity != block.LoadBalancer:
				lacks = fmt.Errorf("address %s is in block %s, which is not for load balancers", addr, cidr)
			case block.Handle(obj, o) == handle:
			case block.Take(obj, o, handle, secondary) != nil:
				lacks = fmt.Errorf("address %s is in use by handle %q", addr, block.Handle(obj, o))
			default:
				return true
			}
			return false
		})
		return err
	}
	err = try()
	if apierrors.IsNotFound(err) {
		var ok bool
		if ok, err = b.claim(ctx, cidr); ok && err == nil {
			err = try()
		}
	}
	return lacks, err
}

// takeAny takes a free address of the first of pools that has one.
func (b *Balancer) takeAny(ctx context.Context, handle string, family6 bool, pools []cluster.Pool, secondary map[string]string) (lacks, err error) {
	reserved := b.cluster.Reserved()
	open := slices.DeleteFunc(slices.Clone(pools), func(p cluster.Pool) bool { return p.Disabled })
	for _, p := range open {
		blocks, taken := b.blocks(p)
		for _, cidr := range blocks {
			if ok, err := b.takeIn(ctx, cidr, handle, secondary, reserved); ok || err != nil {
				return nil, err
			}
		}
		cidr, ok, err := b.claimIn(ctx, p, taken, reserved)
		if err != nil {
			return nil, fmt.Errorf("claim a block of IP pool %s: %w", p.Name, err)
		}
		if ok {
			if ok, err = b.takeIn(ctx, cidr, handle, secondary, reserved); ok || err != nil {
				return nil, err
			}
		}
	}
	family := "IPv4"
	if family6 {
		family = "IPv6"
	}
	if len(open) == 0 {
		return fmt.Errorf("no IP pool gives this Service an %s address: add one with LoadBalancer in spec.allowedUses, or see its disabled, assignmentMode and namespaceSelector", family), nil
	}
	return fmt.Errorf("no free %s address in the IP pools that this Service may use: add one with LoadBalancer in spec.allowedUses", family), nil
}

// blocks returns the blocks of load balancers in a pool, in order, and all that is taken of it.
func (b *Balancer) blocks(p cluster.Pool) (ours, taken []netip.Prefix) {
	b.cluster.State(func(s *collect.State) {
		for blk := range s.Blocks() {
			if !blk.CIDR.Overlaps(p.CIDR) {
				continue
			}
			taken = append(taken, blk.CIDR)
			if blk.Affinity == block.LoadBalancer {
				ours = append(ours, blk.CIDR)
			}
		}
	})
	slices.SortFunc(ours, func(x, y netip.Prefix) int { return x.Addr().Compare(y.Addr()) })
	return ours, taken
}

// takeIn takes the first free address of a block that is not reserved; false: there is none.
func (b *Balancer) takeIn(ctx context.Context, cidr netip.Prefix, handle string, secondary map[string]string, reserved []netip.Prefix) (bool, error) {
	var cooldown time.Duration
	b.cluster.State(func(s *collect.State) { cooldown = s.Cooldown })
	ok := false
	_, err := b.cluster.ChangeBlock(ctx, block.Name(cidr), func(obj *v3.IPAMBlock) bool {
		ok = false
		if obj.Spec.Affinity == nil || *obj.Spec.Affinity != block.LoadBalancer {
			return false
		}
		block.Reap(obj, cooldown, time.Now())
		for _, o := range obj.Spec.Unallocated {
			if !isReserved(block.AddrAt(cidr, o), reserved) {
				ok = block.Take(obj, o, handle, secondary) == nil
				return ok
			}
		}
		return false
	})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return ok, err
}

func isReserved(a netip.Addr, reserved []netip.Prefix) bool {
	return slices.ContainsFunc(reserved, func(r netip.Prefix) bool { return r.Contains(a) })
}

// makeHandle has the handle say what a Service has. Nothing: it is deleted.
func (b *Balancer) makeHandle(ctx context.Context, handle string, have []held) error {
	counts := map[string]int{}
	for _, h := range have {
		counts[h.cidr.String()]++
	}
	h, err := b.client.GetHandle(ctx, strings.ToLower(handle))
	missing := apierrors.IsNotFound(err)
	switch {
	case err != nil && !missing:
	case missing && len(counts) == 0, !missing && maps.Equal(h.Spec.Block, counts) && !h.Spec.Deleted:
		return nil
	case missing:
		_, err = b.client.CreateHandle(ctx, &v3.IPAMHandle{
			TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "IPAMHandle"},
			ObjectMeta: metav1.ObjectMeta{Name: strings.ToLower(handle)}, Spec: v3.IPAMHandleSpec{HandleID: handle, Block: counts},
		})
	case len(counts) == 0:
		h = h.DeepCopy()
		h.Spec.Block = counts
		if err = b.cluster.DeleteHandle(ctx, h); apierrors.IsNotFound(err) {
			err = nil
		}
	default:
		h = h.DeepCopy()
		h.Spec.Block, h.Spec.Deleted = counts, false
		_, err = b.client.UpdateHandle(ctx, h)
	}
	if err != nil {
		return fmt.Errorf("write handle %s: %w", handle, err)
	}
	return nil
}

// release gives back addresses of a Service; keep are those that stay.
func (b *Balancer) release(ctx context.Context, k kube.Key, handle string, back, keep []held) error {
	if len(back) == 0 {
		return nil
	}
	if err := b.makeHandle(ctx, handle, keep); err != nil {
		return err
	}
	var cooldown time.Duration
	b.cluster.State(func(s *collect.State) { cooldown = s.Cooldown })
	var errs []error
	for _, h := range back {
		_, err := b.cluster.ChangeBlock(ctx, h.block, func(obj *v3.IPAMBlock) bool {
			if block.Handle(obj, h.ordinal) != handle || obj.Spec.SequenceNumberForAllocation[strconv.Itoa(h.ordinal)] != h.seq {
				return false
			}
			block.Retire(obj, h.ordinal, handle, false, cooldown, time.Now())
			return true
		})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("release %s: %w", h.addr, err))
		}
	}
	b.log.Info("released addresses of a Service", "service", k.Namespace+"/"+k.Name, "addrs", fmt.Sprint(addrsOf(back)))
	return errors.Join(errs...)
}
