package datastore

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/address"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// ipamPart is the file's last part. Keys are paths in etcd below /calico/ipam/v2 (Calico's).
type ipamPart struct {
	Affinities []pair[affinityValue] `json:"block_affinities,omitempty"`
	Blocks     []pair[blockValue]    `json:"blocks,omitempty"`
	Handles    []pair[handleValue]   `json:"handles,omitempty"`
	Config     *pair[configValue]    `json:"config,omitempty"`
}

// pair is a key of etcd with its value. TTL is always 0.
type pair[T any] struct {
	Key   string
	Value T
	TTL   int64
}

type affinityValue struct {
	State   v3.AffinityState `json:"state"`
	Deleted bool             `json:"deleted"`
}

type handleValue struct {
	Block   map[string]int `json:"block"`
	Deleted bool           `json:"deleted"`
}

// blockValue is an IPAMBlock's spec, of which etcd has the time of the claim by another name.
type blockValue struct {
	v3.IPAMBlockSpec
	ClaimTime    *metav1.Time `json:"affinity_claim_time,omitempty"`
	HostAffinity *string      `json:"hostAffinity,omitempty"` // of very old blocks: affinity without "host:"
}

type configValue struct {
	StrictAffinity     bool       `json:"strict_affinity,omitempty"`
	AutoAllocateBlocks bool       `json:"auto_allocate_blocks,omitempty"`
	MaxBlocksPerHost   int32      `json:"maxBlocksPerHost,omitempty"`
	KubeVirt           *v3.Switch `json:"kubeVirtVMAddressPersistence,omitempty"`
	IPCooldownSeconds  int32      `json:"ipCooldownSeconds,omitempty"`
}

const root = "/calico/ipam/v2/"

// family is ipv4 or ipv6.
func family(cidr netip.Prefix) string {
	if cidr.Addr().Is6() {
		return "ipv6"
	}
	return "ipv4"
}

func dashed(cidr netip.Prefix) string { return strings.Replace(cidr.String(), "/", "-", 1) }

// ipamOf makes the part of what a cluster has. hasConfig says whether it has a configuration.
func ipamOf(s *address.Snapshot, hasConfig bool) (ipamPart, error) {
	var out ipamPart
	var errs []error
	for i := range s.Affinities {
		a := &s.Affinities[i]
		cidr, err := netip.ParsePrefix(a.Spec.CIDR)
		if err != nil {
			errs = append(errs, fmt.Errorf("block affinity %s: spec.cidr %q is no network", a.Name, a.Spec.CIDR))
			continue
		}
		kind := a.Spec.Type
		if kind == "" {
			kind = "host"
		}
		key := root + kind + "/" + a.Spec.Node + "/" + family(cidr) + "/block/" + dashed(cidr)
		out.Affinities = append(out.Affinities, pair[affinityValue]{Key: key, Value: affinityValue{a.Spec.State, a.Spec.Deleted}})
	}
	for i := range s.Blocks {
		spec := s.Blocks[i].Spec
		cidr, err := netip.ParsePrefix(spec.CIDR)
		if err != nil {
			errs = append(errs, fmt.Errorf("block %s: spec.cidr %q is no network", s.Blocks[i].Name, spec.CIDR))
			continue
		}
		v := blockValue{IPAMBlockSpec: spec, ClaimTime: spec.AffinityClaimTime}
		v.AffinityClaimTime = nil
		out.Blocks = append(out.Blocks, pair[blockValue]{Key: root + "assignment/" + family(cidr) + "/block/" + dashed(cidr), Value: v})
	}
	for i := range s.Handles {
		h := s.Handles[i].Spec
		out.Handles = append(out.Handles, pair[handleValue]{Key: root + "handle/" + h.HandleID, Value: handleValue{h.Block, h.Deleted}})
	}
	if hasConfig {
		c := s.Config
		out.Config = &pair[configValue]{Key: root + "config", Value: configValue{
			StrictAffinity: c.StrictAffinity, AutoAllocateBlocks: c.AutoAllocateBlocks, MaxBlocksPerHost: c.MaxBlocksPerHost, IPCooldownSeconds: c.IPCooldownSeconds,
			KubeVirt: c.KubeVirtVMAddressPersistence,
		}}
	}
	return out, errors.Join(errs...)
}

// blockObject makes a block of what a file has.
func blockObject(p pair[blockValue]) (*v3.IPAMBlock, error) {
	cidr, err := lastNetwork(p.Key)
	if err != nil {
		return nil, err
	}
	spec := p.Value.IPAMBlockSpec
	spec.CIDR = cidr.String()
	if spec.AffinityClaimTime == nil {
		spec.AffinityClaimTime = p.Value.ClaimTime
	}
	if old := p.Value.HostAffinity; spec.Affinity == nil && old != nil {
		affinity := block.HostAffinity(*old)
		spec.Affinity = &affinity
	}
	b := &v3.IPAMBlock{TypeMeta: typeMeta("IPAMBlock"), ObjectMeta: metav1.ObjectMeta{Name: block.Name(cidr)}, Spec: spec}
	return b, block.Check(b)
}

func affinityObject(p pair[affinityValue]) (*v3.BlockAffinity, error) {
	parts := strings.Split(strings.TrimPrefix(p.Key, root), "/") // host/NODE/ipv4/block/NETWORK
	cidr, err := lastNetwork(p.Key)
	if err != nil || len(parts) != 5 {
		return nil, fmt.Errorf("key %q is none of a block affinity: %w", p.Key, err)
	}
	kind, node := parts[0], parts[1]
	return &v3.BlockAffinity{
		TypeMeta: typeMeta("BlockAffinity"),
		ObjectMeta: metav1.ObjectMeta{
			Name: block.AffinityName(node, cidr), Labels: block.AffinityLabels(kind+":"+node, cidr.Addr().Is6()),
		},
		Spec: v3.BlockAffinitySpec{State: p.Value.State, Node: node, Type: kind, CIDR: cidr.String(), Deleted: p.Value.Deleted},
	}, nil
}

func handleObject(p pair[handleValue]) (*v3.IPAMHandle, error) {
	id, ok := strings.CutPrefix(p.Key, root+"handle/")
	if !ok || id == "" {
		return nil, fmt.Errorf("key %q is none of a handle", p.Key)
	}
	return &v3.IPAMHandle{
		TypeMeta: typeMeta("IPAMHandle"), ObjectMeta: metav1.ObjectMeta{Name: strings.ToLower(id)},
		Spec: v3.IPAMHandleSpec{HandleID: id, Block: p.Value.Block, Deleted: p.Value.Deleted},
	}, nil
}

func configObject(p pair[configValue]) *v3.IPAMConfiguration {
	v := p.Value
	return &v3.IPAMConfiguration{
		TypeMeta: typeMeta("IPAMConfiguration"), ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Spec: v3.IPAMConfigurationSpec{
			StrictAffinity: v.StrictAffinity, AutoAllocateBlocks: v.AutoAllocateBlocks, MaxBlocksPerHost: v.MaxBlocksPerHost, IPCooldownSeconds: v.IPCooldownSeconds,
			KubeVirtVMAddressPersistence: v.KubeVirt,
		},
	}
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: kind}
}

// lastNetwork reads the network at a key's end, such as 10.0.0.0-26.
func lastNetwork(key string) (netip.Prefix, error) {
	cidr, err := netip.ParsePrefix(strings.Replace(key[strings.LastIndex(key, "/")+1:], "-", "/", 1))
	if err != nil {
		return cidr, fmt.Errorf("key %q does not end in a network such as 10.0.0.0-26", key)
	}
	return cidr.Masked(), nil
}
