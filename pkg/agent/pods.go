package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/margay-net/margay/pkg/bgp"
	"github.com/margay-net/margay/pkg/cni/foreign"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/peering"
	"github.com/margay-net/margay/pkg/pods"
	"github.com/margay-net/margay/pkg/selector"
	"github.com/margay-net/margay/pkg/topology"
)

// openForeign reads which pods brought addresses along; see package foreign.
func (a *Agent) openForeign(boot string) (err error) {
	a.book, err = foreign.Open(a.ipam, filepath.Join(a.config.JournalDir, "foreign"), boot, a.endpointChanged, a.log)
	return err
}

// endpointChanged has the plan made anew when an endpoint that came or went has to do with it.
func (a *Agent) endpointChanged(ep model.Endpoint, foreign bool) {
	if foreign || a.pods.HasFloating(ep.Namespace, ep.Pod) || a.speech != nil && a.speech.known.WithPods() {
		a.store.Touch()
	}
}

// poolsHere returns the pools by name as this node sees them: Disabled also where the node lacks the pool's family,
// Elsewhere where the pool's node selector does not select the node. One whose node selector does not parse selects nobody.
func (a *Agent) poolsHere() []model.Pool {
	list, self, labels := a.store.Pools(), a.selfNow(), a.store.Labels()
	for i := range list {
		p := &list[i]
		addr := self.node.Addr4
		if p.CIDR.Addr().Is6() {
			addr = self.node.Addr6
		}
		p.Disabled = p.Disabled || !addr.IsValid()
		if p.NodeSelector == "" {
			continue
		}
		s, err := a.parse(p.NodeSelector)
		p.Elsewhere = err != nil || !s.Matches(labels)
	}
	return list
}

func (a *Agent) parse(text string) (*selector.Selector, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.selectors.Parse(text)
}

// selectorFaults says, a line each, which pools' selectors do not parse.
func (a *Agent) selectorFaults(pools []model.Pool) (out []string) {
	for _, p := range pools {
		for field, text := range map[string]string{"nodeSelector": p.NodeSelector, "namespaceSelector": p.NamespaceSelector} {
			if text == "" {
				continue
			}
			if _, err := a.parse(text); err != nil {
				out = append(out, fmt.Sprintf("IPPool %s: spec.%s: %v; only pods that ask for the pool by name get its addresses: correct it", p.Name, field, err))
			}
		}
	}
	slices.Sort(out)
	return out
}

// floating returns the floating addresses of the pods that live here, the routes to them, and a line for each value that
// is not used.
func (a *Agent) floating() (out []model.Floating, routes []model.Route, faults []string) {
	asked, faults := a.pods.Floating()
	if len(asked) == 0 {
		return nil, nil, faults
	}
	out, routes, conflicts := topology.Floating(asked, a.book.Endpoints())
	return out, routes, append(faults, conflicts...)
}

// workloads are the pods that live here, if BGP may be spoken with any.
func (a *Agent) workloads() (out []peering.Workload) {
	if !a.speech.known.WithPods() {
		return nil
	}
	for _, ep := range a.book.Endpoints() {
		if labels, known := a.pods.Labels(ep.Namespace, ep.Pod); known {
			out = append(out, peering.Workload{Labels: labels, Addrs: ep.Addrs})
		}
	}
	return out
}

// peerWithPods gives the node its address on the devices of pods among the peers. Routes that these tell of lead there.
func (a *Agent) peerWithPods(peers []bgp.Peer) {
	if len(a.speech.pods) == 0 && !a.speech.known.WithPods() {
		return
	}
	peered := map[netip.Addr]string{}
	addrs := map[string][]netip.Addr{}
	for _, ep := range a.book.Endpoints() {
		for _, addr := range ep.Addrs {
			own := a.speech.known.PeeringAddr(a.config.Node, addr.Is6())
			if own.IsValid() && slices.ContainsFunc(peers, func(p bgp.Peer) bool { return p.Address == addr }) {
				peered[addr] = ep.HostVeth
				addrs[ep.HostVeth] = append(addrs[ep.HostVeth], own)
			}
		}
	}
	a.plane.links.SetPeering(addrs)
	if !maps.Equal(peered, a.speech.pods) {
		a.speech.pods = peered
		a.store.Touch() // the routes by way of them
	}
}

// stats counts what IPAM has, and the endpoints that it has no part in.
func (a *Agent) stats() ipam.Stats {
	s := a.ipam.Stats()
	s.Endpoints += a.book.Count()
	return s
}

// newPods makes what decides on pods' annotations.
func (a *Agent) newPods() {
	a.pods = pods.NewDirectory(a.client, a.store.Touch, a.log)
	a.chooser = pods.NewChooser(a.pods, a.poolsHere, func() bool { return a.currentParams().FloatingIPs }, a.log)
}
