// Package health looks whether a node's own work is possible: what the agent needs of its node to add and delete pods.
//
// Each function looks at one thing, now, and returns what is wrong with it in words for the operator, or nil. None
// remembers anything, so what has come right is right at the next look. None looks at peers or at the API server: that
// they are away keeps no pod from coming or going. They cost microseconds, since kubelet asks every two seconds.
package health

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Folder says why a file of a page's size cannot be written in a folder: the folder is gone, read-only or full.
func Folder(what, dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, ".health"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", what, err)
	}
	defer f.Close()
	_, err = f.Write(make([]byte, os.Getpagesize()))
	if gone := os.Remove(f.Name()); gone != nil && !errors.Is(gone, fs.ErrNotExist) { // another look may have been faster
		err = errors.Join(err, gone)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", what, err)
	}
	return nil
}

// Socket says why nobody can reach the Unix socket at path: it is gone, or something else is there.
func Socket(what, path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s %s is gone: somebody has removed it", what, path)
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s: %s is no socket any more", what, path)
	}
	return nil
}

// Sysctls says why the network's sysctls cannot be written; proc is where the node's /proc/sys is mounted.
func Sysctls(proc string) error {
	path := filepath.Join(proc, "net/ipv4/ip_forward")
	if err := unix.Access(path, unix.W_OK); err != nil {
		return fmt.Errorf("sysctls cannot be written: %s: %w", path, err)
	}
	return nil
}

// NetAdmin says when the kernel lets the process change no device and no route.
func NetAdmin() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	if data[unix.CAP_NET_ADMIN/32].Effective&(1<<(unix.CAP_NET_ADMIN%32)) == 0 {
		return errors.New("the agent lacks the capability NET_ADMIN: the kernel refuses routes and devices")
	}
	return nil
}
