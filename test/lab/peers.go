package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/topology"
)

// ComparePeers says what differs between each node's neighbours and forwarding entries and those that the other nodes, as
// they are now, make necessary. It fits pools with VXLAN mode Always, and labs where each node has a block.
func (l *Lab) ComparePeers() error {
	tunnels, err := l.tunnels()
	if err != nil {
		return err
	}
	of := map[string]netip.Addr{} // handle → address
	for addr, handle := range tunnels {
		of[handle] = addr
	}
	var errs []error
	for _, n := range l.Nodes {
		var want State
		for _, peer := range l.Nodes {
			if peer == n {
				continue
			}
			for _, six := range []bool{false, true} {
				handle, dev, to := "vxlan-tunnel-addr-", topology.VXLAN4, peer.Addr4
				if six {
					handle, dev, to = "vxlan-v6-tunnel-addr-", topology.VXLAN6, peer.Addr6
				}
				if at, ok := of[handle+peer.Name]; ok {
					mac := [6]byte(model.TunnelMAC(peer.Name, six))
					want = append(want, fmt.Sprintf("neigh %s at %x dev %s", at, mac, dev), fmt.Sprintf("fdb %x to %s dev %s", mac, to.Addr(), dev))
				}
			}
		}
		have := slices.DeleteFunc(n.State(), func(line string) bool {
			return !strings.HasPrefix(line, "neigh ") && !strings.HasPrefix(line, "fdb ")
		})
		if diff := have.Diff(want); diff != "" {
			errs = append(errs, fmt.Errorf("%s has other neighbours than it should:\n%s", n.Name, diff))
		}
	}
	return errors.Join(errs...)
}

// WaitPeers waits for ComparePeers.
func (l *Lab) WaitPeers(d time.Duration) time.Duration {
	l.t.Helper()
	return l.Within(d, "each node has just its peers' neighbours and forwarding entries", l.ComparePeers)
}

// Names returns the lines of the state that name any of these addresses, alone or as a network's.
func (s State) Names(addrs ...netip.Addr) (out State) {
	for _, line := range s {
		for _, word := range strings.Fields(line) {
			word, _, _ = strings.Cut(word, "/")
			if a, err := netip.ParseAddr(word); err == nil && slices.Contains(addrs, a) {
				out = append(out, line)
			}
		}
	}
	return out
}

// Held returns the addresses that are allocated in the blocks of a node, with their handles.
func (l *Lab) Held(node string) (map[netip.Addr]string, error) {
	blocks, err := l.Blocks()
	if err != nil {
		return nil, err
	}
	out := map[netip.Addr]string{}
	for cidr, b := range blocks {
		if block.Owner(b) != node {
			continue
		}
		for o, i := range b.Spec.Allocations {
			if i != nil && b.Spec.Attributes[*i].ReleasedAt == nil {
				out[block.AddrAt(cidr, o)] = *b.Spec.Attributes[*i].HandleID
			}
		}
	}
	return out, nil
}
