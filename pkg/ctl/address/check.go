package address

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ipam/check"
)

// checkOptions are the flags of "check".
type checkOptions struct {
	all, problems bool
	output        string
	version       string
	again         time.Duration
}

func checkCommand(o *connect.Options) *cobra.Command {
	var flags checkOptions
	var kubeconfig string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Compare allocations, handles and blocks with who uses addresses",
		Long: "Compares what IPAM has written down with the addresses that nodes, pods and Services have. When that differs, it looks again\n" +
			"after a while and tells of what differs still, and what to do about it. It changes nothing; the report that --output writes\n" +
			"is for \"ipam release --from-report\".",
		Args:    cobra.NoArgs,
		Example: "  margayctl ipam check --show-problem-ips -o report.json",
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if kubeconfig != "" { // the flag is the variable by another name
			if err := os.Setenv("CALICO_KUBECONFIG", kubeconfig); err != nil {
				return err
			}
		}
		flags.version = o.Version
		return run(o, func(ctx context.Context, c *connect.Cluster, out io.Writer) error {
			return runCheck(ctx, c, out, flags)
		})(cmd, nil)
	}
	cmd.Flags().BoolVar(&flags.all, "show-all-ips", false, "Print all addresses that are checked.")
	cmd.Flags().BoolVar(&flags.problems, "show-problem-ips", false, "Print what each problem is about.")
	cmd.Flags().StringVarP(&flags.output, "output", "o", "", "File to write a report to.")
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "Kubeconfig file to use.")
	cmd.Flags().DurationVar(&flags.again, "again", 3*time.Second, "How long to wait before problems are looked at once more.")
	return cmd
}

func runCheck(ctx context.Context, c *connect.Cluster, out io.Writer, o checkOptions) error {
	s, r, err := Compare(ctx, c, o.again)
	if err != nil {
		return err
	}
	p := &report{printer: printer{out: out}, Snapshot: s, result: r, all: o.all, problems: o.all || o.problems}
	p.print()
	if p.err != nil || o.output == "" {
		return p.err
	}
	return writeReport(o.output, s, r, o.version)
}

// Compare loads and compares; when anything differs, it does so again after a while and keeps what differs still.
func Compare(ctx context.Context, c *connect.Cluster, again time.Duration) (*Snapshot, *check.Result, error) {
	s, err := Load(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	r := check.Run(s.State)
	if len(r.Problems) == 0 || again == 0 {
		return s, r, nil
	}
	select {
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-time.After(again):
	}
	if s, err = Load(ctx, c); err != nil {
		return nil, nil, err
	}
	later := check.Run(s.State)
	later.Problems = check.Both(r.Problems, later.Problems)
	return s, later, nil
}

func writeReport(name string, s *Snapshot, r *check.Result, version string) error {
	out := check.Report{
		Version: version, ClusterGUID: s.Info.Spec.ClusterGUID, ClusterType: s.Info.Spec.ClusterType,
		ClusterInfoRevision: s.Info.ResourceVersion, DatastoreLocked: s.Locked(),
		Allocations: map[string][]*check.Allocation{}, LeakedHandles: r.IdleHandles,
	}
	for _, a := range r.Allocations {
		out.Allocations[a.IP] = append(out.Allocations[a.IP], a)
	}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
