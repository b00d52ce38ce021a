// Package controller is margay-controller: the one place in a cluster that cleans up what nodes and pods that are gone have
// left of addresses, and that gives Services of type LoadBalancer theirs.
//
// Several may run; a Lease says which one works, and the others wait, asking nothing else of the API server. The packages
// below it do the work, and each writes by compare-and-swap alone: two at once, as when one has lost its lease and does not
// know yet, do no harm. Here are the order of the start, the goroutines, and how the configuration gets to them.
package controller

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/margay-net/margay/pkg/controller/balancer"
	"github.com/margay-net/margay/pkg/controller/cluster"
	"github.com/margay-net/margay/pkg/controller/garbage"
	"github.com/margay-net/margay/pkg/controller/metric"
	"github.com/margay-net/margay/pkg/controller/pool"
	"github.com/margay-net/margay/pkg/controller/setting"
	"github.com/margay-net/margay/pkg/kube"
)

// Version is what runs.
var Version = "unknown"

// LeaseName is the name of the Lease that the leader holds.
const LeaseName = "margay-controller"

// How the lease is kept: who does not renew it for leaseTime loses it (client-go's defaults).
const (
	leaseTime = 15 * time.Second
	renewTime = 10 * time.Second
	retryTime = 2 * time.Second
)

// Controller runs until its context ends.
type Controller struct {
	env    setting.Env
	config *rest.Config
	client *kube.Client
	log    *slog.Logger
	level  *slog.LevelVar

	metrics *metric.Metrics

	mu       sync.Mutex
	settings setting.Settings
	sources  metric.Sources
	leading  bool
	unread   func() []string // what of the cluster is unknown, while it leads
	changed  chan struct{}   // closed when settings change
}

// New returns a controller that has not started.
func New(env setting.Env, config *rest.Config, client *kube.Client, log *slog.Logger, level *slog.LevelVar) *Controller {
	c := &Controller{env: env, config: config, client: client, log: log, level: level, changed: make(chan struct{})}
	c.metrics = metric.New(Version, func() metric.Sources {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.sources
	})
	c.settings, _ = setting.Resolve(env, nil)
	c.setLevel(c.settings)
	return c
}

// Run leads whenever it can, and serves probes and metrics meanwhile. Who does not lead keeps to the configuration as it was
// at its start.
func (c *Controller) Run(ctx context.Context) error {
	if have, err := c.client.EnsureControllersConfig(ctx, setting.Default()); err == nil {
		settings, _ := setting.Resolve(c.env, &have.Spec)
		c.apply(settings)
	} else {
		c.log.Warn("configuration cannot be read yet; the defaults count", "err", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.serve(ctx) })
	g.Go(func() error {
		for ctx.Err() == nil {
			if err := c.campaign(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

// campaign waits for the lease and leads until it is lost, or ctx ends.
func (c *Controller) campaign(ctx context.Context) error {
	leases, err := coordination.NewForConfig(c.config)
	if err != nil {
		return fmt.Errorf("make client of leases: %w", err)
	}
	identity := c.env.Identity
	if identity == "" {
		if identity, err = os.Hostname(); err != nil {
			return fmt.Errorf("find an identity: set POD_NAME: %w", err)
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var done sync.WaitGroup
	e, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: c.env.Namespace, Name: LeaseName},
			Client:     leases,
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		},
		LeaseDuration: leaseTime, RenewDeadline: renewTime, RetryPeriod: retryTime, ReleaseOnCancel: true,
		Name: LeaseName,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				done.Add(1)
				defer done.Done()
				c.log.Info("this controller leads", "identity", identity)
				if err := c.lead(ctx); err != nil {
					c.log.Error("leading failed", "err", err)
				}
				stop() // who does not work does not hold the lease
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(other string) {
				if other != identity {
					c.log.Info("another controller leads; waiting", "identity", other)
				}
			},
		},
	})
	if err != nil {
		return fmt.Errorf("make leader election: %w", err)
	}
	e.Run(ctx)
	done.Wait()
	if ctx.Err() == nil {
		c.log.Warn("lost the lease; waiting for it again", "lease", c.env.Namespace+"/"+LeaseName)
	}
	return nil
}

// lead does the work until ctx ends.
func (c *Controller) lead(ctx context.Context) error {
	seen := cluster.New(c.client, c.log)
	settings, _ := c.current()
	g := garbage.New(garbage.Options{Cluster: seen, Client: c.client, Log: c.log, Grace: settings.Grace, Counted: c.metrics.Reclaimed})
	b := balancer.New(seen, c.client, settings.AssignIPs, c.log)
	p := pool.NewWatcher(seen, c.client, c.log)
	defer c.setLead(false, nil, metric.Sources{})
	c.setLead(true, seen.Unread, metric.Sources{})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return seen.Run(ctx) })
	group.Go(func() error { return p.Run(ctx) })
	group.Go(func() error { return c.follow(ctx, seen) })
	group.Go(func() error {
		select {
		case <-ctx.Done():
		case <-seen.InSync():
			c.setLead(true, seen.Unread, metric.Sources{Cluster: seen, IsCandidate: g.IsCandidate, PoolFaults: p.Faults, Services: b.Faults})
			c.log.Info("the cluster is known; at work")
		}
		return nil
	})
	group.Go(func() error { return c.while(ctx, func(s setting.Settings) bool { return s.Node }, g.Run) })
	group.Go(func() error { return c.while(ctx, func(s setting.Settings) bool { return s.Balancer }, b.Run) })
	group.Go(func() error {
		return c.while(ctx, func(s setting.Settings) bool { g.SetGrace(s.Grace); b.SetAssign(s.AssignIPs); return true }, wait)
	})
	return group.Wait()
}

func wait(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// while runs f as long as the settings say so. on is asked after each change.
func (c *Controller) while(ctx context.Context, on func(setting.Settings) bool, f func(context.Context) error) error {
	var stop context.CancelFunc
	done := make(chan error, 1)
	for {
		settings, changed := c.current()
		switch want := on(settings); {
		case want && stop == nil:
			var run context.Context
			run, stop = context.WithCancel(ctx)
			go func() { done <- f(run) }()
		case !want && stop != nil:
			stop()
			stop = nil
			if err := <-done; err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			if stop == nil {
				return nil
			}
			defer stop()
			return <-done
		case <-changed:
		}
	}
}

// current returns the settings, and a channel that is closed when they change.
func (c *Controller) current() (setting.Settings, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.settings, c.changed
}

func (c *Controller) setLead(leading bool, unread func() []string, s metric.Sources) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leading, c.unread, c.sources = leading, unread, s
}

// ready says why the controller does not do its work: only who leads has any.
func (c *Controller) ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leading && len(c.unread()) > 0 {
		return fmt.Errorf("the cluster is being read; there is nothing yet of %s", strings.Join(c.unread(), ", "))
	}
	return nil
}
