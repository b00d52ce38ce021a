package ctl

import (
	"encoding/json"
	"errors"
	"fmt"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/check"
	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/manifest"
	"github.com/margay-net/margay/pkg/ctl/resource"
)

func patch(o *connect.Options) *cobra.Command {
	var in input
	var text, kind string
	cmd := &cobra.Command{
		Use:   "patch KIND NAME -p PATCH",
		Short: "Change fields of a resource",
		Long: `Change fields of a resource. The patch is JSON or YAML: of type strategic or merge
it looks as the resource, with the fields to change, and null for those to be
removed; of type json it is a list of operations as in RFC 6902. A list is
replaced as a whole.`,
		Example: `  {{cmd}} patch ippool default-ipv4-ippool -p '{"spec": {"disabled": true}}'
  {{cmd}} patch node node-0 -p '{"spec": {"bgp": {"routeReflectorClusterID": "224.0.0.1"}}}'`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: in.complete(o),
	}
	in.namespaceFlag(cmd.Flags())
	cmd.Flags().StringVarP(&text, "patch", "p", "", "The patch.")
	cmd.Flags().StringVarP(&kind, "type", "t", "strategic", "What the patch is: strategic, merge or json.")
	return runs(cmd, func(cmd *cobra.Command, args []string) error {
		targets, err := in.targets(cmd, args)
		if err != nil {
			return err
		}
		change, err := parsePatch(kind, text)
		if err != nil {
			return err
		}
		c, err := o.Cluster(cmd.Context())
		if err != nil {
			return err
		}
		t := targets[0]
		if err := resource.Retry(func() error { return t.patch(cmd, c, change) }); err != nil {
			return failures("patch", t.kind.Kind.Kind, []error{err})
		}
		say(cmd.OutOrStdout(), "Successfully patched 1 '%s' resource\n", t.kind.Kind.Kind)
		return nil
	})
}

// patch reads the target, and writes it changed, provided that nobody else has written it meanwhile.
func (t target) patch(cmd *cobra.Command, c resource.Cluster, change func(*unstructured.Unstructured) (*unstructured.Unstructured, error)) error {
	store := t.kind.Open(c)
	have, err := store.Get(cmd.Context(), t.namespace, t.name)
	if err != nil {
		return err
	}
	want, err := change(have)
	if err != nil {
		return err
	}
	if version := want.GetResourceVersion(); version != have.GetResourceVersion() {
		return fmt.Errorf("the patch is for metadata.resourceVersion %s, and it is %s: read the object again, or leave the field out", version, have.GetResourceVersion())
	}
	want.SetResourceVersion("")
	docs := []*manifest.Document{{File: "--patch", Object: want}}
	_, problems, warnings := check.Documents(cmd.Context(), c, docs, check.Options{Verb: resource.Replace, Namespace: t.namespace})
	for _, p := range warnings {
		say(cmd.ErrOrStderr(), "Warning: %v\n", p)
	}
	if len(problems) > 0 {
		return errors.New(lines(problems))
	}
	want.SetResourceVersion(have.GetResourceVersion())
	_, err = t.kind.Write(cmd.Context(), store, resource.Replace, want, false)
	return err
}

// parsePatch returns what a patch does to an object.
func parsePatch(kind, text string) (func(*unstructured.Unstructured) (*unstructured.Unstructured, error), error) {
	if text == "" {
		return nil, errors.New("no patch specified: give --patch, such as -p '{\"spec\": {\"disabled\": true}}'")
	}
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("read --patch: %w: write it as JSON or YAML", err)
	}
	var apply func([]byte) ([]byte, error)
	switch kind {
	case "strategic", "merge":
		if len(raw) == 0 || raw[0] != '{' {
			return nil, fmt.Errorf("read --patch: %s: want fields as the resource has them; of --type json it is a list of operations", text)
		}
		apply = func(have []byte) ([]byte, error) { return jsonpatch.MergePatch(have, raw) }
	case "json":
		operations, err := jsonpatch.DecodePatch(raw)
		if err != nil {
			return nil, fmt.Errorf("read --patch: %w: of --type json it is a list of operations with op, path and value", err)
		}
		apply = operations.Apply
	default:
		return nil, fmt.Errorf("--type %q is unknown: it is strategic, merge or json", kind)
	}
	return func(have *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		before, err := json.Marshal(have.Object)
		if err != nil {
			return nil, err
		}
		after, err := apply(before)
		if err != nil {
			return nil, fmt.Errorf("apply patch: %w", err)
		}
		want := &unstructured.Unstructured{}
		if err := want.UnmarshalJSON(after); err != nil {
			return nil, fmt.Errorf("apply patch: the result is no resource: %w", err)
		}
		if want.GetName() != have.GetName() || want.GetNamespace() != have.GetNamespace() || want.GetKind() != have.GetKind() {
			return nil, errors.New("apply patch: it changes kind, name or namespace: create another resource, and delete this one")
		}
		return want, nil
	}, nil
}
