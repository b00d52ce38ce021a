package explain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/address"
	"github.com/margay-net/margay/pkg/ctl/connect"
)

// Command is "explain".
func Command(o *connect.Options) *cobra.Command {
	cmd := &cobra.Command{Use: "explain", Short: "Say who has an address and why, what a pod's network is, or how a node reaches a network"}
	ip := &cobra.Command{
		Use: "ip ADDRESS", Short: "Who has this address, since when, and why", Args: cobra.ExactArgs(1),
		Example: "  margayctl explain ip 172.20.36.129",
	}
	ip.RunE = func(cmd *cobra.Command, args []string) error {
		addr, err := netip.ParseAddr(args[0])
		if err != nil {
			return fmt.Errorf("%q is no address: write it without a length, such as 172.20.36.129", args[0])
		}
		return load(cmd, o, func(_ context.Context, s *address.Snapshot, out io.Writer) error {
			return explainIP(out, s, addr.Unmap())
		})
	}
	pod := &cobra.Command{
		Use: "pod NAMESPACE/NAME", Short: "Which addresses, interface and routes a pod has, and should have", Args: cobra.ExactArgs(1),
		Example: "  margayctl explain pod default/web-1",
	}
	pod.RunE = func(cmd *cobra.Command, args []string) error {
		namespace, name, ok := strings.Cut(args[0], "/")
		if !ok {
			namespace, name = "default", args[0]
		}
		if namespace == "" || name == "" {
			return errors.New("name the pod as NAMESPACE/NAME")
		}
		return load(cmd, o, func(_ context.Context, s *address.Snapshot, out io.Writer) error {
			return explainPod(out, s, namespace, name, kernelOf)
		})
	}
	cmd.AddCommand(ip, pod, routeCommand())
	return cmd
}

func load(cmd *cobra.Command, o *connect.Options, f func(context.Context, *address.Snapshot, io.Writer) error) error {
	c, err := o.Cluster(cmd.Context())
	if err != nil {
		return err
	}
	s, err := address.Load(cmd.Context(), c)
	if err != nil {
		return err
	}
	return f(cmd.Context(), s, cmd.OutOrStdout())
}

// facts are lines of a name and a value.
type facts struct{ text strings.Builder }

func (f *facts) add(name, format string, args ...any) {
	fmt.Fprintf(&f.text, "%-12s %s\n", name, fmt.Sprintf(format, args...))
}

func (f *facts) print(out io.Writer) error {
	_, err := io.WriteString(out, f.text.String())
	return err
}
