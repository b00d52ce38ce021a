package status

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	maxConns  = 16
	idleLimit = 10 * time.Second
	maxLine   = 4096 // bytes of a request
)

// Options of New. The functions are called for each request, from several goroutines.
type Options struct {
	Socket string
	Status func() Status
	Routes func() []Route
	Find   func(netip.Prefix) Found
	Log    *slog.Logger
}

// Server answers who asks.
type Server struct{ Options }

// New returns a server that does not listen yet.
func New(o Options) *Server { return &Server{o} }

// Listen opens a Unix socket with mode 0600, in place of one that nobody answers on any more.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make socket's folder: %w", err)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, ErrInUse)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	old := syscall.Umask(0o177) // from its first moment on nobody else may open it
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// ErrInUse means that a program answers on the socket.
var ErrInUse = errors.New("another program answers there")

// Serve accepts connections until ctx ends and hands them to handle, a few at once.
func Serve(ctx context.Context, l net.Listener, handle func(net.Conn)) {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxConns)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		c, err := l.Accept()
		if err != nil {
			<-slots
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(100 * time.Millisecond)
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			end := context.AfterFunc(ctx, func() { c.Close() })
			defer end()
			defer c.Close()
			handle(c)
		})
	}
}

// Run serves until ctx ends. While the socket cannot be opened, since an agent that is about to end has it, it tries
// again.
func (s *Server) Run(ctx context.Context) error {
	for said := false; ctx.Err() == nil; {
		l, err := Listen(s.Socket)
		if err == nil {
			Serve(ctx, l, s.handle)
			return nil
		}
		if !said && !errors.Is(err, ErrInUse) {
			s.Log.Error("cannot tell of this agent's status; it is tried again", "err", err)
			said = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

// request is a line that is asked with, answer one that is answered with.
type request struct {
	Get string       `json:"get"`
	To  netip.Prefix `json:"to,omitzero"` // of "way": a network, or an address as /32 or /128
}

type answer struct {
	Status *Status `json:"status,omitempty"`
	Routes []Route `json:"routes,omitempty"`
	Way    *Found  `json:"way,omitempty"`
	Error  string  `json:"error,omitempty"`
}

func (s *Server) handle(c net.Conn) {
	in := bufio.NewReaderSize(c, maxLine)
	for {
		if err := c.SetDeadline(time.Now().Add(idleLimit)); err != nil {
			return
		}
		line, err := in.ReadSlice('\n') // a longer line is an error
		if err != nil {
			return
		}
		b, err := json.Marshal(s.answer(line))
		if err != nil {
			return
		}
		if _, err := c.Write(append(b, '\n')); err != nil {
			return
		}
	}
}

func (s *Server) answer(line []byte) answer {
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return answer{Error: "read request: want a line such as {\"get\":\"status\"}: " + err.Error()}
	}
	switch r.Get {
	case "status":
		st := s.Status()
		return answer{Status: &st}
	case "routes":
		return answer{Routes: s.Routes()}
	case "way":
		if !r.To.IsValid() {
			return answer{Error: "request \"way\" has no \"to\": want a network such as 172.20.0.0/26"}
		}
		found := s.Find(r.To.Masked())
		return answer{Way: &found}
	}
	return answer{Error: fmt.Sprintf("unknown request %q: want status, routes or way", r.Get)}
}
