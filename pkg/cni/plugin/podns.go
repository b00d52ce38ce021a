package plugin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/model"
)

// hostMAC is the Ethernet address of all host sides, which pods send everything to.
func hostMAC() net.HardwareAddr { return net.HardwareAddr(model.EndpointMAC[:]) }

// podNS is a sandbox's network namespace: a descriptor, and a netlink socket that was opened in it.
type podNS struct {
	path string
	fd   netns.NsHandle
	nl   *netlink.Handle
}

// openPodNS opens the network namespace at path. An error is a CNI error with code 8.
func openPodNS(path string) (*podNS, error) {
	fd, err := netns.GetFromPath(path)
	if err != nil {
		return nil, badNS(path, err)
	}
	nl, err := netlink.NewHandleAt(fd, unix.NETLINK_ROUTE)
	if err != nil {
		fd.Close()
		return nil, badNS(path, err)
	}
	return &podNS{path: path, fd: fd, nl: nl}, nil
}

func (p *podNS) close() {
	p.nl.Close()
	p.fd.Close()
}

// own reports whether the namespace is the one that the plugin itself runs in.
func (p *podNS) own() (bool, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	mine, err := netns.Get()
	if err != nil {
		return false, fmt.Errorf("open own network namespace: %w", err)
	}
	defer mine.Close()
	return mine.Equal(p.fd), nil
}

func badNS(path string, err error) error {
	return types.NewError(types.ErrInvalidNetNS, fmt.Sprintf("open network namespace %q: %v", path, err),
		"CNI_NETNS must be the path of a live network namespace that is not the node's")
}

// has reports whether the namespace has an interface of that name.
func (p *podNS) has(ifName string) bool {
	_, err := p.nl.LinkByName(ifName)
	return err == nil
}

// setUp switches an interface on and gives it its addresses, each with the routes and the gateway's neighbour entry of
// its family. A permanent entry needs no answer from the node, whose own routes then do not matter, and the first packet
// need not wait for one. It returns the interface.
func (p *podNS) setUp(ifName string, addrs []netip.Addr) (netlink.Link, error) {
	link, err := p.nl.LinkByName(ifName)
	if err != nil {
		return nil, fmt.Errorf("find pod interface %s: %w", ifName, err)
	}
	if err := p.nl.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set pod interface %s up: %w", ifName, err)
	}
	for _, addr := range addrs {
		if err := p.addAddr(link, addr); err != nil {
			return nil, fmt.Errorf("add address %s to pod interface %s: %w", addr, ifName, err)
		}
		for _, r := range podRoutes(link.Attrs().Index, addr) {
			if err := p.nl.RouteAdd(r); err != nil {
				return nil, fmt.Errorf("add route to %s on pod interface %s: %w", r.Dst, ifName, err)
			}
		}
		if err := p.nl.NeighSet(podNeigh(link.Attrs().Index, addr)); err != nil {
			return nil, fmt.Errorf("add neighbour %s on pod interface %s: %w", gateway(addr), ifName, err)
		}
	}
	return link, nil
}

// addAddr adds an address as a host's: /32 or /128. A pod that is given an IPv6 address gets IPv6 switched on where the
// namespace was made with IPv6 off; without such an address IPv6 stays as it is.
func (p *podNS) addAddr(link netlink.Link, addr netip.Addr) error {
	want := &netlink.Addr{IPNet: ipNet(hostPrefix(addr))}
	if addr.Is4() {
		return p.nl.AddrAdd(link, want)
	}
	want.Flags = unix.IFA_F_NODAD
	err := p.nl.AddrAdd(link, want)
	if !errors.Is(err, unix.EACCES) {
		return err
	}
	if err := p.do(func() error { return enableIPv6(link.Attrs().Name) }); err != nil {
		return err
	}
	return p.nl.AddrAdd(link, want)
}

// do runs f on a thread in the namespace. The thread ends with it and so is never seen there again.
func (p *podNS) do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if err := netns.Set(p.fd); err != nil {
			done <- badNS(p.path, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// enableIPv6 switches IPv6 on for one interface of the thread's namespace.
func enableIPv6(dev string) error {
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+dev+"/disable_ipv6", []byte("0"), 0); err != nil {
		return fmt.Errorf("enable IPv6: %w", err)
	}
	return nil
}

// gateway is the next hop of a pod with that address: Calico's fixed one for IPv4, and for IPv6 the link-local address
// that the host side has by its Ethernet address (RFC 4291, appendix A).
func gateway(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return model.GatewayV4
	}
	m := model.EndpointMAC
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// podRoutes are a pod's routes of an address's family: to the gateway, where that is not link-local by itself, and by
// the gateway to everywhere.
func podRoutes(dev int, addr netip.Addr) []*netlink.Route {
	gw := gateway(addr)
	routes := []*netlink.Route{{LinkIndex: dev, Dst: ipNet(everywhere(addr)), Gw: gw.AsSlice()}}
	if addr.Is4() {
		toGateway := &netlink.Route{LinkIndex: dev, Dst: ipNet(hostPrefix(gw)), Scope: netlink.SCOPE_LINK}
		routes = append([]*netlink.Route{toGateway}, routes...)
	}
	return routes
}

// podNeigh is the gateway's neighbour entry in a pod.
func podNeigh(dev int, addr netip.Addr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex:    dev,
		State:        netlink.NUD_PERMANENT,
		IP:           gateway(addr).AsSlice(),
		HardwareAddr: hostMAC(),
	}
}

// everywhere is the prefix of length 0 of an address's family.
func everywhere(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, 0).Masked() }

// hostPrefix is the prefix of an address alone: /32 or /128.
func hostPrefix(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
