package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/margay-net/margay/pkg/cni/server"
	"github.com/margay-net/margay/pkg/config"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/store"
)

// Agent is the agent of one node.
type Agent struct {
	config  config.Config
	client  *kube.Client
	log     *slog.Logger
	level   *slog.LevelVar
	store   *store.Store
	ipam    *ipam.Allocator
	plane   *plane
	health  *health
	metrics *metrics

	told *told

	mu      sync.Mutex
	self    self
	params  model.Parameters
	changed chan struct{} // closed when params change
}

// New puts an agent together. It starts nothing. level is that of log.
func New(c config.Config, client *kube.Client, log *slog.Logger, level *slog.LevelVar) (*Agent, error) {
	m := newMetrics()
	p, err := newPlane(c.ProcSys, log, m)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		config: c, client: client, log: log, level: level, store: store.New(), plane: p, health: &health{}, metrics: m,
		told: newTold(c.Node, client, log), changed: make(chan struct{}),
	}
	a.health.set(errStarting)
	a.self.node = model.Node{Name: c.Node, VXLANMAC4: model.TunnelMAC(c.Node, false), VXLANMAC6: model.TunnelMAC(c.Node, true)}
	for _, notice := range c.Notices {
		log.Warn("setting has no effect", "what", notice)
	}
	a.resolve() // from the environment alone, until the API server has answered
	return a, nil
}

// Run runs the agent until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	defer a.plane.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.serve(ctx, "health", a.health.mux(), healthAddr) })
	if err := a.retry(ctx, "open the journal", func() error { return a.openIPAM(ctx) }); err != nil {
		return g.Wait() // only ctx's end ends the attempts
	}
	defer a.ipam.Close()
	srv := server.New(server.Options{
		Socket: a.config.Socket, Spool: a.config.Spool, IPAM: a.ipam, Dataplane: a.plane,
		MTU: a.podMTU, Ready: a.health.ready, Log: a.log,
	})
	l, err := srv.Listen()
	if err != nil {
		return err
	}
	g.Go(func() error { return srv.Run(ctx, l) })
	g.Go(func() error { return kube.NewWatcher(a.client, a.store, a.ipam, a.log).Run(ctx) })
	a.plane.run(ctx, g)
	g.Go(func() error {
		if err := a.start(ctx, srv); err != nil {
			return err
		}
		g.Go(func() error { return a.ipam.Run(ctx) })
		g.Go(func() error { return srv.Drain(ctx) })
		g.Go(func() error { return a.audit(ctx) })
		g.Go(func() error { return a.serve(ctx, "metrics", a.metrics.handler(a.currentParams, a.ipam), metricsAddr) })
		g.Go(func() error { return a.told.run(ctx) })
		return a.planLoop(ctx)
	})
	err = g.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

// openIPAM opens the journal; while another agent of the node holds it, this one waits.
func (a *Agent) openIPAM(ctx context.Context) error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("read boot id: %w", err)
	}
	waiting := false
	for {
		a.ipam, err = ipam.New(ipam.Options{
			Node: a.config.Node, Dir: a.config.JournalDir, Boot: strings.TrimSpace(string(boot)),
			Store: a.client, Cluster: a.store, Log: a.log,
		})
		if !errors.Is(err, ipam.ErrLocked) {
			return err
		}
		if !waiting {
			a.log.Warn("another agent of this node runs; waiting for its end", "dir", a.config.JournalDir)
			waiting = true
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// sleep waits; it reports false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// retry calls f until it succeeds or ctx ends. A failure is logged when its text changes.
func (a *Agent) retry(ctx context.Context, what string, f func() error) error {
	var last string
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err.Error() != last {
			a.log.Error("start is waiting; it is tried again", "step", what, "err", err)
			last = err.Error()
		}
		a.health.set(fmt.Errorf("%s: %w", what, err))
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
	}
}

// start brings the node up, step by step; see the package doc.
func (a *Agent) start(ctx context.Context, srv *server.Server) error {
	steps := []struct {
		name string
		f    func() error
	}{
		{"read the cluster's state", func() error {
			if !waitFor(ctx, a.store.InSync) {
				return errors.New("the API server has not answered yet, or our CRDs are not installed")
			}
			return nil
		}},
		{"make default pools", func() error { return a.defaultPools(ctx) }},
		{"find the node's address", a.findSelf},
		{"read the node's addresses", func() error {
			routes, err := a.plane.podRoutes()
			if err != nil {
				return err
			}
			return a.ipam.Sync(ctx, routes)
		}},
		{"do spooled releases", func() error {
			_ = srv.DrainOnce(ctx) // Drain says what fails
			return nil
		}},
		{"adopt pods that the journal lacks", func() error {
			_, _ = a.ipam.Audit(ctx, a.plane.hasLink) // audit says what fails
			return nil
		}},
		{"compute the wanted state", func() error { return a.plan(ctx) }},
		{"install plugins", a.install().Binaries},
		{"install CNI configuration", func() error { return a.install().Conflist(a.config.Node, a.podMTU()) }},
		{"report the node's network as available", func() error { return a.client.Up(ctx, a.config.Node) }},
	}
	for _, s := range steps {
		if err := a.retry(ctx, s.name, s.f); err != nil {
			return err
		}
		if s.name == "compute the wanted state" {
			a.plane.setEndpoints(a.ipam.Endpoints())
		}
	}
	a.health.set(nil)
	debug.FreeOSMemory() // what the start read (plugins, all objects once) would stay for minutes
	st := a.ipam.Stats()
	a.log.Info("node is ready", "node", a.config.Node, "address", a.self.node.Addr4.String(), "blocks", st.Blocks, "endpoints", st.Endpoints)
	return nil
}

// audit looks after what no event tells of, once a minute.
func (a *Agent) audit(ctx context.Context) error {
	for failed := false; sleep(ctx, time.Minute); {
		ended, err := a.ipam.Audit(ctx, a.plane.hasLink)
		for _, ep := range ended {
			err = errors.Join(err, a.plane.Down(ctx, ep, true))
		}
		if err != nil && !failed {
			a.log.Error("audit of addresses failed; it is tried again", "err", err)
		}
		failed = err != nil
	}
	return nil
}
