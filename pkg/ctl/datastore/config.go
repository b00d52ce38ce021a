package datastore

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/resource"
)

func createConfig(ctx context.Context, c *connect.Cluster, o *v3.IPAMConfiguration) error {
	kind, err := resource.Find("IPAMConfiguration")
	if err != nil {
		return err
	}
	spec := map[string]any{"strictAffinity": o.Spec.StrictAffinity, "autoAllocateBlocks": o.Spec.AutoAllocateBlocks}
	if o.Spec.MaxBlocksPerHost > 0 {
		spec["maxBlocksPerHost"] = int64(o.Spec.MaxBlocksPerHost)
	}
	if o.Spec.IPCooldownSeconds > 0 {
		spec["ipCooldownSeconds"] = int64(o.Spec.IPCooldownSeconds)
	}
	_, err = c.Kube.CreateResource(ctx, kind.Kind, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": o.APIVersion, "kind": o.Kind, "metadata": map[string]any{"name": o.Name}, "spec": spec,
	}}, false)
	if err != nil {
		return fmt.Errorf("create IPAMConfiguration default: %w", err)
	}
	return nil
}
