package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/model"
)

// addresses stands for IPAM: it gives out nothing when it is full, and remembers what it gave.
type addresses struct {
	mu   sync.Mutex
	full bool
	has  map[string]model.Endpoint
}

func (a *addresses) Assign(_ context.Context, r ipam.Request) (model.Endpoint, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.full {
		return model.Endpoint{}, ipam.ErrFull
	}
	a.has[r.Key()] = r.Endpoint
	return r.Endpoint, nil
}

func (a *addresses) Activate(string) error { return nil }

func (a *addresses) Release(key string) ipam.Released {
	a.mu.Lock()
	defer a.mu.Unlock()
	ep, ok := a.has[key]
	delete(a.has, key)
	return ipam.Released{Endpoint: ep, Found: ok}
}

func (a *addresses) Lookup(key string) (model.Endpoint, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ep, ok := a.has[key]
	return ep, ok
}

func (a *addresses) Endpoints() []model.Endpoint { return nil }

// kernel stands for the data plane.
type kernel struct{ up error }

func (k *kernel) Up(context.Context, model.Endpoint) error         { return k.up }
func (k *kernel) Down(context.Context, model.Endpoint, bool) error { return nil }
func (k *kernel) Check(context.Context, model.Endpoint) error      { return nil }

type end struct {
	verb string
	code wire.Code
}

// Each call of a runtime is told of once, whatever way it takes; test/fault has the same with real plugins.
func TestServedIsToldOnce(t *testing.T) {
	pool, plane, ends := &addresses{has: map[string]model.Endpoint{}}, &kernel{}, make(chan end, 100)
	s := New(Options{
		Socket: filepath.Join(t.TempDir(), "sock"), IPAM: pool, Dataplane: plane, Log: slog.New(slog.DiscardHandler),
		MTU: func() int { return 1500 }, Ready: func() error { return nil },
		Served: func(verb string, took time.Duration, code wire.Code) {
			if took <= 0 || took > time.Minute {
				t.Errorf("%s took %s", verb, took)
			}
			ends <- end{verb, code}
		},
	})
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx, l) }()
	defer func() { cancel(); <-done }()

	ask := func(c net.Conn, op wire.Op) {
		t.Helper()
		if err := wire.Write(c, wire.Request{Op: op, Network: "n", ContainerID: "c1", IfName: "eth0", Namespace: "d", Pod: "p"}); err != nil {
			t.Fatal(err)
		}
		if err := wire.Read(wire.Reader(c), &wire.Response{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		full  bool
		up    error
		ops   []wire.Op
		other []wire.Op // over a connection of their own, meanwhile
		want  []end
	}{
		{name: "ADD", ops: []wire.Op{wire.OpAssign, wire.OpActivate}, want: []end{{VerbAdd, wire.OK}}},
		{name: "DEL", ops: []wire.Op{wire.OpRelease}, want: []end{{VerbDel, wire.OK}}},
		{name: "ADD without room", full: true, ops: []wire.Op{wire.OpAssign}, want: []end{{VerbAdd, wire.Exhausted}}},
		{name: "ADD that the kernel refuses", up: errors.New("no"), ops: []wire.Op{wire.OpAssign, wire.OpActivate}, want: []end{{VerbAdd, wire.Internal}}},
		{name: "ADD whose plugin dies", ops: []wire.Op{wire.OpAssign}, want: []end{{VerbAdd, Abandoned}}},
		{name: "ADD that is taken back", ops: []wire.Op{wire.OpAssign, wire.OpRelease}, want: []end{{VerbAdd, Abandoned}}},
		{name: "ADD that is taken back by the plugin", ops: []wire.Op{wire.OpAssign}, other: []wire.Op{wire.OpRelease}, want: []end{{VerbDel, wire.OK}, {VerbAdd, Abandoned}}},
		{name: "others", ops: []wire.Op{wire.OpStatus, wire.OpGC, wire.OpCheck, "reboot"}, want: []end{{VerbStatus, wire.OK}, {VerbGC, wire.OK}, {VerbCheck, wire.Unknown}}},
	} {
		pool.full, plane.up = c.full, c.up
		conns := []net.Conn{dialServer(t, s), dialServer(t, s)}
		for _, op := range c.ops {
			ask(conns[0], op)
		}
		for _, op := range c.other {
			ask(conns[1], op)
		}
		var got []end
		for _, nc := range conns {
			nc.Close()
		}
		for len(got) < len(c.want) {
			select {
			case e := <-ends:
				got = append(got, e)
			case <-time.After(30 * time.Second):
				t.Fatalf("%s: told of %v, want %v", c.name, got, c.want)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: told of %v, want %v", c.name, got, c.want)
		}
	}
	time.Sleep(50 * time.Millisecond)
	if len(ends) > 0 {
		t.Errorf("told of one more: %v", <-ends)
	}
}

func dialServer(t *testing.T, s *Server) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
