package controller_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/ipam/collect"
)

const (
	cidr1 = "10.0.0.0/28"
	cidr2 = "10.0.0.16/28"
)

// TestLeak: an address whose pod is gone while its node lives goes after the grace period; released addresses go to the
// tail and cool down.
func TestLeak(t *testing.T) {
	l := newLab(t)
	l.node("n1", nil)
	l.own("n1", cidr1)
	l.takePod(cidr1, 1, "gone", "n1")
	l.takePod(cidr1, 2, "lives", "n1")
	l.takePod(cidr1, 3, "moved", "n1")
	l.takePod(cidr1, 4, "starts", "n1")
	l.takePod(cidr1, 5, "evicted", "n1")
	l.pod("lives", "n1", "10.0.0.2")
	l.pod("moved", "n2", "10.9.9.9")
	l.pod("starts", "n1")
	l.pod("evicted", "n1", "10.0.0.5")
	p, err := l.core.CoreV1().Pods("default").Get(t.Context(), "evicted", getOptions)
	l.must(err)
	p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted"
	_, err = l.core.CoreV1().Pods("default").UpdateStatus(t.Context(), p, updateOptions)
	l.must(err)
	l.once()
	l.pass(grace - time.Second)
	l.once()
	l.wants("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5")
	l.pass(2 * time.Second)
	l.once()
	l.wants("10.0.0.2", "10.0.0.4")
	b, err := l.client.GetBlock(t.Context(), "10-0-0-0-28")
	l.must(err)
	tail := b.Spec.Unallocated[len(b.Spec.Unallocated)-3:]
	if fmt.Sprint(b.Spec.Unallocated[:2]) != "[0 6]" || len(tail) != 3 {
		t.Errorf("FIFO %v: want the released ones at its tail", b.Spec.Unallocated)
	}
}

// TestSilent: nothing of a node whose kubelet does not report is taken, though its pods are gone from the API: it may be
// cut off and run them. When it reports again, or is gone, it is.
func TestSilent(t *testing.T) {
	l := newLab(t)
	l.node("n1", nil)
	l.own("n1", cidr1)
	l.takePod(cidr1, 1, "gone", "n1")
	l.ready("n1", corev1.ConditionUnknown)
	l.once()
	l.pass(10 * grace)
	l.once()
	l.wants("10.0.0.1")
	l.ready("n1", corev1.ConditionTrue)
	l.caughtUp()

	// It falls silent in the moment between the plan and the deed.
	l.deaf()
	l.watches.Wait()
	l.ready("n1", corev1.ConditionUnknown)
	if _, err := l.garbage.Once(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	l.wants("10.0.0.1")
	l.deleteNode("n1")
	l.restart(l.acting)
	l.once()
	l.pass(collect.DefaultHold)
	l.once()
	l.wants()
}

// TestStale: what the watches know is old. Nothing is done that the API server does not confirm.
func TestStale(t *testing.T) {
	l := newLab(t)
	l.node("n1", nil)
	l.own("n1", cidr1)
	for i, name := range []string{"back", "again", "other", "more", "gone"} {
		l.takePod(cidr1, i+1, name, "n1")
	}
	l.once()
	l.pass(2 * grace)
	l.caughtUp()
	l.deaf()
	l.watches.Wait()
	// The pod of one comes; one address is given back and taken by the same handle, one by another handle; a handle gets
	// another address.
	l.pod("back", "n1", "10.0.0.1")
	l.change(cidr1, func(b *v3.IPAMBlock) {
		block.Retire(b, 2, "k8s-pod-network.again", false, 0, time.Now())
		block.Retire(b, 3, "k8s-pod-network.other", false, 0, time.Now())
	})
	l.change(cidr1, func(b *v3.IPAMBlock) {
		l.must(block.Take(b, 2, "k8s-pod-network.again", map[string]string{"namespace": "default", "pod": "again", "node": "n1"}))
	})
	h, err := l.client.GetHandle(t.Context(), "k8s-pod-network.other")
	l.must(err)
	l.must(l.client.DeleteHandle(t.Context(), h))
	l.takePod(cidr1, 3, "second", "n1")
	l.takePod(cidr1, 9, "more", "n1")
	if _, err := l.garbage.Once(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	// The handle of "again" may have gone before its address was seen to be a newer one: it is mended.
	l.restart(l.acting)
	l.once()
	l.pass(grace - time.Second)
	l.once()
	l.pass(2 * time.Second)
	got := l.holders()
	want := map[string]string{"10.0.0.1": "back", "10.0.0.2": "again", "10.0.0.3": "second", "10.0.0.4": "more", "10.0.0.9": "more"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("in use: %v, want %v", got, want)
	}
	l.once()
	l.wants("10.0.0.1")
}

// TestNodeGone: everything of a node that is gone goes after two minutes, for it may run on: pods' addresses, tunnel, blocks,
// claims, handles; what a pod of another node has borrowed stays, with its block.
func TestNodeGone(t *testing.T) {
	l := newLab(t)
	l.node("n1", map[string]string{"projectcalico.org/IPv4VXLANTunnelAddr": "10.0.0.0"})
	l.node("n2", nil)
	l.own("n1", cidr1)
	l.own("n1", cidr2)
	l.own("n1", "fd00::/124")
	l.affinity("n1", "10.0.9.0/28", v3.AffinityPendingDeletion)
	l.take(cidr1, 0, "vxlan-tunnel-addr-n1", map[string]string{"node": "n1", "type": "vxlanTunnelAddress"})
	l.takePod(cidr1, 1, "a", "n1")
	l.takePod("fd00::/124", 1, "a", "n1")
	l.takePod(cidr2, 1, "borrower", "n2")
	l.pod("a", "n1", "10.0.0.1", "fd00::1")
	l.pod("borrower", "n2", "10.0.0.17")
	l.once()
	l.wants("10.0.0.0", "10.0.0.1", "fd00::1", "10.0.0.17")
	l.deleteNode("n1")
	l.once()
	l.pass(collect.DefaultHold)
	l.once()
	l.wants("10.0.0.0", "10.0.0.1", "fd00::1", "10.0.0.17") // while its pod is there, it may be
	l.deletePod("a")
	l.once()
	l.pass(collect.DefaultHold - time.Second)
	l.once()
	l.wants("10.0.0.0", "10.0.0.1", "fd00::1", "10.0.0.17")
	if b := l.objects("ipamblocks"); b != 3 {
		t.Errorf("%d blocks, want all 3", b)
	}
	l.pass(time.Second)
	l.once()
	l.once()
	l.wants("10.0.0.17")
	if b, a := l.objects("ipamblocks"), l.objects("blockaffinities"); b != 1 || a != 1 {
		t.Errorf("%d blocks, %d claims: want the borrower's", b, a)
	}
	l.deletePod("borrower")
	l.once()
	l.pass(grace)
	l.once()
	l.once()
	if n := l.objects("ipamblocks") + l.objects("blockaffinities") + l.objects("ipamhandles"); n != 0 {
		t.Errorf("%d objects are left", n)
	}
}

// TestNodeMadeAnew: the former node's addresses go at once, the new one's do not.
func TestNodeMadeAnew(t *testing.T) {
	l := newLab(t)
	l.node("n1", nil)
	l.own("n1", cidr1)
	l.takePod(cidr1, 1, "a", "n1")
	l.pod("a", "n1", "10.0.0.1")
	l.once()
	l.deleteNode("n1")
	l.deletePod("a")
	l.node("n1", nil)
	l.caughtUp()
	l.takePod(cidr1, 2, "b", "n1") // its pod's object is behind
	l.once()
	l.wants("10.0.0.2")
	if l.objects("ipamblocks") != 1 {
		t.Error("the new node's block is gone")
	}
}

// TestCooldown: released addresses of a node that is gone cool down before its block goes.
func TestCooldown(t *testing.T) {
	l := newLab(t)
	_, err := l.any.Resource(ipamConfigs).Create(t.Context(), object("IPAMConfiguration", "default", map[string]any{"autoAllocateBlocks": true, "strictAffinity": false, "ipCooldownSeconds": int64(600)}), createOptions)
	l.must(err)
	l.own("n1", cidr1)
	l.takePod(cidr1, 1, "a", "n1")
	l.once()
	l.pass(collect.DefaultHold)
	l.once()
	l.wants()
	l.pass(5 * time.Minute)
	l.once()
	if l.objects("ipamblocks") != 1 {
		t.Fatal("the block went while an address of it cooled down")
	}
	l.pass(6 * time.Minute)
	l.once()
	l.once()
	if l.objects("ipamblocks") != 0 || l.objects("blockaffinities") != 0 {
		t.Error("the block is left")
	}
}

// TestLocked: nothing is written while the datastore is locked.
func TestLocked(t *testing.T) {
	l := newLab(t)
	infos := l.any.Resource(clusterInfos)
	info, err := infos.Create(t.Context(), object("ClusterInformation", "default", map[string]any{"datastoreReady": false}), createOptions)
	l.must(err)
	defer func() { l.must(infos.Delete(context.Background(), info.GetName(), deleteOptions)) }()
	l.own("n1", cidr1)
	l.takePod(cidr1, 1, "a", "n1")
	l.eventually("the lock is known", l.cluster.Locked)
	l.once()
	l.wants("10.0.0.1")
}

// locker locks the datastore before the first write.
type locker struct {
	next http.RoundTripper
	once *sync.Once
	lock func()
}

func (k locker) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		k.once.Do(k.lock)
	}
	return k.next.RoundTrip(r)
}

// TestLockedMeanwhile: a pass that is under way when the datastore is locked begins nothing more, and what it left is done
// when that is over.
func TestLockedMeanwhile(t *testing.T) {
	l := newLab(t)
	infos := l.any.Resource(clusterInfos)
	lock := func() {
		_, err := infos.Create(t.Context(), object("ClusterInformation", "default", map[string]any{"datastoreReady": false}), createOptions)
		l.must(err)
		l.eventually("the lock is known", l.cluster.Locked)
	}
	t.Cleanup(func() { l.must(infos.Delete(context.Background(), "default", deleteOptions)) })
	config := account()
	once := new(sync.Once)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return locker{next, once, lock} })
	l.acting = connect(t, config)
	l.restart(l.acting)
	const pods, underWay = 14, 8
	l.node("n1", nil)
	l.own("n1", cidr1)
	for o := range pods {
		l.takePod(cidr1, o, fmt.Sprintf("p%d", o), "n1")
	}
	l.once()
	l.pass(grace)
	l.once()
	if n := len(l.holders()); n < pods-underWay {
		t.Errorf("%d addresses are left, want %d at least", n, pods-underWay)
	}
	l.must(infos.Delete(t.Context(), "default", deleteOptions))
	l.eventually("the datastore is unlocked", func() bool { return !l.cluster.Locked() })
	if _, err := l.garbage.Once(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	l.wants()
}

// errStopped is what requests of a killed controller get.
var errStopped = errors.New("killed")

// stopper lets some writes through, and no request after them.
type stopper struct {
	next   http.RoundTripper
	writes *atomic.Int64
}

func (s stopper) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && s.writes.Add(-1) < 0 || s.writes.Load() < 0 {
		return nil, errStopped
	}
	return s.next.RoundTrip(r)
}

// TestKilled kills the controller after any number of writes, again and again; what is left is always mended, and nothing
// that lives is touched.
func TestKilled(t *testing.T) {
	l := newLab(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	var writes atomic.Int64
	config := account()
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return stopper{next, &writes} })
	writes.Store(1 << 40)
	mortal := connect(t, config)
	for round := range 6 {
		writes.Store(1 << 40)
		l.sweep()
		l.node("n2", nil)
		for i, cidr := range []string{cidr1, cidr2, "fd00::/124"} {
			l.own("n1", cidr)
			for o := range 3 {
				l.takePod(cidr, o+1, fmt.Sprintf("p%d", (i+o)%4), "n1")
			}
		}
		l.own("n2", "10.0.1.0/28")
		l.takePod("10.0.1.0/28", 3, "lives", "n2")
		l.pod("lives", "n2", "10.0.1.3")
		kills := 0
		for l.left() && kills < 60 {
			kills++
			l.restart(mortal)
			writes.Store(int64(rnd.IntN(8)))
			for range 2 {
				_, _ = l.garbage.Once(t.Context(), true)
				l.pass(grace / 2)
			}
		}
		writes.Store(1 << 40)
		for range 3 { // handles that a kill left behind go after a grace period
			l.once()
			l.pass(grace)
		}
		l.once()
		l.wants("10.0.1.3")
		if b, a := l.objects("ipamblocks"), l.objects("blockaffinities"); b != 1 || a != 1 {
			t.Errorf("round %d: %d blocks and %d claims are left, want 1 of each", round, b, a)
		}
		t.Logf("round %d: %d kills", round, kills)
	}
}

// left says whether there is anything of n1.
func (l *lab) left() bool { return l.objects("ipamblocks")+l.objects("blockaffinities") > 2 }
