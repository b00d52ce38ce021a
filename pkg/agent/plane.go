package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/margay-net/margay/pkg/dataplane/iptables"
	"github.com/margay-net/margay/pkg/dataplane/link"
	"github.com/margay-net/margay/pkg/dataplane/neigh"
	"github.com/margay-net/margay/pkg/dataplane/nft"
	"github.com/margay-net/margay/pkg/dataplane/route"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/topology"
)

// plane is the data plane's subsystems behind the CNI server's interface.
type plane struct {
	links  *link.Links
	routes *route.Table
	neighs *neigh.Table
	nft    *nft.Table
	tables *iptables.Tables
	nat    *iptables.Switch // between the two
	log    *slog.Logger
	look   *netlink.Conn
	conns  []*netlink.Conn // of links, routes, neighs and look

	mu    sync.Mutex
	known bool                // setEndpoints was called
	gone  map[string]struct{} // endpoints that went down before, by Key: setEndpoints must not bring them back
}

func newPlane(procSys string, log *slog.Logger, m *metrics) (*plane, error) {
	p := &plane{gone: map[string]struct{}{}, log: log}
	for range 4 {
		c, err := netlink.New()
		if err != nil {
			p.close()
			return nil, fmt.Errorf("open netlink: %w", err)
		}
		p.conns = append(p.conns, c)
	}
	p.look = p.conns[3]
	p.links = link.New(p.conns[0], procSys, log, m.hooks("links"))
	p.routes = route.New(p.conns[1], log, m.hooks("routes"))
	p.neighs = neigh.New(p.conns[2], log, m.hooks("neighbours"))
	p.routes.Follow(p.neighs.Reaches, p.neighs.Kick)
	p.neighs.Follow(p.routes.Written, p.routes.Kick)
	p.nft = nft.New(p.look, log, m.hooks("nftables"))
	p.tables = iptables.New(p.look, log, m.hooks("iptables"))
	p.nat = iptables.NewSwitch(p.nft, p.tables)
	return p, nil
}

func (p *plane) close() {
	for _, c := range p.conns {
		c.Close()
	}
}

func (p *plane) run(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return p.links.Run(ctx) })
	g.Go(func() error { return p.routes.Run(ctx) })
	g.Go(func() error { return p.neighs.Run(ctx) })
	g.Go(func() error { return p.nat.Run(ctx) })
	// Pods come and go without these two.
	g.Go(func() error { return p.keep(ctx, "iptables", p.tables.Run) })
	g.Go(func() error { return p.keep(ctx, "nftables", p.nft.Run) })
}

// keep runs a part anew when it fails, until ctx ends.
func (p *plane) keep(ctx context.Context, part string, run func(context.Context) error) error {
	for ctx.Err() == nil {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			p.log.Error("part of the data plane failed; it is started again", "part", part, "err", err)
			sleep(ctx, 10*time.Second)
		}
	}
	return nil
}

// set hands over what should be; the subsystems' loops see to it. bgp is nil where the agent does not speak it.
func (p *plane) set(w topology.Wanted, bgp *learned, families link.Families, params model.Parameters) {
	p.links.SetAudit(params.LinkRefresh)
	p.routes.SetAudit(params.RouteRefresh)
	p.neighs.SetAudit(params.RouteRefresh)
	if params.IPForwarding == "Enabled" {
		p.links.SetForwarding(families)
	} else {
		p.links.SetForwarding(link.Families{})
	}
	p.links.SetVXLAN(w.VXLAN)
	if w.IPIP != nil {
		p.links.SetIPIP(w.IPIP)
	}
	if bgp != nil {
		p.routes.Set(w.Routes, bgp.routes, bgp.complete)
	} else {
		p.routes.SetCluster(w.Routes)
	}
	p.neighs.SetNeighs(w.Neighs) // after the routes: what these need no more goes when they are written
	p.neighs.SetFDB(w.FDB)
	if w.IPIP == nil {
		p.links.SetIPIP(nil) // after the routes that used it
	}
	p.nft.SetAudit(params.NFTRefresh)
	p.tables.SetAudit(params.IptablesRefresh)
	p.tables.SetBackend(iptables.Backend(params.IptablesBackend))
	p.tables.SetForward(families.V4, families.V6)
	p.nat.SetNAT(params.NFTables == "Disabled", w.NAT4, w.NAT6)
}

// dropLearned removes what BGP has told of in pools, before the node's backend was another.
func (p *plane) dropLearned(pools []model.Pool) error {
	within := make([]netip.Prefix, 0, len(pools))
	for _, pool := range pools {
		within = append(within, pool.CIDR)
	}
	return p.routes.DropLearned(within)
}

// setEndpoints hands over the endpoints that a start found, but those that went down meanwhile.
func (p *plane) setEndpoints(list []model.Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var links []link.Endpoint
	var routes []model.Route
	for _, ep := range list {
		if _, gone := p.gone[ep.Key()]; gone {
			continue
		}
		links = append(links, hostSide(ep))
		routes = append(routes, podRoutesOf(ep)...)
	}
	p.links.SetEndpoints(links)
	p.routes.SetEndpoints(routes)
	p.known, p.gone = true, nil
}

func hostSide(ep model.Endpoint) link.Endpoint {
	out := link.Endpoint{Dev: ep.HostVeth}
	for _, a := range ep.Addrs {
		if a.Is4() {
			out.Families.V4 = true
		} else {
			out.Families.V6 = true
		}
	}
	return out
}

func podRoutesOf(ep model.Endpoint) (out []model.Route) {
	for _, a := range ep.Addrs {
		out = append(out, model.Route{Dst: netip.PrefixFrom(a, a.BitLen()), Dev: ep.HostVeth, Proto: model.ProtoBoot})
	}
	return out
}

// Up makes the host side pass the pod's traffic, and returns when the kernel has it.
func (p *plane) Up(ctx context.Context, ep model.Endpoint) error {
	if err := p.links.PutEndpoint(ctx, hostSide(ep)); err != nil {
		return err
	}
	return p.routes.PutEndpoint(ctx, podRoutesOf(ep))
}

// Down removes what Up made, and the interface with it unless keepLink: then a newer sandbox of the pod may have it, or an
// ADD that is under way, whose Up comes after.
func (p *plane) Down(ctx context.Context, ep model.Endpoint, keepLink bool) error {
	p.mu.Lock()
	if !p.known {
		p.gone[ep.Key()] = struct{}{}
	}
	p.mu.Unlock()
	if keepLink {
		if !p.hasLink(ep.HostVeth) {
			p.links.DeleteEndpoint(ep.HostVeth)
		}
		return p.routes.DropEndpoint(podRoutesOf(ep))
	}
	for _, r := range podRoutesOf(ep) {
		p.routes.DeleteEndpoint(r.Dst)
	}
	p.links.DeleteEndpoint(ep.HostVeth)
	return p.links.DeleteLink(ctx, ep.HostVeth, 0)
}

// hasLink says whether the node has a device of that name. One system call: the audit asks for each pod.
func (p *plane) hasLink(name string) bool {
	index, _ := p.look.Index(name)
	return index != 0
}

// podRoutes returns the addresses that the kernel routes to pods' interfaces, with their names.
func (p *plane) podRoutes() (map[netip.Addr]string, error) {
	devs, err := net.Interfaces() // once: each look-up by index would list them all
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	names := map[int]string{}
	for _, d := range devs {
		names[d.Index] = d.Name
	}
	out := map[netip.Addr]string{}
	for _, family := range netlink.Families {
		routes, err := p.look.Routes(family, model.ProtoBoot)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if name := names[r.OIF]; strings.HasPrefix(name, "cali") && r.Dst.IsSingleIP() {
				out[r.Dst.Addr()] = name
			}
		}
	}
	return out, nil
}

// Check returns what differs from what Up made.
func (p *plane) Check(_ context.Context, ep model.Endpoint) error {
	index, up := p.look.Index(ep.HostVeth)
	if index == 0 {
		return fmt.Errorf("interface %s of pod %s/%s is gone", ep.HostVeth, ep.Namespace, ep.Pod)
	}
	var errs []error
	if !up {
		errs = append(errs, fmt.Errorf("interface %s of pod %s/%s is down", ep.HostVeth, ep.Namespace, ep.Pod))
	}
	routes, err := p.podRoutes()
	if err != nil {
		return err
	}
	for _, a := range ep.Addrs {
		if routes[a] != ep.HostVeth {
			errs = append(errs, fmt.Errorf("route to %s of pod %s/%s does not lead to %s", a, ep.Namespace, ep.Pod, ep.HostVeth))
		}
	}
	return errors.Join(errs...)
}
