package collect

import (
	"iter"
	"maps"
	"net/netip"
	"strings"
	"time"
)

// LoadBalancer is the name under which the blocks of load balancers are indexed: no node has a name with a colon.
const LoadBalancer = "virtual:load-balancer"

// State is what somebody has heard of the cluster. It is for one goroutine at a time.
type State struct {
	Cooldown time.Duration // of the IPAMConfiguration

	blocks     map[string]*Block
	handles    map[string]*Handle // by the object's name
	affinities map[string]Affinity
	nodes      map[Name]*Node
	pods       map[PodKey]PodState

	byNode map[Name]map[string]struct{} // names of the blocks that a node owns or has addresses of
	uids   map[Name]string              // of each node, the last known UID, while it owns or has anything
	former map[Name]map[string]uint64   // of a node made anew: its blocks' sequence numbers when that was heard
	dirty  map[Name]struct{}            // nodes about which something was heard
}

// NewState returns an empty state.
func NewState() *State {
	return &State{
		blocks: map[string]*Block{}, handles: map[string]*Handle{}, affinities: map[string]Affinity{},
		nodes: map[Name]*Node{}, pods: map[PodKey]PodState{}, byNode: map[Name]map[string]struct{}{},
		uids: map[Name]string{}, former: map[Name]map[string]uint64{}, dirty: map[Name]struct{}{},
	}
}

// SetBlock takes a block. One that is older than what is known is passed over, so that what this process has written
// itself is not undone by a watch that lags behind; it reports whether b was taken.
func (s *State) SetBlock(b Block) bool {
	old := s.blocks[b.Name]
	if old != nil && old.UID == b.UID && b.Seq < old.Seq {
		return false
	}
	s.forget(old)
	b.sum = sum(b.CIDR)
	s.blocks[b.Name] = &b
	for node := range b.nodes() {
		if s.byNode[node] == nil {
			s.byNode[node] = map[string]struct{}{}
		}
		s.byNode[node][b.Name] = struct{}{}
		s.dirty[node] = struct{}{}
	}
	return true
}

// DeleteBlock forgets a block.
func (s *State) DeleteBlock(name string) {
	s.forget(s.blocks[name])
	delete(s.blocks, name)
}

// Block returns a block, nil when there is none of that name.
func (s *State) Block(name string) *Block { return s.blocks[name] }

// Blocks returns all blocks, in no order.
func (s *State) Blocks() iter.Seq[*Block] { return maps.Values(s.blocks) }

// BlocksOf returns the blocks that a node owns or has addresses of, in no order; LoadBalancer stands for those of load
// balancers.
func (s *State) BlocksOf(node string) iter.Seq[*Block] {
	return func(yield func(*Block) bool) {
		for name := range s.byNode[NameOf(node)] {
			if !yield(s.blocks[name]) {
				return
			}
		}
	}
}

// forget takes a block out of the index.
func (s *State) forget(b *Block) {
	if b == nil {
		return
	}
	for node := range b.nodes() {
		delete(s.byNode[node], b.Name)
		if len(s.byNode[node]) == 0 {
			delete(s.byNode, node)
		}
		s.dirty[node] = struct{}{}
	}
}

// nodes returns who owns the block or has addresses of it; some come more than once.
func (b *Block) nodes() iter.Seq[Name] {
	return func(yield func(Name) bool) {
		owner := b.Owner()
		if b.Affinity == LoadBalancer {
			owner = LoadBalancer
		}
		last := NameOf(owner)
		if !yield(last) { // "" is where blocks without an owner are
			return
		}
		for i := range b.Allocs {
			if n := b.Allocs[i].Node; n != last {
				last = n
				if !yield(n) {
					return
				}
			}
		}
	}
}

// SetHandle takes a handle; name is the object's.
func (s *State) SetHandle(name string, h Handle) {
	if low := strings.ToLower(h.ID); low == name {
		name = low // one string for both, when the ID is in lower case
	}
	s.handles[name] = &h
}

// DeleteHandle forgets a handle.
func (s *State) DeleteHandle(name string) { delete(s.handles, name) }

// SetAffinity takes a claim.
func (s *State) SetAffinity(a Affinity) {
	s.affinities[a.Name] = a
	s.dirty[NameOf(a.Node)] = struct{}{}
}

// DeleteAffinity forgets a claim.
func (s *State) DeleteAffinity(name string) { delete(s.affinities, name) }

// SetNode takes a node. When it is another one than the one of that name before it, what the former one had stays the
// former one's.
func (s *State) SetNode(name string, n Node) {
	key := NameOf(name)
	if uid, known := s.uids[key]; known && uid != n.UID {
		former := map[string]uint64{}
		for b := range s.byNode[key] {
			former[b] = s.blocks[b].Seq
		}
		s.former[key] = former
	}
	s.uids[key] = n.UID
	if old := s.nodes[key]; old == nil || *old != n {
		s.nodes[key] = &n
		s.dirty[key] = struct{}{}
	}
}

// DeleteNode forgets a node.
func (s *State) DeleteNode(name string) {
	delete(s.nodes, NameOf(name))
	s.dirty[NameOf(name)] = struct{}{}
}

// Node returns a node, nil when there is none of that name.
func (s *State) Node(name string) *Node { return s.nodes[NameOf(name)] }

// Nodes returns the names of all nodes.
func (s *State) Nodes() iter.Seq[Name] { return maps.Keys(s.nodes) }

// SetPod takes a pod.
func (s *State) SetPod(key PodKey, p PodState) {
	old, known := s.pods[key]
	s.pods[key] = p
	if known && old.Node == p.Node && old.Evicted == p.Evicted && equal(old.Addrs, p.Addrs) {
		return
	}
	s.dirty[p.Node] = struct{}{}
	if known {
		s.dirty[old.Node] = struct{}{}
	}
}

func equal(x, y []netip.Addr) bool {
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if x[i] != y[i] {
			return false
		}
	}
	return true
}

// DeletePod forgets a pod.
func (s *State) DeletePod(key PodKey) {
	if p, known := s.pods[key]; known {
		s.dirty[p.Node] = struct{}{}
		delete(s.pods, key)
	}
}

// Pod returns a pod.
func (s *State) Pod(key PodKey) (PodState, bool) {
	p, ok := s.pods[key]
	return p, ok
}

// Touch has the next pass look at a node: what was planned for it was not done.
func (s *State) Touch(node string) { s.dirty[NameOf(node)] = struct{}{} }

// ofFormer says whether an allocation was taken by a node that had its node's name before it.
func (s *State) ofFormer(b *Block, a *Alloc) bool {
	seq, ok := s.former[a.Node][b.Name]
	return ok && a.Seq <= seq
}

// prune forgets the UIDs of nodes that have nothing any more, and former nodes whose blocks have nothing left of theirs.
func (s *State) prune() {
	for node := range s.uids {
		if s.nodes[node] == nil && len(s.byNode[node]) == 0 {
			delete(s.uids, node)
		}
	}
	for node, blocks := range s.former {
		left := false
		for name := range blocks {
			if b := s.blocks[name]; b != nil {
				for i := range b.Allocs {
					left = left || b.Allocs[i].Node == node && s.ofFormer(b, &b.Allocs[i])
				}
			}
		}
		if !left {
			delete(s.former, node)
		}
	}
}

// Has says whether a handle, or a claim, of that object name is known.
func (s *State) Has(name string) bool {
	_, claim := s.affinities[name]
	return claim || s.handles[name] != nil
}
