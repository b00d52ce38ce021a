package cluster

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/connect"
)

// Command is "cluster".
func Command(o *connect.Options) *cobra.Command {
	cmd := &cobra.Command{Use: "cluster", Short: "The whole cluster: is its network well, and what helps to find a fault"}
	again := 3 * time.Second
	look := &cobra.Command{Use: "check", Short: "Look whether the cluster's network is well", Args: cobra.NoArgs}
	look.Flags().DurationVar(&again, "again", again, "How long to wait before problems are looked at once more.")
	look.RunE = run(o, func(ctx context.Context, c *connect.Cluster, out io.Writer) error {
		problems, err := check(ctx, c, out, o.Version, again)
		if err == nil && problems > 0 {
			err = errors.New("the cluster's network has problems")
		}
		return err
	})
	d := diagnosis{}
	diags := &cobra.Command{
		Use: "diags", Short: "Write an archive of what helps to find a fault", Args: cobra.NoArgs,
		Example: "  margayctl cluster diags --since=1h",
	}
	diags.Flags().DurationVar(&d.since, "since", 0, "Take logs that are not older; 0: all.")
	diags.Flags().IntVar(&d.maxLogs, "max-logs", 5, "Take logs of this many agents; 0: of all.")
	diags.Flags().StringSliceVar(&d.focus, "focus-nodes", nil, "Nodes whose logs are taken first.")
	diags.Flags().StringVar(&d.dir, "dir", os.TempDir(), "Folder to write the archive to.")
	diags.RunE = run(o, func(ctx context.Context, c *connect.Cluster, out io.Writer) error {
		d.Cluster, d.out, d.version = c, out, o.Version
		return d.collect(ctx)
	})
	cmd.AddCommand(look, diags)
	return cmd
}

func run(o *connect.Options, f func(ctx context.Context, c *connect.Cluster, out io.Writer) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		c, err := o.Open(cmd.Context()) // of whatever version: that is one of the questions
		if err != nil {
			return err
		}
		return f(cmd.Context(), c, cmd.OutOrStdout())
	}
}
