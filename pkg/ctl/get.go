package ctl

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/output"
	"github.com/margay-net/margay/pkg/ctl/resource"
)

func get(o *connect.Options) *cobra.Command {
	var in input
	var format string
	var export, aliasA bool
	cmd := &cobra.Command{
		Use:   "get (KIND [NAME...] | -f FILE)",
		Short: "Show resources",
		Long: `Show all resources of a kind, those named, or those of files as they are stored.

What -o yaml and -o json print can be given to apply and replace.`,
		Example: `  {{cmd}} get nodes -o wide
  {{cmd}} get ippool default-ipv4-ippool -o yaml
  {{cmd}} get networkpolicy -A -o custom-columns=NAMESPACE,NAME,ORDER`,
		ValidArgsFunction: in.complete(o),
	}
	in.addFlags(cmd.Flags())
	cmd.Flags().StringVarP(&format, "output", "o", "ps", "What to print: "+output.Formats+".")
	cmd.Flags().BoolVarP(&in.all, "all-namespaces", "A", false, "The resources of all namespaces.")
	cmd.Flags().BoolVarP(&aliasA, "all-namespaces-a", "a", false, "As --all-namespaces.")
	_ = cmd.Flags().MarkHidden("all-namespaces-a") // it exists
	cmd.Flags().BoolVar(&export, "export", false, "Leave out what is this cluster's alone: namespace, uid, resourceVersion, creationTimestamp; with names only.")
	return runs(cmd, func(cmd *cobra.Command, args []string) error {
		in.all = in.all || aliasA
		ctx := cmd.Context()
		var c resource.Cluster
		show, err := output.Parse(format, output.Options{
			Namespaces: in.all || in.namespace != "",
			DefaultAS:  func() string { return defaultAS(ctx, c) },
		})
		if err != nil {
			return err
		}
		targets, err := in.targets(cmd, args)
		if err != nil {
			return failure("Failed to get resources: %w", err)
		}
		if c, err = o.Cluster(ctx); err != nil {
			return err
		}
		var found []runtime.Object
		var errs []error
		for _, t := range targets {
			object, err := t.read(ctx, c)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if u, ok := object.(*unstructured.Unstructured); ok && export && len(args) > 1 {
				exported(u)
			}
			found = append(found, object)
		}
		if len(found) > 0 {
			errs = append([]error{show(cmd.OutOrStdout(), found)}, errs...)
		}
		return errors.Join(errs...)
	})
}

// read gets the target, or lists the kind.
func (t target) read(ctx context.Context, c resource.Cluster) (runtime.Object, error) {
	store := t.kind.Open(c)
	if t.name == "" {
		return store.List(ctx, t.namespace)
	}
	if t.kind.Namespaced && t.namespace == "" {
		return nil, fmt.Errorf("cannot use --all-namespaces flag for getting a single resource: name its namespace with -n")
	}
	return store.Get(ctx, t.namespace, t.name)
}

// exported takes away what is this cluster's alone.
func exported(o *unstructured.Unstructured) {
	meta, _ := o.Object["metadata"].(map[string]any)
	for _, field := range []string{"namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"} {
		delete(meta, field)
	}
}

// defaultAS is the AS number of nodes that have none of their own.
func defaultAS(ctx context.Context, c resource.Cluster) string {
	kind, err := resource.Find("BGPConfiguration")
	if err != nil {
		return "unknown"
	}
	o, err := kind.Open(c).Get(ctx, metav1.NamespaceNone, "default")
	switch {
	case apierrors.IsNotFound(err):
		return "64512"
	case err != nil:
		return "unknown"
	}
	row, err := kind.Row(o, []string{"ASNUMBER"}, nil)
	if err != nil || strings.Trim(row[0], "-") == "" {
		return "64512"
	}
	return row[0]
}
