package balancer

import (
	"fmt"
	"net/netip"
	"testing"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/controller/cluster"
	"github.com/margay-net/margay/pkg/kube"
)

func pool(name, cidr string) cluster.Pool {
	return cluster.Pool{Name: name, CIDR: netip.MustParsePrefix(cidr), LoadBalancer: true}
}

// TestHandle: "lb-" and the SHA-256 of name-namespace-UID in lower case, in base64 for URLs without '-' and '_' (Calico's).
func TestHandle(t *testing.T) {
	const uid, want = "0c4ce2a8-6f4e-4b4e-9a4f-000000000001", "lb-hzH1oWg1ztemM0Kql6zsAByliAtIOtlnwIlIF4zYU78"
	if got := handleOf(kube.Key{Namespace: "default", Name: "web"}, uid); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := handleOf(kube.Key{Namespace: "default", Name: "web"}, uid[:35]+"2"); got == want {
		t.Error("a Service made anew under the same name has the same handle")
	}
}

func TestManaged(t *testing.T) {
	ann := func(k string) map[string]string { return map[string]string{k: `["x"]`} }
	for name, c := range map[string]struct {
		s              cluster.Service
		all, requested bool
	}{
		"plain":          {cluster.Service{LoadBalancer: true}, true, false},
		"of our class":   {cluster.Service{LoadBalancer: true, Class: "calico"}, true, true},
		"of another":     {cluster.Service{LoadBalancer: true, Class: "other", Annotations: ann(annAddrs)}, false, false},
		"other type":     {cluster.Service{Class: "calico"}, false, false},
		"asks address":   {cluster.Service{LoadBalancer: true, Annotations: ann(annAddrs)}, true, true},
		"asks pool":      {cluster.Service{LoadBalancer: true, Annotations: ann(annPools6)}, true, true},
		"asks by field":  {cluster.Service{LoadBalancer: true, LoadBalancerIP: "10.0.0.1"}, true, true},
		"an other thing": {cluster.Service{LoadBalancer: true, Annotations: ann("projectcalico.org/other")}, true, false},
	} {
		if got := managed(c.s, v3.AssignAllServices); got != c.all {
			t.Errorf("%s, AllServices: %v", name, got)
		}
		if got := managed(c.s, v3.AssignRequestedServicesOnly); got != c.requested {
			t.Errorf("%s, RequestedServicesOnly: %v", name, got)
		}
	}
}

// TestCompare: what a Service of both families keeps, gives back and lacks.
func TestCompare(t *testing.T) {
	pools := []cluster.Pool{pool("a", "10.0.0.0/24"), pool("b", "10.1.0.0/24"), pool("c", "fd00::/120")}
	pools[1].Manual = true
	have := func(addrs ...string) (out []held) {
		for _, a := range addrs {
			out = append(out, held{addr: netip.MustParseAddr(a)})
		}
		return out
	}
	both := []bool{false, true}
	for name, c := range map[string]struct {
		s    cluster.Service
		have []held
		want string
	}{
		"nothing yet":           {cluster.Service{Families6: both}, nil, "keep [] back [] lack [] [false true]"},
		"one of each":           {cluster.Service{Families6: both}, have("10.0.0.1", "fd00::1"), "keep [10.0.0.1 fd00::1] back [] lack [] []"},
		"one too many":          {cluster.Service{Families6: both}, have("10.0.0.1", "10.0.0.2", "fd00::1"), "keep [10.0.0.1 fd00::1] back [10.0.0.2] lack [] []"},
		"a family less":         {cluster.Service{Families6: both[:1]}, have("10.0.0.1", "fd00::1"), "keep [10.0.0.1] back [fd00::1] lack [] []"},
		"of a manual pool":      {cluster.Service{Families6: both[:1]}, have("10.1.0.1"), "keep [] back [10.1.0.1] lack [] [false]"},
		"asks for it":           {cluster.Service{Families6: both, Annotations: map[string]string{annPools4: `["b"]`}}, have("10.1.0.1", "fd00::1"), "keep [10.1.0.1 fd00::1] back [] lack [] []"},
		"of a pool that is not": {cluster.Service{Families6: both[:1]}, have("10.9.0.1"), "keep [] back [10.9.0.1] lack [] [false]"},
		"asks for addresses":    {cluster.Service{Families6: both[:1], Annotations: map[string]string{annAddrs: `["10.0.0.7","fd00::7"]`}}, have("10.0.0.1", "fd00::7"), "keep [fd00::7] back [10.0.0.1] lack [10.0.0.7] []"},
	} {
		w, err := wantOf(c.s, pools, nil)
		if err != nil {
			t.Fatal(err)
		}
		keep, back, addrs, families := w.compare(c.have)
		if got := fmt.Sprintf("keep %v back %v lack %v %v", addrsOf(keep), addrsOf(back), addrs, families); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
