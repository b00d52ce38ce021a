package bgp

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
)

// everywhere are the addresses to listen on for all. GoBGP does not listen at all when it can't on one of them, such as on ::
// where the kernel knows no IPv6.
func everywhere() []string {
	out := []string{netip.IPv4Unspecified().String()}
	if l, err := net.Listen("tcp6", "[::]:0"); err == nil {
		_ = l.Close()
		out = append(out, netip.IPv6Unspecified().String())
	}
	return out
}

var environment sync.Mutex

// plainTCP makes Go's listeners plain TCP until the returned function is called. By default they are Multipath TCP since
// Go 1.24, on which Linux takes neither MD5 keys nor a TTL, and GoBGP offers no way to choose.
func plainTCP() (undo func()) {
	environment.Lock()
	old, had := os.LookupEnv("GODEBUG")
	_ = os.Setenv("GODEBUG", strings.TrimPrefix(old+",multipathtcp=0", ","))
	return func() {
		if had {
			_ = os.Setenv("GODEBUG", old)
		} else {
			_ = os.Unsetenv("GODEBUG")
		}
		environment.Unlock()
	}
}
