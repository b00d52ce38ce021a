package ctl

import (
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/manifest"
	"github.com/margay-net/margay/pkg/ctl/output"
	"github.com/margay-net/margay/pkg/ctl/resource"
)

func convert(*connect.Options) *cobra.Command {
	var in input
	var format string
	cmd := &cobra.Command{
		Use:   "convert -f FILE",
		Short: "Print resources of files in the form of " + resource.APIVersion,
		Long: `Print the resources of files, of crd.projectcalico.org/v1 or projectcalico.org/v3,
in the form of projectcalico.org/v3, which apply takes. The cluster is not asked.`,
		Args:    cobra.NoArgs,
		Example: "  kubectl get ippools.crd.projectcalico.org -o yaml | {{cmd}} convert -f -",
	}
	in.fileFlags(cmd.Flags())
	cmd.Flags().StringVarP(&format, "output", "o", "yaml", "What to print: yaml or json.")
	return runs(cmd, func(cmd *cobra.Command, _ []string) error {
		if format != "yaml" && format != "json" {
			return fmt.Errorf("unrecognized output format '%s': it is yaml or json", format)
		}
		if len(in.files) == 0 {
			return errors.New("no resources specified: give --filename FILE, or - for the standard input")
		}
		docs, err := in.read(cmd)
		if err != nil {
			return err
		}
		var converted []runtime.Object
		var problems []*manifest.Problem
		for _, d := range docs {
			if p := toV3(d); p != nil {
				problems = append(problems, p)
				continue
			}
			converted = append(converted, d.Object)
		}
		if len(problems) > 0 {
			return failure("Failed to execute command:\n%s", lines(problems))
		}
		show, err := output.Parse(format, output.Options{})
		if err != nil {
			return err
		}
		return show(cmd.OutOrStdout(), converted)
	})
}

const (
	apiVersionV1 = "crd.projectcalico.org/v1"
	metadataV1   = "projectcalico.org/metadata" // the annotation of a v1 object that holds the v3 object's metadata
)

// toV3 makes a v3 object of one of the v1 group: the kind's name, the metadata of the annotation, and a switch that v1
// has as text.
func toV3(d *manifest.Document) *manifest.Problem {
	o := d.Object
	if o.GetAPIVersion() == apiVersionV1 {
		if o.GetKind() == "IPAMConfig" {
			o.SetKind("IPAMConfiguration")
		}
		o.SetAPIVersion(resource.APIVersion)
		if p := metadataToV3(d); p != nil {
			return p
		}
		if deleted, _, _ := unstructured.NestedString(o.Object, "spec", "deleted"); deleted != "" {
			_ = unstructured.SetNestedField(o.Object, deleted == "true", "spec", "deleted") // spec is a map: deleted is in it
		}
	}
	if _, err := resource.Of(o.GetAPIVersion(), o.GetKind()); err != nil {
		return d.Problem("kind", err.Error())
	}
	return nil
}

func metadataToV3(d *manifest.Document) *manifest.Problem {
	o := d.Object
	kept := map[string]any{}
	annotations := o.GetAnnotations()
	if text := annotations[metadataV1]; text != "" {
		if err := json.Unmarshal([]byte(text), &kept); err != nil {
			return d.Problem("metadata.annotations["+metadataV1+"]", "is no JSON: "+err.Error())
		}
	}
	delete(annotations, metadataV1)
	meta := map[string]any{"name": o.GetName()}
	if ns := o.GetNamespace(); ns != "" {
		meta["namespace"] = ns
	}
	for _, field := range []string{"name", "labels", "annotations"} {
		if v, ok := kept[field]; ok && v != "" {
			meta[field] = v
		}
	}
	own := &unstructured.Unstructured{Object: map[string]any{"metadata": meta}}
	if own.GetLabels() == nil && len(o.GetLabels()) > 0 {
		own.SetLabels(o.GetLabels())
	}
	if own.GetAnnotations() == nil && len(annotations) > 0 {
		own.SetAnnotations(annotations)
	}
	o.Object["metadata"] = own.Object["metadata"]
	return nil
}
