package pods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// source stands for an API server: what it has, or why it does not answer. Package kube's tests ask a real one.
type source struct {
	pods  map[string]Pod
	err   error
	asked atomic.Int32
}

func (s *source) Pod(_ context.Context, namespace, name string) (Pod, error) {
	s.asked.Add(1)
	p, ok := s.pods[namespace+"/"+name]
	if s.err == nil && !ok {
		return Pod{}, ErrNotFound
	}
	return p, s.err
}

func (s *source) Namespace(_ context.Context, name string) (Namespace, error) {
	s.asked.Add(1)
	return Namespace{Name: name, Labels: map[string]string{"from": "api"}}, s.err
}

const uid, uid2, hash = "01234567-89ab-cdef-0123-456789abcdef", "11234567-89ab-cdef-0123-456789abcdef", "0123456789abcdef0123456789abcdef"

func web(uid string, kv ...string) Pod {
	return Pod{Namespace: "default", Name: "web", UID: uid, Annotations: annotated(kv...)}
}

func TestFind(t *testing.T) {
	space := Namespace{Name: "default", Labels: map[string]string{"from": "watch"}}
	refused := errors.New("connection refused")
	for _, c := range []struct {
		name    string
		known   []Pod
		noSpace bool
		api     []Pod
		err     error
		uid     string
		want    string // hwAddr, and where the namespace is from
		asked   int32
		waits   bool
	}{
		{name: "known", known: []Pod{web(uid, annMAC, "1")}, uid: uid, want: "1 watch"},
		{name: "known, without annotations", known: []Pod{web(uid)}, uid: uid, want: " watch"},
		{name: "known by its name alone", known: []Pod{web(uid, annMAC, "1")}, want: "1 watch"},
		{name: "not known by its name alone", want: " watch"},
		{name: "no pod of kubelet's", uid: "uid-7", want: " watch"},
		{name: "static", known: []Pod{{Namespace: "default", Name: "web", UID: uid, Static: hash, Annotations: annotated(annMAC, "1")}}, uid: hash, want: "1 watch"},
		{name: "one before it", known: []Pod{web(uid2, annMAC, "2")}, api: []Pod{web(uid, annMAC, "1")}, uid: uid, want: "1 watch", asked: 1, waits: true},
		{name: "the API has one after it", api: []Pod{web(uid2, annMAC, "2")}, uid: uid, want: " watch", asked: 1, waits: true},
		{name: "the API has none", uid: uid, want: " watch", asked: 1, waits: true},
		{name: "the API is down", uid: uid, err: refused, want: " watch", asked: 1, waits: true},
		{name: "the namespace is new", noSpace: true, known: []Pod{web(uid, annMAC, "1")}, uid: uid, want: "1 api", asked: 1, waits: true},
		{name: "both are new", noSpace: true, api: []Pod{web(uid, annMAC, "1")}, uid: uid, want: "1 api", asked: 2, waits: true},
	} {
		s := &source{pods: map[string]Pod{}, err: c.err}
		for _, p := range c.api {
			s.pods[p.Namespace+"/"+p.Name] = p
		}
		d := NewDirectory(s, nil, slog.New(slog.DiscardHandler))
		for _, p := range c.known {
			d.SetPod(p)
		}
		if !c.noSpace {
			d.SetNamespace(space)
		}
		start := time.Now()
		p, ns := d.Find(t.Context(), Ref{"default", "web", c.uid})
		if got := p.Annotations[prefix+annMAC] + " " + ns.Labels["from"]; got != c.want || s.asked.Load() != c.asked || p.Name != "web" || ns.Name != "default" {
			t.Errorf("%s: got %q after %d requests, want %q after %d", c.name, got, s.asked.Load(), c.want, c.asked)
		}
		if took := time.Since(start); c.waits != (took >= watchPatience) || took > time.Minute {
			t.Errorf("%s: took %s", c.name, took)
		}
	}
}

// The watch tells of the pod while its ADD waits.
func TestFindLate(t *testing.T) {
	s := &source{}
	d := NewDirectory(s, nil, slog.New(slog.DiscardHandler))
	time.AfterFunc(50*time.Millisecond, func() {
		d.SetPod(web(uid2))
		d.SetNamespace(Namespace{Name: "default"})
		d.SetPod(web(uid, annMAC, "1"))
	})
	start := time.Now()
	if p, _ := d.Find(t.Context(), Ref{"default", "web", uid}); p.Annotations[prefix+annMAC] != "1" || s.asked.Load() != 0 || time.Since(start) > 250*time.Millisecond {
		t.Errorf("got %v after %s and %d requests", p, time.Since(start), s.asked.Load())
	}
}

// An API server that does not answer is told of once, and so is its return.
func TestSilentIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	s := &source{err: errors.New("connection refused")}
	d := NewDirectory(s, nil, slog.New(slog.NewTextHandler(&log, nil)))
	d.SetNamespace(Namespace{Name: "default"})
	for range 2 {
		d.Find(t.Context(), Ref{"default", "web", uid})
	}
	s.err = nil
	for range 2 {
		d.Find(t.Context(), Ref{"default", "web", uid})
	}
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "default/web") {
		t.Errorf("logged %d lines:\n%s", n, log.String())
	}
}

// A call of the watch that changes nothing of what is kept wakes nobody, and keeps nothing of what others annotate.
func TestKeep(t *testing.T) {
	if got := KeepPod(map[string]string{"a": "b", prefix + "podIP": "10.0.0.1", prefix + annMAC: ""}); got != nil {
		t.Errorf("of a pod without our annotations %v is kept", got)
	}
	if got := fmt.Sprint(KeepPod(map[string]string{"a": "b", prefix + annMAC: "x"})); got != "map[cni.projectcalico.org/hwAddr:x]" {
		t.Errorf("kept %s", got)
	}
	if got := KeepNamespace(map[string]string{prefix + annMAC: "x"}); got != nil {
		t.Errorf("of a namespace %v is kept", got)
	}
	d := NewDirectory(&source{}, nil, slog.New(slog.DiscardHandler))
	d.SetPod(web(uid, annMAC, "1"))
	_, _, _, _, news := d.look(Ref{})
	d.SetPod(web(uid, annMAC, "1"))
	select {
	case <-news:
		t.Error("a pod's new status wakes who waits for annotations")
	default:
	}
}

func TestFloating(t *testing.T) {
	changes := 0
	d := NewDirectory(&source{}, func() { changes++ }, slog.New(slog.DiscardHandler))
	steps := []func(){
		func() { d.SetPod(web(uid)) },
		func() { d.SetPod(web(uid, annFloating, `["192.0.2.1"]`)) },
		func() { d.SetPod(web(uid, annFloating, `["192.0.2.1"]`, annMAC, "x")) },
		func() { d.SetPod(web(uid, annFloating, `["192.0.2.1", "x"]`)) },
		func() { d.DeletePod("default", "web") },
		func() { d.DeletePod("default", "web") },
	}
	want := []string{"0 map[] []", "1 map[[default web]:[192.0.2.1]] []", "1 map[[default web]:[192.0.2.1]] []",
		`2 map[[default web]:[192.0.2.1]] [annotation cni.projectcalico.org/floatingIPs of pod default/web, value ["192.0.2.1", "x"]: "x" is no IP address (a prefix length does not belong to it)]`,
		"3 map[] []", "3 map[] []"}
	for i, step := range steps {
		step()
		addrs, faults := d.Floating()
		if got := fmt.Sprint(changes, " ", addrs, " ", faults); got != want[i] {
			t.Errorf("step %d: %s, want %s", i, got, want[i])
		}
	}
	if d.InSync() {
		t.Error("in sync before anything was read")
	}
	d.ReadPods()
	d.ReadNamespaces()
	if !d.InSync() {
		t.Error("not in sync after all was read")
	}
}

func BenchmarkFind(b *testing.B) {
	d := NewDirectory(&source{}, nil, slog.New(slog.DiscardHandler))
	for i := range 250 {
		d.SetPod(Pod{Namespace: "default", Name: fmt.Sprint("web-", i), UID: uid})
	}
	d.SetNamespace(Namespace{Name: "default"})
	b.ReportAllocs()
	for b.Loop() {
		p, ns := d.Find(b.Context(), Ref{"default", "web-7", uid})
		if _, err := Read(p, ns); err != nil {
			b.Fatal(err)
		}
	}
}
