package address

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/kube"
)

func splitCommand(o *connect.Options) *cobra.Command {
	var cidr, name string
	cmd := &cobra.Command{
		Use:   "split NUMBER",
		Short: "Make smaller pools of one",
		Long: "Makes of a pool a number (a power of two) of pools that share its network equally. Addresses in use stay; blocks lie in the\n" +
			"new pools as they did in the old one. The datastore has to be locked meanwhile.",
		Args:    cobra.ExactArgs(1),
		Example: "  margayctl ipam split 4 --cidr=172.20.0.0/16",
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return fmt.Errorf("number of pools %q is no number", args[0])
		}
		if cidr == "" && name == "" {
			return errors.New("no pool is named: use --cidr=NETWORK or --name=NAME")
		}
		return run(o, func(ctx context.Context, c *connect.Cluster, out io.Writer) error {
			return split(ctx, c, out, cidr, name, n)
		})(cmd, nil)
	}
	cmd.Flags().StringVar(&cidr, "cidr", "", "Network of the pool to split.")
	cmd.Flags().StringVar(&name, "name", "", "Name of the pool to split.")
	return cmd
}

func split(ctx context.Context, c *connect.Cluster, out io.Writer, cidr, name string, n int) error {
	s := &Snapshot{}
	if err := s.loadIPAM(ctx, c); err != nil {
		return err
	}
	if !s.Locked() {
		return errors.New("the datastore is not locked: run \"margayctl datastore migrate lock\" first, and unlock it afterwards")
	}
	kind, err := kindOf("IPPool")
	if err != nil {
		return err
	}
	old, err := findPool(ctx, c.Kube, kind, cidr, name)
	if err != nil {
		return err
	}
	text, _, _ := unstructured.NestedString(old.Object, "spec", "cidr")
	size, _, _ := unstructured.NestedInt64(old.Object, "spec", "blockSize")
	parts, err := splitCIDR(text, int(size), n)
	if err != nil {
		return fmt.Errorf("split pool %s: %w", old.GetName(), err)
	}
	// The new pools overlap the old one, so that no address is ever without a pool; a locked datastore gives out none.
	if err := unstructured.SetNestedField(old.Object, true, "spec", "disabled"); err != nil {
		return err
	}
	if old, err = c.Kube.UpdateResource(ctx, kind, old, false); err != nil {
		return fmt.Errorf("disable pool %s: %w", name, err)
	}
	p := printer{out: out}
	lines := ""
	for i, part := range parts {
		made := partPool(old, i, part)
		if _, err := c.Kube.CreateResource(ctx, kind, made, false); err != nil {
			return fmt.Errorf("make pool %s: %w: delete the pools split-%s-* and enable %[3]s again, or make the rest by hand", made.GetName(), err, old.GetName())
		}
		lines += fmt.Sprintf("Created %s with CIDR %s.\n", made.GetName(), part)
	}
	if err := c.Kube.DeleteResource(ctx, kind, "", old.GetName(), metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete pool %s, which is split now: %w", old.GetName(), err)
	}
	p.text("IP Pool %s was successfully split into %d smaller pools.\n%s", old.GetName(), n, lines)
	p.line("Unlock the datastore now: margayctl datastore migrate unlock")
	return p.err
}

func findPool(ctx context.Context, c *kube.Client, kind kube.Kind, cidr, name string) (*unstructured.Unstructured, error) {
	if name != "" {
		p, err := c.GetResource(ctx, kind, "", name)
		if err != nil {
			return nil, fmt.Errorf("find pool %s: %w", name, err)
		}
		return p, nil
	}
	list, err := c.ListResources(ctx, kind, "", metav1.ListOptions{})
	if err != nil {
		return nil, listed(kind.Plural, err)
	}
	for i := range list.Items {
		if have, _, _ := unstructured.NestedString(list.Items[i].Object, "spec", "cidr"); have == cidr {
			return &list.Items[i], nil
		}
	}
	return nil, fmt.Errorf("find pool of network %s: there is none with just this spec.cidr", cidr)
}

// partPool is the nth part of a pool, enabled.
func partPool(old *unstructured.Unstructured, n int, cidr netip.Prefix) *unstructured.Unstructured {
	name := old.GetName()
	spec, _, _ := unstructured.NestedMap(old.Object, "spec")
	spec["cidr"] = cidr.String()
	delete(spec, "disabled")
	out := &unstructured.Unstructured{Object: map[string]any{"apiVersion": old.GetAPIVersion(), "kind": old.GetKind(), "spec": spec}}
	out.SetName(fmt.Sprintf("split-%s-%d", name[:min(len(name), 240)], n))
	out.SetLabels(old.GetLabels())
	return out
}

// splitCIDR cuts a network into n equal parts that are no smaller than a block. blockSize 0 is the family's default.
func splitCIDR(text string, blockSize, n int) ([]netip.Prefix, error) {
	cidr, err := netip.ParsePrefix(text)
	if err != nil {
		return nil, fmt.Errorf("spec.cidr %q is no network", text)
	}
	if n < 2 || n&(n-1) != 0 {
		return nil, fmt.Errorf("into %d: use a power of two from 2 on", n)
	}
	if blockSize == 0 {
		blockSize = 26
		if cidr.Addr().Is6() {
			blockSize = 122
		}
	}
	length := cidr.Bits() + bits.Len(uint(n)) - 1
	if length > blockSize {
		return nil, fmt.Errorf("into %d: each part would be smaller than a block of /%d: use at most %d", n, blockSize, 1<<(blockSize-cidr.Bits()))
	}
	out := make([]netip.Prefix, n)
	for i := range out {
		out[i] = block.Nth(cidr, length, uint64(i))
	}
	return out, nil
}
