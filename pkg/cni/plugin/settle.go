package plugin

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The kernel answers some requests before it has worked them off. Until then it drops packets: the first one to a pod, or
// the answer to its first one, which is then sent again after a second. ADD asks until each is done; mostly the first
// answer says so.
const (
	firstLook = time.Millisecond // between two looks; doubled each time
	lastLook  = time.Second / 2
)

// settle waits until packets pass between both sides.
func settle(host *netlink.Handle, outer netlink.Link, pod *podNS, inner netlink.Link, addrs []netip.Addr) error {
	name := outer.Attrs().Name
	if err := await("host interface "+name+" to be operational", func() (bool, error) { return operational(host, outer) }); err != nil {
		return err
	}
	for _, addr := range addrs {
		if addr.Is4() {
			continue // the kernel does it at once
		}
		err := errors.Join(
			await(fmt.Sprintf("address %s of host interface %s", gateway(addr), name), func() (bool, error) { return local(host, outer, gateway(addr)) }),
			await(fmt.Sprintf("address %s of pod interface %s", addr, inner.Attrs().Name), func() (bool, error) { return local(pod.nl, inner, addr) }))
		if err != nil {
			return err
		}
	}
	return nil
}

// operational reports whether a device may send. The host side was up before its other side, and so becomes ready only
// with that, by the kernel's link watch. Since Linux 6.8 the question itself makes the kernel do it.
func operational(h *netlink.Handle, link netlink.Link) (bool, error) {
	got, err := h.LinkByIndex(link.Attrs().Index)
	if err != nil {
		return false, err
	}
	return got.Attrs().OperState == netlink.OperUp, nil
}

// local reports whether a namespace takes packets for an address of that device: an IPv6 address gets its route in table
// local some time after it was added.
func local(h *netlink.Handle, link netlink.Link, addr netip.Addr) (bool, error) {
	routes, err := h.RouteGetWithOptions(addr.AsSlice(), &netlink.RouteGetOptions{OifIndex: link.Attrs().Index})
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL, nil
}

// await looks until ready says yes or fails, for a second at most. A kernel that is busier than that (its workqueue for
// IPv6 addresses waits behind every change of a device) gets there after ADD has returned: that is no reason to fail it.
func await(what string, ready func() (bool, error)) error {
	for pause := firstLook; pause <= lastLook; pause *= 2 {
		ok, err := ready()
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		time.Sleep(pause)
	}
	fmt.Fprintf(os.Stderr, "margay: %s is not ready after %s; the pod's first packets may be lost\n", what, 2*lastLook)
	return nil
}
