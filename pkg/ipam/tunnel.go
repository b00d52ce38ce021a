package ipam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/model"
)

// TunnelAddr returns the node's tunnel address under handle: the one that it has, in memory or in a block, else the head of
// an own block of a pool that allows tunnels, else one that is borrowed. It is an assignment like a pod's and is settled like one; it stays
// the node's as long as its pool allows tunnels and no other node has its block. For other nodes it waits a second: whoever
// gets none asks again.
func (a *Allocator) TunnelAddr(ctx context.Context, handle, kind string, family6 bool) (netip.Addr, error) {
	var full error // why no block was claimed
	fits := tunnelPool(family6)
	for try := 0; ; try++ {
		addr, err := a.tunnel(handle, kind, family6, fits)
		if addr.IsValid() || err != nil {
			return addr, err
		}
		pools := slices.DeleteFunc(a.cluster.Pools(), func(p Pool) bool { return !fits(p) })
		switch try {
		case 0:
			if err = a.begin(ctx); err == nil {
				err = a.claim(ctx, pools)
				a.end()
			}
			full = err
		case 1:
			if err = a.borrowTunnel(ctx, handle, kind, pools, family6); errors.Is(err, errNoRoom) {
				err = cmp.Or(full, ErrFull)
			}
		default:
			err = ErrFull
		}
		if err != nil && (try > 0 || !errors.Is(err, ErrFull)) {
			return addr, fmt.Errorf("take tunnel address of a pool with spec.allowedUses Tunnel: %w", err)
		}
	}
}

// ReadyTunnelAddr is TunnelAddr without any request: it returns no address when just the datastore may help.
func (a *Allocator) ReadyTunnelAddr(handle, kind string, family6 bool) (netip.Addr, error) {
	return a.tunnel(handle, kind, family6, tunnelPool(family6))
}

func tunnelPool(family6 bool) func(Pool) bool {
	return func(p Pool) bool { return p.Tunnel && !p.Disabled && p.CIDR.Addr().Is6() == family6 }
}

// tunnelPatience is how long TunnelAddr waits for owners of other blocks: its caller has a plan to carry out.
const tunnelPatience = time.Second

// borrowTunnel takes an address for a tunnel by compare-and-swap; errNoRoom when nobody has one.
func (a *Allocator) borrowTunnel(ctx context.Context, handle, kind string, pools []Pool, family6 bool) error {
	ctx, cancel := context.WithTimeout(ctx, tunnelPatience)
	defer cancel()
	as := &Assignment{Endpoint: model.Endpoint{ContainerID: handle, IfName: kind}, Tunnel: kind, Handle: handle, Since: a.now()}
	t, err := a.borrow(ctx, as, pools, family6)
	if err != nil || !t.addr.IsValid() {
		return err
	}
	a.mu.Lock()
	delete(a.inUse, t.addr) // tunnel takes it over
	a.mu.Unlock()
	a.awaitRouted(ctx, t)
	return nil
}

// HasTunnelAddr returns the tunnel address that the node has under handle, not valid when it has none. It takes none: a node
// keeps its address for life, also while no pool needs tunnels, and goes on saying so.
func (a *Allocator) HasTunnelAddr(handle, kind string, family6 bool) (netip.Addr, error) {
	return a.tunnel(handle, kind, family6, func(Pool) bool { return false })
}

// tunnel is TunnelAddr from memory; it returns no address when no own block has room.
func (a *Allocator) tunnel(handle, kind string, family6 bool, fits func(Pool) bool) (none netip.Addr, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.synced {
		return none, ErrNotReady
	}
	as := &Assignment{Endpoint: model.Endpoint{ContainerID: handle, IfName: kind}, Tunnel: kind, Handle: handle, Since: a.now(), Active: true}
	if old := a.live[as.Key()]; old != nil && !old.Released {
		if a.keepsTunnel(old.Addrs[0]) {
			return old.Addrs[0], nil
		}
		a.log.Warn("tunnel address is given up: its pool allows no tunnels any more, or another node has its block", "addr", old.Addrs[0].String())
		a.retireTunnel(old)
	}
	for _, h := range a.holdings() {
		if len(as.Addrs) == 0 && h.addr.Is6() == family6 && h.handle == handle && a.inUse[h.addr] == "" && a.keepsTunnel(h.addr) {
			as.Addrs = []netip.Addr{h.addr}
		}
	}
	if len(as.Addrs) == 0 {
		pools := slices.DeleteFunc(a.cluster.Pools(), func(p Pool) bool { return !fits(p) })
		if b, i := a.withRoom(pools, family6); b != nil {
			as.Addrs, as.unseen = []netip.Addr{block.AddrAt(b.cidr, b.ready[i])}, true
			b.ready = slices.Concat(b.ready[:i], b.ready[i+1:])
		}
	}
	if len(as.Addrs) == 0 {
		return none, nil
	}
	if err := a.journal.append(entry{Op: opAssign, Assign: as}); err != nil {
		a.log.Error("tunnel address is not in the journal; after a crash it is found in its block", "err", err)
	}
	a.live[as.Key()] = as
	a.inUse[as.Addrs[0]] = as.Key()
	a.wake()
	a.log.Info("tunnel address", "addr", as.Addrs[0].String(), "handle", handle)
	return as.Addrs[0], nil
}

// retireTunnel ends the use of a tunnel address, which is given back like a pod's. It makes room for the next one under the
// same handle: its key is another from now on. The caller holds mu.
func (a *Allocator) retireTunnel(old *Assignment) {
	gone := &Assignment{Endpoint: old.Endpoint, Tunnel: old.Tunnel, Handle: old.Handle, Since: old.Since, Active: true, Released: true, unseen: old.unseen}
	gone.IfName += "-" + old.Addrs[0].String()
	a.inUse[gone.Addrs[0]] = gone.Key()
	a.forget(old)
	if err := a.journal.append(entry{Op: opAssign, Assign: gone}); err != nil {
		a.log.Error("given-up tunnel address is not in the journal; after a crash it stays allocated", "addr", old.Addrs[0].String(), "err", err)
	}
	a.live[gone.Key()] = gone
	a.wake()
}

// keepsTunnel says whether a tunnel address may stay in use. The caller holds mu.
func (a *Allocator) keepsTunnel(addr netip.Addr) bool {
	cidr, _ := a.blockOf(addr)
	owner := a.cluster.BlockOwner(cidr)
	return (a.blocks[cidr] != nil || owner == "" || owner == a.node || a.handleOf(addr) != "") &&
		slices.ContainsFunc(a.cluster.Pools(), func(p Pool) bool { return p.Tunnel && p.CIDR.Contains(addr) })
}
