package address

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/table"
	"github.com/margay-net/margay/pkg/kube"
)

// property is one setting of IPAMConfiguration default.
type property struct {
	name  string // as tables show it
	field string // in spec
	flag  string // of "configure"; "": none
	def   string
	parse func(string) (any, error)
}

var properties = []property{
	{"StrictAffinity", "strictAffinity", "strictaffinity", "false", parseBool},
	{"AutoAllocateBlocks", "autoAllocateBlocks", "", "true", parseBool},
	{"MaxBlocksPerHost", "maxBlocksPerHost", "max-blocks-per-host", "0", parseCount},
	{"KubeVirtVMAddressPersistence", "kubeVirtVMAddressPersistence", "kubevirt-ip-persistence", "Enabled", parseSwitch},
	{"IPCooldownSeconds", "ipCooldownSeconds", "ip-cooldown-seconds", "0", parseCount},
}

func parseBool(s string) (any, error) {
	v, err := strconv.ParseBool(s)
	if err != nil {
		return nil, fmt.Errorf("%q: use true or false", s)
	}
	return v, nil
}

func parseCount(s string) (any, error) {
	v, err := strconv.ParseInt(s, 10, 32)
	if err != nil || v < 0 {
		return nil, fmt.Errorf("%q: use a number from 0 on", s)
	}
	return v, nil
}

func parseSwitch(s string) (any, error) {
	if s != "Enabled" && s != "Disabled" {
		return nil, fmt.Errorf("%q: use Enabled or Disabled", s)
	}
	return s, nil
}

func configureCommand(o *connect.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "configure",
		Short:   "Set how addresses are given out in the whole cluster",
		Args:    cobra.NoArgs,
		Example: "  margayctl ipam configure --strictaffinity=true",
	}
	values := map[string]*string{}
	for _, p := range properties {
		if p.flag != "" {
			values[p.flag] = cmd.Flags().String(p.flag, "", "Set "+p.name+".")
		}
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		set := map[string]any{}
		for _, p := range properties {
			if p.flag == "" || *values[p.flag] == "" {
				continue
			}
			v, err := p.parse(*values[p.flag])
			if err != nil {
				return fmt.Errorf("--%s %w", p.flag, err)
			}
			set[p.field] = v
		}
		if len(set) == 0 {
			return fmt.Errorf("nothing to set: name at least one flag, such as --strictaffinity=true")
		}
		return run(o, func(ctx context.Context, c *connect.Cluster, out io.Writer) error { return configure(ctx, c, out, set) })(cmd, nil)
	}
	return cmd
}

// configure sets fields, tried again when somebody else writes meanwhile.
func configure(ctx context.Context, c *connect.Cluster, out io.Writer, set map[string]any) error {
	kind, err := kindOf("IPAMConfiguration")
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		err := write(ctx, c.Kube, kind, set)
		if err == nil {
			break
		}
		if try == writeTries || !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("set IPAMConfiguration default: %w", err)
		}
	}
	p := printer{out: out}
	for _, prop := range properties {
		if v, ok := set[prop.field]; ok {
			p.line("Successfully set %s to: %v", prop.name, v)
		}
	}
	return p.err
}

func write(ctx context.Context, c *kube.Client, kind kube.Kind, set map[string]any) error {
	obj, err := c.GetResource(ctx, kind, "", "default")
	missing := apierrors.IsNotFound(err)
	if missing {
		obj = &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "projectcalico.org/v3", "kind": kind.Kind, "metadata": map[string]any{"name": "default"},
			"spec": map[string]any{"strictAffinity": false, "autoAllocateBlocks": true},
		}}
	} else if err != nil {
		return err
	}
	for field, v := range set {
		if err := unstructured.SetNestedField(obj.Object, v, "spec", field); err != nil {
			return err
		}
	}
	if missing {
		_, err = c.CreateResource(ctx, kind, obj, false)
	} else {
		_, err = c.UpdateResource(ctx, kind, obj, false)
	}
	return err
}

// showConfiguration prints all properties.
func showConfiguration(ctx context.Context, c *connect.Cluster, out io.Writer) error {
	kind, err := kindOf("IPAMConfiguration")
	if err != nil {
		return err
	}
	spec := map[string]any{}
	obj, err := c.Kube.GetResource(ctx, kind, "", "default")
	if err == nil {
		spec, _, _ = unstructured.NestedMap(obj.Object, "spec")
	} else if !apierrors.IsNotFound(err) {
		return fmt.Errorf("read IPAMConfiguration default: %w", err)
	}
	t := table.Boxed{Heading: []string{"PROPERTY", "VALUE"}}
	for _, p := range properties {
		value := p.def
		if v, ok := spec[p.field]; ok {
			value = fmt.Sprint(v)
		}
		t.Row(p.name, value)
	}
	return t.Print(out)
}
