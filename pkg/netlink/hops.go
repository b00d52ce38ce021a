package netlink

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Hop is a next hop of a route.
type Hop struct {
	OIF    int
	Gw     netip.Addr
	OnLink bool
}

// Hops is a list of next hops in a form that == compares.
type Hops string

// SetHops gives the route its next hops, each as good as the others. Their order does not matter; it is always the same
// in the route.
func (r *Route) SetHops(list []Hop) {
	slices.SortFunc(list, func(a, b Hop) int { return cmp.Or(a.Gw.Compare(b.Gw), cmp.Compare(a.OIF, b.OIF)) })
	list = slices.Compact(list)
	r.OIF, r.Gw, r.OnLink, r.Others = 0, netip.Addr{}, false, ""
	if len(list) == 0 {
		return
	}
	r.OIF, r.Gw, r.OnLink = list[0].OIF, list[0].Gw, list[0].OnLink
	var b []byte
	for _, h := range list[1:] {
		b = binary.BigEndian.AppendUint32(b, uint32(h.OIF))
		flag := byte(0)
		if h.OnLink {
			flag = 1
		}
		gw := h.Gw.AsSlice()
		b = append(append(b, flag, byte(len(gw))), gw...)
	}
	r.Others = Hops(b)
}

// List takes the list apart.
func (h Hops) List() (out []Hop) {
	for b := []byte(h); len(b) >= 6; {
		end := 6 + int(b[5])
		out = append(out, Hop{OIF: int(binary.BigEndian.Uint32(b)), OnLink: b[4] == 1, Gw: addr(b[6:end])})
		b = b[end:]
	}
	return out
}

// String is for people: "via ADDRESS dev INDEX" each.
func (h Hops) String() string {
	var out []string
	for _, hop := range h.List() {
		out = append(out, fmt.Sprintf("via %s dev %d", hop.Gw, hop.OIF))
	}
	return strings.Join(out, ", ")
}

// Uses tells whether one of the route's next hops is on that device.
func (r Route) Uses(oif int) bool {
	return r.OIF == oif || slices.ContainsFunc(r.Others.List(), func(h Hop) bool { return h.OIF == oif })
}

// multipath returns the attribute RTA_MULTIPATH: struct rtnexthop each (linux/rtnetlink.h), and the address.
func (r Route) multipath() *nl.RtAttr {
	var b []byte
	for _, h := range append([]Hop{{r.OIF, r.Gw, r.OnLink}}, r.Others.List()...) {
		gw := h.Gw.AsSlice()
		size := unix.SizeofRtNexthop
		if len(gw) > 0 {
			size += unix.SizeofRtAttr + len(gw)
		}
		flags := byte(0)
		if h.OnLink {
			flags = unix.RTNH_F_ONLINK
		}
		b = binary.NativeEndian.AppendUint16(b, uint16(size))
		b = append(b, flags, 0)
		b = binary.NativeEndian.AppendUint32(b, uint32(h.OIF))
		if len(gw) > 0 {
			b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(gw)))
			b = binary.NativeEndian.AppendUint16(b, unix.RTA_GATEWAY)
			b = append(b, gw...)
		}
	}
	return nl.NewRtAttr(unix.RTA_MULTIPATH, b)
}

// parseMultipath reads RTA_MULTIPATH. Dead next hops, whose device is down, are left out: no packet goes by them.
func (r *Route) parseMultipath(b []byte) {
	var list []Hop
	for len(b) >= unix.SizeofRtNexthop {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			break
		}
		flags, weight := b[2], b[3]
		h := Hop{OIF: int(u32(b[4:])), OnLink: flags&unix.RTNH_F_ONLINK != 0}
		r.Odd = r.Odd || weight != 0
		for typ, val := range attrs(b[unix.SizeofRtNexthop:n]) {
			if typ == unix.RTA_GATEWAY {
				h.Gw = addr(val)
			} else {
				r.Odd = true
			}
		}
		if flags&unix.RTNH_F_DEAD == 0 {
			list = append(list, h)
		}
		b = b[min(align(n), len(b)):]
	}
	r.SetHops(list)
}
