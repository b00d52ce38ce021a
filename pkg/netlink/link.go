package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrNoDevice means that there is no device of that name or index.
var ErrNoDevice = errors.New("no such device")

// Link is one device as the kernel holds it.
type Link struct {
	Index int
	Name  string
	Up    bool
	MAC   MAC
	MTU   int
	Kind  string // "vxlan", "veth", …; "" for hardware
	VXLAN VXLAN  // of kind "vxlan"
	Alias string // of kind "ipip"
}

// VXLAN is what a VXLAN device has beyond other devices.
type VXLAN struct {
	VNI      uint32
	Port     uint16
	Parent   int // index; 0 for none
	Local    netip.Addr
	Learning bool
}

// Link returns the device of that name; ErrNoDevice when there is none.
func (c *Conn) Link(name string) (Link, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	var l Link
	err := c.talk.get(req, func(data []byte) { l, _ = parseLink(data) })
	if err == nil && l.Name != name {
		err = ErrNoDevice
	}
	if errors.Is(err, unix.ENODEV) {
		err = ErrNoDevice
	}
	if err != nil {
		return Link{}, fmt.Errorf("get device %s: %w", name, err)
	}
	return l, nil
}

// PutVXLAN makes a VXLAN device, up, in one message; or, with l.Index, corrects the parent, local address and learning of
// the one that is there. The kernel refuses to change VNI and port.
func (c *Conn) PutVXLAN(l Link) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, 0)
	if l.Index == 0 {
		req.Flags |= unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = int32(l.Index), unix.IFF_UP, unix.IFF_UP
	req.AddData(msg)
	if l.Index == 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(l.Name)))
		req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(l.MTU))))
		req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, l.MAC[:]))
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("vxlan"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_VXLAN_ID, nl.Uint32Attr(l.VXLAN.VNI))
	data.AddRtAttr(nl.IFLA_VXLAN_LEARNING, nl.Uint8Attr(0))
	if l.VXLAN.Parent != 0 {
		data.AddRtAttr(nl.IFLA_VXLAN_LINK, nl.Uint32Attr(uint32(l.VXLAN.Parent)))
	}
	if l.VXLAN.Local.Is4() {
		data.AddRtAttr(nl.IFLA_VXLAN_LOCAL, l.VXLAN.Local.AsSlice())
	} else {
		data.AddRtAttr(nl.IFLA_VXLAN_LOCAL6, l.VXLAN.Local.AsSlice())
	}
	if l.Index == 0 {
		data.AddRtAttr(nl.IFLA_VXLAN_PORT, nl.BEUint16Attr(l.VXLAN.Port))
		// No checksum of the outer UDP header, which IPv4 allows and RFC 7348 recommends: the inner packet has its own.
		data.AddRtAttr(nl.IFLA_VXLAN_UDP_CSUM, nl.Uint8Attr(0))
	}
	req.AddData(info)
	if err := c.talk.do(req); err != nil {
		return fmt.Errorf("put device %s: %w", l.Name, err)
	}
	return nil
}

// SetLink changes MTU (0: leave) and MAC (zero: leave) of a device and puts it up.
func (c *Conn) SetLink(l Link) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, 0)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = int32(l.Index), unix.IFF_UP, unix.IFF_UP
	req.AddData(msg)
	if l.MTU != 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(l.MTU))))
	}
	if l.MAC != (MAC{}) {
		req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, l.MAC[:]))
	}
	if err := c.talk.do(req); err != nil {
		return fmt.Errorf("set device %d: %w", l.Index, err)
	}
	return nil
}

// DeleteLink removes a device, over a socket of its own: the kernel answers only when all users of the device have let
// go of it, 10–30 ms after it is gone for everybody else. That there is none is no error.
func (c *Conn) DeleteLink(index int) error {
	return c.Do(func() error {
		s, err := openSocket()
		if err != nil {
			return err
		}
		defer s.close()
		req := nl.NewNetlinkRequest(unix.RTM_DELLINK, 0)
		msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Index = int32(index)
		req.AddData(msg)
		if err := s.do(req); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("delete device %d: %w", index, err)
		}
		return nil
	})
}

// ifreq is struct ifreq as far as the ioctls here use it.
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	val  [24]byte
}

func (c *Conn) ioctl(op uintptr, r *ifreq) error {
	return retry(func() error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.ctl), op, uintptr(unsafe.Pointer(r))); errno != 0 {
			return errno
		}
		return nil
	})
}

// Index returns the index of the device of that name and whether it is up; 0 when there is none. It costs two system
// calls and no lock that writers of routes or devices hold.
func (c *Conn) Index(name string) (index int, up bool) {
	var r ifreq
	if name == "" || copy(r.name[:unix.IFNAMSIZ-1], name) < len(name) || c.ioctl(unix.SIOCGIFINDEX, &r) != nil {
		return 0, false
	}
	index = int(u32(r.val[:]))
	if c.ioctl(unix.SIOCGIFFLAGS, &r) != nil {
		return 0, false
	}
	return index, binary.NativeEndian.Uint16(r.val[:])&unix.IFF_UP != 0
}

// Exists tells whether the kernel lists a device of that index.
func (c *Conn) Exists(index int) bool {
	var r ifreq
	binary.NativeEndian.PutUint32(r.val[:], uint32(index))
	return c.ioctl(unix.SIOCGIFNAME, &r) == nil
}

// parseLink reads an RTM_NEWLINK or RTM_DELLINK message of the device itself.
func parseLink(data []byte) (l Link, ok bool) {
	if len(data) < unix.SizeofIfInfomsg {
		return l, false
	}
	msg := (*unix.IfInfomsg)(unsafe.Pointer(&data[0]))
	if msg.Family != unix.AF_UNSPEC {
		return l, false
	}
	l.Index, l.Up = int(msg.Index), msg.Flags&unix.IFF_UP != 0
	for typ, val := range attrs(data[unix.SizeofIfInfomsg:]) {
		switch typ {
		case unix.IFLA_IFNAME:
			l.Name = unix.ByteSliceToString(val)
		case unix.IFLA_MTU:
			l.MTU = int(u32(val))
		case unix.IFLA_ADDRESS:
			copy(l.MAC[:], val)
		case unix.IFLA_IFALIAS:
			l.Alias = unix.ByteSliceToString(val)
		case unix.IFLA_LINKINFO:
			l.parseInfo(val)
		}
	}
	if l.Kind != "ipip" {
		l.Alias = ""
	}
	return l, true
}

func (l *Link) parseInfo(info []byte) {
	for typ, val := range attrs(info) {
		switch typ {
		case nl.IFLA_INFO_KIND:
			l.Kind = unix.ByteSliceToString(val)
		case nl.IFLA_INFO_DATA:
			if l.Kind == "vxlan" {
				l.VXLAN.parse(val)
			}
		}
	}
}

func (v *VXLAN) parse(data []byte) {
	for typ, val := range attrs(data) {
		switch typ {
		case nl.IFLA_VXLAN_ID:
			v.VNI = u32(val)
		case nl.IFLA_VXLAN_LINK:
			v.Parent = int(u32(val))
		case nl.IFLA_VXLAN_LOCAL, nl.IFLA_VXLAN_LOCAL6:
			v.Local = addr(val)
		case nl.IFLA_VXLAN_LEARNING:
			v.Learning = len(val) > 0 && val[0] != 0
		case nl.IFLA_VXLAN_PORT:
			if len(val) == 2 {
				v.Port = binary.BigEndian.Uint16(val)
			}
		}
	}
}

func isGone(err error) bool {
	return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EADDRNOTAVAIL)
}
