package collect

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
)

const grace = 15 * time.Minute

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is a State that a test fills, with the blocks as they are stored.
type world struct {
	*State
	t      testing.TB
	c      *Collector
	now    time.Time
	blocks map[string]*v3.IPAMBlock
}

func newWorld(t testing.TB) *world {
	return &world{State: NewState(), t: t, c: New(grace), now: start, blocks: map[string]*v3.IPAMBlock{}}
}

func (w *world) block(cidr, affinity string) *v3.IPAMBlock {
	w.t.Helper()
	b := block.New(netip.MustParsePrefix(cidr), affinity, start)
	if affinity == "" {
		b.Spec.Affinity = nil
	}
	w.blocks[cidr] = b
	w.put(cidr)
	return b
}

func (w *world) put(cidr string) {
	w.t.Helper()
	w.blocks[cidr].Spec.SequenceNumber++
	b, err := ReadBlock(w.blocks[cidr])
	if err != nil {
		w.t.Fatal(err)
	}
	w.SetBlock(b)
}

func (w *world) take(cidr string, ordinal int, handle string, secondary map[string]string) {
	w.t.Helper()
	w.blocks[cidr].Spec.SequenceNumber++
	if err := block.Take(w.blocks[cidr], ordinal, handle, secondary); err != nil {
		w.t.Fatal(err)
	}
	w.put(cidr)
}

// takePod takes an address for a pod of the same name as its handle.
func (w *world) takePod(cidr string, ordinal int, pod, node string) {
	w.t.Helper()
	w.take(cidr, ordinal, "net."+pod, map[string]string{"namespace": "ns", "pod": pod, "node": node})
}

func (w *world) pod(name, node string, addrs ...string) {
	p := PodState{Node: NameOf(node)}
	for _, a := range addrs {
		p.Addrs = append(p.Addrs, netip.MustParseAddr(a))
	}
	w.SetPod(PodKey{NameOf("ns"), name}, p)
}

func (w *world) handle(id string, counts map[string]int) {
	h := &v3.IPAMHandle{ObjectMeta: metav1.ObjectMeta{Name: id, ResourceVersion: "1"}, Spec: v3.IPAMHandleSpec{HandleID: id, Block: counts}}
	w.SetHandle(id, ReadHandle(h))
}

// pass does a full pass after some time.
func (w *world) pass(after time.Duration) *Plan {
	w.now = w.now.Add(after)
	return w.c.Pass(w.State, w.now, true)
}

// releases returns handle → number of addresses of a plan.
func releases(p *Plan) map[string]int {
	out := map[string]int{}
	for _, list := range p.Releases {
		for _, r := range list {
			out[r.Handle] += len(r.Held)
		}
	}
	return out
}

func (w *world) wants(p *Plan, handles ...string) {
	w.t.Helper()
	got := releases(p)
	if len(got) != len(handles) {
		w.t.Errorf("plan releases %v, want %v", got, handles)
	}
	for _, h := range handles {
		if got[h] == 0 {
			w.t.Errorf("plan releases %v, want %v", got, handles)
		}
	}
}

func TestJudge(t *testing.T) {
	addr, other := netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.4")
	here := PodState{Node: NameOf("n1")}
	withAddrs := func(a ...netip.Addr) PodState { return PodState{Node: NameOf("n1"), Addrs: a} }
	tunnel := &Node{}
	tunnel.SetTunnel(TunnelVXLAN4, other)
	own := &Node{}
	own.SetTunnel(TunnelVXLAN4, addr)
	for name, c := range map[string]struct {
		kind   Kind
		cool   int64
		handle string
		node   *Node
		pod    *PodState
		want   Why
	}{
		"no pod":              {kind: Pod, node: &Node{}, want: PodGone},
		"no pod, no node":     {kind: Pod, want: PodGone},
		"pod has the address": {kind: Pod, node: &Node{}, pod: new(withAddrs(other, addr))},
		"no node, but a pod":  {kind: Pod, pod: new(withAddrs(addr))},
		"no addresses yet":    {kind: Pod, node: &Node{}, pod: &here},
		"other addresses":     {kind: Pod, node: &Node{}, pod: new(withAddrs(other)), want: PodOtherAddr},
		"on another node":     {kind: Pod, node: &Node{}, pod: &PodState{Node: NameOf("n2"), Addrs: []netip.Addr{addr}}, want: PodElsewhere},
		"not bound yet":       {kind: Pod, node: &Node{}, pod: &PodState{Node: NameOf("")}, want: PodElsewhere},
		"evicted":             {kind: Pod, node: &Node{}, pod: &PodState{Node: NameOf("n1"), Evicted: true, Addrs: []netip.Addr{addr}}, want: PodEvicted},
		"cooling down":        {kind: Pod, cool: 1},
		"of no known kind":    {kind: Foreign},
		"a service's":         {kind: Service},
		"reserved":            {kind: Reserved},
		"tunnel of no node":   {kind: TunnelVXLAN4, want: NodeGone},
		"tunnel, silent node": {kind: TunnelVXLAN4, node: &Node{}},
		"tunnel, its own":     {kind: TunnelVXLAN4, node: own},
		"tunnel, another now": {kind: TunnelVXLAN4, node: tunnel, want: TunnelMoved},
		"tunnel, other kind":  {kind: TunnelIPIP, node: tunnel},
	} {
		a := Alloc{Kind: c.kind, Released: c.cool, Handle: "h", Name: "p", Namespace: NameOf("ns"), Node: NameOf("n1")}
		got := Judge(&a, addr, c.node, func(PodKey) (PodState, bool) {
			if c.pod == nil {
				return PodState{}, false
			}
			return *c.pod, true
		})
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestGrace: on a node that exists an address goes after the grace period, and only as the same allocation.
func TestGrace(t *testing.T) {
	w := newWorld(t)
	w.SetNode("n1", Node{UID: "1"})
	w.block("10.0.0.0/28", "host:n1")
	w.takePod("10.0.0.0/28", 3, "a", "n1")
	w.takePod("10.0.0.0/28", 4, "b", "n1")
	w.handle("net.a", map[string]int{"10.0.0.0/28": 1})
	w.handle("net.b", map[string]int{"10.0.0.0/28": 1})
	w.pod("b", "n1", "10.0.0.4")
	p := w.pass(0)
	w.wants(p)
	if p.Candidates != 1 || !p.Next.Equal(start.Add(grace)) {
		t.Errorf("%d candidates, next at %v", p.Candidates, p.Next)
	}
	w.wants(w.pass(grace - time.Second))
	w.wants(w.pass(time.Second), "net.a")
	w.wants(w.pass(0), "net.a") // nobody did it: it is asked for again

	// The address was given back and taken once more, for a container of the same name: another sequence number.
	block.Retire(w.blocks["10.0.0.0/28"], 3, "net.a", false, 0, w.now)
	w.takePod("10.0.0.0/28", 3, "a", "n1")
	w.wants(w.pass(time.Second))
	w.wants(w.pass(grace - time.Second))
	w.wants(w.pass(time.Second), "net.a")

	// The pod comes after all.
	w.pod("a", "n1")
	w.wants(w.pass(0))
	w.DeletePod(PodKey{NameOf("ns"), "a"})
	w.wants(w.pass(time.Second))
	w.c.Grace = 0
	w.wants(w.pass(100 * time.Hour))
}

// TestSilentNode: while kubelet does not report nothing is taken from its node, however long it lasts.
func TestSilentNode(t *testing.T) {
	w := newWorld(t)
	w.SetNode("n1", Node{UID: "1", Silent: true})
	w.block("10.0.0.0/28", "host:n1")
	w.takePod("10.0.0.0/28", 3, "a", "n1")
	w.wants(w.pass(0))
	w.wants(w.pass(100 * grace))
	w.SetNode("n1", Node{UID: "1"})
	w.wants(w.pass(0), "net.a")
}

// TestWhole: a handle goes when all its addresses may.
func TestWhole(t *testing.T) {
	w := newWorld(t)
	w.SetNode("n1", Node{UID: "1"})
	w.SetNode("n2", Node{UID: "2"})
	w.block("10.0.0.0/28", "host:n1")
	w.block("fd00::/124", "host:n2")
	w.takePod("10.0.0.0/28", 3, "a", "n1")
	w.takePod("fd00::/124", 3, "a", "n1") // borrowed
	w.pod("a", "n1", "fd00::3")
	w.pass(0)
	w.wants(w.pass(2 * grace))
	w.pod("a", "n1", "10.0.0.9")
	w.wants(w.pass(0))
	p := w.pass(grace)
	w.wants(p, "net.a")
	if releases(p)["net.a"] != 2 {
		t.Errorf("%v: want both addresses", releases(p))
	}
}

// TestNodeGone: pods' addresses when they have been left over for two minutes, tunnels with them, blocks when they are empty.
func TestNodeGone(t *testing.T) {
	w := newWorld(t)
	w.SetNode("n1", Node{UID: "1"})
	w.SetNode("n2", Node{UID: "2"})
	w.block("10.0.0.0/28", "host:n1")
	w.SetAffinity(Affinity{Name: "n1-10-0-0-0-28", Node: "n1", CIDR: netip.MustParsePrefix("10.0.0.0/28")})
	w.SetAffinity(Affinity{Name: "n1-10-0-0-16-28", Node: "n1", CIDR: netip.MustParsePrefix("10.0.0.16/28")})
	w.take("10.0.0.0/28", 0, "vxlan-tunnel-addr-n1", map[string]string{"node": "n1", "type": "vxlanTunnelAddress"})
	w.takePod("10.0.0.0/28", 3, "a", "n1")
	w.takePod("10.0.0.0/28", 4, "b", "n2") // borrowed
	w.pod("a", "n1", "10.0.0.3")
	w.pod("b", "n2", "10.0.0.4")
	if p := w.pass(0); p.Work() {
		t.Errorf("%+v: want nothing to do", p)
	}
	w.DeleteNode("n1")
	p := w.c.Pass(w.State, w.now, false)
	if p.Work() || !p.Next.Equal(w.now.Add(DefaultHold)) {
		t.Errorf("%+v: want nothing to do for two minutes", p)
	}
	w.now = w.now.Add(time.Minute)
	w.DeletePod(PodKey{NameOf("ns"), "a"})
	if p = w.c.Pass(w.State, w.now, false); p.Work() {
		t.Errorf("%+v: want nothing to do", p)
	}
	if p = w.pass(DefaultHold - time.Minute - time.Second); p.Work() {
		t.Errorf("%+v: want nothing to do before two minutes are over", p)
	}
	p = w.pass(time.Second)
	w.wants(p)
	if len(p.Affinities) != 1 || p.Affinities[0].CIDR.String() != "10.0.0.16/28" || len(p.Empty) != 0 {
		t.Errorf("affinities %v, empty %v: want the claim without a block alone", p.Affinities, p.Empty)
	}
	w.wants(w.pass(time.Minute), "net.a", "vxlan-tunnel-addr-n1")
	block.Retire(w.blocks["10.0.0.0/28"], 0, "vxlan-tunnel-addr-n1", false, 0, w.now)
	block.Retire(w.blocks["10.0.0.0/28"], 3, "net.a", false, 0, w.now)
	w.put("10.0.0.0/28")
	if p := w.pass(grace); len(p.Empty) != 0 || p.Blocked != 1 {
		t.Errorf("%+v: the borrower lives", p)
	}
	block.Retire(w.blocks["10.0.0.0/28"], 4, "net.b", false, 0, w.now)
	w.put("10.0.0.0/28")
	if p := w.c.Pass(w.State, w.now, false); len(p.Empty) != 1 || p.Empty[0].Node != "n1" {
		t.Errorf("%+v: want the block given back", p.Empty)
	}
}

// TestNodeBack: a node that comes back in time keeps an empty block, and begins anew when it goes again.
func TestNodeBack(t *testing.T) {
	w := newWorld(t)
	w.SetNode("n1", Node{UID: "1"})
	w.block("10.0.0.0/28", "host:n1")
	wants := func(p *Plan, empty int) {
		t.Helper()
		if len(p.Empty) != empty {
			t.Errorf("gives back %v", p.Empty)
		}
	}
	w.DeleteNode("n1")
	wants(w.pass(0), 0)
	wants(w.pass(DefaultHold-time.Second), 0)
	w.SetNode("n1", Node{UID: "1"})
	wants(w.pass(time.Hour), 0)
	w.DeleteNode("n1")
	wants(w.pass(0), 0)
	wants(w.pass(DefaultHold-time.Second), 0)
	wants(w.pass(time.Second), 1)
}

// TestCameBack: what a node that is gone takes again waits.
func TestCameBack(t *testing.T) {
	w := newWorld(t)
	w.block("10.0.0.0/28", "host:n1")
	w.takePod("10.0.0.0/28", 3, "a", "n1")
	w.wants(w.pass(0))
	w.wants(w.pass(DefaultHold), "net.a")
	w.c.Collected("net.a", w.now)
	block.Retire(w.blocks["10.0.0.0/28"], 3, "net.a", false, 0, w.now)
	w.takePod("10.0.0.0/28", 3, "a", "n1")
	w.wants(w.pass(0))
	w.wants(w.pass(grace - time.Second))
	w.wants(w.pass(time.Second), "net.a")
}

// TestNodeMadeAnew: what the former node's pods had goes at once, what the new one's have does not.
func TestNodeMadeAnew(t *testing.T) {
	w := newWorld(t)
	w.SetNode("n1", Node{UID: "1"})
	w.block("10.0.0.0/28", "host:n1")
	w.take("10.0.0.0/28", 0, "vxlan-tunnel-addr-n1", map[string]string{"node": "n1", "type": "vxlanTunnelAddress"})
	w.takePod("10.0.0.0/28", 3, "a", "n1")
	w.takePod("10.0.0.0/28", 4, "b", "n1")
	w.pod("a", "n1", "10.0.0.3")
	w.pod("b", "n1", "10.0.0.4")
	w.pass(0)
	w.DeleteNode("n1")
	w.DeletePod(PodKey{NameOf("ns"), "a"})
	w.SetNode("n1", Node{UID: "2"})
	w.takePod("10.0.0.0/28", 5, "c", "n1")
	w.wants(w.pass(time.Second), "net.a")
	block.Retire(w.blocks["10.0.0.0/28"], 3, "net.a", false, 0, w.now)
	w.put("10.0.0.0/28")
	w.wants(w.pass(grace), "net.c") // after its grace period
	if len(w.former) != 1 {
		t.Errorf("%d former nodes, want one, since b lives", len(w.former))
	}
	block.Retire(w.blocks["10.0.0.0/28"], 4, "net.b", false, 0, w.now)
	block.Retire(w.blocks["10.0.0.0/28"], 0, "vxlan-tunnel-addr-n1", false, 0, w.now)
	w.put("10.0.0.0/28")
	if w.pass(0); len(w.former) != 0 {
		t.Errorf("%d former nodes are remembered", len(w.former))
	}
}

// TestTunnelMoved: the address that the tunnel had goes, the one that it has stays, though they share a handle.
func TestTunnelMoved(t *testing.T) {
	w := newWorld(t)
	n := Node{UID: "1"}
	n.SetTunnel(TunnelVXLAN4, netip.MustParseAddr("10.0.0.2"))
	w.SetNode("n1", n)
	w.block("10.0.0.0/28", "host:n1")
	for o := range 3 {
		w.take("10.0.0.0/28", o, "vxlan-tunnel-addr-n1", map[string]string{"node": "n1", "type": "vxlanTunnelAddress", "timestamp": fmt.Sprint(o)})
	}
	w.wants(w.pass(0))
	p := w.pass(grace)
	if got := releases(p)["vxlan-tunnel-addr-n1"]; got != 2 {
		t.Errorf("%d addresses are released, want 2", got)
	}
}

// TestHandles: those whose counts do not fit, after a grace period in the same form.
func TestHandles(t *testing.T) {
	w := newWorld(t)
	w.SetNode("n1", Node{UID: "1"})
	w.block("10.0.0.0/28", "host:n1")
	for o, pod := range []string{"fits", "less", "more", "missing"} {
		w.takePod("10.0.0.0/28", o, pod, "n1")
		w.pod(pod, "n1", fmt.Sprintf("10.0.0.%d", o))
	}
	w.handle("net.fits", map[string]int{"10.0.0.0/28": 1})
	w.handle("net.less", map[string]int{})
	w.handle("net.more", map[string]int{"10.0.0.0/28": 1, "10.0.1.0/28": 1})
	w.handle("net.alone", map[string]int{"10.0.0.0/28": 1})
	if p := w.pass(0); len(p.Handles) != 0 {
		t.Errorf("%v is fixed at once", p.Handles)
	}
	p := w.pass(grace)
	got := map[string]int{}
	for _, f := range p.Handles {
		got[f.Name] = f.Blocks[netip.MustParsePrefix("10.0.0.0/28")]
	}
	want := map[string]int{"net.less": 1, "net.more": 1, "net.missing": 1, "net.alone": 0}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("fixes %v, want %v", got, want)
	}
}

// TestBlocks: who gives back which blocks.
func TestBlocks(t *testing.T) {
	w := newWorld(t)
	w.SetNode("n1", Node{UID: "1"})
	w.block("10.0.0.0/28", "host:n1")
	w.block("10.0.0.16/28", "")
	w.block("10.0.0.32/28", LoadBalancer)
	w.block("10.0.0.48/28", "")
	w.take("10.0.0.48/28", 0, "h", nil)
	if p := w.pass(0); len(p.Empty) != 0 {
		t.Errorf("%v at the first look", p.Empty)
	}
	p := w.pass(grace)
	got := map[string]string{}
	for _, e := range p.Empty {
		got[e.Block.Name] = e.Node
	}
	if want := map[string]string{"10-0-0-16-28": "", "10-0-0-32-28": LoadBalancer}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("gives back %v, want %v", got, want)
	}
	w.put("10.0.0.32/28") // somebody wrote it: another look
	if p := w.pass(0); len(p.Empty) != 1 {
		t.Errorf("gives back %v", p.Empty)
	}
}

// TestReap: addresses that have cooled down, where no agent sees to it.
func TestReap(t *testing.T) {
	w := newWorld(t)
	w.Cooldown = time.Minute
	w.SetNode("n1", Node{UID: "1"})
	for _, c := range []string{"n1", "gone"} {
		cidr := map[string]string{"n1": "10.0.0.0/28", "gone": "10.0.0.16/28"}[c]
		w.block(cidr, "host:"+c)
		w.takePod(cidr, 1, c, c)
		block.Retire(w.blocks[cidr], 1, "net."+c, false, time.Minute, w.now)
		w.put(cidr)
	}
	if p := w.pass(30 * time.Second); len(p.Reap) != 0 || len(p.Empty) != 0 || p.Next.IsZero() {
		t.Errorf("%+v, want nothing yet", p)
	}
	if p := w.pass(31 * time.Second); fmt.Sprint(p.Reap) != "[10-0-0-16-28]" {
		t.Errorf("reaps %v", p.Reap)
	}
	if p := w.pass(returnGrace); len(p.Reap) != 2 {
		t.Errorf("reaps %v, want the idle agent's, too", p.Reap)
	}
}
