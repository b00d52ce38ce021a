package netlink

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// NextHop asks the kernel by which device it reaches an address, and by which router; via is not valid when the address is
// on the device's link. Not ok when the kernel has no route to it, or it is one of the machine's own.
func (c *Conn) NextHop(to netip.Addr) (dev string, via netip.Addr, ok bool) {
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
	msg := &nl.RtMsg{}
	msg.Family, msg.Dst_len = familyOf(to), uint8(to.BitLen())
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, to.AsSlice()))
	index := 0
	err := c.talk.get(req, func(data []byte) {
		if len(data) < unix.SizeofRtMsg || (*unix.RtMsg)(unsafe.Pointer(&data[0])).Type != unix.RTN_UNICAST {
			return
		}
		for typ, val := range attrs(data[unix.SizeofRtMsg:]) {
			switch typ {
			case unix.RTA_OIF:
				index = int(u32(val))
			case unix.RTA_GATEWAY:
				via = addr(val)
			}
		}
	})
	dev = c.name(index)
	return dev, via, err == nil && dev != ""
}

// name returns the name of the device of that index, "" when there is none.
func (c *Conn) name(index int) string {
	var r ifreq
	binary.NativeEndian.PutUint32(r.val[:], uint32(index))
	if index == 0 || c.ioctl(unix.SIOCGIFNAME, &r) != nil {
		return ""
	}
	return unix.ByteSliceToString(r.name[:])
}
