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

	"github.com/margay-net/margay/pkg/cni/foreign"
	"github.com/margay-net/margay/pkg/cni/server"
	"github.com/margay-net/margay/pkg/config"
	"github.com/margay-net/margay/pkg/install"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/pods"
	"github.com/margay-net/margay/pkg/selector"
	"github.com/margay-net/margay/pkg/status"
	"github.com/margay-net/margay/pkg/store"
	"github.com/margay-net/margay/pkg/uplink"
)

// Agent is the agent of one node.
type Agent struct {
	config  config.Config
	client  *kube.Client
	log     *slog.Logger
	level   *slog.LevelVar
	store   *store.Store
	ipam    *ipam.Allocator
	book    *foreign.Book // ipam, and the addresses that it has no part in
	pods    *pods.Directory
	chooser *pods.Chooser
	plane   *plane
	health  *health
	metrics *metrics

	install  *install.Installer
	told     *told
	uplinks  *uplink.Watcher // nil until the store is in sync
	lastLent lent            // as IPAM was last told; the plan's alone
	lateLent lent            // that the kernel did not have in time
	setting4 uplink.Setting
	setting6 uplink.Setting
	born     time.Time

	mu      sync.Mutex
	self    self
	params  model.Parameters
	changed chan struct{} // closed when params change
	noticed []string      // settings without effect that were logged

	selectors selector.Cache
	wanted    []model.Route // between nodes, by the last plan
	plans     status.Plan   // counts of the last plan
	bgp       peers         // nil: no BGP
	speech    *speech       // nil: no BGP
}

// New puts an agent together. It starts nothing. level is that of log.
func New(c config.Config, client *kube.Client, log *slog.Logger, level *slog.LevelVar) (*Agent, error) {
	setting4, err := uplink.ParseSetting(c.IP4, c.Detect4, false)
	if err != nil {
		return nil, fmt.Errorf("environment variable IP or IP_AUTODETECTION_METHOD: %w", err)
	}
	setting6, err := uplink.ParseSetting(c.IP6, c.Detect6, true)
	if err != nil {
		return nil, fmt.Errorf("environment variable IP6 or IP6_AUTODETECTION_METHOD: %w", err)
	}
	m := newMetrics(c.Node)
	p, err := newPlane(c.ProcSys, log, m)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		config: c, client: client, log: log, level: level, store: store.New(), plane: p, health: &health{}, metrics: m,
		install: install.New(installConfig(c), log),
		told:    newTold(c.Node, client, log), setting4: setting4, setting6: setting6, born: time.Now(), changed: make(chan struct{}),
	}
	a.newPods()
	a.health.set(errStarting)
	a.health.work, a.health.alive = a.work, a.alive
	a.self.node = model.Node{Name: c.Node, VXLANMAC4: model.TunnelMAC(c.Node, false), VXLANMAC6: model.TunnelMAC(c.Node, true)}
	if c.Backend == "bird" {
		if err := a.newSpeech(); err != nil {
			return nil, err
		}
	}
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
	err := a.retry(ctx, "look at what the node allows", a.allowed)
	if err == nil {
		err = a.retry(ctx, "open the journal", func() error { return a.openIPAM(ctx) })
	}
	if err != nil {
		return g.Wait() // only ctx's end ends the attempts
	}
	defer a.ipam.Close()
	srv := server.New(server.Options{
		Socket: a.config.Socket, Spool: a.config.Spool, IPAM: a.book, Dataplane: a.plane, Pods: a.chooser, Foreign: a.book,
		MTU: a.podMTU, Ready: a.addable, Served: a.metrics.Served, Log: a.log,
	})
	l, err := srv.Listen()
	if err != nil {
		return err
	}
	g.Go(func() error { return srv.Run(ctx, l) })
	a.tell(ctx, g)
	g.Go(func() error { return a.serve(ctx, "metrics", a.metrics.Handler(a.sources(ctx)), metricsAddr) })
	a.plane.run(ctx, g)
	g.Go(func() error {
		if err := a.start(ctx, g, srv); err != nil {
			return err
		}
		g.Go(func() error { return a.ipam.Run(ctx) })
		g.Go(func() error { return srv.Drain(ctx) })
		g.Go(func() error { return a.audit(ctx) })
		g.Go(func() error { return a.told.run(ctx) })
		g.Go(func() error { return a.followUplinks(ctx) })
		return a.planLoop(ctx)
	})
	err = g.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

// cluster is what IPAM sees of the cluster: of pools of a family that the node has not, and of those that do not select
// the node, pods get no addresses.
type cluster struct {
	*store.Store
	agent *Agent
}

// Pools returns the pools by name.
func (c cluster) Pools() []model.Pool {
	pools := c.agent.poolsHere()
	for i := range pools {
		p := &pools[i]
		p.Elsewhere = p.Elsewhere && !p.Disabled // who asks for an address gets it all the same
		p.Disabled = p.Disabled || p.Elsewhere
	}
	return pools
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
			Store: lockable{a.client, a.store}, Cluster: cluster{a.store, a}, Log: a.log,
		})
		if err == nil {
			return a.openForeign(strings.TrimSpace(string(boot)))
		}
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
func (a *Agent) start(ctx context.Context, g *errgroup.Group, srv *server.Server) error {
	steps := []struct {
		name string
		f    func() error
	}{
		{"find the cluster's resources", func() error { return a.watch(ctx, g) }},
		{"read the cluster's state", func() error {
			bgpInSync := func() bool { return a.speech.inSync(a.serviceInput()) }
			if !waitFor(ctx, func() bool { return a.store.InSync() && a.pods.InSync() && bgpInSync() }) {
				if a.store.InSync() && !bgpInSync() {
					return errors.New("BGP's resources have not been read yet: the ClusterRole margay-node must let the agent list and watch bgpconfigurations, bgppeers, bgpfilters, services and endpointslices")
				}
				if a.store.InSync() {
					return errors.New("pods and namespaces have not been read yet: the ClusterRole margay-node must let the agent list and watch them")
				}
				return errors.New("the API server has not answered yet")
			}
			return nil
		}},
		{"make default pools", func() error { return a.defaultPools(ctx) }},
		{"find the node's address", func() error { return a.findSelf(ctx, g) }},
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
		{"keep network managers away", func() error { a.install.Unmanage(ctx); return nil }}, // before there are devices
		{"compute the wanted state", func() error { return a.plan(ctx) }},
		{"install plugins", a.install.Plugins},
		{"install CNI configuration", func() error { return a.conflist() }},
		{"report the node's network as available", func() error { return a.client.Up(ctx, a.config.Node) }},
	}
	for _, s := range steps {
		if err := a.retry(ctx, s.name, s.f); err != nil {
			return err
		}
		if s.name == "compute the wanted state" {
			a.plane.setEndpoints(a.book.Endpoints())
		}
	}
	a.health.set(nil)
	debug.FreeOSMemory() // what the start read (plugins, all objects once) would stay for minutes
	st := a.ipam.Stats()
	a.log.Info("node is ready", "node", a.config.Node, "ipv4", show(a.selfNow().node.Addr4), "ipv6", show(a.selfNow().node.Addr6), "blocks", st.Blocks, "endpoints", st.Endpoints)
	return nil
}

// watch finds out which group keeps our resources, and from then on follows them.
func (a *Agent) watch(ctx context.Context, g *errgroup.Group) error {
	if err := a.client.Use(ctx, a.config.APIGroup); errors.Is(err, kube.ErrNotInstalled) {
		return err
	} else if err != nil {
		return fmt.Errorf("the API server has not answered yet: %w", err)
	}
	a.log.Info("resources are found", "group", a.client.Group())
	if a.config.APIGroup == "" && a.client.Both(ctx) {
		a.log.Warn("cluster has two groups of resources; CALICO_API_GROUP says which one counts", "group", a.client.Group(), "other", kube.GroupV1)
	}
	g.Go(func() error {
		w := kube.NewWatcher(a.client, a.store, a.ipam, a.log).WithPods(a.config.Node, a.pods)
		if a.speech != nil {
			w = w.WithBGP(a.speech.known)
		}
		return w.Run(ctx)
	})
	g.Go(func() error { return newReporter(a.config.Node, a.client, a.sight, a.log).run(ctx) })
	if a.speech != nil {
		a.speak(ctx, g)
	}
	return nil
}

// list reads a comma-separated list.
func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// conflist writes the CNI configuration for the pods' MTU of now, if it is not there just so.
func (a *Agent) conflist() error {
	mtu := a.podMTU()
	err := a.install.Conflist(a.config.Node, mtu)
	if err == nil {
		a.mu.Lock()
		a.self.conflistMTU = mtu
		a.mu.Unlock()
	}
	return err
}

// untilAudit waits for a minute, or, when the last audit did not fail, until a block is left over whose pool is gone: people
// wait for its end. It reports false when ctx ends.
func (a *Agent) untilAudit(ctx context.Context, failed bool) bool {
	for range 60 {
		if !sleep(ctx, time.Second) {
			return false
		}
		if !failed && a.ipam.Orphaned() {
			return true
		}
	}
	return true
}

// audit looks after what no event tells of, once a minute.
func (a *Agent) audit(ctx context.Context) error {
	for failed := false; a.untilAudit(ctx, failed); {
		ended, err := a.ipam.Audit(ctx, a.plane.hasLink)
		for _, ep := range append(ended, a.book.Audit(a.plane.hasLink)...) {
			err = errors.Join(err, a.plane.Down(ctx, ep, true))
		}
		err = errors.Join(err, a.install.Audit(ctx, a.config.Node, a.podMTU()))
		a.store.Touch() // what the audit has noticed is a fault of the node
		if err != nil && !failed {
			a.log.Error("audit of the node failed; it is tried again", "err", err)
		}
		failed = err != nil
	}
	return nil
}
