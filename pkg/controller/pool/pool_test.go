package pool

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/margay-net/margay/pkg/controller/cluster"
)

func TestFaults(t *testing.T) {
	p := func(name, cidr string) cluster.Pool {
		return cluster.Pool{Name: name, CIDR: netip.MustParsePrefix(cidr)}
	}
	bad := p("d", "10.9.0.0/16")
	bad.NodeSelector = "has(zone"
	worse := cluster.Pool{Name: "e", Err: "spec.cidr is wrong", NamespaceSelector: "=="}
	got := Faults([]cluster.Pool{p("a", "10.0.0.0/16"), p("b", "10.0.1.0/24"), p("c", "10.1.0.0/16"), bad, worse})
	for name, words := range map[string][]string{
		"a": {"overlaps with IP pool b"}, "b": {"overlaps with IP pool a", "10.0.1.0/24"}, "d": {"spec.nodeSelector"}, "e": {"spec.cidr", "spec.namespaceSelector"},
	} {
		for _, w := range words {
			if !strings.Contains(got[name], w) {
				t.Errorf("pool %s: %q, want %q", name, got[name], w)
			}
		}
	}
	if len(got) != 4 {
		t.Errorf("%v: want four pools at fault", got)
	}
}
