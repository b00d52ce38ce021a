package plugin

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/pkg/model"
)

// hostPrefixName begins the names of all host sides.
const hostPrefixName = "cali"

// openHost opens a netlink socket in the plugin's own namespace, the node's.
func openHost() (*netlink.Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	return h, nil
}

// makeVeth makes the pair in one step, each side where it belongs: moving the pod's side there later would cost the
// kernel a grace period. The host side is up on return, the pod's side down. A host side that an earlier sandbox of the
// pod has left behind is deleted; anything else of either name is an error.
func makeVeth(host *netlink.Handle, pod *podNS, s *sandbox, want *wire.Assigned) (netlink.Link, error) {
	link, err := addVeth(host, pod, s.ifName, want)
	if errors.Is(err, unix.EEXIST) {
		if pod.has(s.ifName) {
			return nil, types.NewError(codeTaken, fmt.Sprintf("interface %s exists already in network namespace %s", s.ifName, pod.path),
				"call DEL first, or choose another CNI_IFNAME")
		}
		if err := deleteStale(host, pod, s, want.HostVeth); err != nil {
			return nil, err
		}
		link, err = addVeth(host, pod, s.ifName, want)
	}
	if err != nil {
		return nil, fmt.Errorf("make veth pair %s: %w", want.HostVeth, err)
	}
	if err := raise(host, link, want.Addrs); err != nil {
		return nil, errors.Join(err, deleteLink(host, link))
	}
	return link, nil
}

func addVeth(host *netlink.Handle, pod *podNS, ifName string, want *wire.Assigned) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = want.HostVeth
	attrs.MTU = want.MTU
	attrs.HardwareAddr = hostMAC()
	if !hasIPv6(want.Addrs) {
		attrs.Flags = net.FlagUp
	}
	link := netlink.NewVeth(attrs)
	link.PeerName = ifName
	link.PeerNamespace = netlink.NsFd(pod.fd)
	if want.MAC != "" { // born with it: nobody has heard of another one
		mac, err := net.ParseMAC(want.MAC)
		if err != nil {
			return nil, err
		}
		link.PeerHardwareAddr = mac
	}
	return link, host.LinkAdd(link)
}

// raise switches the host side of a pod with an IPv6 address on; without one it is up since it was made. The link-local
// address comes first and without duplicate address detection, which would leave the node unable to ask for the pod's
// Ethernet address for a second or two.
func raise(host *netlink.Handle, link netlink.Link, addrs []netip.Addr) error {
	if !hasIPv6(addrs) {
		return nil
	}
	name := link.Attrs().Name
	local := &netlink.Addr{
		IPNet: ipNet(netip.PrefixFrom(gateway(netip.IPv6Unspecified()), 64)),
		Flags: unix.IFA_F_NODAD,
		Scope: int(netlink.SCOPE_LINK),
	}
	err := host.AddrAdd(link, local)
	if errors.Is(err, unix.EACCES) {
		if err = enableIPv6(name); err == nil {
			err = host.AddrAdd(link, local)
		}
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add address %s to host interface %s: %w", local.IPNet, name, err)
	}
	if err := host.LinkSetUp(link); err != nil {
		return fmt.Errorf("set host interface %s up: %w", name, err)
	}
	return nil
}

// deleteStale deletes a device that has the name of s's host side, if it is that of an earlier sandbox of the same pod: a
// veth of this very name and with our Ethernet address, whose other side is not in this sandbox.
func deleteStale(host *netlink.Handle, pod *podNS, s *sandbox, name string) error {
	link, err := host.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find host interface %s: %w", name, err)
	}
	taken := func(why string) error {
		return types.NewError(codeTaken, fmt.Sprintf("host interface %s exists already and %s", name, why),
			"see `ip -d link show "+name+"`; delete it if nothing uses it")
	}
	if !ours(link) || name != model.InterfaceVeth(s.namespace, s.pod, s.ifName) {
		return taken("is not one of pod " + s.namespace + "/" + s.pod)
	}
	inside, err := peerIn(host, link, pod)
	if err != nil {
		return err
	}
	if inside {
		return taken("belongs to another interface of this sandbox")
	}
	return deleteLink(host, link)
}

// findPair returns the host side of the pair whose other side is the sandbox's interface; nil when the sandbox has no
// such interface, or one that is not ours. Host side and pod side must name each other, by index and by namespace.
func findPair(host *netlink.Handle, pod *podNS, ifName string) (netlink.Link, error) {
	inner, err := pod.nl.LinkByName(ifName)
	if errors.As(err, new(netlink.LinkNotFoundError)) || err == nil && inner.Type() != "veth" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find pod interface %s: %w", ifName, err)
	}
	outer, err := host.LinkByIndex(inner.Attrs().ParentIndex)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find host side of pod interface %s: %w", ifName, err)
	}
	a := outer.Attrs()
	if !ours(outer) || a.ParentIndex != inner.Attrs().Index {
		return nil, nil
	}
	if inside, err := peerIn(host, outer, pod); err != nil || !inside {
		return nil, err
	}
	return outer, nil
}

// ours reports whether a device looks as makeVeth makes host sides.
func ours(link netlink.Link) bool {
	a := link.Attrs()
	return link.Type() == "veth" && strings.HasPrefix(a.Name, hostPrefixName) && bytes.Equal(a.HardwareAddr, hostMAC())
}

// peerIn reports whether the other side of a host side is in that namespace. The kernel gives a namespace its number, as
// seen from here, when it first tells of a peer in it: link must have been read before.
func peerIn(host *netlink.Handle, link netlink.Link, pod *podNS) (bool, error) {
	id, err := host.GetNetNsIdByFd(int(pod.fd))
	if err != nil {
		return false, fmt.Errorf("get id of network namespace %s: %w", pod.path, err)
	}
	return id >= 0 && id == link.Attrs().NetNsID, nil
}

// deleteLink deletes a device, by its index; one that is gone already is fine.
func deleteLink(host *netlink.Handle, link netlink.Link) error {
	err := host.LinkDel(link)
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete host interface %s: %w", link.Attrs().Name, err)
	}
	return nil
}

func hasIPv6(addrs []netip.Addr) bool { return slices.ContainsFunc(addrs, netip.Addr.Is6) }
