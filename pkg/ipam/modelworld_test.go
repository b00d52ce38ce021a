package ipam_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/controller/cluster"
	"github.com/margay-net/margay/pkg/controller/garbage"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/kube"
)

// modelWorld is what the nodes of the model share: the cluster's objects, and who has which address in truth.
type modelWorld struct {
	t      *testing.T
	config *rest.Config
	core   kubernetes.Interface
	pods   atomic.Int64 // made so far
	limit  atomic.Int64 // of addresses in use; above it few pods are added

	mu    sync.Mutex
	owner map[netip.Addr]string // address → who has it, as the kernels see it
	seen  map[string]int        // how often what happened
}

// take notes that a kernel has an address. Somebody else's is the one thing that must never be.
func (m *modelWorld) take(a netip.Addr, who string) {
	for try := 0; ; try++ {
		m.mu.Lock()
		by := m.owner[a]
		if by == "" || by == who {
			m.owner[a] = who
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		// A tunnel that was given another address is noted a moment after its allocator knows.
		if !strings.HasPrefix(by, "tunnel") || try == 1500 {
			m.t.Fatalf("%s is given to %s, but %s has it", a, who, by)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// leave notes that a kernel has an address no more.
func (m *modelWorld) leave(a netip.Addr, who string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.owner[a] != who {
		m.t.Errorf("%s leaves %s, which %q has: the model is wrong", who, a, m.owner[a])
	}
	delete(m.owner, a)
}

func (m *modelWorld) count(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen[what]++
}

// refused counts why an ADD failed.
func (m *modelWorld) refused(err error) {
	for what, is := range map[string]error{"full": ipam.ErrFull, "in use": ipam.ErrInUse, "answer lost": errLost, "cut off": errCut, "no such pool": ipam.ErrNoSuchPool} {
		if errors.Is(err, is) {
			m.count("ADD refused: " + what)
			return
		}
	}
	m.count("ADD refused: other")
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen["ADD refused: other"] <= 5 {
		m.t.Logf("refused: %v", err)
	}
}

// room says whether there is room for more pods.
func (m *modelWorld) room() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for a := range m.owner {
		if a.Is4() {
			n++
		}
	}
	return n < int(m.limit.Load())
}

func (m *modelWorld) name() string { return fmt.Sprintf("p%d", m.pods.Add(1)) }

// must ends the test for an error of the API server that no part of the model asks for.
func (m *modelWorld) must(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		m.t.Fatal(err)
	}
}

func (m *modelWorld) putNode(name string) {
	_, err := m.core.CoreV1().Nodes().Create(m.t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	m.must(err)
}

func (m *modelWorld) dropNode(name string) {
	m.must(m.core.CoreV1().Nodes().Delete(m.t.Context(), name, metav1.DeleteOptions{}))
}

func (m *modelWorld) ready(name string, status corev1.ConditionStatus) {
	patch := fmt.Sprintf(`{"status":{"conditions":[{"type":"Ready","status":%q}]}}`, status)
	_, err := m.core.CoreV1().Nodes().Patch(m.t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	m.must(err)
}

func (m *modelWorld) annotate(name string, tunnel netip.Addr) {
	patch := fmt.Sprintf(`{"metadata":{"annotations":{"projectcalico.org/IPv4VXLANTunnelAddr":%q}}}`, tunnel)
	_, err := m.core.CoreV1().Nodes().Patch(m.t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	m.must(err)
}

func (m *modelWorld) putPod(name, node string) {
	_, err := m.core.CoreV1().Pods("default").Create(m.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}, metav1.CreateOptions{})
	m.must(err)
}

func (m *modelWorld) dropPod(name string) {
	now := int64(0)
	m.must(m.core.CoreV1().Pods("default").Delete(m.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
}

// report has kubelet write down a pod's addresses.
func (m *modelWorld) report(name string, addrs []netip.Addr) {
	var ips []string
	for _, a := range addrs {
		ips = append(ips, fmt.Sprintf(`{"ip":%q}`, a))
	}
	patch := fmt.Sprintf(`{"status":{"podIP":%q,"podIPs":[%s]}}`, addrs[0], strings.Join(ips, ","))
	_, err := m.core.CoreV1().Pods("default").Patch(m.t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	m.must(err)
}

// turn changes something that concerns the whole cluster.
func (m *modelWorld) turn(rnd *rand.Rand, pool v3.IPPoolSpec) {
	pools := objects(m.t, m.config, "ippools")
	switch rnd.IntN(8) {
	case 0, 1:
		spec := v3.IPAMConfigurationSpec{AutoAllocateBlocks: true, StrictAffinity: rnd.IntN(3) == 0, IPCooldownSeconds: int32(max(0, rnd.IntN(4)-2))}
		if spec.StrictAffinity && rnd.IntN(2) == 0 {
			spec.MaxBlocksPerHost = 2
		}
		put(m.t, m.config, "ipamconfigurations", "IPAMConfiguration", "default", spec)
		m.count("configurations")
	case 2:
		cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, 0, byte(4 * rnd.IntN(32))}), 30)
		put(m.t, m.config, "ipreservations", "IPReservation", "kept", v3.IPReservationSpec{ReservedCIDRs: []string{cidr.String()}})
		m.count("reservations")
	case 3, 4:
		pool.Disabled = rnd.IntN(2) == 0
		put(m.t, m.config, "ippools", "IPPool", "second", pool)
		m.count("pools made or changed")
	case 5:
		if err := pools.Delete(m.t.Context(), "second", metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
			m.must(err)
			m.count("pools deleted")
		}
	default:
		m.limit.Store(50 + rnd.Int64N(65))
	}
}

// modelGrace is the collectors' grace period.
const modelGrace = 15 * time.Minute

// collector is a controller's garbage collector. Its watches may be cut, so that it acts on what it once heard.
type collector struct {
	m       *modelWorld
	rnd     *rand.Rand
	link    *link
	ahead   atomic.Int64
	cluster *cluster.Cluster
	garbage *garbage.Garbage
	stop    context.CancelFunc
	done    sync.WaitGroup
}

func (m *modelWorld) collector(seed, i uint64) *collector {
	c := &collector{m: m, rnd: rand.New(rand.NewPCG(seed, i)), link: &link{news: true}, stop: func() {}}
	c.restart()
	return c
}

// restart begins anew, and remembers nothing.
func (c *collector) restart() {
	c.stop()
	c.done.Wait()
	c.link.set(false)
	hears, err := kube.New(c.link.over(c.m.config))
	c.m.must(err)
	acts, err := kube.New(c.m.config)
	c.m.must(err)
	ctx, stop := context.WithCancel(c.m.t.Context())
	c.stop = stop
	c.cluster = cluster.New(hears, quiet())
	seen := c.cluster
	c.done.Go(func() { _ = seen.Run(ctx) })
	select {
	case <-seen.InSync():
	case <-time.After(30 * time.Second):
		c.m.t.Fatal("the collector's watches are not in sync after 30 s")
	}
	c.garbage = garbage.New(garbage.Options{Cluster: seen, Client: acts, Log: quiet(), Grace: modelGrace, Now: func() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }})
}

// step is a pass, on what the watches happen to know.
func (c *collector) step() {
	c.ahead.Add(c.rnd.Int64N(int64(modelGrace / 3)))
	switch c.rnd.IntN(40) {
	case 0:
		c.restart()
		c.m.count("collectors restarted")
	case 1, 2:
		c.link.set(true)
		c.m.count("collectors gone deaf")
	case 3, 4, 5, 6:
		c.link.set(false)
	}
	c.pass(c.rnd.IntN(2) == 0)
}

func (c *collector) pass(full bool) {
	c.m.count("passes")
	if _, err := c.garbage.Once(c.m.t.Context(), full); err != nil {
		c.m.count("passes that failed")
	}
}
