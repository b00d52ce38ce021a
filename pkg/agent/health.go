package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// health answers kubelet's probes. Ready is our own work only: neither peers nor a lost API server take it away.
type health struct {
	mu     sync.Mutex
	reason error // why pods cannot be added yet; nil when they can
}

var errStarting = errors.New("agent is starting")

func (h *health) set(reason error) {
	h.mu.Lock()
	h.reason = reason
	h.mu.Unlock()
}

// ready returns why pods cannot be added, nil when they can.
func (h *health) ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reason
}

// serveHTTP serves a handler until ctx ends. An address that is in use, by an agent that is about to end, is waited for.
func serveHTTP(ctx context.Context, addr string, h http.Handler, log *slog.Logger) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	for said := false; errors.Is(err, syscall.EADDRINUSE); l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", addr) {
		if !said {
			log.Warn("address is in use by another program; waiting for its end", "addr", addr)
			said = true
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// mux serves /liveness and /readiness.
func (h *health) mux() *http.ServeMux {
	m := http.NewServeMux()
	m.HandleFunc("/liveness", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	m.HandleFunc("/readiness", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return m
}

// Probe asks the running agent of this node, for exec probes: path is liveness or readiness. It asks for what is
// switched on only, so the same probe is right in every mode.
func Probe(ctx context.Context, c Config, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	url := "http://" + net.JoinHostPort(c.HealthHost, strconv.Itoa(c.HealthPort)) + "/" + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("agent does not answer: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return fmt.Errorf("%s: %s", resp.Status, b)
	}
	return nil
}
