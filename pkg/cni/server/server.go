// Package server is the agent's side of the protocol that package wire describes: it listens on the Unix socket, turns
// each request into a call of IPAM and of the data plane, and answers it.
//
// An assignment belongs to the connection that asked for it until it is activated: when the connection ends before that,
// the plugin has died or given up, and the assignment is taken back. No client can hold the agent up: connections,
// line lengths and silence are bounded.
package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/model"
)

// Dataplane brings a pod's host side up and takes it down. Both return when the kernel has done it.
type Dataplane interface {
	Up(ctx context.Context, ep model.Endpoint) error
	// Down removes routes and the host side's interface. It must do nothing to an interface that a newer sandbox of the
	// same pod owns: keepLink.
	Down(ctx context.Context, ep model.Endpoint, keepLink bool) error
	// Check returns what differs from what Up did.
	Check(ctx context.Context, ep model.Endpoint) error
}

// IPAM is what the server needs of package ipam.
type IPAM interface {
	Assign(ctx context.Context, r ipam.Request) (model.Endpoint, error)
	Activate(key string) error
	Release(key string) ipam.Released
	Lookup(key string) (model.Endpoint, bool)
	Endpoints() []model.Endpoint
}

// Options of New.
type Options struct {
	Socket    string
	Spool     string
	IPAM      IPAM
	Dataplane Dataplane
	Pods      Pods         // nil: nobody asks for anything
	Foreign   Foreign      // nil where Pods is
	MTU       func() int   // of pods' interfaces, in bytes
	Ready     func() error // nil when pods can be added; else why not
	Served    Served       // may be nil
	Log       *slog.Logger
}

const (
	maxConns  = 512              // at once; more wait in the kernel's queue
	idleLimit = 30 * time.Second // a plugin makes its interfaces in between two requests
	workLimit = wire.Timeout     // for one request
)

// Server answers the plugin.
type Server struct {
	Options
	conns chan struct{}

	mu   sync.Mutex
	open map[string]model.Endpoint // between assign and activate, of all connections
}

// New returns a server that does not listen yet.
func New(o Options) *Server {
	return &Server{Options: o, conns: make(chan struct{}, maxConns), open: map[string]model.Endpoint{}}
}

// Listen opens the socket with mode 0600, in place of one that a dead agent left. It does not accept yet.
func (s *Server) Listen() (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(s.Socket), 0o755); err != nil {
		return nil, fmt.Errorf("make socket's folder: %w", err)
	}
	if err := os.Remove(s.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	old := syscall.Umask(0o177) // from its first moment on nobody else may open it
	l, err := net.Listen("unix", s.Socket)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.Socket, err)
	}
	return l, nil
}

// Run accepts connections until ctx ends.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case s.conns <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := l.Accept()
		if err != nil {
			<-s.conns
			if ctx.Err() != nil {
				return nil
			}
			s.Log.Error("accept on the CNI socket failed", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		wg.Go(func() {
			defer func() { <-s.conns }()
			s.serve(ctx, c)
		})
	}
}

// conn is one plugin's connection.
type conn struct {
	net.Conn
	open  map[string]model.Endpoint // assigned here, not active yet
	since map[string]time.Time      // when the ADDs began whose end Served has not been told of
}

// serve answers a connection's requests until it ends.
func (s *Server) serve(ctx context.Context, nc net.Conn) {
	c := &conn{Conn: nc, open: map[string]model.Endpoint{}, since: map[string]time.Time{}}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	defer nc.Close()
	defer s.abandon(ctx, c)
	r := wire.Reader(nc)
	for {
		if err := nc.SetDeadline(time.Now().Add(idleLimit)); err != nil {
			return
		}
		resp, err := s.next(ctx, c, r)
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				s.Log.Warn("CNI connection ended", "err", err)
			}
			return
		}
		if err := wire.Write(nc, resp); err != nil {
			return
		}
	}
}

// next reads one request and answers it. A malformed one is answered as such; the connection goes on unless its
// framing is lost.
func (s *Server) next(ctx context.Context, c *conn, r *bufio.Reader) (*wire.Response, error) {
	line, err := wire.ReadLine(r)
	if errors.Is(err, wire.ErrTooLong) {
		_ = wire.Write(c, &wire.Response{Code: wire.Invalid, Msg: err.Error()})
	}
	if err != nil {
		return nil, err
	}
	var req wire.Request
	if err := wire.Decode(line, &req); err != nil {
		return &wire.Response{Code: wire.Invalid, Msg: err.Error(), Hint: "plugin and agent are of different versions, or this is no plugin"}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	return s.observe(c, &req, func() *wire.Response { return s.handle(ctx, c, &req) }), nil
}

// abandon takes back what a connection assigned and did not activate.
func (s *Server) abandon(ctx context.Context, c *conn) {
	for key, ep := range c.open {
		if since, ok := c.since[key]; ok {
			s.served(VerbAdd, since, Abandoned)
		}
		s.closeOpen(c, key)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workLimit)
		if err := s.Dataplane.Down(ctx, ep, true); err != nil {
			s.Log.Error("remove host side of a given-up ADD failed", "interface", ep.HostVeth, "err", err)
		}
		if s.IPAM.Release(key).Found {
			s.Log.Warn("ADD was given up between assign and activate; its addresses are taken back", "pod", ep.Namespace+"/"+ep.Pod, "container", ep.ContainerID)
		}
		cancel()
	}
}

// closeOpen ends a connection's hold on an assignment.
func (s *Server) closeOpen(c *conn, key string) {
	delete(c.open, key)
	delete(c.since, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, key)
}
