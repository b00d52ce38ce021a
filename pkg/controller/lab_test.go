package controller_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/controller/cluster"
	"github.com/margay-net/margay/pkg/controller/garbage"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/ipam/collect"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/test/apiserver"
)

// grace is the grace period of these tests; their clock is moved on by hand.
const grace = 15 * time.Minute

// server is shared by all tests of the package: it costs seconds to start.
var server *apiserver.Server

func TestMain(m *testing.M) {
	flag.Parse()
	klog.SetSlogLogger(quiet())
	if testing.Short() {
		fmt.Println("SKIPPED under -short: needs a real kube-apiserver")
		return
	}
	var err error
	if server, err = apiserver.New(); err == nil {
		err = apiserver.Install(context.Background(), server.Config(), apiserver.CRDs, "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func quiet() *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

// lab is the API server with nothing of other tests in it, and a garbage collector with its watches.
type lab struct {
	t       *testing.T
	config  *rest.Config
	core    kubernetes.Interface
	any     dynamic.Interface
	client  *kube.Client // an administrator's
	account *rest.Config // what the manifest allows the controller
	acting  *kube.Client
	cluster *cluster.Cluster
	garbage *garbage.Garbage
	deaf    context.CancelFunc // ends the watches: what is known grows old
	watches sync.WaitGroup

	mu  sync.Mutex
	now time.Time
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, config: server.Config(), account: account(), now: time.Now()}
	l.core = kubernetes.NewForConfigOrDie(l.config)
	l.any = dynamic.NewForConfigOrDie(l.config)
	l.client = connect(t, l.config)
	l.acting = connect(t, l.account)
	l.sweep()
	l.restart(l.acting)
	t.Cleanup(func() {
		l.deaf()
		l.watches.Wait()
	})
	return l
}

func account() *rest.Config { return server.ConfigAs("kube-system", "margay-controller") }

func connect(t *testing.T, config *rest.Config) *kube.Client {
	t.Helper()
	c, err := kube.Connect(t.Context(), config, "projectcalico.org/v3")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// restart begins anew, as a controller does that has just been started: it remembers nothing. Its requests go through c.
func (l *lab) restart(c *kube.Client) {
	l.t.Helper()
	if l.deaf != nil {
		l.deaf()
		l.watches.Wait()
	}
	ctx, stop := context.WithCancel(context.Background())
	l.deaf = stop
	l.cluster = cluster.New(l.acting, quiet())
	seen := l.cluster
	l.watches.Go(func() { _ = seen.Run(ctx) })
	select {
	case <-l.cluster.InSync():
	case <-time.After(20 * time.Second):
		l.t.Fatal("watches are not in sync after 20 s")
	}
	l.garbage = garbage.New(garbage.Options{Cluster: l.cluster, Client: c, Log: quiet(), Grace: grace, Now: l.clock, Window: 10 * time.Millisecond})
}

func (l *lab) clock() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *lab) pass(d time.Duration) {
	l.mu.Lock()
	l.now = l.now.Add(d)
	l.mu.Unlock()
}

// once lets the watches catch up, and does a full pass.
func (l *lab) once() {
	l.t.Helper()
	l.caughtUp()
	if _, err := l.garbage.Once(l.t.Context(), true); err != nil {
		l.t.Fatal(err)
	}
}

// caughtUp waits until the watches have seen everything that is stored.
func (l *lab) caughtUp() {
	l.t.Helper()
	marker := fmt.Sprintf("marker-%d", time.Now().UnixNano())
	// One object of each kind that is watched, and waited for: watches are in order.
	l.node(marker, nil)
	l.pod(marker, "nowhere")
	h := l.handle(marker, map[string]int{})
	a := l.affinity(marker, "10.255.255.0/28", v3.AffinityPending)
	b := l.block("10.255.255.0/28", "host:"+marker)
	defer func() {
		l.must(l.core.CoreV1().Nodes().Delete(l.t.Context(), marker, metav1.DeleteOptions{}))
		l.deletePod(marker)
		l.must(l.client.DeleteHandle(l.t.Context(), h))
		l.must(l.client.DeleteBlock(l.t.Context(), b))
		l.must(l.client.DeleteAffinity(l.t.Context(), a))
		l.eventually("the marker is forgotten", func() bool { return !l.knows(marker, true) })
	}()
	l.eventually("the marker is known", func() bool { return l.knows(marker, false) })
}

// knows says whether all of the marker's objects are known; any: whether one of them is.
func (l *lab) knows(marker string, any bool) (ok bool) {
	l.cluster.State(func(s *collect.State) {
		_, pod := s.Pod(collect.PodKey{Namespace: collect.NameOf("default"), Name: marker})
		node, blk := s.Node(marker) != nil, s.Block("10-255-255-0-28") != nil
		handle, aff := s.Has(marker), s.Has(block.AffinityName(marker, netip.MustParsePrefix("10.255.255.0/28")))
		ok = pod && node && blk && handle && aff
		if any {
			ok = pod || node || blk || handle || aff
		}
	})
	return ok
}

func (l *lab) eventually(what string, f func() bool) {
	l.t.Helper()
	for begin := time.Now(); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			l.t.Fatalf("not after a minute: %s", what)
		}
	}
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil && !apierrors.IsNotFound(err) {
		l.t.Fatal(err)
	}
}

// sweep deletes what other tests have left.
func (l *lab) sweep() {
	l.t.Helper()
	ctx, now := l.t.Context(), int64(0)
	for _, k := range []string{"ipamblocks", "ipamhandles", "blockaffinities", "ippools", "ipamconfigurations", "ipreservations", "kubecontrollersconfigurations"} {
		r := l.any.Resource(schema.GroupVersionResource{Group: "projectcalico.org", Version: "v3", Resource: k})
		l.must(r.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	}
	l.must(l.core.CoreV1().Nodes().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	l.must(l.core.CoreV1().Pods("default").DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{}))
	services, err := l.core.CoreV1().Services("default").List(ctx, metav1.ListOptions{})
	l.must(err)
	for _, s := range services.Items {
		l.must(l.core.CoreV1().Services("default").Delete(ctx, s.Name, metav1.DeleteOptions{}))
	}
}

func (l *lab) node(name string, annotations map[string]string) *corev1.Node {
	l.t.Helper()
	n, err := l.core.CoreV1().Nodes().Create(l.t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}, metav1.CreateOptions{})
	l.must(err)
	return n
}

func (l *lab) deleteNode(name string) {
	l.t.Helper()
	l.must(l.core.CoreV1().Nodes().Delete(l.t.Context(), name, metav1.DeleteOptions{}))
}

// ready sets a node's condition Ready.
func (l *lab) ready(name string, status corev1.ConditionStatus) {
	l.t.Helper()
	n, err := l.core.CoreV1().Nodes().Get(l.t.Context(), name, metav1.GetOptions{})
	l.must(err)
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}
	_, err = l.core.CoreV1().Nodes().UpdateStatus(l.t.Context(), n, metav1.UpdateOptions{})
	l.must(err)
}

// pod makes a pod that is bound to a node and reports addresses.
func (l *lab) pod(name, node string, addrs ...string) {
	l.t.Helper()
	pods := l.core.CoreV1().Pods("default")
	p, err := pods.Create(l.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}, metav1.CreateOptions{})
	l.must(err)
	if len(addrs) == 0 {
		return
	}
	p.Status.PodIP = addrs[0]
	for _, a := range addrs {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a})
	}
	_, err = pods.UpdateStatus(l.t.Context(), p, metav1.UpdateOptions{})
	l.must(err)
}

func (l *lab) deletePod(name string) {
	l.t.Helper()
	now := int64(0)
	l.must(l.core.CoreV1().Pods("default").Delete(l.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
}

func (l *lab) block(cidr, affinity string) *v3.IPAMBlock {
	l.t.Helper()
	b := block.New(netip.MustParsePrefix(cidr), affinity, time.Now())
	if affinity == "" {
		b.Spec.Affinity = nil
	}
	b, err := l.client.CreateBlock(l.t.Context(), b)
	l.must(err)
	return b
}

// own makes a block of a node, with the claim on it.
func (l *lab) own(node, cidr string) {
	l.t.Helper()
	l.affinity(node, cidr, v3.AffinityConfirmed)
	l.block(cidr, block.HostAffinity(node))
}

func (l *lab) affinity(node, cidr string, state v3.AffinityState) *v3.BlockAffinity {
	l.t.Helper()
	p := netip.MustParsePrefix(cidr)
	a, err := l.client.CreateAffinity(l.t.Context(), &v3.BlockAffinity{
		TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "BlockAffinity"},
		ObjectMeta: metav1.ObjectMeta{Name: block.AffinityName(node, p), Labels: block.AffinityLabels(block.HostAffinity(node), p.Addr().Is6())},
		Spec:       v3.BlockAffinitySpec{State: state, Node: node, Type: "host", CIDR: cidr},
	})
	l.must(err)
	return a
}

func (l *lab) handle(id string, counts map[string]int) *v3.IPAMHandle {
	l.t.Helper()
	h, err := l.client.CreateHandle(l.t.Context(), &v3.IPAMHandle{
		TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "IPAMHandle"},
		ObjectMeta: metav1.ObjectMeta{Name: strings.ToLower(id)}, Spec: v3.IPAMHandleSpec{HandleID: id, Block: counts},
	})
	l.must(err)
	return h
}

// change writes a block.
func (l *lab) change(cidr string, f func(*v3.IPAMBlock)) {
	l.t.Helper()
	for {
		b, err := l.client.GetBlock(l.t.Context(), block.Name(netip.MustParsePrefix(cidr)))
		l.must(err)
		b.Spec.SequenceNumber++
		f(b)
		if _, err = l.client.UpdateBlock(l.t.Context(), b); !apierrors.IsConflict(err) {
			l.must(err)
			return
		}
	}
}

// take takes an address, and writes its handle.
func (l *lab) take(cidr string, ordinal int, handle string, secondary map[string]string) {
	l.t.Helper()
	l.change(cidr, func(b *v3.IPAMBlock) { l.must(block.Take(b, ordinal, handle, secondary)) })
	h, err := l.client.GetHandle(l.t.Context(), strings.ToLower(handle))
	if apierrors.IsNotFound(err) {
		l.handle(handle, map[string]int{cidr: 1})
		return
	}
	l.must(err)
	h.Spec.Block[cidr]++
	_, err = l.client.UpdateHandle(l.t.Context(), h)
	l.must(err)
}

// takePod takes an address for a pod.
func (l *lab) takePod(cidr string, ordinal int, pod, node string) {
	l.t.Helper()
	l.take(cidr, ordinal, "k8s-pod-network."+pod, map[string]string{"namespace": "default", "pod": pod, "node": node, "timestamp": "2026-01-02 03:04:05 +0000 UTC"})
}

// inUse returns what the blocks hold: address to handle. It fails when a block is damaged, and when handles do not say the
// same.
func (l *lab) inUse() map[string]string {
	l.t.Helper()
	out, counts := map[string]string{}, map[string]map[string]int{}
	blocks, err := l.any.Resource(schema.GroupVersionResource{Group: "projectcalico.org", Version: "v3", Resource: "ipamblocks"}).List(l.t.Context(), metav1.ListOptions{})
	l.must(err)
	for _, u := range blocks.Items {
		b, err := l.client.GetBlock(l.t.Context(), u.GetName())
		l.must(err)
		if err := block.Check(b); err != nil {
			l.t.Error(err)
		}
		cidr := netip.MustParsePrefix(b.Spec.CIDR)
		for o := range b.Spec.Allocations {
			if h := block.Handle(b, o); h != "" {
				out[block.AddrAt(cidr, o).String()] = h
				if counts[h] == nil {
					counts[h] = map[string]int{}
				}
				counts[h][b.Spec.CIDR]++
			}
		}
	}
	handles, err := l.client.Handles(l.t.Context())
	l.must(err)
	for _, h := range handles {
		if !maps.Equal(h.Spec.Block, counts[h.Spec.HandleID]) || h.Spec.Deleted {
			l.t.Errorf("handle %s says %v (deleted %v), blocks say %v", h.Spec.HandleID, h.Spec.Block, h.Spec.Deleted, counts[h.Spec.HandleID])
		}
		delete(counts, h.Spec.HandleID)
	}
	for h := range counts {
		l.t.Errorf("handle %s is missing", h)
	}
	return out
}

// wants fails unless just these addresses are in use.
func (l *lab) wants(addrs ...string) {
	l.t.Helper()
	got := l.inUse()
	for _, a := range addrs {
		if got[a] == "" {
			l.t.Errorf("%s is not in use any more", a)
		}
		delete(got, a)
	}
	for a, h := range got {
		l.t.Errorf("%s is in use by %s still", a, h)
	}
}

// objects returns how many objects of a kind there are.
func (l *lab) objects(resource string) int {
	l.t.Helper()
	list, err := l.any.Resource(schema.GroupVersionResource{Group: "projectcalico.org", Version: "v3", Resource: resource}).List(l.t.Context(), metav1.ListOptions{})
	l.must(err)
	return len(list.Items)
}
