package guest

import (
	"os"
	"strings"
	"testing"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// TestNoTunl0 has nodes whose kernel does not make tunl0 by itself, as hosts that set this sysctl: their agents make it.
func TestNoTunl0(t *testing.T) {
	const path = "/proc/sys/net/core/fb_tunnels_only_for_init_net"
	was, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte("1"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, was, 0o644); err != nil {
			t.Error(err)
		}
	})
	l, pods := build(t, 2, 1, v3.EncapAlways)
	meet(t, pods, 1480)
	for _, n := range l.Nodes {
		link, err := n.NS.Run("ip -d link show tunl0")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"ipip remote any local any ttl inherit nopmtudisc", "mtu 1480", ",UP"} {
			if !strings.Contains(link, want) {
				t.Errorf("%s: ip -d link show tunl0 has no %q:\n%s", n.Name, want, link)
			}
		}
	}
}
