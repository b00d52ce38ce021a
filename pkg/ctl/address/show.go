package address

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/table"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/ipam/check"
)

func showCommand(o *connect.Options) *cobra.Command {
	var ip string
	var blocks, borrowed, configuration bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show how full pools and blocks are, who has an address, or how addresses are given out",
		Args:  cobra.NoArgs,
		Example: "  margayctl ipam show --show-blocks\n" +
			"  margayctl ipam show --ip=172.20.36.129",
	}
	cmd.RunE = run(o, func(ctx context.Context, c *connect.Cluster, out io.Writer) error {
		if ip != "" {
			return showIP(ctx, c, out, ip)
		}
		s := &Snapshot{}
		if err := s.loadIPAM(ctx, c); err != nil {
			return err
		}
		switch {
		case blocks:
			return showUsage(out, s.Count(), true)
		case borrowed:
			return showBorrowed(out, check.Run(s.State))
		case configuration:
			return showConfiguration(ctx, c, out)
		}
		return showUsage(out, s.Count(), false)
	})
	cmd.Flags().StringVar(&ip, "ip", "", "Show who has this address.")
	cmd.Flags().BoolVar(&blocks, "show-blocks", false, "Show blocks beside pools.")
	cmd.Flags().BoolVar(&borrowed, "show-borrowed", false, "Show addresses that a node has of another node's block.")
	cmd.Flags().BoolVar(&configuration, "show-configuration", false, "Show the IPAM configuration.")
	return cmd
}

// showUsage prints pools, and blocks below their pool. Counts have at most five digits: 1.6777e+07 is a /8.
func showUsage(out io.Writer, pools []PoolUsage, blocks bool) error {
	t := table.Boxed{
		Heading: []string{"GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS RESERVED", "IPS FREE"},
		Right:   []int{2, 3, 4, 5},
	}
	row := func(kind string, cidr netip.Prefix, u Usage) {
		part := func(n float64) string { return fmt.Sprintf("%.5g (%.f%%)", n, 100*n/u.Total) }
		t.Row(kind, cidr.String(), fmt.Sprintf("%.5g", u.Total), part(u.InUse), part(u.Reserved), part(u.Free))
	}
	for _, p := range pools {
		if p.Pool != nil {
			row("IP Pool", p.CIDR, p.Usage)
		}
		if blocks {
			for _, b := range p.Blocks {
				row("Block", b.CIDR, b.Usage)
			}
		}
	}
	return t.Print(out)
}

func showBorrowed(out io.Writer, r *check.Result) error {
	t := table.Boxed{Heading: []string{"IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED-TO"}}
	unnamed := 0
	for _, a := range r.Allocations {
		switch {
		case a.Attr == nil || a.CoolingDown:
		case a.Attr.Secondary[block.AttrNode] == "":
			unnamed++
		case a.Borrowed && !virtual(r, a):
			kind, to := a.Type, ""
			if a.Pod != "" {
				kind, to = block.AttrPod, a.Namespace+"/"+a.Pod
			}
			t.Row(a.IP, a.Node, a.Block.String(), owner(r, a.Block), kind, to)
		}
	}
	p := printer{out: out, err: t.Print(out)}
	if unnamed > 0 {
		p.line("\nNote: found %d IP allocations without an explicit node association. Unable to determine if they are borrowed.", unnamed)
	}
	return p.err
}

// owner is the node, or the virtual owner, of a block; "" when it has none.
func owner(r *check.Result, cidr netip.Prefix) string {
	for i := range r.Blocks {
		if b := &r.Blocks[i]; b.Spec.CIDR == cidr.String() && b.Spec.Affinity != nil {
			_, name, _ := strings.Cut(*b.Spec.Affinity, ":")
			return name
		}
	}
	return ""
}

// virtual says whether an allocation is a load balancer's: what names its block's owner is no node.
func virtual(r *check.Result, a *check.Allocation) bool { return owner(r, a.Block) == a.Node }

// showIP prints who has an address.
func showIP(ctx context.Context, c *connect.Cluster, out io.Writer, text string) error {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return fmt.Errorf("--ip %q is no address: write it without a length, such as 172.20.36.129", text)
	}
	p := printer{out: out}
	b, cidr, err := blockOf(ctx, c, addr)
	if err != nil {
		return err
	}
	if b == nil || block.Attr(b, block.OrdinalOf(cidr, addr)) == nil {
		p.line("%s is not assigned", addr)
		return p.err
	}
	at := block.Attr(b, block.OrdinalOf(cidr, addr))
	handle := "<none>"
	if at.HandleID != nil {
		handle = *at.HandleID
	}
	p.line("IP %s is in use\nHandle ID: %s", addr, handle)
	if len(at.Secondary) == 0 {
		p.line("No Active Owner attributes defined")
	} else {
		p.line("Active Owner Attributes:")
	}
	var lines []string
	for k, v := range at.Secondary {
		lines = append(lines, "  "+k+": "+v)
	}
	slices.Sort(lines)
	for _, l := range lines {
		p.line("%s", l)
	}
	return p.err
}
