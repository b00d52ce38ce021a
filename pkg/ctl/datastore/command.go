package datastore

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/connect"
)

// Command is "datastore".
func Command(o *connect.Options) *cobra.Command {
	cmd := &cobra.Command{Use: "datastore", Short: "Lock the datastore, and move what is in it"}
	migrate := &cobra.Command{
		Use:   "migrate",
		Short: "Lock, export, import, unlock",
		Long: "Moves a cluster's network to another datastore: lock the old one, export it to a file, import the file into the new cluster,\n" +
			"which stays locked until it is unlocked.",
	}
	var file string
	load := &cobra.Command{
		Use: "import", Short: "Fill an empty datastore from a file of \"export\"", Args: cobra.NoArgs,
		Example: "  margayctl datastore migrate import -f datastore.yaml",
		RunE: run(o, func(ctx context.Context, c *connect.Cluster, out io.Writer) error {
			return importFile(ctx, c, out, file)
		}),
	}
	load.Flags().StringVarP(&file, "filename", "f", "", "File to import; -: standard input.")
	migrate.AddCommand(
		&cobra.Command{Use: "lock", Short: "Let addresses stand still", Args: cobra.NoArgs, RunE: run(o, lock)},
		&cobra.Command{
			Use: "export", Short: "Print all resources and addresses", Args: cobra.NoArgs, RunE: run(o, export),
			Example: "  margayctl datastore migrate export > datastore.yaml",
		},
		load,
		&cobra.Command{Use: "unlock", Short: "Let addresses be given out again", Args: cobra.NoArgs, RunE: run(o, unlock)},
	)
	cmd.AddCommand(migrate)
	return cmd
}

func run(o *connect.Options, f func(ctx context.Context, c *connect.Cluster, out io.Writer) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		c, err := o.Cluster(cmd.Context())
		if err != nil {
			return err
		}
		return f(cmd.Context(), c, cmd.OutOrStdout())
	}
}
