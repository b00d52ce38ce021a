package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// Compare says what differs between the datastore and the truth: the live pods and the nodes' tunnel addresses, as the
// Nodes' annotations have them. Each address must be allocated to its handle, each handle be there and hold just that,
// each block have its confirmed affinity, and nothing else be there.
func (l *Lab) Compare() error {
	want, err := l.tunnels()
	if err != nil {
		return err
	}
	for _, p := range l.Pods() {
		for _, a := range p.Addrs {
			if other := want[a]; other != "" {
				return fmt.Errorf("%s has two users: %s and %s", a, other, p.Handle())
			}
			want[a] = p.Handle()
		}
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	blocks, err := l.Blocks()
	if err != nil {
		return err
	}
	counts := map[string]map[string]int{} // handle → block → addresses
	for cidr, b := range blocks {
		if err := block.Check(b); err != nil {
			bad("%w", err)
			continue
		}
		for o, i := range b.Spec.Allocations {
			if i == nil || b.Spec.Attributes[*i].ReleasedAt != nil {
				continue
			}
			at, addr := b.Spec.Attributes[*i], block.AddrAt(cidr, o)
			h := *at.HandleID
			if want[addr] != h {
				bad("%s is allocated to %s (%v), in truth used by %q", addr, h, at.Secondary, want[addr])
			}
			delete(want, addr)
			if counts[h] == nil {
				counts[h] = map[string]int{}
			}
			counts[h][cidr.String()]++
		}
	}
	for a, h := range want {
		bad("%s of %s is not allocated", a, h)
	}
	return errors.Join(append(errs, l.compareHandles(counts), l.compareAffinities(blocks))...)
}

func (l *Lab) compareHandles(counts map[string]map[string]int) error {
	handles, err := objects[v3.IPAMHandle](l, "ipamhandles")
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range handles {
		if fmt.Sprint(h.Spec.Block) != fmt.Sprint(counts[h.Spec.HandleID]) {
			errs = append(errs, fmt.Errorf("handle %s says %v, blocks say %v", h.Spec.HandleID, h.Spec.Block, counts[h.Spec.HandleID]))
		}
		delete(counts, h.Spec.HandleID)
	}
	for h := range counts {
		errs = append(errs, fmt.Errorf("handle %s is missing", h))
	}
	return errors.Join(errs...)
}

func (l *Lab) compareAffinities(blocks map[netip.Prefix]*v3.IPAMBlock) error {
	affinities, err := objects[v3.BlockAffinity](l, "blockaffinities")
	if err != nil {
		return err
	}
	var errs []error
	owners := map[string]string{}
	for cidr, b := range blocks {
		owners[cidr.String()] = block.Owner(b)
	}
	for _, a := range affinities {
		if a.Spec.State != v3.AffinityConfirmed || owners[a.Spec.CIDR] != a.Spec.Node {
			errs = append(errs, fmt.Errorf("affinity %s is %s, the block's owner %q", a.Name, a.Spec.State, owners[a.Spec.CIDR]))
		}
		delete(owners, a.Spec.CIDR)
	}
	for cidr, owner := range owners {
		errs = append(errs, fmt.Errorf("block %s of %s has no affinity", cidr, owner))
	}
	return errors.Join(errs...)
}

// tunnels returns the nodes' tunnel addresses with their handles.
func (l *Lab) tunnels() (map[netip.Addr]string, error) {
	ctx, cancel := l.ctx(10 * time.Second)
	defer cancel()
	nodes, err := l.Core.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	out := map[netip.Addr]string{}
	for _, n := range nodes.Items {
		for annotation, handle := range map[string]string{"IPv4VXLANTunnelAddr": "vxlan-tunnel-addr-", "IPv6VXLANTunnelAddr": "vxlan-v6-tunnel-addr-"} {
			if v := n.Annotations["projectcalico.org/"+annotation]; v != "" {
				a, err := netip.ParseAddr(v)
				if err != nil {
					return nil, fmt.Errorf("node %s: %w", n.Name, err)
				}
				out[a] = handle + n.Name
			}
		}
	}
	return out, nil
}

// Agrees waits until datastore and kernels agree with the live pods: see Compare; and each node has just its pods' host
// sides and routes.
func (l *Lab) Agrees(d time.Duration) time.Duration {
	l.t.Helper()
	return l.Within(d, "datastore, kernels and pods agree", func() error {
		return errors.Join(l.CompareKernels(), l.Compare())
	})
}

// CompareKernels says where a node has other pods' host sides and routes than its pods'.
func (l *Lab) CompareKernels() error {
	var errs []error
	pods := l.Pods()
	for _, n := range l.Nodes {
		var veths, routes, haveRoutes []string
		for _, p := range pods {
			if p.Node != n {
				continue
			}
			veths = append(veths, p.HostVeth())
			for _, a := range p.Addrs {
				routes = append(routes, fmt.Sprintf("pod %s dev %s", netip.PrefixFrom(a, a.BitLen()), p.HostVeth()))
			}
		}
		for _, line := range n.State() {
			if strings.HasPrefix(line, "pod ") {
				haveRoutes = append(haveRoutes, line)
			}
		}
		slices.Sort(veths)
		slices.Sort(routes)
		if have := n.Veths(); !slices.Equal(have, veths) {
			errs = append(errs, fmt.Errorf("%s has interfaces %v, its pods' are %v", n.Name, have, veths))
		}
		if !slices.Equal(haveRoutes, routes) {
			errs = append(errs, fmt.Errorf("%s has pods' routes %v, want %v", n.Name, haveRoutes, routes))
		}
	}
	return errors.Join(errs...)
}
