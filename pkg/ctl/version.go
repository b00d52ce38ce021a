package ctl

import (
	"context"
	"fmt"
	"io"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/resource"
)

func version(o *connect.Options, b Build) *cobra.Command {
	var poll time.Duration
	var client bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show this program's version and the cluster's",
		Long: `Show this program's version and, when it can be reached, the cluster's.

Other commands refuse a cluster of another version, unless
--allow-version-mismatch is given.`,
		Args:    cobra.NoArgs,
		Example: "  {{cmd}} version\n  {{cmd}} version --client",
	}
	cmd.Flags().DurationVar(&poll, "poll", 0, "Look again after each such time, and show what has changed.")
	cmd.Flags().BoolVar(&client, "client", false, "This program's version alone.")
	return runs(cmd, func(cmd *cobra.Command, _ []string) error {
		out := cmd.OutOrStdout()
		say(out, "Client Version:    %s\n", b.Version)
		say(out, "Git commit:        %s\n", b.Commit)
		if client {
			return nil
		}
		c, err := o.Open(cmd.Context())
		if err != nil {
			return err
		}
		var shown [2]string
		for {
			err := clusterVersion(cmd.Context(), out, c, &shown)
			if poll == 0 {
				return err
			}
			if err != nil {
				say(cmd.ErrOrStderr(), "%v\n", err)
			}
			select {
			case <-cmd.Context().Done():
				return nil
			case <-time.After(poll):
			}
		}
	})
}

// clusterVersion prints what differs from what was shown.
func clusterVersion(ctx context.Context, out io.Writer, c resource.Cluster, shown *[2]string) error {
	kind, err := resource.Find("ClusterInformation")
	if err != nil {
		return err
	}
	info, err := kind.Open(c).Get(ctx, metav1.NamespaceNone, "default")
	if err != nil {
		*shown = [2]string{}
		return fmt.Errorf("unable to retrieve Cluster Version or Type: %w", err)
	}
	for i, line := range []struct{ title, field string }{{"Cluster Version:  ", "calicoVersion"}, {"Cluster Type:     ", "clusterType"}} {
		v, _, _ := unstructured.NestedString(info.Object, "spec", line.field)
		if v == "" {
			v = "unknown"
		}
		if v != shown[i] {
			say(out, "%s %s\n", line.title, v)
			shown[i] = v
		}
	}
	return nil
}
