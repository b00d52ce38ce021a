package ipam

import (
	"errors"
	"net/netip"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/model"
)

// Pool is a pool that this node may take addresses from.
type Pool = model.Pool

// Config is the cluster's IPAM configuration.
type Config = model.IPAMConfig

// Request asks for the addresses of one endpoint, one of each family that has a pool.
type Request struct {
	model.Endpoint
	// Pools are those that the endpoint may take addresses of, in order of preference; nil: all that give addresses without
	// being asked for. (As in Calico an own block with room comes before a new block of whatever pool.) A family without a
	// pool in it gets no address. They may be manual or have a namespace selector: who chose them has decided that.
	Pools []Pool
	// Addrs are static addresses, at most one of each family: just these, or an error. Pools is not looked at then.
	Addrs []netip.Addr
}

// Assignment is an endpoint with its addresses, or one of the node's tunnels with its own, as the journal keeps it.
type Assignment struct {
	model.Endpoint
	Tunnel   string         `json:"tunnel,omitempty"` // of a tunnel: the attribute that says which, such as TypeVXLAN4
	Handle   string         `json:"handle"`
	Since    time.Time      `json:"since"`
	Active   bool           `json:"active,omitempty"`   // the endpoint's routes stand
	Released bool           `json:"released,omitempty"` // the pod is gone
	Settled  bool           `json:"settled,omitempty"`  // the datastore has it: blocks and handle
	unseen   bool           // the datastore has never heard of it
	taking   bool           // its static addresses are being taken just now
	ended    time.Time      // when this process heard of its release
	handle   *v3.IPAMHandle // as this process made it; nil: to be read before it is deleted
}

// secondary returns the attributes that say whose the addresses are.
func (a *Assignment) secondary(node string) map[string]string {
	if a.Tunnel != "" {
		return map[string]string{block.AttrNode: node, block.AttrType: a.Tunnel, block.AttrTimestamp: a.Since.UTC().Format(timestampFormat)}
	}
	return map[string]string{
		block.AttrPod: a.Pod, block.AttrNamespace: a.Namespace, block.AttrNode: node,
		block.AttrTimestamp: a.Since.UTC().Format(timestampFormat),
	}
}

// timestampFormat is how Calico writes the time of an allocation.
const timestampFormat = "2006-01-02 15:04:05.999999999 -0700 MST"

// Errors of Assign. ErrExists: the endpoint has its addresses and lives. ErrBusy: another ADD of it is under way.
// ErrNotReady: the datastore has not been read yet. ErrNoPool: no pool is enabled for pods. ErrFull: no free address.
// ErrUnknown: there is no such endpoint.
var (
	ErrExists   = errors.New("endpoint exists already")
	ErrBusy     = errors.New("another ADD of this endpoint is under way")
	ErrNotReady = errors.New("the datastore has not been read yet")
	ErrNoPool   = errors.New("no IP pool is enabled for pods")
	ErrFull     = errors.New("no free address")
	ErrUnknown  = errors.New("no such endpoint")
	// Of static addresses: somebody has it; it is in no enabled pool with use Workload.
	ErrInUse      = errors.New("address is in use")
	ErrNoSuchPool = errors.New("address is in no enabled IP pool for pods")
)

// Released is what Release did: the endpoint that ended, and whether there was one.
type Released struct {
	model.Endpoint
	Found bool
}

// Stats counts what operators look at.
type Stats struct {
	Endpoints int       // pods' interfaces with addresses
	Unsettled int       // endpoints and releases that the datastore does not know yet
	Blocks    int       // blocks owned
	Free      int       // free addresses of owned blocks
	Ready     int       // of these, what can be handed out without an API request
	Borrowed  int       // addresses of this node in blocks that are not its own
	Lent      int       // addresses of own blocks that live on other nodes
	Conflicts int       // addresses that the datastore gives to somebody else
	Oldest    time.Time // since when the oldest unsettled one waits
}
