package uplink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/netlink"
)

// dumpTries bounds how often a listing is done again that changed under our eyes.
const dumpTries = 20

// far returns an address of the world of a's family: of the networks for documentation, to which only a default route
// leads.
func far(a netip.Addr) netip.Addr {
	if a.Is6() {
		return netip.MustParseAddr("2001:db8::1")
	}
	return netip.MustParseAddr("192.0.2.1")
}

// look lists the node's addresses of a family: by the index of their device, then the oldest first.
func look(conn *netlink.Conn, family6 bool) (out []address, err error) {
	err = conn.Do(func() error {
		addrs, err := list(family6)
		if err != nil {
			return err
		}
		links := map[int]vnl.Link{} // only of devices with addresses: a node has hundreds without
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			if !ok || !ip.IsGlobalUnicast() || a.Flags&unix.IFA_F_DADFAILED != 0 {
				continue
			}
			link, known := links[a.LinkIndex]
			if !known {
				if link, err = vnl.LinkByIndex(a.LinkIndex); errors.As(err, new(vnl.LinkNotFoundError)) {
					continue // it went meanwhile
				} else if err != nil {
					return fmt.Errorf("get device %d: %w", a.LinkIndex, err)
				}
				links[a.LinkIndex] = link
			}
			if !ours.MatchString(link.Attrs().Name) {
				out = append(out, read(a, ip, link))
			}
		}
		return nil
	})
	if family6 {
		slices.Reverse(out) // of IPv6 addresses the kernel lists the newest first
	}
	slices.SortStableFunc(out, func(a, b address) int { return a.index - b.index })
	markBare(conn, out)
	return out, err
}

// markBare leaves the mark on those addresses without a subnet that are somebody's besides the device's own. A node
// whose own address is a /32 reaches the world with it.
func markBare(conn *netlink.Conn, all []address) {
	i := slices.IndexFunc(all, func(a address) bool { return a.up && a.bare })
	if i < 0 {
		return
	}
	src, err := source(conn, far(all[i].Addr.Addr()))
	if err != nil {
		return // no default route
	}
	if i = slices.IndexFunc(all, func(a address) bool { return a.up && a.Addr.Addr() == src }); i < 0 {
		return
	}
	main := &all[i]
	main.bare = main.bare && slices.ContainsFunc(all, func(a address) bool { return a.index == main.index && !a.bare && !a.passing })
}

func list(family6 bool) (addrs []vnl.Addr, err error) {
	family := vnl.FAMILY_V4
	if family6 {
		family = vnl.FAMILY_V6
	}
	for range dumpTries {
		addrs, err = vnl.AddrList(nil, family)
		if !errors.Is(err, vnl.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return addrs, nil
}

func read(a vnl.Addr, ip netip.Addr, link vnl.Link) address {
	bits, size := a.Mask.Size()
	d := link.Attrs()
	out := address{
		Uplink: Uplink{Addr: netip.PrefixFrom(ip, bits), Dev: d.Name, MTU: d.MTU},
		on:     d.Name, index: d.Index, up: d.Flags&net.FlagUp != 0,
		bare: bits == size && a.Peer == nil,
	}
	if ip.Is4() {
		out.secondary = a.Flags&unix.IFA_F_SECONDARY != 0
	} else {
		out.passing = a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DEPRECATED|unix.IFA_F_TEMPORARY) != 0
	}
	// Of devices that are down it does not matter: kube-ipvs0 has the address of each Service.
	if out.up && (d.Flags&net.FlagLoopback != 0 || link.Type() == "dummy") {
		if exit := wayOut(ip); exit != nil {
			out.Dev, out.MTU = exit.Name, exit.MTU
		}
	}
	return out
}

// wayOut returns the device by which packets with this source leave the node; nil when there is no default route.
func wayOut(src netip.Addr) *vnl.LinkAttrs {
	routes, err := vnl.RouteGetWithOptions(far(src).AsSlice(), &vnl.RouteGetOptions{SrcAddr: src.AsSlice()})
	if err != nil || len(routes) == 0 {
		return nil
	}
	link, err := vnl.LinkByIndex(routes[0].LinkIndex)
	if err != nil || link.Attrs().Flags&net.FlagLoopback != 0 {
		return nil
	}
	return link.Attrs()
}

// reachPort is the port that can-reach asks for (Calico's), should a routing rule tell ports apart.
const reachPort = 80

// preferPublic is IPV6_PREFER_SRC_PUBLIC (linux/in6.h): no temporary address, even where programs get one.
const preferPublic = 0x2

// source returns the address that packets to dst would leave with. Nothing is sent: connecting a datagram socket only has
// the kernel look the route up.
func source(conn *netlink.Conn, dst netip.Addr) (src netip.Addr, err error) {
	family := unix.AF_INET
	var to unix.Sockaddr
	if dst.Is4() {
		to = &unix.SockaddrInet4{Addr: dst.As4(), Port: reachPort}
	} else {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: dst.As16(), Port: reachPort}
	}
	err = conn.Do(func() error {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if family == unix.AF_INET6 {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_ADDR_PREFERENCES, preferPublic); err != nil {
				return err
			}
		}
		if err := unix.Connect(fd, to); err != nil {
			return err
		}
		from, err := unix.Getsockname(fd)
		switch from := from.(type) {
		case *unix.SockaddrInet4:
			src = netip.AddrFrom4(from.Addr)
		case *unix.SockaddrInet6:
			src = netip.AddrFrom16(from.Addr)
		}
		return err
	})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("look up route to %s: %w", dst, err)
	}
	return src, nil
}
