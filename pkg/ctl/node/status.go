package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/bird"
	"github.com/margay-net/margay/pkg/ctl/table"
	"github.com/margay-net/margay/pkg/status"
)

func statusCommand() *cobra.Command {
	var details bool
	var output string
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show whether the agent runs, and its BGP sessions",
		Args:    cobra.NoArgs,
		Example: "  margayctl node status --details",
	}
	socket := SocketFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := NeedRoot(); err != nil {
			return err
		}
		st, err := askStatus(cmd.Context(), *socket)
		if err != nil {
			return err
		}
		if output == "json" {
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(st)
		}
		if output != "" {
			return fmt.Errorf("-o %q is unknown: use json, or leave it out", output)
		}
		return printStatus(cmd.OutOrStdout(), st, details, time.Now())
	}
	cmd.Flags().BoolVar(&details, "details", false, "Show what the agent says of itself beside that.")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json: all that the agent says of itself.")
	return cmd
}

func askStatus(ctx context.Context, socket string) (status.Status, error) {
	st, err := status.Ask(ctx, socket)
	if errors.Is(err, status.ErrNoAgent) {
		return st, fmt.Errorf("Calico process is not running. (%w)", err) //nolint:staticcheck // calicoctl's sentence
	}
	return st, err
}

// printStatus prints what calicoctl's "node status" does; that pods cannot be added comes on top.
func printStatus(out io.Writer, st status.Status, details bool, now time.Time) error {
	var b strings.Builder
	b.WriteString("Calico process is running.\n")
	for _, line := range []struct{ what, why string }{{"Pods cannot be added: ", st.NotReady}, {"The agent cannot do its work: ", st.Unwell}} {
		if line.why != "" {
			b.WriteString(line.what + line.why + "\n")
		}
	}
	if details {
		b.WriteString("\n" + describe(st, now))
	}
	for _, six := range []bool{false, true} {
		version := 4
		if six {
			version = 6
		}
		fmt.Fprintf(&b, "\nIPv%d BGP status\n", version)
		if err := printPeers(&b, st.Peers, six, now); err != nil {
			return err
		}
	}
	b.WriteString("\n")
	_, err := io.WriteString(out, b.String())
	return err
}

func printPeers(out io.Writer, peers []status.Peer, six bool, now time.Time) error {
	t := table.Boxed{Heading: []string{"PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"}, Centre: true}
	for _, p := range slices.SortedFunc(slices.Values(peers), func(x, y status.Peer) int { return x.Addr.Compare(y.Addr) }) {
		if p.Addr.Is6() != six {
			continue
		}
		t.Row(p.Addr.String(), p.Type.Words(), p.Proto(), bird.Since(p.Since, now), strings.TrimSpace(p.State+" "+p.Info))
	}
	if len(t.Rows) == 0 {
		version := "4"
		if six {
			version = "6"
		}
		_, err := io.WriteString(out, "No IPv"+version+" peers found.\n")
		return err
	}
	return t.Print(out)
}

// describe prints what the agent says of itself, a line each.
func describe(st status.Status, now time.Time) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-20s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("Node", "%s", st.Node)
	line("Agent", "%s, process %d, runs for %s", st.Version, st.PID, now.Sub(st.Started).Round(time.Second))
	line("IPv4 address", "%s", prefix(st.Addr4))
	line("IPv6 address", "%s", prefix(st.Addr6))
	line("VXLAN addresses", "%s, %s", addr(st.Tunnel4), addr(st.Tunnel6))
	line("Pods' MTU", "%d", st.PodMTU)
	line("Pods' interfaces", "%d", st.Endpoints)
	line("Blocks", "%d, with %d free addresses, %d of them at once", st.Blocks, st.Free, st.Ready)
	waits := "nothing"
	if st.Unsettled > 0 {
		waits = fmt.Sprintf("%d, the oldest for %s", st.Unsettled, now.Sub(st.Oldest).Round(time.Second))
	}
	line("To be written", "%s", waits)
	if st.Conflicts > 0 {
		line("Conflicts", "%d addresses that the datastore gives to somebody else", st.Conflicts)
	}
	p := st.Plan
	line("Last plan", "%s ago: %d nodes, %d pools; %d routes, %d neighbours, %d FDB entries, %d devices",
		cmp.Or(now.Sub(p.Made).Round(time.Second), 0), p.Nodes, p.Pools, p.Routes, p.Neighs, p.FDB, p.Devices)
	for _, f := range p.Faults {
		line("Fault", "%s", f)
	}
	for _, p := range st.Peers {
		line("Peer "+p.Addr.String(), "%s", describePeer(p, now))
	}
	return b.String()
}

// describePeer is what the table of sessions has no room for.
func describePeer(p status.Peer, now time.Time) string {
	text := fmt.Sprintf("AS %d, %d paths, %d sessions so far, %d UPDATEs in and %d out", p.AS, p.Received, p.Sessions, p.UpdatesIn, p.UpdatesOut)
	if p.Restarting {
		text += "; it is gone without a word, and its routes are kept for now"
	}
	if p.Reason != "" && !p.At.IsZero() {
		text += fmt.Sprintf("; %s ago: %s", now.Sub(p.At).Round(time.Second), p.Reason)
	}
	return text
}

func prefix(p netip.Prefix) string {
	if !p.IsValid() {
		return "none"
	}
	return p.String()
}

func addr(a netip.Addr) string {
	if !a.IsValid() {
		return "none"
	}
	return a.String()
}
