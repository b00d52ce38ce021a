package controller_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/controller/balancer"
)

// lock locks the datastore, and waits until the cluster knows it. The test's end unlocks it.
func (l *lab) lock() {
	l.t.Helper()
	_, err := l.any.Resource(clusterInfos).Create(l.t.Context(), object("ClusterInformation", "default", map[string]any{"datastoreReady": false}), createOptions)
	l.must(err)
	l.eventually("the lock is known", l.cluster.Locked)
}

func (l *lab) unlock() {
	l.must(l.any.Resource(clusterInfos).Delete(context.Background(), "default", deleteOptions))
}

// written is all that a pass over Services may write, with its versions.
func (l *lab) written() string {
	l.t.Helper()
	out := ""
	for _, r := range []string{"ipamblocks", "ipamhandles", "blockaffinities"} {
		list, err := l.any.Resource(resource(r)).List(l.t.Context(), metav1.ListOptions{})
		l.must(err)
		for _, o := range list.Items {
			out += fmt.Sprintln(r, o.GetName(), o.GetResourceVersion())
		}
	}
	services, err := l.core.CoreV1().Services("default").List(l.t.Context(), metav1.ListOptions{})
	l.must(err)
	for _, s := range services.Items {
		out += fmt.Sprintln(s.Name, s.Status.LoadBalancer.Ingress)
	}
	return out
}

// knowsServices waits until so many of the tests' Services are known.
func (l *lab) knowsServices(n int) {
	l.t.Helper()
	l.eventually(fmt.Sprintf("%d Services are known", n), func() bool {
		have := 0
		for _, s := range l.cluster.Services() {
			if s.LoadBalancer {
				have++
			}
		}
		return have == n
	})
}

// TestServicesLocked: while the datastore is locked no Service gets an address, and none that is gone gives its back; both
// happen when it is unlocked, without anything else that would wake the balancer.
func TestServicesLocked(t *testing.T) {
	l := newLab(t)
	l.pool("one", "10.20.0.0/29", nil)
	l.service("old", nil, nil)
	l.balance(v3.AssignAllServices)
	l.settles("old", "10.20.0.0")
	l.lock()
	t.Cleanup(l.unlock)
	l.service("new", nil, nil)
	l.service("asking", map[string]string{"projectcalico.org/loadBalancerIPs": `["10.20.0.5"]`}, nil)
	l.deleteService("old")
	l.knowsServices(2)
	before := l.written()
	other := balancer.New(l.cluster, l.acting, v3.AssignAllServices, quiet()) // its pass certainly sees all of this
	if err := other.Once(t.Context()); err != nil {
		t.Error(err)
	}
	if after := l.written(); after != before {
		t.Errorf("written while the datastore was locked:\n%s\nbefore\n%s", after, before)
	}
	l.wants("10.20.0.0")
	l.unlock()
	l.settles("new", "10.20.0.*")
	l.settles("asking", "10.20.0.5")
	l.eventually("what the gone Service had is given back", func() bool { return len(l.holders()) == 2 })
}

// TestServicesLockedMeanwhile: a pass that is under way when the datastore is locked finishes the Service that it is at, so
// that block, handle and status agree, and begins no other.
func TestServicesLockedMeanwhile(t *testing.T) {
	l := newLab(t)
	t.Cleanup(l.unlock)
	config, once := account(), new(sync.Once)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return locker{next, once, l.lock} })
	l.pool("one", "10.20.0.0/29", nil)
	for i := range 3 {
		l.service(fmt.Sprintf("s%d", i), nil, nil)
	}
	l.acting = connect(t, config)
	l.restart(l.acting)
	l.knowsServices(3)
	b := balancer.New(l.cluster, l.acting, v3.AssignAllServices, quiet())
	if err := b.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !l.cluster.Locked() {
		t.Fatal("the pass wrote nothing, and the datastore is not locked")
	}
	l.settles("s0", "10.20.0.0")
	l.wants("10.20.0.0")
	for _, s := range []string{"s1", "s2"} {
		if got := l.ingress(s); len(got) > 0 {
			t.Errorf("%s got %v", s, got)
		}
	}
	l.unlock()
	l.eventually("the datastore is unlocked", func() bool { return !l.cluster.Locked() })
	if err := b.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		l.settles(fmt.Sprintf("s%d", i), "10.20.0.*")
	}
	if got := len(l.inUse()); got != 3 {
		t.Errorf("%d addresses are in use", got)
	}
}
