package ctl

import (
	"context"
	"errors"
	"io"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/check"
	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/manifest"
	"github.com/margay-net/margay/pkg/ctl/resource"
)

// writing is one of the commands that write files' resources.
type writing struct {
	verb        resource.Verb
	past        string
	short, long string
}

var (
	creating = writing{resource.Create, "created", "Create resources of files",
		"Create the resources of files. It is an error when one exists already."}
	applying = writing{resource.Apply, "applied", "Create or replace resources of files",
		"Create the resources of files that do not exist, and replace those that do."}
	replacing = writing{resource.Replace, "replaced", "Replace resources of files",
		"Replace the resources of files. It is an error when one does not exist."}
)

// checked is what all of these commands do first.
const checked = `

Everything is checked before anything is written, and what is wrong is told with
file, line and field.`

func write(o *connect.Options, w writing) *cobra.Command {
	var in input
	var skipExists bool
	cmd := &cobra.Command{
		Use:   string(w.verb) + " -f FILE",
		Short: w.short,
		Long:  w.long + checked,
		Args:  cobra.NoArgs,
		Example: `  {{cmd}} ` + string(w.verb) + ` -f pools.yaml
  cat policy.json | {{cmd}} ` + string(w.verb) + ` -f -`,
	}
	in.addFlags(cmd.Flags())
	if w.verb == resource.Create {
		cmd.Flags().BoolVar(&skipExists, "skip-exists", false, "Pass over resources that exist.")
	}
	return runs(cmd, func(cmd *cobra.Command, _ []string) error {
		c, items, err := in.check(cmd, o, w, skipExists)
		if err != nil || items == nil {
			return err
		}
		return save(cmd.Context(), cmd.OutOrStdout(), c, w, items, skipExists)
	})
}

func validate(o *connect.Options) *cobra.Command {
	var in input
	cmd := &cobra.Command{
		Use:   "validate -f FILE",
		Short: "Check resources of files, and write nothing",
		Long: `Check the resources of files as apply does, and write nothing. The cluster is
asked: its schema finds unknown fields, wrong types and values.`,
		Args:    cobra.NoArgs,
		Example: "  {{cmd}} validate -f pools.yaml",
	}
	in.addFlags(cmd.Flags())
	return runs(cmd, func(cmd *cobra.Command, _ []string) error {
		w := writing{verb: resource.Apply, past: "validated"}
		_, items, err := in.check(cmd, o, w, false)
		if err != nil || items == nil {
			return err
		}
		report(cmd.OutOrStdout(), w, items, len(items))
		return nil
	})
}

// check reads and checks the files. Without resources it says so and returns no items.
func (in *input) check(cmd *cobra.Command, o *connect.Options, w writing, skipExists bool) (resource.Cluster, []check.Item, error) {
	if len(in.files) == 0 {
		return nil, nil, errors.New("no resources specified: give --filename FILE, or - for the standard input")
	}
	docs, readErr := in.source(cmd).Read()
	if len(docs) == 0 && readErr == nil {
		say(cmd.OutOrStdout(), "No resources specified\n")
		return nil, nil, nil
	}
	if len(docs) == 0 {
		return nil, nil, unreadable(readErr)
	}
	c, err := o.Cluster(cmd.Context())
	if err != nil {
		return nil, nil, errors.Join(readErr, err)
	}
	items, problems, warnings := check.Documents(cmd.Context(), c, docs, check.Options{Verb: w.verb, Namespace: in.namespace, SkipExists: skipExists})
	for _, p := range warnings {
		say(cmd.ErrOrStderr(), "Warning: %v\n", p)
	}
	if problems = append(manifest.Problems(readErr), problems...); len(problems) == 0 {
		return c, items, nil
	}
	manifest.Sort(problems, docs)
	if w.past == "validated" {
		return nil, nil, failure("%s\nFailed to validate %s", lines(problems), failed(docs))
	}
	return nil, nil, failure("%s\nFailed to %s %s: nothing was written", lines(problems), w.verb, failed(docs))
}

// save writes the items in their order. What the API server refuses now, it let pass a moment ago.
func save(ctx context.Context, out io.Writer, c resource.Cluster, w writing, items []check.Item, skipExists bool) error {
	done := 0
	var errs []error
	for _, i := range items {
		_, err := i.Kind.Write(ctx, i.Kind.Open(c), w.verb, i.Object, false)
		if err != nil && (!skipExists || !apierrors.IsAlreadyExists(err)) {
			errs = append(errs, i.Problem("", err.Error()))
			continue
		}
		done++
	}
	switch {
	case len(errs) == 0:
		report(out, w, items, done)
		return nil
	case done == 0:
		return failure("Failed to %s %s: %w", w.verb, failed(documents(items)), errors.Join(errs...))
	}
	say(out, "Partial success: %s %d out of %d %s\n", w.past, done, len(items), plural(docKinds(items)))
	return failure("Hit error: %w", errors.Join(errs...))
}

// report says that all went well, as calicoctl does.
func report(out io.Writer, w writing, items []check.Item, done int) {
	if kind := single(docKinds(items)); kind != "" {
		say(out, "Successfully %s %d '%s' resource(s)\n", w.past, done, kind)
		return
	}
	say(out, "Successfully %s %d resource(s)\n", w.past, done)
}

func docKinds(items []check.Item) []*resource.Kind {
	var all []*resource.Kind
	for _, i := range items {
		all = append(all, i.Kind)
	}
	return all
}

func plural(kinds []*resource.Kind) string {
	if kind := single(kinds); kind != "" {
		return "'" + kind + "' resources"
	}
	return "resources"
}

// failed names the resources of a sentence that says that none was written.
func failed(docs []*manifest.Document) string {
	kind := docs[0].Object.GetKind()
	same := kind != "" && !slices.ContainsFunc(docs, func(d *manifest.Document) bool { return d.Object.GetKind() != kind })
	switch {
	case len(docs) == 1 && same:
		return "'" + kind + "' resource"
	case same:
		return "any '" + kind + "' resources"
	default:
		return "any resources"
	}
}

func documents(items []check.Item) []*manifest.Document {
	var all []*manifest.Document
	for _, i := range items {
		all = append(all, i.Document)
	}
	return all
}
