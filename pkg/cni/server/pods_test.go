package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/cni/foreign"
	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/pods"
	"github.com/margay-net/margay/pkg/store"
	"github.com/margay-net/margay/test/apiserver"
)

// The whole way of an annotation: from a real API server by the watch to the answer that the plugin gets, with the real
// allocator. Only the kernel is missing, which package agent's tests in test/fault have.

// counted counts what is asked of the API server about pods.
type counted struct {
	*kube.Client
	asked int
}

func (c *counted) Pod(ctx context.Context, namespace, name string) (pods.Pod, error) {
	c.asked++
	return c.Client.Pod(ctx, namespace, name)
}

func (c *counted) Namespace(ctx context.Context, name string) (pods.Namespace, error) {
	c.asked++
	return c.Client.Namespace(ctx, name)
}

// agent is the part of an agent that an ADD goes through. To it, pool far is one of other nodes.
type agent struct {
	t      *testing.T
	core   *kubernetes.Clientset
	source *counted
	store  *store.Store
	dir    *pods.Directory
	book   *foreign.Book
	server *Server
	on     bool // floatingIPs
	next   int
}

func (a *agent) here() []model.Pool {
	list := a.store.Pools()
	for i := range list {
		list[i].Elsewhere = list[i].Name == "far"
	}
	return list
}

// seen is the cluster as the allocator of this node sees it.
type seen struct {
	*store.Store
	a *agent
}

func (s seen) Pools() []ipam.Pool {
	list := s.a.here()
	for i := range list {
		list[i].Elsewhere = list[i].Elsewhere && !list[i].Disabled
		list[i].Disabled = list[i].Disabled || list[i].Elsewhere
	}
	return list
}

func newAgent(t *testing.T, config *rest.Config) *agent {
	t.Helper()
	client, err := kube.New(config)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, source: &counted{Client: client}, store: store.New()}
	if a.core, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	for name, cidr := range map[string]string{"default4": "10.1.0.0/24", "default6": "fd00:1::/120", "manual": "10.2.0.0/24", "far": "10.3.0.0/24", "team": "10.4.0.0/24", "off": "10.5.0.0/24"} {
		pool := &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v3.IPPoolSpec{CIDR: cidr, Disabled: name == "off"}}
		switch name {
		case "manual":
			pool.Spec.AssignmentMode = v3.AssignManual
		case "team":
			pool.Spec.NamespaceSelector = "team in {'blue', 'green'}"
		}
		if err := client.CreatePool(t.Context(), pool); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	alloc, err := ipam.New(ipam.Options{Node: "node1", Dir: t.TempDir(), Boot: "1", Store: client, Cluster: seen{a.store, a}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { alloc.Close() })
	if a.book, err = foreign.Open(alloc, t.TempDir(), "1", nil, log); err != nil {
		t.Fatal(err)
	}
	a.dir = pods.NewDirectory(a.source, nil, log)
	a.server = New(Options{
		Socket: filepath.Join(t.TempDir(), "sock"), IPAM: a.book, Foreign: a.book, Dataplane: &kernel{}, Log: log,
		Pods: pods.NewChooser(a.dir, a.here, func() bool { return a.on }, log),
		MTU:  func() int { return 1500 }, Ready: func() error { return nil },
	})
	l, err := a.server.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 3)
	for _, run := range []func(){
		func() { _ = kube.NewWatcher(client, a.store, alloc, log).WithPods("node1", a.dir).Run(ctx) },
		func() { _ = a.server.Run(ctx, l) },
		func() {
			for !a.store.InSync() || !a.dir.InSync() || len(a.store.Pools()) < 6 {
				time.Sleep(5 * time.Millisecond)
			}
			if err := alloc.Sync(ctx, map[netip.Addr]string{}); err != nil {
				t.Error(err)
			}
			done <- struct{}{}
			_ = alloc.Run(ctx)
		},
	} {
		go func() { run(); done <- struct{}{} }()
	}
	<-done
	t.Cleanup(func() {
		cancel()
		for range 3 {
			<-done
		}
	})
	return a
}

func (a *agent) namespace(name string, labels, annotations map[string]string) {
	a.t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: annotations}}
	if _, err := a.core.CoreV1().Namespaces().Create(a.t.Context(), ns, metav1.CreateOptions{}); err != nil {
		a.t.Fatal(err)
	}
}

// pod makes a pod on a node and returns it.
func (a *agent) pod(namespace, name, node string, annotations map[string]string) *corev1.Pod {
	a.t.Helper()
	p, err := a.core.CoreV1().Pods(namespace).Create(a.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "c"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

// ask sends an ADD's request over a connection that stays open for the length of the test.
func (a *agent) ask(namespace, name, uid string, f *wire.Features) (*wire.Response, net.Conn) {
	a.t.Helper()
	a.next++
	c := dialServer(a.t, a.server)
	req := wire.Request{Op: wire.OpAssign, Network: "n", ContainerID: fmt.Sprint("c", a.next), IfName: "eth0", Namespace: namespace, Pod: name, PodUID: uid, Features: f}
	resp := a.send(c, &req)
	if resp.Code == wire.OK {
		req.Op, req.Features = wire.OpActivate, nil
		if r := a.send(c, &req); r.Code != wire.OK {
			a.t.Errorf("activate %s: %s", name, r.Msg)
		}
	}
	return resp, c
}

func (a *agent) send(c net.Conn, req *wire.Request) *wire.Response {
	a.t.Helper()
	resp := new(wire.Response)
	if err := wire.Write(c, req); err != nil {
		a.t.Fatal(err)
	}
	if err := wire.Read(wire.Reader(c), resp); err != nil {
		a.t.Fatal(err)
	}
	return resp
}

const ann = "cni.projectcalico.org/"

func TestAnnotations(t *testing.T) {
	srv := apiserver.StartServer(t)
	apiserver.InstallCRDs(t, srv.Config())
	a := newAgent(t, srv.Config())
	a.namespace("plain", nil, nil)
	a.namespace("blue", map[string]string{"team": "blue"}, nil)
	a.namespace("six", nil, map[string]string{ann + "ipFamilies": `["IPv6"]`})
	a.namespace("asks", nil, map[string]string{ann + "ipv4pools": `["manual"]`})
	features := &wire.Features{IPAddrsNoIPAM: true, FloatingIPs: true}
	for i, c := range []struct {
		name        string
		namespace   string
		annotations map[string]string
		features    *wire.Features
		want        []string // networks of the addresses, or the addresses; with none, a refusal
		mac         string
		code        wire.Code
		says        []string
	}{
		{name: "nothing", namespace: "plain", want: []string{"10.1.0.0/24", "fd00:1::/120"}},
		{name: "namespaceSelector", namespace: "blue", want: []string{"10.", "fd00:1::/120"}},
		{name: "ipFamilies of the namespace", namespace: "six", want: []string{"fd00:1::/120"}},
		{name: "and of the pod", namespace: "six", annotations: map[string]string{"ipFamilies": `["IPv4"]`}, want: []string{"10.1.0.0/24"}},
		{name: "a pool of the namespace", namespace: "asks", want: []string{"10.2.0.0/24", "fd00:1::/120"}},
		{name: "a pool by name", namespace: "plain", annotations: map[string]string{"ipv4pools": `["manual"]`}, want: []string{"10.2.0.0/24", "fd00:1::/120"}},
		{name: "a pool by CIDR", namespace: "asks", annotations: map[string]string{"ipv4pools": `["10.1.0.0/24"]`}, want: []string{"10.1.0.0/24", "fd00:1::/120"}},
		{name: "a pool of other nodes", namespace: "plain", annotations: map[string]string{"ipv4pools": `["far"]`}, want: []string{"10.3.0.0/24", "fd00:1::/120"}},
		{name: "a pool of other namespaces", namespace: "plain", annotations: map[string]string{"ipv4pools": `["team"]`}, want: []string{"10.4.0.0/24", "fd00:1::/120"}},
		{name: "static", namespace: "plain", annotations: map[string]string{"ipAddrs": `["10.2.0.77"]`}, want: []string{"10.2.0.77/32"}},
		{name: "static of other nodes", namespace: "plain", annotations: map[string]string{"ipAddrs": `["10.3.0.200", "fd00:1::77"]`}, want: []string{"10.3.0.200/32", "fd00:1::77/128"}},
		{name: "hwAddr", namespace: "plain", annotations: map[string]string{"hwAddr": "1C-0C-0A-C0-FF-EE"}, want: []string{"10.1.0.0/24", "fd00:1::/120"}, mac: "1c:0c:0a:c0:ff:ee"},
		{name: "without IPAM", namespace: "plain", annotations: map[string]string{"ipAddrsNoIpam": `["192.168.7.7"]`}, features: features, want: []string{"192.168.7.7/32"}},
		{name: "floating, by configuration", namespace: "plain", annotations: map[string]string{"floatingIPs": `["192.0.2.1"]`}, features: features, want: []string{"10.1.0.0/24", "fd00:1::/120"}},
		{name: "sources", namespace: "plain", annotations: map[string]string{"allowedSourcePrefixes": `["10.0.0.0/8"]`}, want: []string{"10.1.0.0/24", "fd00:1::/120"}},

		{name: "bad list", namespace: "plain", annotations: map[string]string{"ipv4pools": `manual`}, code: wire.Invalid, says: []string{"annotation " + ann + "ipv4pools of pod plain/", "value manual", `write it like ["pool-a"]`}},
		{name: "disabled pool", namespace: "plain", annotations: map[string]string{"ipv4pools": `["off"]`}, code: wire.Invalid, says: []string{"ipv4pools", `"off" gives out no addresses`}},
		{name: "unknown pool", namespace: "plain", annotations: map[string]string{"ipv6pools": `["x"]`}, code: wire.Invalid, says: []string{"ipv6pools", `"x" is neither`, "kubectl get ippools"}},
		{name: "several", namespace: "plain", annotations: map[string]string{"ipv4pools": `["x", "y"]`, "hwAddr": "no"}, code: wire.Invalid, says: []string{`"x" is`, `"y" is`, "hwAddr"}},
		{name: "static in use", namespace: "plain", annotations: map[string]string{"ipAddrs": `["10.2.0.77"]`}, code: wire.NotReady, says: []string{"10.2.0.77", "in use"}},
		{name: "static in no pool", namespace: "plain", annotations: map[string]string{"ipAddrs": `["10.99.0.1"]`}, code: wire.Invalid, says: []string{"10.99.0.1", "in no enabled IP pool"}},
		{name: "both static", namespace: "plain", annotations: map[string]string{"ipAddrs": `["10.2.0.7"]`, "ipAddrsNoIpam": `["10.2.0.7"]`}, features: features, code: wire.Invalid, says: []string{"ipAddrsNoIpam", "only one of them"}},
		{name: "without IPAM, not allowed", namespace: "plain", annotations: map[string]string{"ipAddrsNoIpam": `["192.168.7.8"]`}, code: wire.Invalid, says: []string{"ipAddrsNoIpam", "feature_control.ip_addrs_no_ipam"}},
		{name: "without IPAM, twice", namespace: "plain", annotations: map[string]string{"ipAddrsNoIpam": `["192.168.7.7"]`}, features: features, code: wire.NotReady, says: []string{"192.168.7.7 is that of pod plain/"}},
		{name: "floating, not allowed", namespace: "plain", annotations: map[string]string{"floatingIPs": `["192.0.2.1"]`}, code: wire.Invalid, says: []string{"floatingIPs", "FelixConfiguration default"}},
	} {
		annotations := map[string]string{"others.example/x": "y"}
		for k, v := range c.annotations {
			annotations[ann+k] = v
		}
		p := a.pod(c.namespace, fmt.Sprint("pod-", i), "node1", annotations)
		held := len(a.book.Endpoints())
		resp, _ := a.ask(c.namespace, p.Name, string(p.UID), c.features)
		if len(c.want) == 0 {
			if resp.Code != c.code || resp.Assigned != nil || len(a.book.Endpoints()) != held {
				t.Errorf("%s: code %d (%s), %d endpoints more, want code %d and none", c.name, resp.Code, resp.Msg, len(a.book.Endpoints())-held, c.code)
			}
			for _, s := range c.says {
				if !strings.Contains(resp.Msg+" "+resp.Hint, s) || strings.Contains(resp.Msg, "\n") {
					t.Errorf("%s: %q does not say %q in one line", c.name, resp.Msg, s)
				}
			}
			continue
		}
		if resp.Code != wire.OK || len(resp.Assigned.Addrs) != len(c.want) || resp.Assigned.MAC != c.mac {
			t.Errorf("%s: %+v, want %v, MAC %q", c.name, resp, c.want, c.mac)
			continue
		}
		for i, want := range c.want {
			if p, err := netip.ParsePrefix(want); err == nil && !p.Contains(resp.Assigned.Addrs[i]) || !strings.HasPrefix(resp.Assigned.Addrs[i].String(), want[:3]) {
				t.Errorf("%s: got %s, want one of %s", c.name, resp.Assigned.Addrs[i], want)
			}
		}
	}
	const hash = "0123456789abcdef0123456789abcdef" // kubelet knows a static pod by this, not by its mirror's UID
	a.pod("plain", "static-node1", "node1", map[string]string{"kubernetes.io/config.mirror": hash, ann + "hwAddr": "02:00:00:00:00:07"})
	if resp, _ := a.ask("plain", "static-node1", hash, nil); resp.Code != wire.OK || resp.Assigned.MAC != "02:00:00:00:00:07" {
		t.Errorf("static pod: %+v", resp)
	}
	if a.source.asked > 2 {
		t.Errorf("the API server was asked %d times about pods that the watch told of", a.source.asked)
	}
	t.Run("static address goes on", a.inherits)
	t.Run("unknown pods", a.unknown)
	t.Run("no address is left", a.nothingLeft)
	t.Run("API server down", func(t *testing.T) { a.down(t, srv) })
}

// inherits: a pod of a StatefulSet comes back at once, under its name and with its address.
func (a *agent) inherits(t *testing.T) {
	for i := range 3 {
		p := a.pod("plain", "db-0", "node1", map[string]string{ann + "ipAddrs": `["10.2.0.99", "fd00:1::99"]`})
		resp, c := a.ask("plain", p.Name, string(p.UID), nil)
		if resp.Code != wire.OK || fmt.Sprint(resp.Assigned.Addrs) != "[10.2.0.99 fd00:1::99]" {
			t.Errorf("life %d: %+v", i, resp)
		}
		if resp := a.send(c, &wire.Request{Op: wire.OpRelease, ContainerID: fmt.Sprint("c", a.next), IfName: "eth0"}); resp.Code != wire.OK {
			t.Errorf("life %d: release: %+v", i, resp)
		}
		now := int64(0)
		if err := a.core.CoreV1().Pods("plain").Delete(t.Context(), p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			t.Fatal(err)
		}
	}
}

// unknown: pods that the watch does not tell of are asked for once, and not at all where kubelet cannot have started them.
func (a *agent) unknown(t *testing.T) {
	manual := map[string]string{ann + "ipv4pools": `["manual"]`}
	elsewhere := a.pod("plain", "elsewhere", "node2", manual)
	for _, c := range []struct {
		name, uid, want string
		asked           int
	}{
		{"elsewhere", string(elsewhere.UID), "10.2.", 1},
		{"nowhere", "01234567-89ab-cdef-0123-456789abcdef", "10.1.", 1},
		{"elsewhere", "01234567-89ab-cdef-0123-456789abcdef", "10.1.", 1}, // one before it, or after it
		{"elsewhere", "test", "10.1.", 0},
		{"elsewhere", "", "10.1.", 0},
	} {
		before := a.source.asked
		resp, _ := a.ask("plain", c.name, c.uid, nil)
		if resp.Code != wire.OK || !strings.HasPrefix(resp.Assigned.Addrs[0].String(), c.want) || a.source.asked-before != c.asked {
			t.Errorf("%s, UID %q: %+v after %d requests, want one of %s after %d", c.name, c.uid, resp, a.source.asked-before, c.want, c.asked)
		}
	}
}

// down: what the watch told of before counts; other pods start as if they had no annotations.
func (a *agent) down(t *testing.T, srv *apiserver.Server) {
	known := a.pod("plain", "known", "node1", map[string]string{ann + "hwAddr": "02:00:00:00:00:01"})
	a.ask("plain", "known", string(known.UID), nil) // the watch has it from here on
	if err := srv.Down(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ uid, mac string }{{string(known.UID), "02:00:00:00:00:01"}, {"11234567-89ab-cdef-0123-456789abcdef", ""}} {
		start := time.Now()
		resp, _ := a.ask("plain", "known", c.uid, nil)
		if resp.Code != wire.OK || resp.Assigned.MAC != c.mac || time.Since(start) > 2*time.Second {
			t.Errorf("%+v after %s, want MAC %q", resp, time.Since(start), c.mac)
		}
	}
}

// nothingLeft releases all that lives, and looks for what a refused ADD may have left behind.
func (a *agent) nothingLeft(t *testing.T) {
	c := dialServer(t, a.server)
	for _, ep := range a.book.Endpoints() {
		if resp := a.send(c, &wire.Request{Op: wire.OpRelease, ContainerID: ep.ContainerID, IfName: ep.IfName}); resp.Code != wire.OK {
			t.Errorf("release %s: %+v", ep.Pod, resp)
		}
	}
	if left := a.book.Endpoints(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	var handles []v3.IPAMHandle
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var err error
		if handles, err = a.source.Handles(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(handles) == 0 {
			return
		}
	}
	for _, h := range handles {
		t.Errorf("left: handle %s, %v", h.Name, h.Spec.Block)
	}
}
