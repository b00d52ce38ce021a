package kube

import (
	"slices"
	"strings"
)

// The groups that a cluster may keep our resources in.
const (
	GroupV3 = "projectcalico.org/v3"     // the default, and the form that callers see
	GroupV1 = "crd.projectcalico.org/v1" // that of older Calico clusters
)

// Kind is one kind of resource, by its names in projectcalico.org/v3. Node, Profile and WorkloadEndpoint are none: they
// are computed from Kubernetes' own objects.
type Kind struct {
	Kind       string   // IPPool
	Plural     string   // ippools
	Namespaced bool     // lives in a namespace
	Short      []string // ipp: what people may write for it, besides kind and plural in any case (Calico's names)

	v1Kind, v1Plural string // in crd.projectcalico.org/v1, where they differ
}

// Kinds are all kinds, by name. Nobody changes it.
var Kinds = []Kind{
	{Kind: "BGPConfiguration", Plural: "bgpconfigurations", Short: []string{"bgpconfig", "bgpconfigs"}},
	{Kind: "BGPFilter", Plural: "bgpfilters", Short: []string{"bgpf", "bgpfs", "bf", "bfs"}},
	{Kind: "BGPPeer", Plural: "bgppeers", Short: []string{"bgpp", "bgpps", "bp", "bps"}},
	{Kind: "BlockAffinity", Plural: "blockaffinities", Short: []string{"affinity", "affinities"}},
	{Kind: "CalicoNodeStatus", Plural: "caliconodestatuses", Short: []string{"nodestatus", "nodestatuses"}},
	{Kind: "ClusterInformation", Plural: "clusterinformations", Short: []string{"clusterinfo", "clusterinfos"}},
	{Kind: "FelixConfiguration", Plural: "felixconfigurations", Short: []string{"felixconfig", "felixconfigs"}},
	{Kind: "GlobalNetworkPolicy", Plural: "globalnetworkpolicies", Short: []string{"gnp", "gnps", "cgnp"}},
	{Kind: "GlobalNetworkSet", Plural: "globalnetworksets", Short: []string{"gns", "gnetsets"}},
	{Kind: "HostEndpoint", Plural: "hostendpoints", Short: []string{"hep", "heps"}},
	{Kind: "IPAMBlock", Plural: "ipamblocks"},
	{
		Kind: "IPAMConfiguration", Plural: "ipamconfigurations", Short: []string{"ipamconfig", "ipamconfigs"},
		v1Kind: "IPAMConfig", v1Plural: "ipamconfigs",
	},
	{Kind: "IPAMHandle", Plural: "ipamhandles"},
	{Kind: "IPPool", Plural: "ippools", Short: []string{"ipp", "ipps", "pool", "pools"}},
	{Kind: "IPReservation", Plural: "ipreservations", Short: []string{"reservation", "reservations"}},
	{
		Kind: "KubeControllersConfiguration", Plural: "kubecontrollersconfigurations",
		Short: []string{"kubecontrollersconfig", "kubecontrollersconfigs", "kcc", "kccs"},
	},
	{
		Kind: "NetworkPolicy", Plural: "networkpolicies", Namespaced: true,
		Short: []string{"policy", "policies", "np", "pol", "pols", "cnp", "caliconetworkpolicy"},
	},
	{Kind: "NetworkSet", Plural: "networksets", Namespaced: true, Short: []string{"netsets"}},
	{Kind: "StagedGlobalNetworkPolicy", Plural: "stagedglobalnetworkpolicies", Short: []string{"sgnp", "sgnps"}},
	{
		Kind: "StagedKubernetesNetworkPolicy", Plural: "stagedkubernetesnetworkpolicies", Namespaced: true,
		Short: []string{"stagedkubernetespolicy", "stagedkubernetespolicies", "sknp", "skpol", "skpols"},
	},
	{
		Kind: "StagedNetworkPolicy", Plural: "stagednetworkpolicies", Namespaced: true,
		Short: []string{"stagedpolicy", "stagedpolicies", "snp", "scnp", "spol", "spols"},
	},
	{Kind: "Tier", Plural: "tiers"},
}

// KindOf finds a kind by any of its names, in upper or lower case.
func KindOf(name string) (Kind, bool) {
	i := slices.IndexFunc(Kinds, func(k Kind) bool {
		return strings.EqualFold(name, k.Kind) || strings.EqualFold(name, k.Plural) ||
			slices.ContainsFunc(k.Short, func(s string) bool { return strings.EqualFold(name, s) })
	})
	if i < 0 {
		return Kind{}, false
	}
	return Kinds[i], true
}

// kindInV1 finds a kind by its name in crd.projectcalico.org/v1.
func kindInV1(name string) (Kind, bool) {
	i := slices.IndexFunc(Kinds, func(k Kind) bool { kind, _ := k.inV1(); return kind == name })
	if i < 0 {
		return Kind{}, false
	}
	return Kinds[i], true
}

// tiered says whether a policy's name in v1 may carry its tier.
func (k Kind) tiered() bool {
	return strings.HasSuffix(k.Kind, "NetworkPolicy") && k.Kind != "StagedKubernetesNetworkPolicy"
}

// inV1 is the kind's name and plural in crd.projectcalico.org/v1.
func (k Kind) inV1() (kind, plural string) {
	if k.v1Kind == "" {
		return k.Kind, k.Plural
	}
	return k.v1Kind, k.v1Plural
}
