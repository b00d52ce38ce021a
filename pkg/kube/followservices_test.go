package kube

import (
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/margay-net/margay/pkg/advertise"
	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/apiserver"
)

// counted counts the requests for Services and slices that are under way.
type counted struct {
	next http.RoundTripper
	open *atomic.Int32
}

func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err != nil || !strings.HasSuffix(r.URL.Path, "/services") && !strings.HasSuffix(r.URL.Path, "/endpointslices") {
		return resp, err
	}
	c.open.Add(1)
	resp.Body = &body{ReadCloser: resp.Body, open: c.open}
	return resp, nil
}

type body struct {
	io.ReadCloser
	open   *atomic.Int32
	closed atomic.Bool
}

func (b *body) Close() error {
	if !b.closed.Swap(true) {
		b.open.Add(-1)
	}
	return b.ReadCloser.Close()
}

// shop is a directory that follows a cluster, and the means to change that.
type shop struct {
	t        *testing.T
	set      *kubernetes.Clientset
	d        *advertise.Directory
	in       advertise.Input
	networks []string
}

// testServices follows real Services and slices, changed as their controllers change them.
func testServices(t *testing.T, config *rest.Config) {
	config = rest.CopyConfig(config)
	config.WarningHandler = rest.NoWarnings{} // external addresses are deprecated
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	var open, changed atomic.Int32
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return counted{next, &open} })
	if err := apiserver.Install(t.Context(), config, "ClusterRole", "ClusterRoleBinding"); err != nil {
		t.Fatal(err)
	}
	config.Impersonate.UserName = "system:serviceaccount:kube-system:margay-node" // follows with what the manifest lets the agent do
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{t: t, set: set, d: advertise.NewDirectory(func() { changed.Add(1) }), networks: []string{"10.0.0.0/24", "192.168.50.0/24", "192.168.60.0/24"}}
	s.in.Config = v3.BGPConfigurationSpec{
		ServiceClusterIPs:      []v3.ServiceIPBlock{{CIDR: "10.0.0.0/24"}},
		ServiceExternalIPs:     []v3.ServiceIPBlock{{CIDR: "192.168.50.0/24"}},
		ServiceLoadBalancerIPs: []v3.ServiceIPBlock{{CIDR: "192.168.60.0/24"}, {CIDR: "192.168.70.9/32"}},
	}
	s.put(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "before"}, Spec: corev1.ServiceSpec{ // there before anybody follows
		Type: corev1.ServiceTypeNodePort, ClusterIP: "10.0.0.10", ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
	}})
	s.slice("before", endpoint(here, "rsT"))

	ended := make(chan error, 1)
	go func() { ended <- FollowServices(t.Context(), c, here, s.d) }()
	time.Sleep(100 * time.Millisecond) // it should do nothing: there is nothing to wait for
	if n := open.Load(); n != 0 {
		t.Errorf("%d watches before any network is configured", n)
	}
	s.d.SetRanges(true)
	s.expect("what was there before", "10.0.0.10/32")
	eventually(t, "both are watched", func() bool { return s.d.InSync() && open.Load() == 2 })
	if changed.Load() == 0 {
		t.Error("nobody was told")
	}

	s.policies()
	s.readiness()
	s.kinds()

	s.d.SetRanges(false)
	eventually(t, "nothing is watched, nothing known", func() bool {
		got, _ := s.d.Announcements(s.in)
		return open.Load() == 0 && len(got) == len(s.networks)
	})
	s.d.SetRanges(true)
	s.expect("watched again", "10.0.0.10/32")
	s.d.SetRanges(false)
	eventually(t, "nothing is watched", func() bool { return open.Load() == 0 })
	select {
	case err := <-ended:
		t.Errorf("ended by itself: %v", err)
	default:
	}
}

// put creates a Service, or changes it; its status, too.
func (s *shop) put(want *corev1.Service) {
	s.t.Helper()
	door, ctx := s.set.CoreV1().Services("default"), s.t.Context()
	want.Spec.Ports = []corev1.ServicePort{{Port: 80}}
	have, err := door.Create(ctx, want, metav1.CreateOptions{})
	if err != nil {
		if have, err = door.Get(ctx, want.Name, metav1.GetOptions{}); err == nil {
			want.ResourceVersion = have.ResourceVersion
			have, err = door.Update(ctx, want, metav1.UpdateOptions{})
		}
	}
	if err == nil {
		have.Status = want.Status
		_, err = door.UpdateStatus(ctx, have, metav1.UpdateOptions{})
	}
	if err != nil {
		s.t.Fatalf("put Service %s: %v", want.Name, err)
	}
}

// slice writes the one slice of a Service; name may have a suffix behind a dot.
func (s *shop) slice(name string, endpoints ...discoveryv1.Endpoint) {
	s.t.Helper()
	service, _, _ := strings.Cut(name, ".")
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints,
	}
	door, ctx := s.set.DiscoveryV1().EndpointSlices("default"), s.t.Context()
	_, err := door.Create(ctx, slice, metav1.CreateOptions{})
	if err != nil {
		_, err = door.Update(ctx, slice, metav1.UpdateOptions{})
	}
	if err != nil {
		s.t.Fatalf("write EndpointSlice %s: %v", name, err)
	}
}

// expect waits until the networks and just these addresses are announced.
func (s *shop) expect(what string, addrs ...string) {
	s.t.Helper()
	var want []netip.Prefix
	for _, text := range append(addrs, s.networks...) {
		want = append(want, netip.MustParsePrefix(text))
	}
	slices.SortFunc(want, netip.Prefix.Compare)
	var got []netip.Prefix
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got, _ = s.d.Announcements(s.in); slices.Equal(got, want) {
			return
		}
	}
	s.t.Fatalf("%s: announced %v, want %v", what, got, want)
}

// balancer is a Service of type LoadBalancer that has its address.
func balancer(policy corev1.ServiceExternalTrafficPolicy, ip string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.0.0.20", ExternalIPs: []string{"192.168.50.7"}, ExternalTrafficPolicy: policy},
		Status:     corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: ip}}}},
	}
}

const (
	policyLocal   = corev1.ServiceExternalTrafficPolicyLocal
	policyCluster = corev1.ServiceExternalTrafficPolicyCluster
)

func (s *shop) policies() {
	s.put(balancer(policyLocal, "192.168.60.8"))
	s.slice("web", endpoint("node-2", "rsT"))
	s.expect("ready elsewhere", "10.0.0.10/32")
	s.slice("web", endpoint("node-2", "rsT"), endpoint(here, "rsT"))
	s.expect("ready here", "10.0.0.10/32", "10.0.0.20/32", "192.168.50.7/32", "192.168.60.8/32")
	s.put(balancer(policyLocal, "192.168.61.8"))
	s.expect("an address outside of the network", "10.0.0.10/32", "10.0.0.20/32", "192.168.50.7/32")
	s.put(balancer(policyCluster, "192.168.60.8"))
	s.expect("policy Cluster", "10.0.0.10/32")
	s.put(balancer(policyCluster, "192.168.70.9"))
	s.expect("policy Cluster, a network of one address", "10.0.0.10/32", "192.168.70.9/32")
	s.put(balancer(policyLocal, "192.168.70.9"))
	s.expect("policy Local again", "10.0.0.10/32", "10.0.0.20/32", "192.168.50.7/32", "192.168.70.9/32")
	s.put(balancer(policyLocal, "192.168.60.8"))
	s.expect("as in the beginning", "10.0.0.10/32", "10.0.0.20/32", "192.168.50.7/32", "192.168.60.8/32")
}

func (s *shop) readiness() {
	web := []string{"10.0.0.10/32", "10.0.0.20/32", "192.168.50.7/32", "192.168.60.8/32"}
	for _, conditions := range []string{"RST", "Rst", "rst"} {
		s.slice("web", endpoint(here, conditions), endpoint("node-2", "rsT"))
		s.expect("conditions "+conditions, "10.0.0.10/32")
		s.slice("web", endpoint(here, "rsT"))
		s.expect("ready again", web...)
	}
	s.slice("web.2", endpoint(here, "rsT"))
	s.slice("web", endpoint(here, "RST"))
	s.expect("a second slice", web...)
	if err := s.set.DiscoveryV1().EndpointSlices("default").Delete(s.t.Context(), "web.2", metav1.DeleteOptions{}); err != nil {
		s.t.Fatal(err)
	}
	s.expect("the second slice is gone", "10.0.0.10/32")
	s.slice("web", endpoint(here, "rsT"))
	s.expect("the first one is ready again", web...)
	if err := s.set.CoreV1().Services("default").Delete(s.t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		s.t.Fatal(err)
	}
	s.expect("the Service is gone, its slice is not", "10.0.0.10/32")
}

// kinds makes Services that nothing is announced of, and then one that tells that they have been read.
func (s *shop) kinds() {
	for _, spec := range []corev1.ServiceSpec{
		{ClusterIP: corev1.ClusterIPNone, ExternalIPs: []string{"192.168.50.1"}, ExternalTrafficPolicy: policyLocal},
		{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com", ExternalIPs: []string{"192.168.50.2"}},
		{ClusterIP: "10.0.0.30"},
	} {
		name := strings.ToLower("kind-" + string(spec.Type) + spec.ClusterIP[max(0, len(spec.ClusterIP)-2):])
		s.slice(name, endpoint(here, "rsT"))
		s.put(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec})
	}
	inside := corev1.ServiceInternalTrafficPolicyLocal
	s.slice("last", endpoint(here, "rsT"))
	s.put(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "last"}, Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.40", InternalTrafficPolicy: &inside}})
	s.expect("the last one alone", "10.0.0.10/32", "10.0.0.40/32")
	for _, name := range []string{"last", "kind-30"} {
		if err := s.set.CoreV1().Services("default").Delete(s.t.Context(), name, metav1.DeleteOptions{}); err != nil {
			s.t.Fatal(err)
		}
	}
	s.expect("the last one is gone", "10.0.0.10/32")
}
