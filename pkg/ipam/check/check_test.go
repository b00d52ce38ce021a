package check

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

var (
	now  = time.Unix(1_800_000_000, 0)
	cidr = netip.MustParsePrefix("10.0.0.0/28")
	ip   = netip.MustParseAddr
)

// sound is a cluster in which all is well: node1 owns a block; it has its tunnel's address, pod web and a borrowed address
// that node2's pod far has; one address cools down.
func sound(t *testing.T) State {
	t.Helper()
	b := block.New(cidr, block.HostAffinity("node1"), now)
	take := func(ordinal int, handle string, about map[string]string) {
		if err := block.Take(b, ordinal, handle, about); err != nil {
			t.Fatal(err)
		}
	}
	take(0, "vxlan-tunnel-addr-node1", map[string]string{block.AttrNode: "node1", block.AttrType: block.TypeVXLAN4})
	take(1, "n.web", map[string]string{block.AttrNode: "node1", block.AttrNamespace: "default", block.AttrPod: "web"})
	take(2, "n.old", map[string]string{block.AttrNode: "node1", block.AttrNamespace: "default", block.AttrPod: "old"})
	block.Retire(b, 2, "n.old", false, time.Minute, now)
	take(9, "n.far", map[string]string{block.AttrNode: "node2", block.AttrNamespace: "default", block.AttrPod: "far"})
	handle := func(id string) v3.IPAMHandle {
		return v3.IPAMHandle{
			ObjectMeta: metav1.ObjectMeta{Name: id, UID: "u-1", ResourceVersion: "7"},
			Spec:       v3.IPAMHandleSpec{HandleID: id, Block: map[string]int{cidr.String(): 1}},
		}
	}
	pod := func(name, node, addr string) Use {
		return Use{Addr: ip(addr), Kind: Pod, Namespace: "default", Name: name, Node: node, Label: "Workload(default/" + name + ")"}
	}
	return State{
		Blocks:  []v3.IPAMBlock{*b},
		Handles: []v3.IPAMHandle{handle("vxlan-tunnel-addr-node1"), handle("n.web"), handle("n.far")},
		Affinities: []v3.BlockAffinity{{
			ObjectMeta: metav1.ObjectMeta{Name: block.AffinityName("node1", cidr)},
			Spec:       v3.BlockAffinitySpec{CIDR: cidr.String(), Node: "node1", State: v3.AffinityConfirmed},
		}},
		Active: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
		Nodes:  []string{"node1", "node2"},
		Uses: []Use{
			{Addr: ip("10.0.0.0"), Kind: Node, Name: "node1", Tunnel: block.TypeVXLAN4, Label: "Node(node1)"},
			pod("web", "node1", "10.0.0.1"), pod("far", "node2", "10.0.0.9"),
			{Addr: ip("192.0.2.1"), Kind: Pod, Namespace: "default", Name: "own", Label: "Workload(default/own)", Own: true},
		},
		Now: now,
	}
}

func TestSound(t *testing.T) {
	r := Run(sound(t))
	if len(r.Problems) != 0 || r.GoodHandles != 3 || len(r.InUse) != 3 || len(r.Allocations) != 4 {
		t.Errorf("%+v", r)
	}
	if by := r.ByNode(); !slices.Equal(by, []NodeCount{{"node1", 3}, {"node2", 1}}) {
		t.Errorf("by node %v", by)
	}
	for _, a := range r.Allocations {
		if a.Borrowed != (a.IP == "10.0.0.9") || a.CoolingDown != (a.IP == "10.0.0.2") || a.InUse == a.CoolingDown {
			t.Errorf("%+v", a)
		}
	}
}

// TestDamage plants damage of each kind: it is found, just it, and there is a way out.
func TestDamage(t *testing.T) {
	seven := 7
	for _, test := range []struct {
		name   string
		damage func(*State)
		want   []Fault
		line   string
	}{
		{"allocation without pod", func(s *State) { s.Uses = slices.Delete(s.Uses, 1, 2) }, []Fault{Leaked},
			"10.0.0.1 leaked; attrs Main:n.web Extra:namespace=default,node=node1,pod=web"},
		{"pod without allocation", func(s *State) { s.Uses[1].Addr = ip("10.0.0.5") }, []Fault{Leaked, Unallocated},
			"10.0.0.5 in use by Workload(default/web) and in active IPAM pool but has no IPAM allocation."},
		{"pod outside of all pools", func(s *State) { s.Uses[3].Own = false }, []Fault{Outside}, "192.0.2.1 in use by Workload(default/own) is not in any active IP pool."},
		{"pool disabled, nothing allocated there", func(s *State) { s.Active = nil; s.Uses[1].Addr = ip("10.0.0.5") }, []Fault{Leaked, Outside}, "10.0.0.5 "},
		{"handle without address", func(s *State) {
			s.Handles = append(s.Handles, v3.IPAMHandle{Spec: v3.IPAMHandleSpec{HandleID: "n.gone"}})
		}, []Fault{IdleHandle}, "n.gone doesn't have any active IPs."},
		{"address without handle", func(s *State) { s.Handles = s.Handles[:2] }, []Fault{NoHandle}, "n.far is in use in a block but doesn't exist."},
		{"handle that counts wrong", func(s *State) { s.Handles[1].Spec.Block = map[string]int{cidr.String(): 2} }, []Fault{BadCount}, "n.web counts 2 addresses of 10.0.0.0/28, but the blocks hold 1 address"},
		{"free ordinal twice", func(s *State) { b := &s.Blocks[0].Spec; b.Unallocated = append(b.Unallocated, b.Unallocated[0]) }, []Fault{Damaged}, "10-0-0-0-28 is invalid: spec.unallocated has ordinal 3 twice"},
		{"lost ordinal", func(s *State) { b := &s.Blocks[0].Spec; b.Unallocated = b.Unallocated[1:] }, []Fault{Damaged}, "ordinal 3 is neither"},
		{"attribute that nobody points at", func(s *State) { b := &s.Blocks[0].Spec; b.Attributes = append(b.Attributes, v3.AllocationAttribute{}) }, []Fault{Damaged}, "no allocation points at"},
		{"attribute that is not there", func(s *State) { s.Blocks[0].Spec.Allocations[1] = &seven }, []Fault{IdleHandle, Damaged}, "points at attribute 7"},
		{"another object's name", func(s *State) { s.Blocks[0].Name = "mine" }, []Fault{Damaged}, "mine is invalid: an object of spec.cidr 10.0.0.0/28 has the name 10-0-0-0-28"},
		{"clock", func(s *State) { s.Now = now.Add(-time.Hour) }, []Fault{Damaged}, "released in the future"},
		{"no network", func(s *State) { s.Blocks[0].Spec.CIDR = "pods" }, []Fault{Unallocated, IdleHandle, Damaged, DoubleClaim, Unclaimed}, "spec.cidr \"pods\" is no CIDR"},
		{"two pods, one address", func(s *State) { s.Uses = append(s.Uses, s.Uses[1]) }, []Fault{Shared}, "10.0.0.1 has multiple owners"},
		{"another pod has it", func(s *State) { s.Uses[1].Name = "thief" }, []Fault{OtherOwner}, "but it is allocated to pod default/web"},
		{"a pod has the tunnel's", func(s *State) { s.Uses[1].Addr = ip("10.0.0.0") }, []Fault{Leaked, Shared, OtherOwner}, "but it is allocated as vxlanTunnelAddress of node node1"},
		{"released under a pod", func(s *State) { s.Uses[1].Addr = ip("10.0.0.2") }, []Fault{Leaked, OtherOwner}, "10.0.0.2 in use by Workload(default/web), but it was released"},
		{"tunnel address of another", func(s *State) { s.Uses[0].Name = "node2" }, []Fault{BadTunnel}, "but it is allocated to Main:vxlan-tunnel-addr-node1"},
		{"tunnel address that is not allocated", func(s *State) { s.Uses[0].Addr = ip("10.0.0.6") }, []Fault{Leaked, Unallocated}, "10.0.0.6 in use by Node(node1)"},
		{"two claims", func(s *State) {
			s.Affinities = append(s.Affinities, *s.Affinities[0].DeepCopy())
			s.Affinities[1].Name, s.Affinities[1].Spec.Node = "node2-10-0-0-0-28", "node2"
		}, []Fault{DoubleClaim}, "node2-10-0-0-0-28 claims block 10.0.0.0/28 for host:node2, but its owner is host:node1."},
		{"claim without block", func(s *State) { s.Blocks = nil; s.Handles = nil; s.Uses = nil }, []Fault{DoubleClaim}, "but there is no such block."},
		{"block without claim", func(s *State) { s.Affinities[0].Spec.State = v3.AffinityPending }, []Fault{Unclaimed}, "10.0.0.0/28 belongs to host:node1, which has no confirmed"},
		{"node that is gone", func(s *State) { s.Nodes = s.Nodes[1:] }, []Fault{Unclaimed}, "belongs to node node1, which does not exist"},
		{"blocks that overlap", func(s *State) {
			b := block.New(netip.MustParsePrefix("10.0.0.8/29"), block.HostAffinity("node2"), now)
			s.Blocks = append(s.Blocks, *b)
			a := *s.Affinities[0].DeepCopy()
			a.Spec.CIDR, a.Spec.Node = b.Spec.CIDR, "node2"
			s.Affinities = append(s.Affinities, a)
		}, []Fault{Overlap}, "10.0.0.8/29 shares addresses with block 10.0.0.0/28."},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := sound(t)
			test.damage(&s)
			r := Run(s)
			var have []Fault
			found := false
			for _, p := range r.Problems {
				have = append(have, p.Fault)
				found = found || strings.Contains(p.Line, test.line)
				if len(WaysOut([]Problem{p})) != 1 || WaysOut([]Problem{p})[0] == "" {
					t.Errorf("%v has no way out", p)
				}
			}
			if !slices.Equal(slices.Compact(have), test.want) || !found {
				t.Errorf("have %+v, want %v with %q", r.Problems, test.want, test.line)
			}
		})
	}
}

// TestOnItsWay: a pod that starts has its allocation before Kubernetes knows its address; what only the first of two looks
// saw is no problem.
func TestOnItsWay(t *testing.T) {
	s := sound(t)
	s.Uses[1].Addr = netip.Addr{}
	if r := Run(s); len(r.Problems) != 0 || !r.Allocations[1].InUse {
		t.Errorf("%+v", r.Problems)
	}
	s = sound(t)
	s.Handles = s.Handles[:2]
	first := Run(s).Problems
	if both := Both(first, Run(sound(t)).Problems); len(both) != 0 {
		t.Errorf("%+v", both)
	}
	if both := Both(first, Run(s).Problems); len(both) != 1 {
		t.Errorf("%+v", both)
	}
}

// TestDeleted: objects that are marked deleted are passed over.
func TestDeleted(t *testing.T) {
	s := sound(t)
	gone := *s.Blocks[0].DeepCopy()
	gone.Name, gone.Spec.CIDR, gone.Spec.Deleted = "10-0-0-16-28", "10.0.0.16/28", true
	s.Blocks = append(s.Blocks, gone)
	s.Handles = append(s.Handles, v3.IPAMHandle{Spec: v3.IPAMHandleSpec{HandleID: "n.gone", Deleted: true}})
	claim := *s.Affinities[0].DeepCopy()
	claim.Spec.Node, claim.Spec.Deleted = "node2", true
	s.Affinities = append(s.Affinities, claim)
	if r := Run(s); len(r.Problems) != 0 || len(r.Blocks) != 1 {
		t.Errorf("%+v", r.Problems)
	}
}
