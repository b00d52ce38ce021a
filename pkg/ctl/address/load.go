package address

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ipam/check"
	"github.com/margay-net/margay/pkg/kube"
)

// Snapshot is what the cluster says of its addresses, read one list after the other.
type Snapshot struct {
	check.State
	Pools         []v3.IPPool
	Reserved      []netip.Prefix           // of all IPReservations
	Config        v3.IPAMConfigurationSpec // with its defaults where there is none
	Info          v3.ClusterInformation    // empty where there is none
	LoadBalancers int                      // Services that get addresses of pools
	NodeList      []corev1.Node
	PodList       []corev1.Pod
	ServiceList   []corev1.Service
}

// Locked says whether the datastore is locked: see package datastore.
func (s *Snapshot) Locked() bool {
	return s.Info.Spec.DatastoreReady != nil && !*s.Info.Spec.DatastoreReady
}

// Load reads a snapshot. Of its lists blocks come first: who has an address by then has it in one of them, but for what an
// agent gave out in the last second.
func Load(ctx context.Context, c *connect.Cluster) (*Snapshot, error) {
	s := &Snapshot{Config: v3.IPAMConfigurationSpec{AutoAllocateBlocks: true}}
	if err := s.loadIPAM(ctx, c); err != nil {
		return nil, err
	}
	g, all := errgroup.WithContext(ctx)
	g.Go(func() error {
		list, err := c.Core.CoreV1().Nodes().List(all, metav1.ListOptions{})
		if err == nil {
			s.NodeList = list.Items
		}
		return listed("nodes", err)
	})
	g.Go(func() error {
		list, err := c.Core.CoreV1().Services("").List(all, metav1.ListOptions{})
		if err == nil {
			s.ServiceList = list.Items
		}
		return listed("services", err)
	})
	g.Go(func() error {
		list, err := c.Core.CoreV1().Pods("").List(all, metav1.ListOptions{})
		if err == nil {
			s.PodList = list.Items
		}
		return listed("pods", err)
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	assign, err := assignMode(ctx, c)
	if err != nil {
		return nil, err
	}
	s.uses(assign)
	return s, nil
}

// loadIPAM reads our own kinds.
func (s *Snapshot) loadIPAM(ctx context.Context, c *connect.Cluster) (err error) {
	if s.Blocks, err = List[v3.IPAMBlock](ctx, c, "IPAMBlock"); err != nil {
		return err
	}
	if s.Handles, err = List[v3.IPAMHandle](ctx, c, "IPAMHandle"); err != nil {
		return err
	}
	if s.Affinities, err = List[v3.BlockAffinity](ctx, c, "BlockAffinity"); err != nil {
		return err
	}
	if s.Pools, err = List[v3.IPPool](ctx, c, "IPPool"); err != nil {
		return err
	}
	reservations, err := List[v3.IPReservation](ctx, c, "IPReservation")
	if err != nil {
		return err
	}
	for _, r := range reservations {
		for _, text := range r.Spec.ReservedCIDRs {
			if p, ok := parsePrefix(text); ok {
				s.Reserved = append(s.Reserved, p)
			}
		}
	}
	for _, p := range s.Pools {
		if cidr, err := netip.ParsePrefix(p.Spec.CIDR); err == nil && !p.Spec.Disabled {
			s.Active = append(s.Active, cidr)
		}
	}
	configs, err := List[v3.IPAMConfiguration](ctx, c, "IPAMConfiguration")
	if err != nil {
		return err
	}
	for _, found := range configs {
		if found.Name == "default" {
			s.Config = found.Spec
		}
	}
	s.Info, err = Information(ctx, c)
	s.Now = time.Now()
	return err
}

// parsePrefix reads a network or a single address.
func parsePrefix(text string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked(), true
	}
	a, err := netip.ParseAddr(text)
	return netip.PrefixFrom(a, a.BitLen()), err == nil
}

// Information reads the ClusterInformation, an empty one where there is none.
func Information(ctx context.Context, c *connect.Cluster) (info v3.ClusterInformation, err error) {
	kind, err := kindOf("ClusterInformation")
	if err != nil {
		return info, err
	}
	obj, err := c.Kube.GetResource(ctx, kind, "", "default")
	if apierrors.IsNotFound(err) {
		return info, nil
	}
	if err != nil {
		return info, fmt.Errorf("read ClusterInformation default: %w", err)
	}
	err = runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &info)
	return info, err
}

// List reads all objects of one of our kinds, of all namespaces. Objects that cannot be read are an error that names them.
func List[T any](ctx context.Context, c *connect.Cluster, kind string) ([]T, error) {
	k, err := kindOf(kind)
	if err != nil {
		return nil, err
	}
	list, err := c.Kube.ListResources(ctx, k, "", metav1.ListOptions{})
	if err != nil {
		return nil, listed(k.Plural, err)
	}
	out := make([]T, len(list.Items))
	for i := range list.Items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &out[i]); err != nil {
			return nil, fmt.Errorf("read %s %s: %w", kind, list.Items[i].GetName(), err)
		}
	}
	return out, nil
}

func kindOf(name string) (kube.Kind, error) {
	k, ok := kube.KindOf(name)
	if !ok {
		return k, fmt.Errorf("find kind %s: it is not served", name)
	}
	return k, nil
}

func listed(what string, err error) error {
	if err != nil {
		return fmt.Errorf("list %s: %w", what, err)
	}
	return nil
}
