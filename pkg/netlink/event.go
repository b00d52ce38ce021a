package netlink

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrOverrun means that the kernel dropped events because they were not read fast enough: what the reader believes may
// be wrong, and everything must be compared anew. The subscription goes on.
var ErrOverrun = errors.New("events lost")

// eventBuffer is asked for as the receive buffer of a subscription, in bytes: some 20,000 route events. The kernel
// takes the memory only while events wait.
const eventBuffer = 16 << 20

// Group is a set of events (linux/rtnetlink.h, RTNLGRP_*).
type Group uint32

// Groups of events that a subscription can have. Neigh has the forwarding entries too.
const (
	GroupLink     Group = unix.RTNLGRP_LINK
	GroupNeigh    Group = unix.RTNLGRP_NEIGH
	GroupAddr4    Group = unix.RTNLGRP_IPV4_IFADDR
	GroupAddr6    Group = unix.RTNLGRP_IPV6_IFADDR
	GroupRoute4   Group = unix.RTNLGRP_IPV4_ROUTE
	GroupRoute6   Group = unix.RTNLGRP_IPV6_ROUTE
	GroupNetconf4 Group = unix.RTNLGRP_IPV4_NETCONF
	GroupNetconf6 Group = unix.RTNLGRP_IPV6_NETCONF
)

// Event is one notification. The method that fits its Type decodes it.
type Event struct {
	Type uint16 // unix.RTM_*
	Own  bool   // caused by a request over the Conn that the subscription was made from
	data []byte
}

// Deleted tells the RTM_DEL messages from the RTM_NEW ones.
func (e Event) Deleted() bool { return (e.Type-unix.RTM_BASE)&3 == 1 }

// Link decodes RTM_NEWLINK and RTM_DELLINK. A bridge port leaving its bridge says RTM_DELLINK too: not ok.
func (e Event) Link() (Link, bool) { return parseLink(e.data) }

// Addr decodes RTM_NEWADDR and RTM_DELADDR.
func (e Event) Addr() (Addr, bool) { return parseAddr(e.data) }

// Route decodes RTM_NEWROUTE and RTM_DELROUTE; not ok for tables other than main.
func (e Event) Route() (Route, bool) { return parseRoute(e.data) }

// Neigh decodes RTM_NEWNEIGH and RTM_DELNEIGH.
func (e Event) Neigh() (Neigh, bool) { return parseNeigh(e.data) }

// Netconf decodes RTM_NEWNETCONF (linux/netconf.h): some of this device's sysctls below net/ipv{4,6}/conf changed. Index
// is -1 for "all" and -2 for "default".
func (e Event) Netconf() (index int, ok bool) {
	if len(e.data) < 4 { // struct netconfmsg and its padding
		return 0, false
	}
	for typ, val := range attrs(e.data[4:]) {
		if typ == netconfaIfindex {
			return int(int32(u32(val))), true
		}
	}
	return 0, false
}

const netconfaIfindex = 1 // NETCONFA_IFINDEX

// Subscription is a socket that events arrive on, in the order in which things happened.
type Subscription struct {
	file *os.File
	pid  uint32
	buf  []byte
}

// Subscribe asks for events from now on.
func (c *Conn) Subscribe(groups ...Group) (*Subscription, error) {
	return c.SubscribeBuffer(eventBuffer, groups...)
}

// SubscribeBuffer is Subscribe with a receive buffer of another size in bytes.
func (c *Conn) SubscribeBuffer(size int, groups ...Group) (*Subscription, error) {
	s := &Subscription{pid: c.talk.pid, buf: make([]byte, 1<<16)}
	err := c.Do(func() error { return s.open(size, groups) })
	if err != nil {
		return nil, fmt.Errorf("subscribe to netlink events: %w", err)
	}
	return s, nil
}

func (s *Subscription) open(buffer int, groups []Group) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	s.file = os.NewFile(uintptr(fd), "netlink events")
	if err := setBuffer(fd, buffer); err != nil {
		return errors.Join(err, s.file.Close())
	}
	sa := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	for _, g := range groups {
		sa.Groups |= 1 << (g - 1)
	}
	if err := unix.Bind(fd, sa); err != nil {
		return errors.Join(err, s.file.Close())
	}
	return nil
}

// setBuffer asks for more than net.core.rmem_max allows if this user may.
func setBuffer(fd, size int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
}

// Close ends a Receive under way with os.ErrClosed.
func (s *Subscription) Close() error { return s.file.Close() }

// Receive waits for events and calls f with each; f must not keep what it gets. ErrOverrun is for going on, any other
// error is final.
func (s *Subscription) Receive(f func(Event)) error {
	conn, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	var errno error
	if err := conn.Read(func(fd uintptr) bool {
		errno = retry(func() (err error) {
			n, _, err = unix.Recvfrom(int(fd), s.buf, 0)
			return err
		})
		return errno != unix.EAGAIN
	}); err != nil {
		return err
	}
	if errno == unix.ENOBUFS {
		return ErrOverrun
	}
	if errno != nil {
		return fmt.Errorf("receive netlink events: %w", errno)
	}
	for hdr, data := range messages(s.buf[:n]) {
		f(Event{Type: hdr.Type, Own: hdr.Pid == s.pid, data: data})
	}
	return nil
}

// Run receives until ctx is done, and closes the subscription then. overrun is called when events were lost.
func (s *Subscription) Run(ctx context.Context, f func(Event), overrun func()) error {
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	for {
		err := s.Receive(f)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrOverrun):
			overrun()
		case err != nil:
			return errors.Join(err, s.Close())
		}
	}
}
