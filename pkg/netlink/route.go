package netlink

import (
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// DefaultMetric6 is the metric of an IPv6 route for which none was asked (linux/ipv6_route.h, IP6_RT_PRIO_USER).
const DefaultMetric6 = 1024

// Route is one route of the main table as the kernel holds it.
type Route struct {
	Dst    netip.Prefix
	Metric uint32
	TOS    uint8
	Type   uint8 // unix.RTN_*
	Proto  uint8
	Scope  uint8 // unix.RT_SCOPE_*; always 0 for IPv6
	OIF    int   // 0 for a blackhole
	Gw     netip.Addr
	OnLink bool
	Others Hops // further next hops; see SetHops
	Odd    bool // has something that this package never sets: weighted next hops, an encapsulation, a source, metrics
}

// Routes lists the main table's routes of one family ("unix.AF_INET") and protocol.
func (c *Conn) Routes(family, proto uint8) ([]Route, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
	msg := &nl.RtMsg{}
	msg.Family, msg.Protocol, msg.Table = family, proto, unix.RT_TABLE_MAIN
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(unix.RT_TABLE_MAIN)))
	var routes []Route
	err := c.dump.list(req, func() { routes = routes[:0] }, func(data []byte) {
		// A kernel without IPv6 answers with IPv4's when asked for IPv6's.
		if r, ok := parseRoute(data); ok && r.Proto == proto && familyOf(r.Dst.Addr()) == family {
			routes = append(routes, r)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list routes of protocol %d: %w", proto, err)
	}
	return routes, nil
}

// AddRoute writes the route unless there is one with the same destination, TOS and metric: EEXIST.
func (c *Conn) AddRoute(r Route) error {
	if err := c.talk.do(routeRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, r)); err != nil {
		return fmt.Errorf("add route %s: %w", r.Dst, err)
	}
	return nil
}

// PutRoute writes the route, atomically in place of one with the same destination, TOS and metric.
func (c *Conn) PutRoute(r Route) error {
	if err := c.talk.do(routeRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, r)); err != nil {
		return fmt.Errorf("put route %s: %w", r.Dst, err)
	}
	return nil
}

// DeleteRoute removes exactly this route, never one of another protocol, type or next hop; that there is none is no
// error. Of an odd route, and of one with several next hops, these aren't compared.
func (c *Conn) DeleteRoute(r Route) error {
	r.Scope = unix.RT_SCOPE_NOWHERE // any
	if r.Odd || r.Others != "" {
		r.SetHops(nil)
	}
	if err := c.talk.do(routeRequest(unix.RTM_DELROUTE, 0, r)); err != nil && !isGone(err) {
		return fmt.Errorf("delete route %s: %w", r.Dst, err)
	}
	return nil
}

func routeRequest(typ, flags int, r Route) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(typ, flags)
	msg := &nl.RtMsg{}
	msg.Family = familyOf(r.Dst.Addr())
	msg.Dst_len = uint8(r.Dst.Bits())
	msg.Tos, msg.Table, msg.Protocol, msg.Scope, msg.Type = r.TOS, unix.RT_TABLE_MAIN, r.Proto, r.Scope, r.Type
	if r.OnLink && r.Others == "" {
		msg.Flags = unix.RTNH_F_ONLINK
	}
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, r.Dst.Addr().AsSlice()))
	if r.Others != "" {
		req.AddData(r.multipath())
	} else {
		if r.Gw.IsValid() {
			req.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, r.Gw.AsSlice()))
		}
		if r.OIF != 0 {
			req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(r.OIF))))
		}
	}
	if r.Metric != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(r.Metric)))
	}
	return req
}

// parseRoute reads an RTM_NEWROUTE or RTM_DELROUTE message; not ok for cloned routes and other tables than main.
func parseRoute(data []byte) (r Route, ok bool) {
	if len(data) < unix.SizeofRtMsg {
		return r, false
	}
	msg := (*unix.RtMsg)(unsafe.Pointer(&data[0]))
	if msg.Table != unix.RT_TABLE_MAIN || msg.Flags&unix.RTM_F_CLONED != 0 {
		return r, false
	}
	dst := netip.IPv4Unspecified()
	switch msg.Family {
	case unix.AF_INET:
	case unix.AF_INET6:
		dst = netip.IPv6Unspecified()
	default:
		return r, false
	}
	r = Route{TOS: msg.Tos, Type: msg.Type, Proto: msg.Protocol, Scope: msg.Scope, OnLink: msg.Flags&unix.RTNH_F_ONLINK != 0}
	for typ, val := range attrs(data[unix.SizeofRtMsg:]) {
		switch typ {
		case unix.RTA_DST:
			dst = addr(val)
		case unix.RTA_GATEWAY:
			r.Gw = addr(val)
		case unix.RTA_OIF:
			r.OIF = int(u32(val))
		case unix.RTA_MULTIPATH:
			r.parseMultipath(val)
		case unix.RTA_PRIORITY:
			r.Metric = u32(val)
		case unix.RTA_TABLE, unix.RTA_CACHEINFO, unix.RTA_PREF:
		default:
			r.Odd = true
		}
	}
	if r.Type == unix.RTN_BLACKHOLE {
		r.OIF = 0 // IPv6 hangs them on the loopback device
	}
	r.Dst = netip.PrefixFrom(dst, int(msg.Dst_len))
	return r, r.Dst.IsValid()
}
