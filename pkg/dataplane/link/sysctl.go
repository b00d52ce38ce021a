package link

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/model"
)

const procSys = "/proc/sys/"

// readSysctl returns the value of a file below /proc/sys in the thread's network namespace. Plain system calls: this is
// done hundreds of times a second.
func readSysctl(path string) (string, error) {
	fd, err := unix.Open(procSys+path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
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

func writeSysctl(s model.Sysctl) error {
	fd, err := unix.Open(procSys+s.Path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("write sysctl %s: %w", s.Path, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(s.Value)); err != nil {
		return fmt.Errorf("write sysctl %s: %w", s.Path, err)
	}
	return nil
}
