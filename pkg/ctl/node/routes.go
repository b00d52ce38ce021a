package node

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/ctl/table"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/status"
)

func routesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "routes",
		Short: "Show the routes to pods and blocks, and why each is there",
		Long: "Compares the routes that the agent wants with those that the kernel has. A route that is \"missing\" or \"unwanted\" for more\n" +
			"than a moment is a fault: see the agent's log.",
		Args: cobra.NoArgs,
	}
	socket := SocketFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := NeedRoot(); err != nil {
			return err
		}
		want, err := status.AskRoutes(cmd.Context(), *socket)
		if err != nil {
			return err
		}
		have, err := KernelRoutes(netns.None())
		if err != nil {
			return err
		}
		return printRoutes(cmd.OutOrStdout(), want, have)
	}
	return cmd
}

// KernelRoutes are the routes of a network namespace that an agent may have made: between nodes, and to pods'
// interfaces. netns.None is the program's own.
func KernelRoutes(ns netns.NsHandle) ([]status.Route, error) {
	open := netlink.New
	if ns.IsOpen() {
		open = func() (*netlink.Conn, error) { return netlink.NewAt(ns) }
	}
	c, err := open()
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	defer c.Close()
	var out []status.Route
	names := map[int]string{}
	name := func(index int) string {
		if _, known := names[index]; !known {
			names[index] = deviceName(c, index)
		}
		return names[index]
	}
	for _, family := range netlink.Families {
		for _, proto := range []uint8{model.ProtoMargay, model.ProtoBIRD, model.ProtoBoot} {
			routes, err := c.Routes(family, proto)
			if err != nil {
				return nil, err
			}
			for _, r := range routes {
				dev := name(r.OIF)
				if proto == model.ProtoBoot && !strings.HasPrefix(dev, "cali") {
					continue
				}
				var others []model.Hop
				for _, h := range r.Others.List() {
					others = append(others, model.Hop{Dev: name(h.OIF), Via: h.Gw, OnLink: h.OnLink})
				}
				out = append(out, status.Route{
					Dst: r.Dst, Via: r.Gw, Dev: dev, Others: model.MakeHops(others), Blackhole: r.Type == unix.RTN_BLACKHOLE, Proto: proto,
				})
			}
		}
	}
	return out, nil
}

// deviceName is the name of a device of the Conn's namespace; "" when there is none.
func deviceName(c *netlink.Conn, index int) (name string) {
	if index == 0 {
		return ""
	}
	_ = c.Do(func() error { // without an answer the device is gone, and has no name
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		name, err = ifName(fd, index)
		return err
	})
	return name
}

// routeKey tells routes apart.
type routeKey struct {
	dst    netip.Prefix
	via    netip.Addr
	dev    string
	others model.Hops
	black  bool
}

func keyOf(r status.Route) routeKey { return routeKey{r.Dst, r.Via, r.Dev, r.Others, r.Blackhole} }

// Same says whether two routes send the same packets the same way.
func Same(a, b status.Route) bool { return keyOf(a) == keyOf(b) }

// printRoutes prints what is wanted, what is there, and what differs.
func printRoutes(out io.Writer, want, have []status.Route) error {
	there := map[routeKey]bool{}
	for _, r := range have {
		there[keyOf(r)] = true
	}
	type row struct {
		dst   netip.Prefix
		cells []string
	}
	var rows []row
	add := func(r status.Route, state, why string) {
		hop, dev := "-", r.Dev
		if r.Via.IsValid() {
			hop = r.Via.String()
		}
		if r.Blackhole {
			hop, dev = "blackhole", "-"
		}
		for _, h := range r.Others.List() {
			hop, dev = hop+","+h.Via.String(), dev+","+h.Dev
		}
		rows = append(rows, row{r.Dst, []string{r.Dst.String(), hop, cmp.Or(dev, "-"), state, why}})
	}
	for _, r := range want {
		state := "ok"
		if !there[keyOf(r)] {
			state = "missing"
		}
		delete(there, keyOf(r))
		add(r, state, r.Why)
	}
	for _, r := range have {
		if there[keyOf(r)] {
			add(r, "unwanted", "the agent does not know it")
		}
	}
	slices.SortStableFunc(rows, func(x, y row) int {
		return cmp.Or(cmp.Compare(x.dst.Addr().BitLen(), y.dst.Addr().BitLen()), x.dst.Compare(y.dst))
	})
	lines := [][]string{{"DESTINATION", "NEXT HOP", "DEVICE", "STATE", "WHY"}}
	for _, r := range rows {
		lines = append(lines, r.cells)
	}
	return table.Plain(out, lines)
}
