package address

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/connect"
)

// Command is "ipam".
func Command(o *connect.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ipam",
		Short: "Addresses: who has them, what is wrong with them, how they are given out",
		Long: "Looks at pools, blocks and addresses, compares them with who uses them, releases what leaked, and sets how addresses are\n" +
			"given out.",
	}
	cmd.AddCommand(showCommand(o), checkCommand(o), releaseCommand(o), configureCommand(o), splitCommand(o), mapCommand(o))
	return cmd
}

// run opens the cluster, and hands it over with the place to print to.
func run(o *connect.Options, f func(ctx context.Context, c *connect.Cluster, out io.Writer) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		c, err := o.Cluster(cmd.Context())
		if err != nil {
			return err
		}
		return f(cmd.Context(), c, cmd.OutOrStdout())
	}
}
