package collect

import (
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// The large cluster: 5,000 nodes with 50 pods each in one block, and a tunnel address.
const (
	benchNodes = 5000
	benchPods  = 50
)

// large fills a state as watches would: each object read from its stored form, which is dropped. Every leak-th pod does
// not exist; 0: all do.
func large(b *testing.B, leak int) *State {
	s, pool := NewState(), netip.MustParsePrefix("10.0.0.0/8")
	for n := range benchNodes {
		node := "node-" + strconv.Itoa(n) + ".compute.internal"
		s.SetNode(node, Node{UID: fmt.Sprintf("%036d", n)})
		cidr := block.Nth(pool, 26, uint64(n))
		obj := block.New(cidr, block.HostAffinity(node), start)
		take := func(o int, handle string, secondary map[string]string) {
			if err := block.Take(obj, o, handle, secondary); err != nil {
				b.Fatal(err)
			}
			h := &v3.IPAMHandle{ObjectMeta: metav1.ObjectMeta{Name: handle, ResourceVersion: strconv.Itoa(100000 + n)}, Spec: v3.IPAMHandleSpec{HandleID: handle, Block: map[string]int{cidr.String(): 1}}}
			s.SetHandle(handle, ReadHandle(h))
		}
		take(0, "vxlan-tunnel-addr-"+node, map[string]string{"node": node, "type": block.TypeVXLAN4, "timestamp": "2026-01-02 03:04:05.123456789 +0000 UTC"})
		for p := range benchPods {
			i := n*benchPods + p
			name, ns := fmt.Sprintf("some-deployment-%08x-%05x", n, p), fmt.Sprintf("namespace-%d", i%500)
			take(p+1, fmt.Sprintf("k8s-pod-network.%064x", i), map[string]string{"node": node, "namespace": ns, "pod": name, "timestamp": "2026-01-02 03:04:05.123456789 +0000 UTC"})
			if leak == 0 || i%leak != 0 {
				s.SetPod(PodKey{NameOf(ns), name}, PodState{Node: NameOf(node), Addrs: []netip.Addr{block.AddrAt(cidr, p+1)}})
			}
		}
		s.SetAffinity(Affinity{Name: block.AffinityName(node, cidr), Node: node, CIDR: cidr})
		got, err := ReadBlock(obj)
		if err != nil {
			b.Fatal(err)
		}
		s.SetBlock(got)
	}
	return s
}

func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// BenchmarkPass is a full pass over 5,000 nodes and 255,000 addresses. MB-held is the state alone, MB-sys what the
// process ever had from the kernel.
func BenchmarkPass(b *testing.B) {
	for _, c := range []struct {
		name string
		leak int
	}{{"nothing left over", 0}, {"one percent left over", 100}} {
		b.Run(c.name, func(b *testing.B) {
			before := heap()
			s := large(b, c.leak)
			held := heap() - before
			now, col := start, New(grace)
			col.Pass(s, now, true)
			for b.Loop() {
				now = now.Add(grace)
				p := col.Pass(s, now, true)
				if want := c.leak != 0; p.Work() != want {
					b.Fatalf("there is work: %v, want %v", p.Work(), want)
				}
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(held, "MB-held")
			b.ReportMetric(float64(m.Sys)/(1<<20), "MB-sys")
		})
	}
}

// BenchmarkDirty is a pass after one pod of the large cluster went.
func BenchmarkDirty(b *testing.B) {
	s, col := large(b, 0), New(grace)
	col.Pass(s, start, true)
	for b.Loop() {
		s.Touch("node-77.compute.internal")
		col.Pass(s, start, false)
	}
}
