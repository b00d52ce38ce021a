package apiserver

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// port is a TCP port of 127.0.0.1 that is bound here but not listened on. The server shares it by SO_REUSEPORT; nobody
// else gets it, also not while the server is down.
type port struct {
	fd, number int
}

func holdPort() (*port, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	p := &port{fd: fd}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		p.release()
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		p.release()
		return nil, os.NewSyscallError("bind", err)
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		p.release()
		return nil, os.NewSyscallError("getsockname", err)
	}
	v4, ok := addr.(*unix.SockaddrInet4)
	if !ok {
		p.release()
		return nil, fmt.Errorf("get port: address is a %T", addr)
	}
	p.number = v4.Port
	return p, nil
}

func (p *port) String() string { return strconv.Itoa(p.number) }

func (p *port) url(scheme string) string {
	return scheme + "://" + net.JoinHostPort("127.0.0.1", p.String())
}

func (p *port) release() {
	if p != nil && p.fd >= 0 {
		unix.Close(p.fd)
		p.fd = -1
	}
}
