package netlink

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Families are the address families as the kernel numbers them, in the order in which everything here goes over them.
var Families = [...]uint8{unix.AF_INET, unix.AF_INET6}

// Conn is one user's access to one network namespace. Dumps go over a socket of their own, so that a request never
// waits behind one. All methods may be called from any goroutine.
type Conn struct {
	ns         netns.NsHandle // none: the namespace that all threads of the program are in
	talk, dump *socket
	ctl        int // any socket, for the ioctls of netdevice(7)
}

// New returns a Conn to the network namespace of the calling thread, which must be the one of the whole program.
func New() (*Conn, error) { return open(netns.None()) }

// NewAt returns a Conn to the given namespace, which may be another one than the program's. The handle stays the
// caller's and may be closed.
func NewAt(ns netns.NsHandle) (*Conn, error) {
	fd, err := unix.FcntlInt(uintptr(ns), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate network namespace handle: %w", err)
	}
	return open(netns.NsHandle(fd))
}

func open(ns netns.NsHandle) (*Conn, error) {
	c := &Conn{ns: ns, ctl: -1}
	err := c.Do(func() (err error) {
		if c.talk, err = openSocket(); err != nil {
			return err
		}
		if c.dump, err = openSocket(); err != nil {
			return err
		}
		c.ctl, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close gives the sockets back. Nothing may be called on c afterwards.
func (c *Conn) Close() error {
	var errs []error
	for _, s := range []*socket{c.talk, c.dump} {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	if c.ctl >= 0 {
		errs = append(errs, unix.Close(c.ctl))
	}
	if c.ns.IsOpen() {
		errs = append(errs, c.ns.Close())
	}
	return errors.Join(errs...)
}

// Do runs f in the Conn's network namespace: sockets that f opens and files that it opens below /proc/sys/net are that
// namespace's. f must not start goroutines that rely on this.
func (c *Conn) Do(f func() error) error {
	if !c.ns.IsOpen() {
		return f()
	}
	runtime.LockOSThread()
	old, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("get network namespace: %w", err)
	}
	defer old.Close()
	if err := netns.Set(c.ns); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace: %w", err)
	}
	err = f()
	if back := netns.Set(old); back != nil {
		// The thread stays locked, and so ends with its goroutine instead of serving others in the wrong namespace.
		return errors.Join(err, fmt.Errorf("leave network namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}
