package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/test/apiserver"
)

// Cluster is what labs share, one after the other: an API server with our definitions and access rules, and the
// programs under test.
type Cluster struct {
	Server   *apiserver.Server
	Core     *kubernetes.Clientset
	API      *kube.Client
	Programs *Programs // under test
	any      dynamic.Interface
	dir      string
}

// Start builds the programs and runs an API server. TestMain calls it once for a package, and Stop at the end. With
// MARGAY_LAB_RACE=1 in the environment agents have the race detector in them, and tests fail when it finds something.
func Start() (*Cluster, error) { return StartIn(kube.GroupV3) }

// StartIn is Start for an API server that keeps our resources in just this group; agents find out by themselves.
func StartIn(group string) (*Cluster, error) {
	dir, err := os.MkdirTemp("", "margay-lab-bin-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, Programs: &Programs{Version: "under test", dir: filepath.Join(dir, "new")}}
	if err := c.start(group); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(group string) error {
	root, err := apiserver.Root()
	if err != nil {
		return err
	}
	if err := c.Programs.compile(root, os.Getenv("MARGAY_LAB_RACE") == "1"); err != nil {
		return err
	}
	if c.Server, err = apiserver.New(); err != nil {
		return err
	}
	config := c.Server.Config()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	kinds := []string{apiserver.CRDs, "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
	if group == kube.GroupV1 {
		if err := apiserver.InstallV1(ctx, config); err != nil {
			return err
		}
		kinds = kinds[1:]
	}
	if err := apiserver.Install(ctx, config, kinds...); err != nil {
		return err
	}
	return c.connect(ctx, group)
}

// connect makes the clients.
func (c *Cluster) connect(ctx context.Context, group string) (err error) {
	config := c.Server.Config()
	if c.Core, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if c.API, err = kube.Connect(ctx, config, group); err != nil {
		return err
	}
	c.any = c.API.Dynamic()
	return nil
}

// Stop ends the API server and removes what was built.
func (c *Cluster) Stop() error {
	var err error
	if c.Server != nil {
		err = c.Server.Stop()
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}

// resources are what a lab leaves in the API server.
var resources = strings.Fields("ippools ipamblocks ipamhandles blockaffinities ipamconfigurations felixconfigurations clusterinformations ipreservations " +
	"bgpconfigurations bgppeers bgpfilters")

// clean deletes what an earlier lab has left, and waits until lists from the API server's cache say so too.
func (c *Cluster) clean(ctx context.Context) error {
	kinds := []dynamic.ResourceInterface{c.any.Resource(schema.GroupVersionResource{Version: "v1", Resource: "nodes"})}
	for _, r := range resources {
		kinds = append(kinds, c.any.Resource(schema.GroupVersionResource{Group: v3.GroupVersion.Group, Version: v3.GroupVersion.Version, Resource: r}))
	}
	for _, k := range kinds {
		for {
			if err := k.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
				return fmt.Errorf("delete objects of earlier labs: %w", err)
			}
			list, err := k.List(ctx, metav1.ListOptions{ResourceVersion: "0"})
			if err != nil {
				return err
			}
			if len(list.Items) == 0 {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// SetIPAMConfig makes or changes the cluster's IPAM configuration.
func (l *Lab) SetIPAMConfig(spec v3.IPAMConfigurationSpec) error {
	patch, err := json.Marshal(map[string]any{
		"apiVersion": v3.GroupVersion.String(), "kind": "IPAMConfiguration", "metadata": map[string]any{"name": "default"}, "spec": spec,
	})
	if err != nil {
		return err
	}
	force := true
	_, err = l.any.Resource(v3.GroupVersion.WithResource("ipamconfigurations")).Patch(l.t.Context(), "default", types.ApplyPatchType, patch,
		metav1.PatchOptions{FieldManager: "lab", Force: &force})
	return err
}

// Deny takes the agents' right to one of our resources away, until the returned function is called.
func (l *Lab) Deny(resource string) (allow func(), err error) {
	roles := l.Core.RbacV1().ClusterRoles()
	list, err := roles.List(l.t.Context(), metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, role := range list.Items {
		rules := slices.DeleteFunc(slices.Clone(role.Rules), func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, resource) })
		if len(rules) == len(role.Rules) || role.Name != "margay-node" {
			continue
		}
		set := func(rules []rbacv1.PolicyRule) error {
			ctx, cancel := l.ctx(10 * time.Second)
			defer cancel()
			r, err := roles.Get(ctx, role.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			r.Rules = rules
			_, err = roles.Update(ctx, r, metav1.UpdateOptions{})
			return err
		}
		return sync.OnceFunc(func() {
			if err := set(role.Rules); err != nil {
				l.t.Error(err)
			}
		}), set(rules)
	}
	return nil, fmt.Errorf("deny %s: no role of the agents' has it", resource)
}
