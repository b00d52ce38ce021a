package collect

import (
	"net/netip"
	"time"
)

// Held is one address of a Release, as it was judged.
type Held struct {
	Block   string // name
	CIDR    netip.Prefix
	Ordinal int32
	Addr    netip.Addr
	Seq     uint64
	Why     Why
	Alloc   Alloc // as it was, to judge it again
}

// Release asks for all addresses of a handle to be given back, or for one of a tunnel that has another now.
type Release struct {
	Handle  string
	Held    []Held
	Since   time.Time // since when it has been left over
	NodeUID string    // of the node as it was when this was planned; "": there was none
	AtOnce  bool      // without a grace period, since the node is another one now
}

// Empty asks for an empty block to be given back, with the claim on it.
type Empty struct {
	Block Block
	Node  string // owner, which does not exist; "" when nobody owns it, LoadBalancer when these do
}

// Plan is what a Pass says to do.
type Plan struct {
	Releases   map[string][]Release // by node; "" when none is named
	Empty      []Empty
	Affinities []Affinity // of nodes that are gone and have no such block
	Handles    []Fix
	Reap       []string // names of blocks with addresses that have cooled down, and without an agent that would see to it

	Candidates int       // allocations that are left over, these included
	Blocked    int       // blocks of nodes that do not exist, in which somebody has lived for a grace period since
	Next       time.Time // when something is due without anything being heard; zero: nothing is
}

// Work says whether there is anything to do.
func (p *Plan) Work() bool {
	return len(p.Releases)+len(p.Empty)+len(p.Affinities)+len(p.Handles)+len(p.Reap) > 0
}

// due notes a time at which something is due.
func (p *Plan) due(t time.Time) {
	if p.Next.IsZero() || t.Before(p.Next) {
		p.Next = t
	}
}

// Collector remembers what looked left over. It is for one goroutine at a time. A new one starts all grace periods anew.
type Collector struct {
	// Grace is how long something must have been left over; 0: what is not of a node that is gone stays.
	Grace time.Duration
	// Hold is how long a node must have been gone, and an address of it left over, before it is collected.
	Hold time.Duration

	absent   map[Name]time.Time             // nodes that do not exist, and since when
	suspects map[Name]map[suspect]suspicion // by node: addresses
	idle     map[string]sight               // by name: blocks that nobody owns and that are empty
	stuck    map[string]sight               // by name: blocks of nodes that do not exist, in which somebody lives
	odd      map[string]sight               // by name: handles whose counts do not fit
	taken    map[string]time.Time           // handles that were collected, and when
	next     time.Time                      // when something is due
}

// suspect is an allocation that looks left over, and suspicion what was seen of it at first.
type suspect struct {
	addr   netip.Addr
	handle string
}

type suspicion struct {
	since time.Time
	seq   uint64
}

// sight is when something was seen at first, in a form that has not changed since.
type sight struct {
	since time.Time
	form  string
}

// New returns a collector that has seen nothing yet.
func New(grace time.Duration) *Collector {
	return &Collector{Grace: grace, Hold: DefaultHold, absent: map[Name]time.Time{}, suspects: map[Name]map[suspect]suspicion{}, idle: map[string]sight{}, stuck: map[string]sight{}, odd: map[string]sight{}, taken: map[string]time.Time{}}
}

// DefaultHold gives kubelet the time to end the pods of a node whose object somebody deletes while it runs: until then they
// use their addresses. They are deleted within a minute (by the pod collector of Kubernetes), and have another one to end.
const DefaultHold = 2 * time.Minute

// returnGrace is the grace period of what came back, while Grace is 0, and how long that is remembered.
const returnGrace = 15 * time.Minute

// Collected notes that a handle was collected: should it come back, somebody lives who holds it.
func (c *Collector) Collected(handle string, now time.Time) { c.taken[handle] = now }

// Candidates returns how many allocations of a node are left over, as the last pass over it saw.
func (c *Collector) Candidates(node Name) int { return len(c.suspects[node]) }

// IsCandidate says whether an allocation is left over, as the last pass saw.
func (c *Collector) IsCandidate(node Name, addr netip.Addr, handle string) bool {
	_, ok := c.suspects[node][suspect{addr, handle}]
	return ok
}

// Pass looks at the nodes about which something was heard since the last pass; a full one looks at everything. It
// changes nothing of the cluster's: what the plan asks for and nobody does is asked for again.
func (c *Collector) Pass(s *State, now time.Time, full bool) *Plan {
	p := &Plan{Releases: map[string][]Release{}}
	nodes := s.dirty
	s.dirty = map[Name]struct{}{}
	if full {
		nodes = make(map[Name]struct{}, len(s.byNode))
		for n := range s.byNode {
			nodes[n] = struct{}{}
		}
		for n := range c.suspects {
			nodes[n] = struct{}{}
		}
	}
	for n := range nodes {
		c.passNode(s, n, now, p)
	}
	c.passAffinities(s, nodes, full, now, p)
	if full {
		c.passHandles(s, now, p)
		s.prune()
		c.prune(s, now)
	}
	for _, of := range c.suspects {
		p.Candidates += len(of)
	}
	// What is due at nodes that this pass did not look at stays due.
	if !full && !c.next.IsZero() {
		p.due(c.next)
	}
	c.next = p.Next
	return p
}

// prune forgets blocks that are gone, and what was collected long ago.
func (c *Collector) prune(s *State, now time.Time) {
	for _, memory := range []map[string]sight{c.idle, c.stuck} {
		for name := range memory {
			if s.blocks[name] == nil {
				delete(memory, name)
			}
		}
	}
	for name, since := range c.absent {
		if s.nodes[name] != nil || len(s.byNode[name]) == 0 && now.Sub(since) > 2*c.Hold {
			delete(c.absent, name)
		}
	}
	for handle, at := range c.taken {
		if now.Sub(at) > 2*max(c.Grace, returnGrace) {
			delete(c.taken, handle)
		}
	}
}

// passAffinities finds the claims of nodes that are gone on blocks that are not theirs.
func (c *Collector) passAffinities(s *State, nodes map[Name]struct{}, full bool, now time.Time, p *Plan) {
	gone := full
	for n := range nodes {
		gone = gone || s.nodes[n] == nil && n != NameOf("") && n != NameOf(LoadBalancer)
	}
	if !gone {
		return
	}
	byCIDR := map[netip.Prefix]string{}
	for _, b := range s.blocks {
		byCIDR[b.CIDR] = b.Owner()
	}
	for _, a := range s.affinities {
		if a.Type != "virtual" && byCIDR[a.CIDR] != a.Node && c.gone(s, NameOf(a.Node), now, p) {
			p.Affinities = append(p.Affinities, a)
		}
	}
}
