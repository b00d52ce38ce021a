package status

import (
	"net/netip"
	"time"

	"github.com/margay-net/margay/pkg/model"
)

// SocketPath is where the agent listens, in the folder of the CNI plugin's socket.
const SocketPath = "/var/run/margay/" + Socket

// Socket is the socket's name in its folder.
const Socket = "status.sock"

// Status is what an agent says of itself.
type Status struct {
	Node    string    `json:"node"`
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// NotReady says why no pods can be added, "" when they can. Unwell says what of the agent's own work is impossible now.
	NotReady string `json:"notReady,omitempty"`
	Unwell   string `json:"unwell,omitempty"`
	// Locked: the datastore is locked, no addresses are given out.
	Locked bool `json:"locked,omitempty"`

	Addr4   netip.Prefix `json:"addr4,omitzero"`
	Addr6   netip.Prefix `json:"addr6,omitzero"`
	Tunnel4 netip.Addr   `json:"tunnel4,omitzero"`
	Tunnel6 netip.Addr   `json:"tunnel6,omitzero"`
	PodMTU  int          `json:"podMTU"` // bytes

	Endpoints int       `json:"endpoints"`           // pods' interfaces
	Unsettled int       `json:"unsettled"`           // assignments and releases that the datastore does not know yet
	Oldest    time.Time `json:"oldest,omitzero"`     // since when the oldest of these waits
	Blocks    int       `json:"blocks"`              // owned
	Free      int       `json:"free"`                // addresses of owned blocks
	Ready     int       `json:"ready"`               // of these, what is given out without an API request
	Conflicts int       `json:"conflicts,omitempty"` // addresses that the datastore gives to somebody else

	Plan Plan `json:"plan"`

	// BGP says whether the agent speaks BGP. Peers are empty when it does not.
	BGP   bool   `json:"bgp,omitempty"`
	Peers []Peer `json:"peers,omitempty"`
}

// Plan counts what the kernel should hold by the agent's last plan.
type Plan struct {
	Made    time.Time `json:"made,omitzero"`
	Nodes   int       `json:"nodes"`
	Pools   int       `json:"pools"`
	Routes  int       `json:"routes"` // between nodes; pods' come on top
	Neighs  int       `json:"neighs"`
	FDB     int       `json:"fdb"`
	Devices int       `json:"devices"`
	Faults  []string  `json:"faults,omitempty"` // what is odd about the cluster's state or this node, a line each
}

// Route is one route that the agent wants, and why.
type Route struct {
	Dst       netip.Prefix `json:"dst"`
	Via       netip.Addr   `json:"via,omitzero"`
	Dev       string       `json:"dev,omitempty"`
	Others    model.Hops   `json:"others,omitempty"` // further next hops, each as good
	Blackhole bool         `json:"blackhole,omitempty"`
	Proto     uint8        `json:"proto"` // of the kernel's routes
	Why       string       `json:"why"`
}
