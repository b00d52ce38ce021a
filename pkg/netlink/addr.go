package netlink

import (
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Addr is one address of a device.
type Addr struct {
	Index  int
	Prefix netip.Prefix // not masked
	Global bool         // of scope universe; else PutAddr makes it of scope link
}

// Addrs lists the addresses of one device, of both families.
func (c *Conn) Addrs(index int) ([]Addr, error) {
	var all []Addr
	for _, family := range Families {
		req := nl.NewNetlinkRequest(unix.RTM_GETADDR, 0)
		msg := nl.NewIfAddrmsg(int(family))
		msg.Index = uint32(index)
		req.AddData(msg)
		done := len(all)
		err := c.dump.list(req, func() { all = all[:done] }, func(data []byte) {
			// A kernel without IPv6 answers with IPv4's when asked for IPv6's.
			if a, ok := parseAddr(data); ok && a.Index == index && familyOf(a.Prefix.Addr()) == family {
				all = append(all, a)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("list addresses of device %d: %w", index, err)
		}
	}
	return all, nil
}

// PutAddr writes an address, IPv6 without duplicate address detection: it is usable at once.
func (c *Conn) PutAddr(a Addr) error {
	req := addrRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, a)
	if err := c.talk.do(req); err != nil {
		return fmt.Errorf("put address %s on device %d: %w", a.Prefix, a.Index, err)
	}
	return nil
}

// DeleteAddr removes an address; that there is none is no error.
func (c *Conn) DeleteAddr(a Addr) error {
	if err := c.talk.do(addrRequest(unix.RTM_DELADDR, 0, a)); err != nil && !isGone(err) {
		return fmt.Errorf("delete address %s of device %d: %w", a.Prefix, a.Index, err)
	}
	return nil
}

func addrRequest(typ, flags int, a Addr) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(typ, flags)
	msg := nl.NewIfAddrmsg(int(familyOf(a.Prefix.Addr())))
	msg.Index, msg.Prefixlen = uint32(a.Index), uint8(a.Prefix.Bits())
	if !a.Global {
		msg.Scope = unix.RT_SCOPE_LINK
	}
	if typ == unix.RTM_NEWADDR && a.Prefix.Addr().Is6() {
		msg.IfAddrmsg.Flags = unix.IFA_F_NODAD
	}
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.Prefix.Addr().AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, a.Prefix.Addr().AsSlice())) // without it, the length isn't compared
	return req
}

// parseAddr reads an RTM_NEWADDR or RTM_DELADDR message.
func parseAddr(data []byte) (a Addr, ok bool) {
	if len(data) < unix.SizeofIfAddrmsg {
		return a, false
	}
	msg := (*unix.IfAddrmsg)(unsafe.Pointer(&data[0]))
	var local, address netip.Addr
	for typ, val := range attrs(data[unix.SizeofIfAddrmsg:]) {
		switch typ {
		case unix.IFA_LOCAL:
			local = addr(val)
		case unix.IFA_ADDRESS:
			address = addr(val)
		}
	}
	if !local.IsValid() {
		local = address // IPv6 says IFA_LOCAL only for an address with a peer
	}
	a = Addr{Index: int(msg.Index), Prefix: netip.PrefixFrom(local, int(msg.Prefixlen)), Global: msg.Scope == unix.RT_SCOPE_UNIVERSE}
	return a, a.Prefix.IsValid()
}
