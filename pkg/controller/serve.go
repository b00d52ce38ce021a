package controller

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/margay-net/margay/pkg/controller/setting"
)

// serve serves probes, metrics and profiles, and moves them when their ports change.
func (c *Controller) serve(ctx context.Context) error {
	probes := http.NewServeMux()
	probes.HandleFunc("/liveness", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	probes.HandleFunc("/readiness", func(w http.ResponseWriter, _ *http.Request) {
		if err := c.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	metrics := http.NewServeMux()
	metrics.Handle("/metrics", c.metrics.Handler())
	profiles := http.NewServeMux()
	profiles.HandleFunc("/debug/pprof/", pprof.Index)
	profiles.HandleFunc("/debug/pprof/profile", pprof.Profile)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.listen(ctx, "probes", probes, c.healthPort) })
	g.Go(func() error {
		return c.listen(ctx, "metrics", metrics, func(s setting.Settings) int { return s.MetricsPort })
	})
	g.Go(func() error {
		return c.listen(ctx, "profiles", profiles, func(s setting.Settings) int { return s.ProfilePort })
	})
	return g.Wait()
}

// healthPort is where probes ask. Health checks that are switched off are answered all the same, since the manifest asks:
// all is well.
func (c *Controller) healthPort(setting.Settings) int { return c.env.HealthPort }

// listen serves a handler on the port that the settings say; 0: not at all. It ends with ctx only.
func (c *Controller) listen(ctx context.Context, what string, h http.Handler, port func(setting.Settings) int) error {
	for ctx.Err() == nil {
		settings, changed := c.current()
		at := port(settings)
		until, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := listenOn(until, at, h); err != nil {
				c.log.Error("cannot serve; it is tried again when its port changes", "what", what, "port", at, "err", err)
			}
		}()
		for ctx.Err() == nil && port(settings) == at {
			select {
			case <-ctx.Done():
			case <-changed:
				settings, changed = c.current()
			}
		}
		stop()
		<-done
	}
	return nil
}

func listenOn(ctx context.Context, port int, h http.Handler) error {
	if port == 0 {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
