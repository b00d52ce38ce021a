package link

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/reconcile"
)

// procSys is where the node's /proc/sys is mounted: in a container without privileges /proc/sys itself is read-only.
type procSys string

// path returns the file of a sysctl.
func (p procSys) path(sysctl string) string { return string(p) + "/" + sysctl }

// read returns the value of a sysctl in the thread's network namespace. Plain system calls: no
// poller, no stat.
func (p procSys) read(path string) (string, error) {
	fd, err := unix.Open(p.path(path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", path, err)
	}
	defer unix.Close(fd)
	var buf [64]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", path, err)
	}
	return strings.TrimSpace(string(buf[:n])), nil
}

func (p procSys) write(s model.Sysctl) error {
	fd, err := unix.Open(p.path(s.Path), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("write sysctl %s: %w", s.Path, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(s.Value)); err != nil {
		return fmt.Errorf("write sysctl %s: %w", s.Path, err)
	}
	return nil
}

// put writes those that are not right.
func (p procSys) put(want []model.Sysctl) error {
	var failed reconcile.Failures
	for _, s := range want {
		have, err := p.read(s.Path)
		if err == nil && have != s.Value {
			err = p.write(s)
		}
		failed.Add(err)
	}
	return failed.Err()
}
