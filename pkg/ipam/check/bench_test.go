package check

import (
	"fmt"
	"net/netip"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// BenchmarkRun compares a cluster of 5,000 nodes with a block each, 250,000 pods in all.
func BenchmarkRun(b *testing.B) {
	s := State{Active: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Now: now}
	for n := range 5000 {
		node, cidr := fmt.Sprintf("node%d", n), block.Nth(s.Active[0], 26, uint64(n))
		blk := block.New(cidr, block.HostAffinity(node), now)
		for o := range 50 {
			pod := fmt.Sprintf("pod-%d-%d", n, o)
			if err := block.Take(blk, o, "n."+pod, map[string]string{block.AttrNode: node, block.AttrNamespace: "default", block.AttrPod: pod}); err != nil {
				b.Fatal(err)
			}
			s.Handles = append(s.Handles, v3.IPAMHandle{Spec: v3.IPAMHandleSpec{HandleID: "n." + pod, Block: map[string]int{cidr.String(): 1}}})
			s.Uses = append(s.Uses, Use{Addr: block.AddrAt(cidr, o), Kind: Pod, Namespace: "default", Name: pod, Node: node, Label: pod})
		}
		s.Blocks, s.Nodes = append(s.Blocks, *blk), append(s.Nodes, node)
		s.Affinities = append(s.Affinities, v3.BlockAffinity{
			ObjectMeta: metav1.ObjectMeta{Name: block.AffinityName(node, cidr)},
			Spec:       v3.BlockAffinitySpec{CIDR: cidr.String(), Node: node, State: v3.AffinityConfirmed},
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		if r := Run(s); len(r.Problems) != 0 {
			b.Fatal(r.Problems[0])
		}
	}
}
