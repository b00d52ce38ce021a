package netlink

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value of linux/ethtool.h.
type ethtoolValue struct{ cmd, data uint32 }

func (c *Conn) ethtool(name string, v *ethtoolValue) error {
	r := struct {
		name [unix.IFNAMSIZ]byte
		data *ethtoolValue
		_    [16]byte
	}{data: v}
	if copy(r.name[:unix.IFNAMSIZ-1], name) < len(name) {
		return unix.ENODEV
	}
	return retry(func() error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.ctl), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r))); errno != 0 {
			return errno
		}
		return nil
	})
}

// TxChecksum tells whether a device passes packets on without their checksums, for who comes below to fill in.
func (c *Conn) TxChecksum(name string) (offload bool, err error) {
	v := ethtoolValue{cmd: unix.ETHTOOL_GTXCSUM}
	if err := c.ethtool(name, &v); err != nil {
		return false, fmt.Errorf("get checksum offload of device %s: %w", name, err)
	}
	return v.data != 0, nil
}

// SetTxChecksum switches that on or off; off means that the kernel computes them before the device sees the packet.
func (c *Conn) SetTxChecksum(name string, offload bool) error {
	v := ethtoolValue{cmd: unix.ETHTOOL_STXCSUM}
	if offload {
		v.data = 1
	}
	if err := c.ethtool(name, &v); err != nil {
		return fmt.Errorf("set checksum offload of device %s: %w", name, err)
	}
	return nil
}
