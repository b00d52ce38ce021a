package address

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

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/ipam/check"
)

// writeTries is how often a write is tried while others write the same object.
const writeTries = 8

// releaser gives addresses back as agents do: a handle is changed before the block, so that a crash leaves an allocation,
// which "check" finds, and never a handle alone.
type releaser struct {
	ds       ipam.Datastore
	cluster  *connect.Cluster
	cooldown time.Duration
}

func newReleaser(c *connect.Cluster, s *Snapshot) *releaser {
	return &releaser{ds: c.Kube, cluster: c, cooldown: time.Duration(s.Config.IPCooldownSeconds) * time.Second}
}

// release gives an address back, false when it is free already. With a sequence number only the allocation of that
// number and handle is released: a later one of the same address stays.
func (r *releaser) release(ctx context.Context, addr netip.Addr, seq *uint64, handle string) (bool, error) {
	b, cidr, err := blockOf(ctx, r.cluster, addr)
	if err != nil || b == nil {
		return false, err
	}
	for try := 0; ; try++ {
		done, err := r.fromBlock(ctx, b, cidr, addr, seq, handle)
		if err == nil || !apierrors.IsConflict(err) || try == writeTries {
			return done, err
		}
		if b, err = r.ds.GetBlock(ctx, block.Name(cidr)); err != nil {
			return false, err
		}
	}
}

func (r *releaser) fromBlock(ctx context.Context, b *v3.IPAMBlock, cidr netip.Prefix, addr netip.Addr, seq *uint64, handle string) (bool, error) {
	if err := block.Check(b); err != nil {
		return false, fmt.Errorf("%w: repair the block first", err)
	}
	o := block.OrdinalOf(cidr, addr)
	at := block.Attr(b, o)
	if at == nil || at.ReleasedAt != nil {
		return false, nil
	}
	held := block.Handle(b, o)
	if handle != "" && held != handle || seq != nil && b.Spec.SequenceNumberForAllocation[strconv.Itoa(o)] != *seq {
		return false, nil
	}
	if held != "" {
		if err := r.fromHandle(ctx, held, b, cidr); err != nil {
			return false, fmt.Errorf("change handle %s: %w", held, err)
		}
	}
	b = b.DeepCopy()
	block.Retire(b, o, held, false, r.cooldown, time.Now())
	b.Spec.SequenceNumber++
	b, err := r.ds.UpdateBlock(ctx, b)
	if err != nil {
		return false, err
	}
	if b.Spec.Affinity == nil && block.Empty(b) {
		return true, r.drop(ctx, b)
	}
	return true, nil
}

// drop deletes a block that nobody owns or uses any more.
func (r *releaser) drop(ctx context.Context, b *v3.IPAMBlock) error {
	b = b.DeepCopy()
	b.Spec.Deleted = true
	b, err := r.ds.UpdateBlock(ctx, b)
	if err == nil {
		err = r.ds.DeleteBlock(ctx, b)
	}
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // somebody has a use for it, or has deleted it
	}
	return err
}

// fromHandle makes the handle count one address less than the block holds now, and deletes it when none is left.
func (r *releaser) fromHandle(ctx context.Context, id string, b *v3.IPAMBlock, cidr netip.Prefix) error {
	rest := -1
	for o := range b.Spec.Allocations {
		if block.Handle(b, o) == id {
			rest++
		}
	}
	for try := 0; ; try++ {
		h, err := r.ds.GetHandle(ctx, strings.ToLower(id))
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		h = h.DeepCopy()
		if h.Spec.Block == nil {
			h.Spec.Block = map[string]int{}
		}
		h.Spec.Block[cidr.String()] = rest
		maps.DeleteFunc(h.Spec.Block, func(_ string, n int) bool { return n <= 0 })
		if len(h.Spec.Block) == 0 {
			err = r.ds.DeleteHandle(ctx, h)
		} else {
			_, err = r.ds.UpdateHandle(ctx, h)
		}
		if err == nil || !apierrors.IsConflict(err) || try == writeTries {
			return err
		}
	}
}

// releaseLeaked releases what the reports call unused. One failure does not stop the others.
func (r *releaser) releaseLeaked(ctx context.Context, p *printer, reports []check.Report) error {
	addrs, handles := unused(reports)
	var errs []error
	if len(addrs) == 0 {
		p.line("Report didn't contain any leaked IPs to clean up.")
	} else {
		p.line("Releasing %d old IPs...", len(addrs))
		released, gone := 0, 0
		for _, ip := range slices.Sorted(maps.Keys(addrs)) {
			addr, err := netip.ParseAddr(ip)
			done := false
			if err == nil {
				done, err = r.release(ctx, addr, addrs[ip].SequenceNumber, addrs[ip].Handle)
			}
			switch {
			case err != nil:
				errs = append(errs, fmt.Errorf("release %s: %w", ip, err))
			case done:
				released++
			default:
				gone++
			}
		}
		p.line("Released %d IPs successfully", released)
		if gone > 0 {
			p.line("%d addresses marked as leaked in the report had already been cleaned up.", gone)
		}
	}
	return errors.Join(append(errs, r.dropHandles(ctx, p, handles))...)
}

// dropHandles deletes handles that are in the state that the reports saw.
func (r *releaser) dropHandles(ctx context.Context, p *printer, handles map[string]check.Handle) error {
	if len(handles) == 0 {
		p.line("Report didn't contain any handles to clean up.")
		return nil
	}
	p.line("Deleting %d handles...\nKey: '.' = Deleted OK; 'x' = skip, handle missing/changed.", len(handles))
	var errs []error
	released, skipped := 0, 0
	for _, id := range slices.Sorted(maps.Keys(handles)) {
		h, err := r.ds.GetHandle(ctx, strings.ToLower(id))
		changed := err == nil && (h.ResourceVersion != handles[id].Revision || handles[id].UID != nil && string(h.UID) != *handles[id].UID)
		if err == nil && !changed {
			err = r.ds.DeleteHandle(ctx, h)
		}
		switch {
		case changed || apierrors.IsNotFound(err) || apierrors.IsConflict(err):
			skipped++
			p.text("x")
		case err != nil:
			errs = append(errs, fmt.Errorf("delete handle %s: %w", id, err))
		default:
			released++
			p.text(".")
		}
	}
	p.line("\nReleased %d handles; %d skipped; %d errors.", released, skipped, len(errs))
	return errors.Join(errs...)
}

// blockOf finds the block that holds an address: of the size that its pool's blocks have, else by looking at all of them.
// It is nil when there is none.
func blockOf(ctx context.Context, c *connect.Cluster, addr netip.Addr) (*v3.IPAMBlock, netip.Prefix, error) {
	pools, err := List[v3.IPPool](ctx, c, "IPPool")
	if err != nil {
		return nil, netip.Prefix{}, err
	}
	for i := range pools {
		cidr, err := netip.ParsePrefix(pools[i].Spec.CIDR)
		if err != nil || !cidr.Contains(addr) {
			continue
		}
		bits := blockBits(&pools[i], cidr)
		want := netip.PrefixFrom(addr, bits).Masked()
		b, err := c.Kube.GetBlock(ctx, block.Name(want))
		if err == nil && !b.Spec.Deleted {
			return b, want, nil
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, want, fmt.Errorf("read block %s: %w", want, err)
		}
	}
	blocks, err := List[v3.IPAMBlock](ctx, c, "IPAMBlock")
	if err != nil {
		return nil, netip.Prefix{}, err
	}
	for i := range blocks {
		if cidr, err := netip.ParsePrefix(blocks[i].Spec.CIDR); err == nil && cidr.Contains(addr) && !blocks[i].Spec.Deleted {
			return &blocks[i], cidr.Masked(), nil
		}
	}
	return nil, netip.Prefix{}, nil
}

// blockBits is the prefix length of a pool's blocks.
func blockBits(p *v3.IPPool, cidr netip.Prefix) int {
	switch {
	case p.Spec.BlockSize != 0:
		return int(p.Spec.BlockSize)
	case cidr.Addr().Is6():
		return 122
	default:
		return 26
	}
}
