package bgp

import (
	"os"
	"strings"
	"sync"
)

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
