package check

import (
	"net/netip"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// State is what the datastore says at about one moment. Objects that are marked deleted are passed over.
type State struct {
	Blocks     []v3.IPAMBlock
	Handles    []v3.IPAMHandle
	Affinities []v3.BlockAffinity
	Active     []netip.Prefix // pools that are not disabled
	Nodes      []string       // names of the nodes that there are
	Uses       []Use
	Now        time.Time
}

// Kind is what has an address.
type Kind string

// Values of Kind.
const (
	Node    Kind = "node" // one of its tunnel devices
	Pod     Kind = "pod"
	Service Kind = "service" // of type LoadBalancer
)

// Use is an address that something has.
type Use struct {
	Addr      netip.Addr // not valid: of a pod that starts or ends, whose addresses are not known yet or may be free already
	Kind      Kind
	Namespace string // of pods and Services
	Name      string // of the node, pod or Service
	Node      string // that a pod runs on
	Tunnel    string // of a node: the type that its allocation carries, such as block.TypeVXLAN4
	Label     string // as reports name the owner: Node(node1), Workload(ns/node1-k8s-pod-eth0), or a Service's name
	// Own: the pod brought the address along, IPAM has no part in it.
	Own bool
}

// Allocation is an address that a block holds, with who uses it. Its JSON is part of calicoctl's report.
type Allocation struct {
	IP                string   `json:"ip"`
	Handle            string   `json:"handle,omitempty"`
	SequenceNumber    *uint64  `json:"sequenceNumber,omitempty"`
	Pod               string   `json:"pod,omitempty"`
	Namespace         string   `json:"namespace,omitempty"`
	Node              string   `json:"node,omitempty"` // the attribute's, else the block's owner
	Type              string   `json:"type,omitempty"`
	CreationTimestamp string   `json:"creationTimestamp,omitempty"`
	InUse             bool     `json:"inUse"`
	Borrowed          bool     `json:"borrowed,omitempty"`    // Node is not the block's owner
	CoolingDown       bool     `json:"coolingDown,omitempty"` // released, and not free before a while
	Owners            []string `json:"owners"`

	Addr  netip.Addr              `json:"-"`
	Block netip.Prefix            `json:"-"`
	Attr  *v3.AllocationAttribute `json:"-"` // nil when the block lacks it
}

// Handle is a handle that holds nothing. Its JSON is part of calicoctl's report.
type Handle struct {
	ID       string
	UID      *string
	Revision string
}

// Report is calicoctl's file of "ipam check -o", which "ipam release --from-report" reads.
type Report struct {
	Version             string                   `json:"version"`
	ClusterGUID         string                   `json:"clusterGUID"`
	DatastoreLocked     bool                     `json:"datastoreLocked"`
	ClusterInfoRevision string                   `json:"clusterInformationRevision"`
	ClusterType         string                   `json:"clusterType"`
	Allocations         map[string][]*Allocation `json:"allocations"`
	LeakedHandles       []Handle                 `json:"leakedHandles,omitempty"`
}
