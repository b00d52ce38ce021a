package resource

import (
	"strings"
	"sync"

	"github.com/margay-net/margay/pkg/kube"
)

// Kinds are all kinds, by name. They are not to be changed.
var Kinds = sync.OnceValue(func() []*Kind {
	return []*Kind{
		crd("BGPConfiguration", "NAME LOGSEVERITY MESHENABLED ASNUMBER", "",
			nameColumn, at("LOGSEVERITY", "spec.logSeverityScreen", ""), at("MESHENABLED", "spec.nodeToNodeMeshEnabled", "-"), asn("ASNUMBER", "spec.asNumber", "-")),
		crd("BGPFilter", "NAME NUMEXPORTV4 NUMIMPORTV4 NUMEXPORTV6 NUMIMPORTV6", "",
			nameColumn, count("NUMEXPORTV4", "spec.exportV4"), count("NUMIMPORTV4", "spec.importV4"), count("NUMEXPORTV6", "spec.exportV6"), count("NUMIMPORTV6", "spec.importV6")),
		crd("BGPPeer", "NAME PEERIP NODE ASN", "",
			nameColumn, at("PEERIP", "spec.peerIP", ""), column{"NODE", peerNode}, asn("ASN", "spec.asNumber", "0")),
		crd("BlockAffinity", "NAME CIDR NODE STATE", "NAME CIDR NODE STATE TYPE DELETED",
			nameColumn, at("CIDR", "spec.cidr", ""), at("NODE", "spec.node", ""), at("STATE", "spec.state", ""), at("TYPE", "spec.type", "host"), at("DELETED", "spec.deleted", "false")),
		crd("CalicoNodeStatus", "NAME NODE", "NAME NODE CLASSES",
			nameColumn, at("NODE", "spec.node", ""), list("CLASSES", "spec.classes", 0)),
		crd("ClusterInformation", "NAME CLUSTERGUID CLUSTERTYPE CALICOVERSION DATASTOREREADY", "",
			nameColumn, at("CLUSTERGUID", "spec.clusterGUID", ""), at("CLUSTERTYPE", "spec.clusterType", ""), at("CALICOVERSION", "spec.calicoVersion", ""), at("DATASTOREREADY", "spec.datastoreReady", "<nil>")),
		crd("FelixConfiguration", "NAME", "", nameColumn),
		crd("GlobalNetworkPolicy", "NAME TIER", "NAME TIER ORDER SELECTOR", policyColumns...),
		crd("GlobalNetworkSet", "NAME", "NAME NETS", nameColumn, list("NETS", "spec.nets", 80)),
		crd("HostEndpoint", "NAME NODE", "NAME NODE INTERFACE IPS PROFILES",
			nameColumn, at("NODE", "spec.node", ""), at("INTERFACE", "spec.interfaceName", ""), list("IPS", "spec.expectedIPs", 0), list("PROFILES", "spec.profiles", 0)),
		crd("IPAMBlock", "NAME CIDR AFFINITY", "NAME CIDR AFFINITY ALLOCATED FREE DELETED",
			nameColumn, at("CIDR", "spec.cidr", ""), at("AFFINITY", "spec.affinity", ""), column{"ALLOCATED", allocated}, count("FREE", "spec.unallocated"), at("DELETED", "spec.deleted", "false")),
		crd("IPAMConfiguration", "NAME STRICTAFFINITY AUTOALLOCATEBLOCKS", "NAME STRICTAFFINITY AUTOALLOCATEBLOCKS MAXBLOCKSPERHOST",
			nameColumn, at("STRICTAFFINITY", "spec.strictAffinity", "false"), at("AUTOALLOCATEBLOCKS", "spec.autoAllocateBlocks", "false"), at("MAXBLOCKSPERHOST", "spec.maxBlocksPerHost", "0")),
		crd("IPAMHandle", "NAME", "NAME BLOCKS DELETED", nameColumn, list("BLOCKS", "spec.block", 80), at("DELETED", "spec.deleted", "false")),
		crd("IPPool", "NAME CIDR SELECTOR", "NAME CIDR NAT IPIPMODE VXLANMODE DISABLED DISABLEBGPEXPORT SELECTOR ASSIGNMENTMODE",
			nameColumn, at("CIDR", "spec.cidr", ""), at("NAT", "spec.natOutgoing", "false"), at("IPIPMODE", "spec.ipipMode", "Never"), at("VXLANMODE", "spec.vxlanMode", "Never"),
			at("DISABLED", "spec.disabled", "false"), at("DISABLEBGPEXPORT", "spec.disableBGPExport", "false"), at("SELECTOR", "spec.nodeSelector", ""), at("ASSIGNMENTMODE", "spec.assignmentMode", "")),
		crd("IPReservation", "NAME", "NAME CIDRS", nameColumn, list("CIDRS", "spec.reservedCIDRs", 80)),
		crd("KubeControllersConfiguration", "NAME", "", nameColumn),
		crd("NetworkPolicy", "NAME TIER", "NAME TIER ORDER SELECTOR", policyColumns...),
		crd("NetworkSet", "NAME", "NAME NETS", nameColumn, list("NETS", "spec.nets", 80)),
		crd("StagedGlobalNetworkPolicy", "NAME TIER", "NAME TIER ORDER SELECTOR", policyColumns...),
		crd("StagedKubernetesNetworkPolicy", "NAME", "NAME PODSELECTOR",
			nameColumn, column{"PODSELECTOR", podSelector}),
		crd("StagedNetworkPolicy", "NAME TIER", "NAME TIER ORDER SELECTOR", policyColumns...),
		crd("Tier", "NAME ORDER", "", nameColumn, orderColumn),
		of(computedKind("Node", "nodes", "no nos"), "NAME", "NAME ASN IPV4 IPV6", openNodes,
			nameColumn, column{"ASN", nodeASN}, at("IPV4", "spec.bgp.ipv4Address", ""), at("IPV6", "spec.bgp.ipv6Address", "")),
		of(computedKind("Profile", "profiles", "pro pros"), "NAME", "NAME LABELS", openProfiles, nameColumn, list("LABELS", "spec.labelsToApply", 0)),
		of(workloadEndpoint, "WORKLOAD NODE NETWORKS INTERFACE", "NAME WORKLOAD NODE NETWORKS INTERFACE PROFILES NATS", openEndpoints,
			nameColumn, at("WORKLOAD", "spec.pod", ""), at("NODE", "spec.node", ""), at("ORCHESTRATOR", "spec.orchestrator", ""), list("NETWORKS", "spec.ipNetworks", 0), at("INTERFACE", "spec.interfaceName", ""),
			list("PROFILES", "spec.profiles", 0), column{"NATS", nats}),
	}
})

var (
	nameColumn    = at("NAME", "metadata.name", "")
	orderColumn   = column{"ORDER", orderOf}
	policyColumns = []column{nameColumn, at("TIER", "spec.tier", "default"), orderColumn, at("SELECTOR", "spec.selector", "")}
)

// workloadEndpoint lives in a namespace, as its pod does.
var workloadEndpoint = kube.Kind{Kind: "WorkloadEndpoint", Plural: "workloadendpoints", Namespaced: true, Short: []string{"wep", "weps"}}

// crd is a kind that is kept as it is.
func crd(kind, narrow, wide string, columns ...column) *Kind {
	k, _ := kube.KindOf(kind)
	return of(k, narrow, wide, openObjects, columns...)
}

// computedKind is one that has no resource definition.
func computedKind(kind, plural, short string) kube.Kind {
	return kube.Kind{Kind: kind, Plural: plural, Short: strings.Fields(short)}
}

// of makes a kind. An empty wide means that -o wide shows no more.
func of(kind kube.Kind, narrow, wide string, open func(Cluster, *Kind) Store, columns ...column) *Kind {
	k := &Kind{Kind: kind, columns: columns, open: open, Narrow: strings.Fields(narrow), Wide: strings.Fields(wide)}
	if wide == "" {
		k.Wide = k.Narrow
	}
	if k.Namespaced {
		k.columns = append([]column{at("NAMESPACE", "metadata.namespace", "")}, columns...)
	}
	k.Names = append([]string{strings.ToLower(kind.Kind), kind.Plural}, kind.Short...)
	return k
}
