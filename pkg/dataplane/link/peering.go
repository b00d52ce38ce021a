package link

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/margay-net/margay/pkg/netlink"
)

// SetPeering says which addresses the node has on pods' devices, by device, for BGP sessions with these pods
// (localWorkloadPeeringIPV4, V6): each alone, of scope link, as Calico's. The latest call counts.
func (l *Links) SetPeering(addrs map[string][]netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.peering
	l.peering = addrs
	for _, some := range []map[string][]netip.Addr{old, addrs} {
		for dev := range some {
			if !slices.Equal(old[dev], addrs[dev]) {
				l.mark(dev)
			}
		}
	}
}

// mendPeering makes the node's addresses on a pod's device as wanted, where there are any or were.
func (l *Links) mendPeering(dev string, index int) error {
	l.mu.Lock()
	want, had := l.peering[dev], l.peered[dev]
	l.mu.Unlock()
	if len(want) == 0 && !had {
		return nil
	}
	have, err := l.conn.Addrs(index)
	if err != nil {
		return err
	}
	var errs []error
	for _, addr := range want {
		if a := (netlink.Addr{Index: index, Prefix: netip.PrefixFrom(addr, addr.BitLen())}); !slices.Contains(have, a) {
			errs = append(errs, l.conn.PutAddr(a))
		}
	}
	for _, a := range have {
		if !a.Global && a.Prefix.IsSingleIP() && !slices.Contains(want, a.Prefix.Addr()) {
			errs = append(errs, l.conn.DeleteAddr(a))
		}
	}
	err = errors.Join(errs...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if delete(l.peered, dev); len(want) > 0 || err != nil {
		l.peered[dev] = true
	}
	return err
}
