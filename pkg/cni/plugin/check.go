package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/vishvananda/netlink"

	"github.com/margay-net/margay/pkg/cni/wire"
)

// check is the verb CHECK: the pod's side, the host side and the agent's books still are what ADD's result said. The
// error names all objects that differ, and how.
func check(args *skel.CmdArgs) error {
	s, err := newSandbox(args)
	if err != nil {
		return err
	}
	return cniError("check "+s.String(), s.check())
}

// attachment is what ADD's result said of this interface.
type attachment struct {
	hostVeth string
	mtu      int // bytes; 0 where the result does not say
	addrs    []netip.Addr
}

func (s *sandbox) check() error {
	want, err := s.prevResult()
	if err != nil {
		return err
	}
	pod, err := openPodNS(s.netns)
	if err != nil {
		return err
	}
	defer pod.close()
	host, err := openHost()
	if err != nil {
		return err
	}
	defer host.Close()
	if err := errors.Join(checkPod(pod, s.ifName, want), checkHost(host, pod, s.ifName, want)); err != nil {
		return types.NewError(codeMismatch, strings.ReplaceAll(err.Error(), "\n", "; "), "delete the pod to have its network made anew")
	}
	req := s.request(wire.OpCheck)
	req.HostVeth, req.Addrs = want.hostVeth, want.addrs
	_, err = askOnce(s.conf.Socket, req, wire.Timeout)
	return err
}

// prevResult reads ADD's result. Other plugins of the list may have added interfaces and addresses of their own to it.
func (s *sandbox) prevResult() (*attachment, error) {
	if len(s.conf.PrevResult) == 0 || string(s.conf.PrevResult) == "null" {
		return nil, badConfig("prevResult", "is missing", "CHECK needs the result of ADD, which the runtime keeps")
	}
	result, err := s.parseResult()
	if err != nil {
		return nil, badConfig("prevResult", err.Error(), "give the result of ADD as it was printed")
	}
	want := &attachment{}
	inner := -1
	for i, iface := range result.Interfaces {
		switch {
		case iface.Sandbox == "" && want.hostVeth == "" && strings.HasPrefix(iface.Name, hostPrefixName):
			want.hostVeth = iface.Name
		case iface.Sandbox != "" && iface.Name == s.ifName:
			inner, want.mtu = i, iface.Mtu
		}
	}
	for _, ip := range result.IPs {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if ok && ip.Interface != nil && *ip.Interface == inner {
			want.addrs = append(want.addrs, addr.Unmap())
		}
	}
	if want.hostVeth == "" || inner < 0 || len(want.addrs) == 0 {
		return nil, badConfig("prevResult", "has no "+hostPrefixName+"* interface, no "+s.ifName+" or no address of it", "give the result of ADD as it was printed")
	}
	return want, nil
}

func (s *sandbox) parseResult() (*current.Result, error) {
	conf := &types.PluginConf{CNIVersion: s.conf.CNIVersion}
	if err := json.Unmarshal(s.conf.PrevResult, &conf.RawPrevResult); err != nil {
		return nil, err
	}
	if err := version.ParsePrevResult(conf); err != nil {
		return nil, err
	}
	return current.NewResultFromResult(conf.PrevResult)
}

// checkPod compares the pod's side.
func checkPod(pod *podNS, ifName string, want *attachment) error {
	link, err := pod.nl.LinkByName(ifName)
	if err != nil {
		return fmt.Errorf("pod interface %s: %w", ifName, err)
	}
	a, name := link.Attrs(), "pod interface "+ifName
	errs := []error{checkUp(name, a)}
	if want.mtu != 0 && a.MTU != want.mtu {
		errs = append(errs, fmt.Errorf("%s: mtu is %d, was %d", name, a.MTU, want.mtu))
	}
	for _, addr := range want.addrs {
		errs = append(errs, checkFamily(pod, link, addr))
	}
	return errors.Join(errs...)
}

// checkFamily compares an address, and the routes and gateway of its family.
func checkFamily(pod *podNS, link netlink.Link, addr netip.Addr) error {
	family, name := netlink.FAMILY_V4, "pod interface "+link.Attrs().Name
	if addr.Is6() {
		family = netlink.FAMILY_V6
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return pod.nl.AddrList(link, family) })
	if err != nil {
		return fmt.Errorf("%s: list addresses: %w", name, err)
	}
	var errs []error
	if !slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return sameNet(a.IPNet, ipNet(hostPrefix(addr))) }) {
		errs = append(errs, fmt.Errorf("%s: address %s is missing", name, hostPrefix(addr)))
	}
	routes, err := dump(func() ([]netlink.Route, error) { return pod.nl.RouteList(link, family) })
	if err != nil {
		return fmt.Errorf("%s: list routes: %w", name, err)
	}
	for _, r := range podRoutes(link.Attrs().Index, addr) {
		same := func(h netlink.Route) bool { return sameNet(h.Dst, r.Dst) && h.Gw.Equal(r.Gw) }
		if !slices.ContainsFunc(routes, same) {
			errs = append(errs, fmt.Errorf("%s: route to %s is missing", name, r.Dst))
		}
	}
	neighs, err := dump(func() ([]netlink.Neigh, error) { return pod.nl.NeighList(link.Attrs().Index, family) })
	if err != nil {
		return fmt.Errorf("%s: list neighbours: %w", name, err)
	}
	n := podNeigh(link.Attrs().Index, addr)
	same := func(h netlink.Neigh) bool {
		return h.IP.Equal(n.IP) && h.State == n.State && h.HardwareAddr.String() == n.HardwareAddr.String()
	}
	if !slices.ContainsFunc(neighs, same) {
		errs = append(errs, fmt.Errorf("%s: permanent neighbour %s with %s is missing", name, n.IP, n.HardwareAddr))
	}
	return errors.Join(errs...)
}

// checkHost compares the host side.
func checkHost(host *netlink.Handle, pod *podNS, ifName string, want *attachment) error {
	name := "host interface " + want.hostVeth
	link, err := host.LinkByName(want.hostVeth)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	errs := []error{checkUp(name, link.Attrs())}
	pair, err := findPair(host, pod, ifName)
	switch {
	case err != nil:
		errs = append(errs, err)
	case pair == nil || pair.Attrs().Index != link.Attrs().Index:
		errs = append(errs, fmt.Errorf("%s: its other side is not %s in network namespace %s", name, ifName, pod.path))
	}
	return errors.Join(errs...)
}

func checkUp(name string, a *netlink.LinkAttrs) error {
	if a.Flags&net.FlagUp == 0 {
		return fmt.Errorf("%s: is down", name)
	}
	return nil
}

// dump repeats a listing that the kernel says was changed underway.
func dump[T any](list func() ([]T, error)) (got []T, err error) {
	for range 10 {
		if got, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return got, err
}

// sameNet compares two networks; the kernel's listing shows everywhere as nil or as a /0.
func sameNet(a, b *net.IPNet) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.String() == b.String()
}
