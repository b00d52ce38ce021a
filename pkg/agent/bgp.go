package agent

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/margay-net/margay/pkg/advertise"
	"github.com/margay-net/margay/pkg/bgp"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/peering"
	"github.com/margay-net/margay/pkg/topology"
)

// speech is BGP as far as the agent does it: what the cluster says of it, and the speaker.
type speech struct {
	known     *peering.Directory
	services  *advertise.Directory
	announced []bgp.Announcement // of Services, by the last plan
	speaker   *bgp.Speaker
	pods      map[netip.Addr]string // the devices of pods with a session, by the pod's address; by the last plan
}

// newSpeech has the agent speak BGP once it runs. A node on which nothing of ours is routed yet has told no peer of
// anything that it could lose.
func (a *Agent) newSpeech() error {
	fresh := true
	for _, family := range netlink.Families {
		for _, proto := range []uint8{model.ProtoMargay, model.ProtoBIRD} {
			routes, err := a.plane.look.Routes(family, proto)
			if err != nil {
				return err
			}
			fresh = fresh && len(routes) == 0
		}
	}
	a.speech = &speech{
		known: peering.NewDirectory(a.store.Touch), services: advertise.NewDirectory(a.store.Touch),
		speaker: bgp.New(bgp.Options{Log: a.log, Hooks: a.metrics.hooks("bgp"), Fresh: fresh}),
	}
	a.bgp = newSessions(a.speech.speaker, a.born)
	return nil
}

// inSync says whether all is known that peers are told of: a restarted agent that told of less would take routes back.
func (s *speech) inSync(in advertise.Input) bool {
	if s == nil {
		return true
	}
	if !s.known.InSync() {
		return false
	}
	in.Config = s.known.Config("") // what in has may be from before it was all read
	s.services.SetRanges(in.Any())
	return s.services.InSync()
}

// serviceInput is what decides, beside the Services, which addresses of them are announced.
func (a *Agent) serviceInput() advertise.Input {
	in := advertise.Input{NodeLabels: a.store.Labels(), ClusterIPs: a.config.ClusterIPs}
	if a.speech != nil {
		in.Config = a.speech.known.Config("") // as with Calico, node.NAME does not count here
	}
	return in
}

// ofServices returns what is announced of Services; while they are being read, what was announced before.
func (s *speech) ofServices(in advertise.Input) (faults []string) {
	inSync := s.inSync(in)
	prefixes, faults := s.services.Announcements(in)
	if inSync {
		s.announced = nil
		for _, p := range prefixes {
			s.announced = append(s.announced, bgp.Announcement{Prefix: p})
		}
	}
	return faults
}

// speak speaks BGP, and makes the plan anew when peers have told of something.
func (a *Agent) speak(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return a.speech.speaker.Run(ctx) })
	g.Go(func() error {
		return kube.FollowServices(ctx, a.client, a.config.Node, a.speech.services)
	})
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-a.speech.speaker.Changed():
				a.store.Touch()
			}
		}
	})
}

// learned returns what peers have told of, but for addresses of Services: kube-proxy sees to these on each node, and a packet
// to one that no Service has would go in circles.
func (s *speech) learned(in advertise.Input) (out []topology.Learned) {
	services := in.Ranges()
	for _, p := range s.speaker.Paths() { // those of a prefix next to each other, by next hop
		if slices.ContainsFunc(services, func(r netip.Prefix) bool { return r.Bits() <= p.Prefix.Bits() && r.Contains(p.Prefix.Addr()) }) {
			continue
		}
		if n := len(out) - 1; n < 0 || out[n].Dst != p.Prefix {
			out = append(out, topology.Learned{Dst: p.Prefix, Vias: []netip.Addr{p.NextHop}})
		} else if !slices.Contains(out[n].Vias, p.NextHop) {
			out[n].Vias = append(out[n].Vias, p.NextHop)
		}
	}
	return out
}

// learned are routes that BGP has told of. Until they are complete, what an agent before this one had learned stays in the kernel.
type learned struct {
	routes   []model.Route
	complete bool
}

// talk says with whom to speak and of what. It returns what to do about what was learned, and what is wrong.
func (a *Agent) talk(w topology.Wanted, t topology.Input, complete bool) (*learned, []string) {
	s := a.speech
	services := a.serviceInput()
	faults := s.ofServices(services)
	in := peering.Input{
		Self: t.Self, Nodes: t.Nodes, Pools: t.Pools, Blocks: t.Blocks, RouterID: a.routerID(), AS: uint32(a.config.AS),
		Hold:     time.Duration(a.config.Hold) * time.Second,
		Services: s.announced, Ranges: services.Ranges(),
	}
	a.pods.WatchLabels(s.known.WithPods())
	in.Workloads = a.workloads()
	config, wrong := s.known.Build(in)
	config.LongLived = time.Duration(a.config.LongLived) * time.Second
	a.peerWithPods(config.Peers)
	out := &learned{slices.Concat(w.Learned, gateways(s.known.Gateways(in), t.Resolve)), complete}
	if s.known.InSync() { // else a password is being read, and its sessions are to stay till then
		s.speaker.Set(config)
	}
	return out, append(faults, wrong...)
}

// gateways are the routes to peers that are reached by a router of their own (reachableBy).
func gateways(via map[netip.Addr]netip.Addr, resolve func(netip.Addr) (model.Hop, bool)) (out []model.Route) {
	for peer, router := range via {
		if hop, ok := resolve(router); ok {
			out = append(out, model.Route{Dst: netip.PrefixFrom(peer, peer.BitLen()), Dev: hop.Dev, Via: hop.Via, Proto: model.ProtoBIRD})
		}
	}
	return out
}

// routerID is the node's BGP identifier as set; not valid: the node's IPv4 address.
func (a *Agent) routerID() netip.Addr {
	if a.config.RouterID == "hash" {
		return bgp.HashID(a.config.Node)
	}
	id, _ := netip.ParseAddr(a.config.RouterID)
	return id
}

// ours says whether a device is one that pods' traffic goes by: no next hop lies behind it.
func ours(dev string) bool {
	return dev == topology.VXLAN4 || dev == topology.VXLAN6 || dev == topology.IPIP4 || strings.HasPrefix(dev, "cali")
}

// resolver says how the kernel reaches next hops beyond the node's subnets; each is asked for once.
func (a *Agent) resolver() func(netip.Addr) (model.Hop, bool) {
	known := map[netip.Addr]model.Hop{}
	return func(to netip.Addr) (model.Hop, bool) {
		hop, asked := known[to]
		if !asked {
			if dev, via, ok := a.plane.look.NextHop(to); ok && !ours(dev) {
				hop = model.Hop{Dev: dev, Via: via}
				if !via.IsValid() {
					hop.Via = to
				}
			}
			known[to] = hop
		}
		return hop, hop.Dev != ""
	}
}
