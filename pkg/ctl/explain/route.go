package explain

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netns"

	"github.com/margay-net/margay/pkg/ctl/node"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/status"
)

// routeCommand is "explain route". It asks the agent and the kernel of the node that it runs on, and no API server.
func routeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "route PREFIX|ADDRESS",
		Short: "How this node reaches a network or an address, why, and whom it tells of it",
		Long: "Run this on a node, as root. It shows the routes that the node's agent wants, which block, pool or BGP peer each comes\n" +
			"from, whether the kernel has it, all paths that BGP peers have told, and which peers are told of the network.",
		Args:    cobra.ExactArgs(1),
		Example: "  margayctl explain route 172.20.36.128/26\n  margayctl explain route 172.20.36.130",
	}
	socket := node.SocketFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		to, err := network(args[0])
		if err != nil {
			return err
		}
		if err := node.NeedRoot(); err != nil {
			return err
		}
		found, err := status.AskWay(cmd.Context(), *socket, to)
		if err != nil {
			return err
		}
		have, err := node.KernelRoutes(netns.None())
		if err != nil {
			return fmt.Errorf("read the kernel's routes: %w", err)
		}
		return explainRoute(cmd.OutOrStdout(), to, found, have)
	}
	return cmd
}

// network reads a network, or an address as one of full length.
func network(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is neither a network nor an address: write it such as 172.20.36.128/26 or 172.20.36.129", text)
	}
	return p.Masked(), nil
}

// explainRoute says what is known of each network around one, the most specific first. have are the kernel's routes.
func explainRoute(out io.Writer, to netip.Prefix, f status.Found, have []status.Route) error {
	x := way{found: f, have: have}
	if to.IsSingleIP() {
		x.add("Address", "%s", to.Addr())
	} else {
		x.add("Network", "%s", to)
	}
	if f.Inside > 0 {
		x.add("Inside", "%s to parts of it: see margayctl node routes", count(f.Inside, "route"))
	}
	networks := x.networks(to)
	wanted := slices.ContainsFunc(networks, func(p netip.Prefix) bool { return len(x.routes(p)) > 0 })
	if !wanted {
		x.add("Route", "none of the agent's: packets go where the node's other routes lead, see ip route get")
	}
	for _, p := range networks {
		x.route(p)
		x.learned(p)
		x.announced(p)
	}
	switch own := slices.ContainsFunc(f.Announced, func(a status.Announced) bool { return a.Own || len(a.To) > 0 }); {
	case !f.BGP:
		x.add("BGP", "not spoken by this node's agent")
	case len(f.Paths) == 0 && !own:
		x.add("BGP", "no peer has told of it, and none is told (%s up)", count(f.Peers, "peer"))
	}
	return x.print(out)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// way is an explanation in the making.
type way struct {
	facts
	found status.Found
	have  []status.Route
}

// networks are those around to of which something is known, the most specific first.
func (x *way) networks(to netip.Prefix) (out []netip.Prefix) {
	for _, r := range x.found.Routes {
		out = append(out, r.Dst)
	}
	for _, p := range x.found.Paths {
		out = append(out, p.Prefix)
	}
	for _, a := range x.found.Announced {
		out = append(out, a.Prefix)
	}
	around, _ := status.Around(x.have, to)
	for _, r := range around {
		out = append(out, r.Dst)
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return b.Bits() - a.Bits() })
	return slices.Compact(out)
}

// routes are those that the agent wants to a network.
func (x *way) routes(p netip.Prefix) (out []status.Route) {
	for _, r := range x.found.Routes {
		if r.Dst == p {
			out = append(out, r)
		}
	}
	return out
}

// route says what is wanted for a network and what the kernel has.
func (x *way) route(p netip.Prefix) {
	wanted := x.routes(p)
	for _, r := range wanted {
		x.add("Route", "%s", line(r))
		x.add("", "%s", r.Why)
		if slices.ContainsFunc(x.have, func(h status.Route) bool { return node.Same(h, r) }) {
			x.add("Kernel", "has it")
		} else {
			x.add("Kernel", "does NOT have it: the agent mends that at once, see its log")
		}
	}
	for _, h := range x.have {
		if h.Dst == p && !slices.ContainsFunc(wanted, func(r status.Route) bool { return node.Same(h, r) }) {
			x.add("Kernel", "has %s, which the agent does not want", line(h))
		}
	}
}

// line is a route as "ip route" shows it.
func line(r status.Route) string {
	if r.Blackhole {
		return "blackhole " + r.Dst.String()
	}
	text := r.Dst.String()
	hop := func(via netip.Addr, dev string) {
		if via.IsValid() {
			text += " via " + via.String()
		}
		text += " dev " + dev
	}
	hop(r.Via, r.Dev)
	for _, h := range r.Others.List() {
		text += " and"
		hop(h.Via, h.Dev)
	}
	return text
}

// learned lists what peers have told of a network.
func (x *way) learned(p netip.Prefix) {
	for _, path := range x.found.Paths {
		if path.Prefix != p {
			continue
		}
		x.add("Learned", "%s from %s (%s, AS %d): %s", p, path.Peer, path.Type.Words(), path.AS, x.state(path))
		text := fmt.Sprintf("next hop %s, AS path %s", path.NextHop, numbers(path.ASPath))
		if path.Preference != 0 {
			text += fmt.Sprintf(", local preference %d", path.Preference)
		}
		if path.MED != 0 {
			text += fmt.Sprintf(", MED %d", path.MED)
		}
		if len(path.Communities) > 0 {
			text += ", communities " + strings.Join(path.Communities, " ")
		}
		x.add("", "%s", text)
	}
}

func (x *way) state(p status.Path) string {
	text := "not used: another path is better"
	switch {
	case p.Refused:
		text = "refused by a filter, or for our own AS in its path"
	case p.Used && slices.ContainsFunc(x.routes(p.Prefix), func(r status.Route) bool { return r.Proto == model.ProtoBIRD }):
		text = "used"
	case p.Used:
		text = "the best, but no route: the agent has one by itself, or cannot reach the next hop"
	}
	if p.Stale {
		text += "; stale: the peer is gone, and is waited for"
	}
	return text
}

func numbers(path []uint32) string {
	if len(path) == 0 {
		return "empty"
	}
	return strings.Trim(fmt.Sprint(path), "[]")
}

// announced says which peers are told of a network.
func (x *way) announced(p netip.Prefix) {
	for _, a := range x.found.Announced {
		if a.Prefix != p {
			continue
		}
		what := "passed on"
		if a.Own {
			what = "as its origin"
		}
		var who []string
		for _, peer := range a.To {
			who = append(who, peer.String())
		}
		if len(who) == 0 {
			x.add("Announced", "%s to nobody (%s up)", p, count(x.found.Peers, "peer"))
			continue
		}
		x.add("Announced", "%s to %d of %s that %s up, %s:", p, len(who), count(x.found.Peers, "peer"), are(x.found.Peers), what)
		for some := range slices.Chunk(who, 6) {
			x.add("", "%s", strings.Join(some, " "))
		}
	}
}

func are(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}
