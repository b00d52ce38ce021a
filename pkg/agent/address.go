package agent

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// uplink is one address of the node and the device that has it.
type uplink struct {
	Addr netip.Prefix // with the length of the subnet's prefix
	Dev  string
	MTU  int // bytes
}

// notUplinks are the devices that never carry the node's own address (Calico's list).
var notUplinks = regexp.MustCompile(`^(docker|cbr|dummy|podman|virbr|lxcbr|veth|lo|br-|cali|tunl|flannel|kube-ipvs|cni|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali|nodelocaldns)`)

// findUplink finds the node's own address of a family. setting is an address, with or without prefix length, autodetect
// or none (the result is then empty); method is that of autodetect, "" for the default; internal are the addresses
// that the Node object names.
func findUplink(setting, method string, internal []netip.Addr, family6 bool) (uplink, error) {
	if setting == "none" {
		return uplink{}, nil
	}
	all, err := uplinks(family6)
	if err != nil {
		return uplink{}, err
	}
	if setting != "autodetect" {
		text, _, _ := strings.Cut(setting, "/")
		a, err := netip.ParseAddr(text)
		if err != nil || a.Is6() != family6 {
			return uplink{}, fmt.Errorf("node address %q is neither an address of the family, nor autodetect, nor none", setting)
		}
		return withAddr(all, a)
	}
	switch method {
	case "", "kubernetes-internal-ip":
		for _, a := range internal {
			if a.Is6() == family6 {
				return withAddr(all, a)
			}
		}
		if method != "" {
			return uplink{}, fmt.Errorf("node object has no InternalIP of the family: set another autodetection method, or the address itself")
		}
		return first(all)
	case "first-found":
		return first(all)
	default:
		return uplink{}, fmt.Errorf("autodetection method %q is not known: use kubernetes-internal-ip or first-found, or set the address itself", method)
	}
}

func withAddr(all []uplink, a netip.Addr) (uplink, error) {
	i := slices.IndexFunc(all, func(u uplink) bool { return u.Addr.Addr() == a })
	if i < 0 {
		return uplink{}, fmt.Errorf("no device of this node has the address %s", a)
	}
	return all[i], nil
}

func first(all []uplink) (uplink, error) {
	i := slices.IndexFunc(all, func(u uplink) bool { return !notUplinks.MatchString(u.Dev) })
	if i < 0 {
		return uplink{}, fmt.Errorf("no device has an address that could be the node's: set it")
	}
	return all[i], nil
}

// uplinks lists the global addresses of a family of all devices that are up.
func uplinks(family6 bool) ([]uplink, error) {
	devs, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	var out []uplink
	for _, d := range devs {
		addrs, err := d.Addrs()
		if err != nil || d.Flags&net.FlagUp == 0 {
			continue
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && p.Addr().Is6() == family6 && p.Addr().IsGlobalUnicast() {
				out = append(out, uplink{Addr: p, Dev: d.Name, MTU: d.MTU})
			}
		}
	}
	return out, nil
}
