package netlink

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrNoIPIP means that the kernel has no IPIP, and can't load it.
var ErrNoIPIP = errors.New("the kernel has no IPIP")

// AddIPIP asks for an IPIP device without settings. The kernel loads its module ipip for that if it can, and with it comes
// tunl0 in each namespace; where one without settings is there already, under whatever name, that stays the only one.
func (c *Conn) AddIPIP(name string) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("ipip"))
	req.AddData(info)
	switch err := c.talk.do(req); {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("add device %s: %w: %w", name, ErrNoIPIP, err)
	case err != nil && !errors.Is(err, unix.EEXIST):
		return fmt.Errorf("add device %s: %w", name, err)
	}
	return nil
}

// SetIPIP gives a device of kind ipip its MTU (0: leave) and alias ("": none), and puts it up or down.
func (c *Conn) SetIPIP(l Link) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, 0)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Change = int32(l.Index), unix.IFF_UP
	if l.Up {
		msg.Flags = unix.IFF_UP
	}
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(l.Alias)))
	if l.MTU != 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(l.MTU))))
	}
	if err := c.talk.do(req); err != nil {
		return fmt.Errorf("set device %s: %w", l.Name, err)
	}
	return nil
}
