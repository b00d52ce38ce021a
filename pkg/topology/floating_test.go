package topology

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/margay-net/margay/pkg/model"
)

func TestFloating(t *testing.T) {
	addrs := func(list ...string) (out []netip.Addr) {
		for _, a := range list {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	endpoints := []model.Endpoint{
		{Namespace: "default", Pod: "both", HostVeth: "cali1", Addrs: addrs("10.0.0.9", "fd00::9")},
		{Namespace: "default", Pod: "four", HostVeth: "cali2", Addrs: addrs("10.0.0.5")},
		{Namespace: "other", Pod: "both", HostVeth: "cali3", Addrs: addrs("10.0.0.7")},
	}
	both, four := [2]string{"default", "both"}, [2]string{"default", "four"}
	for _, c := range []struct {
		name  string
		asked map[[2]string][]netip.Addr
		want  string // translations, routes, conflicts
	}{
		{"nobody", nil, "[] [] []"},
		{"a pod of another node", map[[2]string][]netip.Addr{{"default", "gone"}: addrs("192.0.2.1")}, "[] [] []"},
		{"both families", map[[2]string][]netip.Addr{both: addrs("192.0.2.2", "192.0.2.1", "2001:db8::1")},
			"[{192.0.2.1 10.0.0.9} {192.0.2.2 10.0.0.9} {2001:db8::1 fd00::9}] [192.0.2.1/32 cali1 192.0.2.2/32 cali1 2001:db8::1/128 cali1] []"},
		{"a family that the pod has not", map[[2]string][]netip.Addr{four: addrs("2001:db8::1")}, "[] [] []"},
		{"two pods", map[[2]string][]netip.Addr{both: addrs("192.0.2.1"), four: addrs("192.0.2.1")},
			"[{192.0.2.1 10.0.0.5}] [192.0.2.1/32 cali2] [floating address 192.0.2.1 is asked for by the pods at 10.0.0.5 and 10.0.0.9: 10.0.0.5 has it]"},
	} {
		for range 2 { // the order of endpoints does not matter
			out, routes, conflicts := Floating(c.asked, endpoints)
			lines := []string{}
			for _, r := range routes {
				lines = append(lines, fmt.Sprint(r.Dst, " ", r.Dev))
				if r.Proto != model.ProtoMargay || r.Via.IsValid() {
					t.Errorf("%s: route %+v", c.name, r)
				}
			}
			if got := fmt.Sprint(out, " ", lines, " ", conflicts); got != c.want {
				t.Errorf("%s: %s, want %s", c.name, got, c.want)
			}
			slices.Reverse(endpoints)
		}
	}
}
