package ctl

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/margay-net/margay/pkg/ctl/check"
	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/manifest"
	"github.com/margay-net/margay/pkg/ctl/resource"
)

// input says which resources a command is about.
type input struct {
	files     []string
	recursive bool
	skipEmpty bool
	namespace string
	all       bool // namespaces
}

func (in *input) addFlags(fs *pflag.FlagSet) {
	in.fileFlags(fs)
	in.namespaceFlag(fs)
}

func (in *input) fileFlags(fs *pflag.FlagSet) {
	fs.StringArrayVarP(&in.files, "filename", "f", nil, "File or folder of resources in YAML or JSON; - for the standard input.")
	fs.BoolVarP(&in.recursive, "recursive", "R", false, "Look into the folder's folders, too.")
	fs.BoolVar(&in.skipEmpty, "skip-empty", false, "Files without any resource are no error.")
}

func (in *input) namespaceFlag(fs *pflag.FlagSet) {
	fs.StringVarP(&in.namespace, "namespace", "n", "", "Namespace of the resources.")
}

// target is one resource, or all of a kind when it has no name.
type target struct {
	kind            *resource.Kind
	namespace, name string
	version         string // of a document
}

// targets are the resources that a command line or its files name.
func (in *input) targets(cmd *cobra.Command, args []string) ([]target, error) {
	if in.all && in.namespace != "" {
		return nil, errors.New("cannot use both --namespace and --all-namespaces flags at the same time")
	}
	if len(in.files) > 0 {
		if len(args) > 0 {
			return nil, errors.New("give either KIND and NAME or --filename, not both")
		}
		return in.fileTargets(cmd)
	}
	if len(args) == 0 {
		return nil, errors.New("no resources specified: give KIND and NAME, or --filename")
	}
	kind, err := resource.Find(args[0])
	if err != nil {
		return nil, err
	}
	t := target{kind: kind, namespace: in.namespace}
	switch {
	case kind.Namespaced && !in.all && in.namespace == "":
		t.namespace = "default"
	case !kind.Namespaced && (in.all || in.namespace != ""):
		return nil, fmt.Errorf("%s is not namespaced: leave out --namespace and --all-namespaces", kind.Kind.Kind)
	}
	if len(args) == 1 {
		return []target{t}, nil
	}
	var all []target
	for _, name := range args[1:] {
		if name == "" {
			return nil, errors.New("resource name may not be empty")
		}
		t.name = name
		all = append(all, t)
	}
	return all, nil
}

func (in *input) fileTargets(cmd *cobra.Command) ([]target, error) {
	docs, err := in.read(cmd)
	if err != nil {
		return nil, err
	}
	items, problems := check.Identify(docs, in.namespace)
	if len(problems) > 0 {
		return nil, failure("Failed to execute command:\n%s", lines(problems))
	}
	var all []target
	for _, i := range items {
		all = append(all, target{kind: i.Kind, namespace: i.Object.GetNamespace(), name: i.Object.GetName(), version: i.Object.GetResourceVersion()})
	}
	return all, nil
}

// source is where the files' resources are read from.
func (in *input) source(cmd *cobra.Command) manifest.Source {
	return manifest.Source{Names: in.files, Recursive: in.recursive, SkipEmpty: in.skipEmpty, Stdin: cmd.InOrStdin()}
}

// read returns the documents of the files, all of which can be read.
func (in *input) read(cmd *cobra.Command) ([]*manifest.Document, error) {
	docs, err := in.source(cmd).Read()
	if err != nil {
		return nil, unreadable(err)
	}
	return docs, nil
}

func unreadable(err error) error {
	return failure("Failed to execute command:\n%s", lines(manifest.Problems(err)))
}

func lines(problems []*manifest.Problem) string {
	var all []string
	for _, p := range problems {
		all = append(all, p.Error())
	}
	return strings.Join(all, "\n")
}

// single is the kind of all targets, or "".
func single(kinds []*resource.Kind) string {
	if len(kinds) == 0 || slices.ContainsFunc(kinds, func(k *resource.Kind) bool { return k != kinds[0] }) {
		return ""
	}
	return kinds[0].Kind.Kind
}

// runs gives a command its function, and writes its examples for the name that the program was called by.
func runs(cmd *cobra.Command, run func(*cobra.Command, []string) error) *cobra.Command {
	cmd.RunE = run
	usage := cmd.UsageFunc()
	example := cmd.Example
	cmd.SetUsageFunc(func(c *cobra.Command) error {
		c.Example = strings.ReplaceAll(example, "{{cmd}}", strings.TrimSuffix(c.CommandPath(), " "+c.Name()))
		return usage(c)
	})
	return cmd
}

// complete offers kinds, then the kind's names.
func (in *input) complete(o *connect.Options) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		var all []string
		if len(args) == 0 {
			for _, k := range resource.Kinds() {
				all = append(all, k.Plural)
			}
			return all, cobra.ShellCompDirectiveNoFileComp
		}
		targets, err := in.targets(cmd, args[:1])
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		c, err := o.Open(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		l, err := targets[0].kind.Open(c).List(cmd.Context(), targets[0].namespace)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		for i := range l.Items {
			if name := l.Items[i].GetName(); !slices.Contains(args[1:], name) {
				all = append(all, name)
			}
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}
