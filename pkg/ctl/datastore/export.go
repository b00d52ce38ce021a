package datastore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/address"
	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/resource"
)

// kinds are what is exported, in Calico's order: what refers to something comes after it.
var kinds = []string{
	"IPPool", "BGPPeer", "Tier", "GlobalNetworkPolicy", "StagedGlobalNetworkPolicy", "GlobalNetworkSet", "HostEndpoint",
	"KubeControllersConfiguration", "NetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy", "NetworkSet", "Node",
	"BGPConfiguration", "FelixConfiguration", "IPReservation", "BGPFilter",
}

const (
	listEnd = "---\n"
	partEnd = "===\n"
)

var errUnlocked = errors.New("the datastore is not locked: run \"margayctl datastore migrate lock\" first")

func export(ctx context.Context, c *connect.Cluster, out io.Writer) error {
	s, err := address.Load(ctx, c)
	if err != nil {
		return err
	}
	if !s.Locked() {
		return errUnlocked
	}
	var text strings.Builder // whole or not at all: half a file looks like one
	for _, name := range kinds {
		list, err := exported(ctx, c, name)
		if err != nil {
			return err
		}
		b, err := yaml.Marshal(list.UnstructuredContent())
		if err != nil {
			return err
		}
		text.Write(b)
		text.WriteString(listEnd)
	}
	info := s.Info
	info.ManagedFields, info.Generation = nil, 0
	configs, err := address.List[v3.IPAMConfiguration](ctx, c, "IPAMConfiguration")
	if err != nil {
		return err
	}
	addresses, err := ipamOf(s, len(configs) > 0)
	if err != nil {
		return fmt.Errorf("export addresses: %w: see margayctl ipam check", err)
	}
	for _, part := range []any{info, addresses} {
		b, err := json.MarshalIndent(part, "", "  ")
		if err != nil {
			return err
		}
		text.WriteString(partEnd + string(b) + "\n")
	}
	_, err = io.WriteString(out, text.String())
	return err
}

// exported lists all objects of a kind without what only their cluster knows.
func exported(ctx context.Context, c *connect.Cluster, name string) (*unstructured.UnstructuredList, error) {
	kind, err := resource.Find(name)
	if err != nil {
		return nil, err
	}
	list, err := kind.Open(c).List(ctx, "")
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		clean(&list.Items[i])
	}
	list.SetResourceVersion("")
	return list, nil
}

func clean(o *unstructured.Unstructured) {
	meta, _, _ := unstructured.NestedMap(o.Object, "metadata")
	for _, field := range []string{
		"uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "managedFields", "selfLink", "ownerReferences",
	} {
		delete(meta, field)
	}
	o.Object["metadata"] = meta
}
