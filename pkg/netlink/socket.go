package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrInterrupted means that the kernel's tables changed during a dump each time it was tried.
var ErrInterrupted = errors.New("dump interrupted again and again")

// dumpTries bounds how often an interrupted dump is done again before the caller hears of it.
const dumpTries = 20

// replyTimeout bounds the wait for the kernel's answer; rtnetlink answers within the request, so it is never reached
// unless something is badly wrong.
var replyTimeout = unix.Timeval{Sec: 10}

// socket is a blocking rtnetlink socket for requests. One request is under way at a time.
type socket struct {
	mu  sync.Mutex
	fd  int
	pid uint32 // port ID, by which the kernel marks what this socket caused
	seq uint32
	buf []byte
}

func openSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	s := &socket{fd: fd, buf: make([]byte, 1<<16)}
	if err := s.setup(); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set up netlink socket: %w", err)
	}
	return s, nil
}

func (s *socket) setup() error {
	if err := unix.Bind(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return err
	}
	s.pid = sa.(*unix.SockaddrNetlink).Pid
	// Strict checking makes the kernel filter dumps (Linux 4.20); extended acknowledgements say why a request failed.
	for _, opt := range []int{unix.NETLINK_GET_STRICT_CHK, unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, opt, 1); err != nil {
			return err
		}
	}
	return unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &replyTimeout)
}

func (s *socket) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fd := s.fd
	s.fd = -1
	return unix.Close(fd)
}

// do sends a request and waits for its acknowledgement. Errors are the kernel's errno, with its explanation if it
// gives one.
func (s *socket) do(req *nl.NetlinkRequest) error {
	req.Flags |= unix.NLM_F_ACK
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.exchange(req, nil)
	return err
}

// get sends a request whose answer is at most one message.
func (s *socket) get(req *nl.NetlinkRequest, f func(data []byte)) error {
	req.Flags |= unix.NLM_F_ACK
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.exchange(req, f)
	return err
}

// list sends a dump request and calls f with each message; reset is called first, and again before each repetition.
func (s *socket) list(req *nl.NetlinkRequest, reset func(), f func(data []byte)) error {
	req.Flags |= unix.NLM_F_DUMP
	s.mu.Lock()
	defer s.mu.Unlock()
	for range dumpTries {
		reset()
		again, err := s.exchange(req, f)
		if err != nil {
			return err
		}
		if !again {
			return nil
		}
	}
	return ErrInterrupted
}

// exchange does one request; again means that a dump was interrupted. data is valid during f only.
func (s *socket) exchange(req *nl.NetlinkRequest, f func(data []byte)) (again bool, err error) {
	s.seq++
	req.Seq = s.seq
	if err := retry(func() error {
		return unix.Sendto(s.fd, req.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}); err != nil {
		return false, err
	}
	for {
		var n int
		if err := retry(func() (err error) {
			n, _, err = unix.Recvfrom(s.fd, s.buf, 0)
			return err
		}); err != nil {
			return false, err
		}
		done := false
		for hdr, data := range messages(s.buf[:n]) {
			if hdr.Seq != s.seq {
				continue // left over from a request that timed out
			}
			again = again || hdr.Flags&unix.NLM_F_DUMP_INTR != 0
			switch {
			case hdr.Type == unix.NLMSG_DONE || hdr.Type == unix.NLMSG_ERROR:
				err, done = ackError(hdr, data), true
			case f != nil:
				f(data)
			}
		}
		if errors.Is(err, unix.EINTR) { // how some dumps say that they were interrupted
			return true, nil
		}
		if done {
			return again, err
		}
	}
}

func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// ackError reads the errno of an acknowledgement or of a dump's end.
func ackError(hdr unix.NlMsghdr, data []byte) error {
	if len(data) < 4 {
		return nil
	}
	errno := int32(binary.NativeEndian.Uint32(data))
	if errno >= 0 {
		return nil
	}
	err := syscall.Errno(-errno)
	if hdr.Flags&unix.NLM_F_ACK_TLVS == 0 {
		return err
	}
	rest := data[4:]
	if hdr.Type == unix.NLMSG_ERROR {
		rest = rest[min(len(rest), unix.SizeofNlMsghdr):] // the request's header, capped to it by NETLINK_CAP_ACK
	}
	for typ, val := range attrs(rest) {
		if typ == nl.NLMSGERR_ATTR_MSG {
			return fmt.Errorf("%w: %s", err, unix.ByteSliceToString(val))
		}
	}
	return err
}
