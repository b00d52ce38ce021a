package node

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ifName asks for the name of a device by its index (netdevice(7), SIOCGIFNAME), in the socket's namespace.
func ifName(fd, index int) (string, error) {
	var r struct {
		name  [unix.IFNAMSIZ]byte
		index int32
		_     [20]byte
	}
	r.index = int32(index)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGIFNAME, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return "", errno
	}
	return unix.ByteSliceToString(r.name[:]), nil
}
