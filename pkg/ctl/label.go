package ctl

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/resource"
)

func label(o *connect.Options) *cobra.Command {
	var in input
	var overwrite, removed bool
	cmd := &cobra.Command{
		Use:   "label KIND NAME (KEY=VALUE | KEY --remove)",
		Short: "Set or remove a label of a resource",
		Long: `Set a label of a resource, or remove it.

Labels of a node that are set here stand in its annotation
projectcalico.org/labels; those that kubectl sets are above them.`,
		Example: `  {{cmd}} label node node-1 rack=a
  {{cmd}} label node node-1 rack=b --overwrite
  {{cmd}} label node node-1 rack --remove`,
		Args:              cobra.ExactArgs(3),
		ValidArgsFunction: in.complete(o),
	}
	in.namespaceFlag(cmd.Flags())
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "Change the value if the label is there already.")
	cmd.Flags().BoolVar(&removed, "remove", false, "Remove the label.")
	return runs(cmd, func(cmd *cobra.Command, args []string) error {
		targets, err := in.targets(cmd, args[:2])
		if err != nil {
			return err
		}
		l, err := parseLabel(args[2], removed)
		if err != nil {
			return err
		}
		c, err := o.Cluster(cmd.Context())
		if err != nil {
			return err
		}
		t, who, done := targets[0], args[0]+" "+args[1], ""
		store := t.kind.Open(c)
		err = resource.Retry(func() error {
			have, err := store.Get(cmd.Context(), t.namespace, t.name)
			if err != nil {
				return failure("Failed to get %s, error %w", who, err)
			}
			if done, err = l.change(have, who, overwrite); err != nil {
				return err
			}
			if _, err := t.kind.Write(cmd.Context(), store, resource.Replace, have, false); err != nil {
				return failure("Failed to update %s, label not changed: %w", who, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		say(cmd.OutOrStdout(), "%s\n", done)
		return nil
	})
}

// change is one label to be set, or removed when it has no value.
type change struct {
	key   string
	value *string
}

func parseLabel(text string, removed bool) (change, error) {
	key, value, set := strings.Cut(text, "=")
	if set == removed {
		return change{}, fmt.Errorf("invalid label %s: write KEY=VALUE, or KEY with --remove", text)
	}
	if wrong := validation.IsQualifiedName(key); len(wrong) > 0 {
		return change{}, fmt.Errorf("invalid label %s: key %q: %s", text, key, strings.Join(wrong, "; "))
	}
	if removed {
		return change{key: key}, nil
	}
	if wrong := validation.IsValidLabelValue(value); len(wrong) > 0 {
		return change{}, fmt.Errorf("invalid label %s: value %q: %s", text, value, strings.Join(wrong, "; "))
	}
	return change{key, &value}, nil
}

// change does it to an object, and says what was done.
func (l change) change(o *unstructured.Unstructured, who string, overwrite bool) (string, error) {
	if _, theirs := resource.KubernetesLabels(o)[l.key]; theirs {
		return "", failure("Failed to update label of %s, key %s is Kubernetes' own: use kubectl label", who, l.key)
	}
	labels := o.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	defer func() { o.SetLabels(labels) }()
	old, there := labels[l.key]
	switch {
	case l.value == nil && !there:
		return "", fmt.Errorf("cannot remove label of %s, key %s does not exist", who, l.key)
	case l.value == nil:
		delete(labels, l.key)
		return fmt.Sprintf("Successfully removed label %s from %s", l.key, who), nil
	case there && !overwrite && old != *l.value:
		return "", fmt.Errorf("failed to update label of %s, key %s is already present. please use '--overwrite' to set a new value", who, l.key)
	}
	labels[l.key] = *l.value
	if there {
		return fmt.Sprintf("Successfully updated label %s on %s", l.key, who), nil
	}
	return fmt.Sprintf("Successfully set label %s on %s", l.key, who), nil
}
