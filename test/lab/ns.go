package lab

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"github.com/vishvananda/netns"

	"github.com/margay-net/margay/pkg/netlink"
)

// NS is a network namespace without a name: it ends when nobody uses it any more.
type NS struct {
	handle netns.NsHandle
	path   string
	link   string // a name of its own, if it has one
	once   sync.Once
}

// NewNS makes a namespace with its loopback device up.
func NewNS() (*NS, error) {
	type result struct {
		h   netns.NsHandle
		err error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		h, err := netns.New()
		made <- result{h, err}
	}()
	r := <-made
	if r.err != nil {
		return nil, fmt.Errorf("make network namespace: %w", r.err)
	}
	n := &NS{handle: r.h, path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), r.h)}
	c, err := n.Conn()
	if err == nil {
		err = c.SetLink(netlink.Link{Index: 1})
		c.Close()
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// Path is where other processes find the namespace until Close.
func (n *NS) Path() string { return n.path }

// Close lets the namespace go.
func (n *NS) Close() {
	n.once.Do(func() {
		if n.link != "" {
			os.Remove(n.link)
		}
		n.handle.Close()
	})
}

// Conn returns a netlink connection to the namespace, which the caller closes.
func (n *NS) Conn() (*netlink.Conn, error) { return netlink.NewAt(n.handle) }

// Do runs f on a thread in the namespace. Sockets that f opens and processes that f starts stay there.
func (n *NS) Do(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := netns.Get()
	if err != nil {
		return err
	}
	defer old.Close()
	if err := netns.Set(n.handle); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	defer func() {
		if err := netns.Set(old); err != nil {
			panic(fmt.Sprintf("leave network namespace: %v", err)) // going on would write to the wrong one
		}
	}()
	return f()
}

// Run runs a command line, split at spaces, and returns what it printed.
func (n *NS) Run(line string) (string, error) {
	args := strings.Fields(line)
	var out []byte
	err := n.Do(func() (err error) {
		out, err = exec.Command(args[0], args[1:]...).CombinedOutput()
		return err
	})
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// Batch runs lines of ip(8) in one process.
func (n *NS) Batch(lines ...string) error {
	return n.Do(func() error {
		cmd := exec.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("ip -batch: %w: %s", err, out)
		}
		return nil
	})
}

// Sysctl returns a value below /proc/sys; "" when there is none.
func (n *NS) Sysctl(path string) (value string) {
	_ = n.Do(func() error {
		b, err := os.ReadFile("/proc/sys/" + path)
		value = strings.TrimSpace(string(b))
		return err
	})
	return value
}

// SetSysctl writes a value below /proc/sys.
func (n *NS) SetSysctl(path, value string) error {
	return n.Do(func() error { return os.WriteFile("/proc/sys/"+path, []byte(value), 0) })
}
