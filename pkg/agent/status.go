package agent

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/bird"
	"github.com/margay-net/margay/pkg/status"
	"github.com/margay-net/margay/pkg/topology"
)

// peers says what BGP does: a *sessions. nil: the agent speaks none.
type peers interface {
	Peers(context.Context) []status.Peer
	Paths() []status.Path
	Find(context.Context, netip.Prefix) ([]status.Path, []status.Announced)
	all(context.Context) []status.Path
	count() (v4, v6 int)
	daemon() v3.BGPDaemonStatus
}

// keepPlan keeps what the last plan wants.
func (a *Agent) keepPlan(w topology.Wanted, nodes, pools int, faults []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wanted = slices.Concat(w.Routes, w.Learned)
	a.plans = status.Plan{
		Made: time.Now(), Nodes: nodes, Pools: pools, Routes: len(a.wanted), Neighs: len(w.Neighs), FDB: len(w.FDB),
		Devices: len(w.VXLAN), Faults: faults,
	}
}

// tell serves the agent's status, and answers in BIRD's place where the node's /run is mounted.
func (a *Agent) tell(ctx context.Context, g *errgroup.Group) {
	s := status.New(status.Options{
		Socket: filepath.Join(filepath.Dir(a.config.Socket), status.Socket), Log: a.log, Routes: a.routes,
		Status: func() status.Status { return a.status(ctx) },
		Find:   func(to netip.Prefix) status.Found { return a.find(ctx, to) },
	})
	g.Go(func() error { return s.Run(ctx) })
	if a.config.HostRun == "" {
		return
	}
	b := bird.New(bird.Options{
		Dir: filepath.Join(a.config.HostRun, "calico"), Node: a.config.Node, Version: Version, Started: a.born, Log: a.log,
		Peers: func() []status.Peer { return a.peerList(ctx) },
	})
	g.Go(func() error { return b.Run(ctx) })
}

func (a *Agent) peerList(ctx context.Context) []status.Peer {
	if a.bgp == nil {
		return nil
	}
	return a.bgp.Peers(ctx)
}

// status is what the agent says of itself now.
func (a *Agent) status(ctx context.Context) status.Status {
	self, st := a.selfNow(), a.stats()
	a.mu.Lock()
	plan := a.plans
	a.mu.Unlock()
	out := status.Status{
		Node: a.config.Node, Version: Version, PID: os.Getpid(), Started: a.born, Locked: !a.store.Locked().IsZero(),
		Addr4: self.node.Addr4, Addr6: self.node.Addr6, Tunnel4: self.node.VXLANAddr4, Tunnel6: self.node.VXLANAddr6, PodMTU: self.podMTU,
		Endpoints: st.Endpoints, Unsettled: st.Unsettled, Oldest: st.Oldest, Blocks: st.Blocks, Free: st.Free, Ready: st.Ready, Conflicts: st.Conflicts,
		Plan: plan, BGP: a.bgp != nil, Peers: a.peerList(ctx),
	}
	if err := a.addable(); err != nil {
		out.NotReady = err.Error()
	} else if err := a.health.work(); err != nil {
		out.Unwell = err.Error()
	}
	return out
}

// routes are those that the agent wants now, each with its reason.
func (a *Agent) routes() []status.Route {
	a.mu.Lock()
	wanted := a.wanted
	a.mu.Unlock()
	self := a.selfNow().node
	nodes := a.store.NodeMap()
	nodes[self.Name] = self
	c := status.Cluster{Self: self.Name, Nodes: nodes, Pools: a.store.Pools(), Blocks: a.store.Blocks(), Endpoints: a.book.Endpoints()}
	if a.bgp != nil {
		c.Paths = a.bgp.Paths()
	}
	return status.Explain(c, wanted)
}

// find is what the agent knows of the way to a network.
func (a *Agent) find(ctx context.Context, to netip.Prefix) status.Found {
	out := status.Found{BGP: a.bgp != nil}
	out.Routes, out.Inside = status.Around(a.routes(), to)
	if a.bgp == nil {
		return out
	}
	for _, p := range a.bgp.Peers(ctx) {
		if p.Up {
			out.Peers++
		}
	}
	out.Paths, out.Announced = a.bgp.Find(ctx, to)
	return out
}
