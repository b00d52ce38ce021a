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

	"github.com/margay-net/margay/pkg/config"
	nodehealth "github.com/margay-net/margay/pkg/health"
	"github.com/margay-net/margay/pkg/model"
)

// health answers kubelet's probes. Ready is our own work only: neither peers nor a lost API server take it away.
type health struct {
	mu     sync.Mutex
	reason error // why pods cannot be added yet; nil when they can

	// Once pods can be added, these say why our own work is impossible now, and what only a restart helps with.
	work, alive func() error
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

// healthAddr and metricsAddr say where these are served; "": not at all.
func healthAddr(p model.Parameters) string {
	if !p.Health {
		return ""
	}
	return net.JoinHostPort(p.HealthHost, strconv.Itoa(p.HealthPort))
}

func metricsAddr(p model.Parameters) string {
	if !p.Metrics {
		return ""
	}
	return net.JoinHostPort(p.MetricsHost, strconv.Itoa(p.MetricsPort))
}

// serve serves h at the address that the parameters say, and moves when they change. It ends with ctx only.
func (a *Agent) serve(ctx context.Context, what string, h http.Handler, addr func(model.Parameters) string) error {
	for ctx.Err() == nil {
		params, changed := a.paramsNow()
		at := addr(params)
		until, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if at == "" {
				return
			}
			if err := serveHTTP(until, at, h, a.log); err != nil {
				a.log.Error("cannot serve; it is tried again when its address changes", "what", what, "addr", at, "err", err)
			}
		}()
		for ctx.Err() == nil && addr(params) == at {
			select {
			case <-ctx.Done():
			case <-changed:
				params, changed = a.paramsNow()
			}
		}
		stop()
		<-done
	}
	return nil
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

// mux serves /liveness and /readiness: 204, or 503 with the reason.
func (h *health) mux() *http.ServeMux {
	m := http.NewServeMux()
	m.HandleFunc("/liveness", func(w http.ResponseWriter, _ *http.Request) {
		if h.ready() != nil {
			answer(w, nil) // a start waits for as long as it takes
			return
		}
		answer(w, h.alive())
	})
	m.HandleFunc("/readiness", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.ready(); err != nil {
			answer(w, err)
			return
		}
		answer(w, h.work())
	})
	return m
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// hangs is how long one pass of the data plane may take before kubelet is asked to start the agent anew (Calico's default
// of dataplaneWatchdogTimeout). The longest that is known, 10,000 routes at once, takes less than a second.
const hangs = 90 * time.Second

// vital are the loops without which no pod can come or go.
var vital = []string{"links", "routes", "neighbours"}

// work says why pods cannot be added or deleted now, whatever peers and API server do; nil when they can.
func (a *Agent) work() error {
	return errors.Join(
		a.allowed(), nodehealth.Folder("journal's folder", a.config.JournalDir),
		a.metrics.watch.Refused(vital...), a.alive())
}

// allowed says what the node does not allow without which no part of the agent can work.
func (a *Agent) allowed() error {
	return errors.Join(nodehealth.NetAdmin(), nodehealth.Sysctls(a.config.ProcSys))
}

// alive says what a restart of the agent mends, and nothing else: a CNI socket that is gone, a data plane that hangs.
func (a *Agent) alive() error {
	return errors.Join(nodehealth.Socket("CNI socket", a.config.Socket), a.metrics.watch.Hanging(hangs, vital...))
}

// Probe asks the running agent of this node, for exec probes: path is liveness or readiness. It asks where the
// environment says that health is served. When it is switched off there, all is well.
func Probe(ctx context.Context, c config.Config, path string) error {
	params, _, _ := config.Resolve(environment(c))
	addr := healthAddr(params)
	if addr == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/"+path, nil)
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
