package netlink

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// messages walks over the netlink messages of one datagram.
func messages(b []byte) iter.Seq2[unix.NlMsghdr, []byte] {
	return func(yield func(unix.NlMsghdr, []byte) bool) {
		for len(b) >= unix.SizeofNlMsghdr {
			hdr := *(*unix.NlMsghdr)(unsafe.Pointer(&b[0]))
			n := int(hdr.Len)
			if n < unix.SizeofNlMsghdr || n > len(b) {
				return
			}
			if !yield(hdr, b[unix.SizeofNlMsghdr:n]) {
				return
			}
			b = b[min(align(n), len(b)):]
		}
	}
}

// attrs walks over the attributes in b; flag bits are cut from the types.
func attrs(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			n := int(binary.NativeEndian.Uint16(b))
			typ := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if n < unix.SizeofRtAttr || n > len(b) {
				return
			}
			if !yield(typ, b[unix.SizeofRtAttr:n]) {
				return
			}
			b = b[min(align(n), len(b)):]
		}
	}
}

func align(n int) int { return (n + 3) &^ 3 }

func u32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

// addr reads an address of 4 or 16 bytes; not valid for any other length.
func addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

func familyOf(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
