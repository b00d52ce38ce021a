package agent

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/margay-net/margay/pkg/bird"
	"github.com/margay-net/margay/pkg/status"
	"github.com/margay-net/margay/pkg/topology"
)

// peers says which BGP sessions there are. BGP is not part of the agent yet: nil.
type peers interface{ Peers() []status.Peer }

// keepPlan keeps what the last plan wants.
func (a *Agent) keepPlan(w topology.Wanted, nodes, pools int, faults []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wanted = w.Routes
	a.plans = status.Plan{
		Made: time.Now(), Nodes: nodes, Pools: pools, Routes: len(w.Routes), Neighs: len(w.Neighs), FDB: len(w.FDB),
		Devices: len(w.VXLAN), Faults: faults,
	}
}

// tell serves the agent's status, and answers in BIRD's place where the node's /run is mounted.
func (a *Agent) tell(ctx context.Context, g *errgroup.Group) {
	s := status.New(status.Options{
		Socket: filepath.Join(filepath.Dir(a.config.Socket), status.Socket), Status: a.status, Routes: a.routes, Log: a.log,
	})
	g.Go(func() error { return s.Run(ctx) })
	if a.config.HostRun == "" {
		return
	}
	b := bird.New(bird.Options{
		Dir: filepath.Join(a.config.HostRun, "calico"), Node: a.config.Node, Version: Version, Started: a.born, Peers: a.peerList, Log: a.log,
	})
	g.Go(func() error { return b.Run(ctx) })
}

func (a *Agent) peerList() []status.Peer {
	if a.bgp == nil {
		return nil
	}
	return a.bgp.Peers()
}

// status is what the agent says of itself now.
func (a *Agent) status() status.Status {
	self, st := a.selfNow(), a.stats()
	a.mu.Lock()
	plan := a.plans
	a.mu.Unlock()
	out := status.Status{
		Node: a.config.Node, Version: Version, PID: os.Getpid(), Started: a.born, Locked: !a.store.Locked().IsZero(),
		Addr4: self.node.Addr4, Addr6: self.node.Addr6, Tunnel4: self.node.VXLANAddr4, Tunnel6: self.node.VXLANAddr6, PodMTU: self.podMTU,
		Endpoints: st.Endpoints, Unsettled: st.Unsettled, Oldest: st.Oldest, Blocks: st.Blocks, Free: st.Free, Ready: st.Ready, Conflicts: st.Conflicts,
		Plan: plan, BGP: a.bgp != nil, Peers: a.peerList(),
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
	return status.Explain(status.Cluster{
		Self: self.Name, Nodes: nodes, Pools: a.store.Pools(), Blocks: a.store.Blocks(), Endpoints: a.book.Endpoints(),
	}, wanted)
}
