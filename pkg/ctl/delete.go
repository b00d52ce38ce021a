package ctl

import (
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/resource"
)

func remove(o *connect.Options) *cobra.Command {
	var in input
	var skip bool
	cmd := &cobra.Command{
		Use:   "delete (KIND NAME... | -f FILE)",
		Short: "Delete resources",
		Long: `Delete the resources that are named, or those of files. It is an error when one
does not exist, and the others are deleted all the same.`,
		Example: `  {{cmd}} delete ippool old-pool
  {{cmd}} delete -f policy.yaml --skip-not-exists`,
		ValidArgsFunction: in.complete(o),
	}
	in.addFlags(cmd.Flags())
	cmd.Flags().BoolVarP(&skip, "skip-not-exists", "s", false, "Pass over resources that do not exist.")
	return runs(cmd, func(cmd *cobra.Command, args []string) error {
		targets, err := in.targets(cmd, args)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			return errors.New("no resources specified: name what to delete")
		}
		if len(targets) == 0 {
			say(cmd.OutOrStdout(), "No resources specified\n")
			return nil
		}
		c, err := o.Cluster(cmd.Context())
		if err != nil {
			return err
		}
		var kinds []*resource.Kind
		var errs []error
		for _, t := range targets {
			kinds = append(kinds, t.kind)
			err := t.kind.Open(c).Delete(cmd.Context(), t.namespace, t.name, t.version)
			if err != nil && (!skip || !apierrors.IsNotFound(err)) {
				errs = append(errs, err)
			}
		}
		kind := single(kinds)
		switch done := len(targets) - len(errs); {
		case done > 0 && kind != "":
			say(cmd.OutOrStdout(), "Successfully deleted %d '%s' resource(s)\n", done, kind)
		case done > 0:
			say(cmd.OutOrStdout(), "Successfully deleted %d resource(s)\n", done)
		}
		return failures("delete", kind, errs)
	})
}

// failures are one line for each error, as calicoctl has them.
func failures(verb, kind string, errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	what := "resource"
	if kind != "" {
		what = "'" + kind + "' resource"
	}
	var all []string
	for _, err := range errs {
		all = append(all, fmt.Sprintf("Failed to %s %s: %v", verb, what, err))
	}
	return errors.New(strings.Join(all, "\n"))
}
