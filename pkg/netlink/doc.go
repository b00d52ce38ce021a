// Package netlink is the one door to the kernel's rtnetlink (RFC 3549, linux/rtnetlink.h).
//
// It speaks in netip values and small comparable structs and hides what every user would have to repeat: dumps that the
// kernel reports as interrupted are done again, dumps are filtered by the kernel where it can (strict checking), lost
// events are reported as ErrOverrun so that the reader compares everything anew, and events that a Conn caused itself
// are marked as its own. Messages are built with and parsed by github.com/vishvananda/netlink where that package has
// the format; the sockets are this package's own, since they must keep their buffers and tell who asked.
//
// It owns no kernel objects, keeps no state of them, and never decides what should be there.
package netlink
