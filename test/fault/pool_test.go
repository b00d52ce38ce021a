package fault

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// TestFullPool: a pool of two blocks of four addresses, of which the tunnel has one.
func TestFullPool(t *testing.T) {
	l := cluster.New(t, lab.Options{Pools: []v3.IPPoolSpec{{CIDR: "172.20.9.0/29", BlockSize: 30, VXLANMode: v3.EncapAlways}}})
	n := l.Nodes[0]
	var pods []*lab.Pod
	seen := map[netip.Addr]bool{}
	for i := range 7 {
		p := n.Pod(fmt.Sprintf("pod%d", i))
		if seen[p.V4()] {
			t.Errorf("%s was given twice", p.V4())
		}
		seen[p.V4()] = true
		pods = append(pods, p)
	}
	extra := n.NewPod("extra")
	wantErr(t, "ADD to a full pool", extra.Add(), 100, "no free address", "pool1", "172.20.9.0/29")
	if err := extra.Del(); err != nil {
		t.Error(err)
	}
	l.Agrees(30 * time.Second)
	freed := pods[3]
	if err := freed.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := extra.Add(); err != nil {
		t.Errorf("ADD right after a DEL: %v", err)
	}
	if extra.V4() != freed.V4() {
		t.Errorf("the only free address is %s, given was %s", freed.V4(), extra.V4())
	}
	if err := extra.Echo(pods[0].V4(), 10*time.Second); err != nil {
		t.Error(err)
	}
	l.Agrees(30 * time.Second)
}

// TestTwoNodesFullPool: two nodes compete for the last blocks.
func TestTwoNodesFullPool(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 2, Pools: []v3.IPPoolSpec{{CIDR: "172.20.9.0/28", BlockSize: 30, VXLANMode: v3.EncapAlways}}})
	seen, pods, full := map[netip.Addr]string{}, 0, 0
	for i := 0; full < 2 && i < 40; i++ {
		n := l.Nodes[i%2]
		p := n.NewPod(fmt.Sprintf("%s-pod%d", n.Name, i))
		if err := p.Add(); err != nil {
			full++
			wantErr(t, "ADD", err, 100, "pool1")
			if err := p.Remove(); err != nil {
				t.Error(err)
			}
			continue
		}
		pods++
		if by := seen[p.V4()]; by != "" {
			t.Errorf("%s was given to %s and %s", p.V4(), by, p.Name)
		}
		seen[p.V4()] = p.Name
	}
	t.Logf("%d of 14 addresses were given", pods)
	if pods < 10 {
		t.Errorf("only %d of 14 addresses were given", pods)
	}
	l.Agrees(30 * time.Second)
}

// TestOverlappingPool: the older pool counts, and the contradiction is said.
func TestOverlappingPool(t *testing.T) {
	l := cluster.New(t, lab.Options{Pools: []v3.IPPoolSpec{{CIDR: "172.20.8.0/24", BlockSize: 28, VXLANMode: v3.EncapAlways}}})
	n := l.Nodes[0]
	time.Sleep(1100 * time.Millisecond) // creation times have seconds
	if err := l.CreatePool("a-newer", v3.IPPoolSpec{CIDR: "172.20.8.0/25", BlockSize: 28, VXLANMode: v3.EncapAlways}); err != nil {
		t.Fatal(err)
	}
	l.Within(30*time.Second, "the agent says that pools overlap", func() error {
		log := n.Log()
		if !strings.Contains(log, "a-newer") || !strings.Contains(log, "pool1") {
			return fmt.Errorf("its log does not name both")
		}
		m, err := n.Metrics()
		if err == nil && !strings.Contains(m, "margay_cluster_faults 1") {
			err = fmt.Errorf("margay_cluster_faults is not 1")
		}
		return err
	})
	n.Pod("web")
	l.Agrees(30 * time.Second)
}

// TestNoPool: pods wait for a pool, and are added as soon as there is one.
func TestNoPool(t *testing.T) {
	l := cluster.New(t, lab.Options{Pools: []v3.IPPoolSpec{}})
	n := l.Nodes[0]
	p := n.NewPod("web")
	wantErr(t, "ADD without a pool", p.Add(), 11, "no IP pool", "IPPool")
	if err := l.CreatePool("late", lab.Pool4); err != nil {
		t.Fatal(err)
	}
	took := l.Within(30*time.Second, "ADD succeeds", func() error { return p.Add() })
	t.Logf("ADD succeeds %s after the pool was made, MTU %s", took, mtu(t, p))
	l.Agrees(30 * time.Second)
}

func mtu(t *testing.T, p *lab.Pod) string {
	t.Helper()
	out, err := p.NS.Run("ip link show eth0")
	if err != nil {
		t.Error(err)
	}
	_, after, _ := strings.Cut(out, "mtu ")
	return strings.Fields(after)[0]
}

// TestBigPool: Calico's users have IPv6 pools of /48 and /64 with blocks of /122.
func TestBigPool(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true, Pools: []v3.IPPoolSpec{lab.Pool4, {CIDR: "fd00:172:20::/48", VXLANMode: v3.EncapAlways}}})
	a, b := l.Nodes[0].Pod("a"), l.Nodes[1].Pod("b")
	t.Log(a.Addrs, b.Addrs)
	if err := a.Echo(b.V6(), 10*time.Second); err != nil {
		t.Error(err)
	}
	l.Agrees(30 * time.Second)
}

// TestDamagedBlock: somebody spoils a block by hand. It gives nothing any more, others do; repaired, it is used again.
func TestDamagedBlock(t *testing.T) {
	l := cluster.New(t, lab.Options{Pools: []v3.IPPoolSpec{{CIDR: "172.20.9.0/26", BlockSize: 29, VXLANMode: v3.EncapAlways}}})
	n := l.Nodes[0]
	first := n.Pod("first")
	l.Agrees(30 * time.Second)
	spoil := func(change func(*v3.IPAMBlock)) {
		t.Helper()
		l.Within(30*time.Second, "change the block", func() error {
			blocks, err := l.Blocks()
			if err != nil {
				return err
			}
			for cidr, b := range blocks {
				if cidr.Contains(first.V4()) {
					change(b)
					_, err := l.API.UpdateBlock(t.Context(), b)
					return err
				}
			}
			return fmt.Errorf("no block has %s", first.V4())
		})
	}
	var was []int
	spoil(func(b *v3.IPAMBlock) {
		was, b.Spec.Unallocated = b.Spec.Unallocated, b.Spec.Unallocated[1:]
		b.Spec.SequenceNumber++
	})
	l.Within(30*time.Second, "the agent says that the block is damaged", func() error {
		if !strings.Contains(n.Log(), "block is damaged") {
			return fmt.Errorf("it does not")
		}
		return nil
	})
	second := n.Pod("second")
	t.Logf("%s is in the damaged block, %s in another", first.V4(), second.V4())
	for _, p := range []*lab.Pod{first, second} {
		if err := p.Echo(n.Addr4.Addr(), 10*time.Second); err != nil {
			t.Error(err)
		}
	}
	spoil(func(b *v3.IPAMBlock) { b.Spec.Unallocated = was; b.Spec.SequenceNumber++ })
	l.Agrees(30 * time.Second)
}

// TestCooldownAndReuse: addresses are used again in the order in which they were freed, and not before their cooldown.
func TestCooldownAndReuse(t *testing.T) {
	l := cluster.New(t, lab.Options{Pools: []v3.IPPoolSpec{{CIDR: "172.20.9.0/28", BlockSize: 28, VXLANMode: v3.EncapAlways}}})
	n := l.Nodes[0]
	var gone []netip.Addr
	for i := range 4 {
		p := n.Pod(fmt.Sprintf("short%d", i))
		gone = append(gone, p.V4())
		if err := p.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	l.Agrees(30 * time.Second)
	var pods []*lab.Pod
	for i := range 15 {
		p := n.Pod(fmt.Sprintf("pod%d", i))
		if again := slices.Index(gone, p.V4()); again >= 0 && i != 11+again {
			t.Errorf("%s, freed as number %d, is used again as number %d: want the longest free first", p.V4(), again, i)
		}
		pods = append(pods, p)
	}
	l.Agrees(30 * time.Second)
	const cooldown = 3
	if err := l.SetIPAMConfig(v3.IPAMConfigurationSpec{AutoAllocateBlocks: true, IPCooldownSeconds: cooldown}); err != nil {
		t.Fatal(err)
	}
	var freed time.Time
	var p *lab.Pod
	l.Within(30*time.Second, "the agent knows of the cooldown", func() error { // until then the only free address is given again at once
		freed = time.Now()
		if err := pods[5].Remove(); err != nil {
			t.Fatal(err)
		}
		p = n.NewPod("waits")
		err := p.Add()
		if err == nil {
			pods[5] = p
			return errors.New("an ADD was given the address at once")
		}
		wantErr(t, "ADD while the only address cools down", err, 100, "pool1")
		return nil
	})
	l.Within(30*time.Second, "the address is given again", p.Add)
	took := time.Since(freed)
	t.Logf("%s was given again %s after its release (ipCooldownSeconds %d)", p.V4(), took, cooldown)
	if took < cooldown*time.Second || p.V4() != pods[5].V4() {
		t.Errorf("%s was given after %s; want %s after %d s", p.V4(), took, pods[5].V4(), cooldown)
	}
	l.Agrees(30 * time.Second)
}

// TestPoolModes changes a pool's mode on a live cluster with two subnets: 1 and 3 are in one, 2 in the other. Where the way
// stays as it is nothing may be lost.
func TestPoolModes(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 3, Subnets: 2, IPv6: true})
	var pods []*lab.Pod
	for _, n := range l.Nodes {
		pods = append(pods, n.Pod(n.Name+"-pod"))
	}
	l.WaitRoutes(30 * time.Second)
	for i := range pods[0].Addrs {
		for _, p := range pods[1:] { // so that the underlay's neighbours are known
			if err := pods[0].Echo(p.Addrs[i], 10*time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := v3.EncapAlways
	for _, mode := range []v3.EncapMode{v3.EncapAlways, v3.EncapCrossSubnet, v3.EncapAlways, v3.EncapCrossSubnet, v3.EncapNever,
		v3.EncapAlways, v3.EncapNever, v3.EncapCrossSubnet} {
		var near, far []*lab.Pinger
		for i, a := range pods[2].Addrs {
			near = append(near, pods[0].Ping(a, every))
			far = append(far, pods[0].Ping(pods[1].Addrs[i], every))
		}
		time.Sleep(100 * time.Millisecond)
		for i := range 2 {
			if err := l.SetVXLANMode(fmt.Sprintf("pool%d", i+1), mode); err != nil {
				t.Fatal(err)
			}
		}
		took := l.Within(30*time.Second, fmt.Sprintf("routes fit mode %s", mode), func() error { return fits(l, mode) })
		t.Logf("%s: routes fit after %s", mode, took)
		time.Sleep(300 * time.Millisecond)
		losses := lab.Stop(append(near, far...)...)
		for i, loss := range losses {
			t.Logf("%s to %s, %s", before, mode, loss)
			nearStays := (before == v3.EncapAlways) == (mode == v3.EncapAlways)
			farStays := (before == v3.EncapNever) == (mode == v3.EncapNever) && before != v3.EncapNever
			switch {
			case loss.Lost > 0 && (i < len(near) && nearStays || i >= len(near) && farStays):
				t.Errorf("%s to %s: packets were lost on a way that did not change: %s", before, mode, loss)
			case i < len(near) && loss.Longest > 500*time.Millisecond: // a few milliseconds, unless the machine is busy
				t.Errorf("%s to %s: nodes of one subnet lost each other: %s", before, mode, loss)
			}
		}
		before = mode
		for i, a := range pods[2].Addrs {
			if err := pods[0].Echo(a, 10*time.Second); err != nil {
				t.Errorf("%s: %v", mode, err)
			}
			limit := 10 * time.Second
			if mode == v3.EncapNever {
				limit = 300 * time.Millisecond
			}
			if err := pods[0].Echo(pods[1].Addrs[i], limit); (err == nil) == (mode == v3.EncapNever) {
				t.Errorf("%s: other subnet: %v", mode, err)
			}
		}
	}
}

// fits compares each node's routes with what the mode means.
func fits(l *lab.Lab, mode v3.EncapMode) error {
	blocks, err := l.Blocks()
	if err != nil {
		return err
	}
	near := func(a, b *lab.Node) bool { return a.Addr4.Masked() == b.Addr4.Masked() }
	for _, n := range l.Nodes {
		want := lab.State{}
		for cidr, b := range blocks {
			owner := strings.TrimPrefix(*b.Spec.Affinity, "host:")
			i := slices.IndexFunc(l.Nodes, func(n *lab.Node) bool { return n.Name == owner })
			peer, dev := l.Nodes[i], "vxlan.calico"
			via := peer.Addr4.Addr()
			if cidr.Addr().Is6() {
				dev, via = "vxlan-v6.calico", peer.Addr6.Addr()
			}
			switch {
			case peer == n:
				want = append(want, "route blackhole "+cidr.String())
			case mode == v3.EncapAlways || mode == v3.EncapCrossSubnet && !near(n, peer):
				want = append(want, fmt.Sprintf("route %s via %s dev %s onlink", cidr, cidr.Addr(), dev))
			case near(n, peer):
				want = append(want, fmt.Sprintf("route %s via %s dev eth0", cidr, via))
			}
		}
		have := slices.DeleteFunc(n.State(), func(line string) bool { return !strings.HasPrefix(line, "route ") })
		if diff := have.Diff(want); diff != "" {
			return fmt.Errorf("%s:\n%s", n.Name, diff)
		}
		links := slices.ContainsFunc(n.State(), func(line string) bool { return strings.HasPrefix(line, "link ") })
		if links == (mode == v3.EncapNever) {
			return fmt.Errorf("%s has VXLAN devices: %t", n.Name, links)
		}
	}
	return nil
}
