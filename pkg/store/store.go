// Package store holds what the agent knows of the cluster, in the small values of package model.
//
// Watches put changes in, in any order; whoever computes from the store is told that something changed, not what: wanted
// state depends on the content alone. The store does no I/O. A restarted agent starts with an empty store that says of
// itself that it is not in sync.
package store

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/margay-net/margay/pkg/model"
)

// Kind is a kind of object that has to be read once before the store is in sync.
type Kind int

// Values of Kind.
const (
	Nodes Kind = iota
	Pools
	Blocks
	IPAMConfig
	Params
	Reservations
	Information
	kinds
)

// Store is safe for use by several goroutines.
type Store struct {
	changed chan struct{}

	mu     sync.RWMutex
	reads  [kinds]int // times that a kind was read whole
	nodes  map[string]model.Node
	pools  map[string]model.Pool
	blocks map[netip.Prefix]model.Block
	bits   map[int]int // number of blocks by prefix length and family (IPv6: + 256)
	config *model.IPAMConfig
	labels map[string]string            // of the own node
	params map[string]map[string]string // fields of FelixConfigurations by object name: default, node.<name>

	reservations map[string][]netip.Prefix
	reserved     []netip.Prefix // of all reservations; never changed in place

	locked time.Time // since when the datastore is locked; zero: it is not
}

// New returns an empty store.
func New() *Store {
	return &Store{
		changed: make(chan struct{}, 1),
		nodes:   map[string]model.Node{}, pools: map[string]model.Pool{}, blocks: map[netip.Prefix]model.Block{},
		bits: map[int]int{}, params: map[string]map[string]string{}, reservations: map[string][]netip.Prefix{},
	}
}

// Changed is ready to read when something changed since it was last read.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// Touch makes Changed ready: something outside of the store changed that the same computation depends on.
func (s *Store) Touch() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Synced notes that a kind was read whole.
func (s *Store) Synced(k Kind) {
	s.mu.Lock()
	s.reads[k]++
	s.mu.Unlock()
	s.Touch()
}

// InSync says whether all kinds have been read once.
func (s *Store) InSync() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return !slices.Contains(s.reads[:], 0)
}

// Resyncs returns how many times the kind that was read whole most often was, and whether all have been read once.
func (s *Store) Resyncs() (reads int, inSync bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Max(s.reads[:]), !slices.Contains(s.reads[:], 0)
}

// SetNode puts a node in. It does not tell when nothing changed (nodes' heartbeats).
func (s *Store) SetNode(n model.Node) {
	s.mu.Lock()
	old, ok := s.nodes[n.Name]
	s.nodes[n.Name] = n
	s.mu.Unlock()
	if !ok || old != n {
		s.Touch()
	}
}

// DeleteNode takes a node out.
func (s *Store) DeleteNode(name string) {
	s.mu.Lock()
	delete(s.nodes, name)
	s.mu.Unlock()
	s.Touch()
}

// Node returns a node.
func (s *Store) Node(name string) (model.Node, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n, ok := s.nodes[name]
	return n, ok
}

// NodeMap returns a copy of all nodes.
func (s *Store) NodeMap() map[string]model.Node {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.nodes)
}

// SetLabels sets the own node's labels; the caller must not change them any more.
func (s *Store) SetLabels(labels map[string]string) {
	s.mu.Lock()
	same := maps.Equal(s.labels, labels)
	s.labels = labels
	s.mu.Unlock()
	if !same {
		s.Touch()
	}
}

// Labels returns the own node's labels; the caller must not change them.
func (s *Store) Labels() map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.labels
}

// SetPool puts a pool in.
func (s *Store) SetPool(p model.Pool) {
	s.mu.Lock()
	s.pools[p.Name] = p
	s.mu.Unlock()
	s.Touch()
}

// DeletePool takes a pool out.
func (s *Store) DeletePool(name string) {
	s.mu.Lock()
	delete(s.pools, name)
	s.mu.Unlock()
	s.Touch()
}

// Pools returns the pools by name. One that overlaps an older one counts as disabled: see Overlaps.
func (s *Store) Pools() []model.Pool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := slices.SortedFunc(maps.Values(s.pools), older)
	for i := range list {
		for _, o := range list[:i] {
			if o.CIDR.Overlaps(list[i].CIDR) {
				list[i].Disabled = true
			}
		}
	}
	slices.SortFunc(list, func(x, y model.Pool) int { return cmp.Compare(x.Name, y.Name) })
	return list
}

func older(x, y model.Pool) int {
	return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.Name, y.Name))
}

// Overlaps says, a line each, which pools give out no addresses because they overlap an older one.
func (s *Store) Overlaps() (out []string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := slices.SortedFunc(maps.Values(s.pools), older)
	for i, p := range list {
		for _, o := range list[:i] {
			if o.CIDR.Overlaps(p.CIDR) {
				out = append(out, fmt.Sprintf("IPPool %s: spec.cidr %s overlaps %s of the older IPPool %s; it gives out no addresses: delete one of them", p.Name, p.CIDR, o.CIDR, o.Name))
			}
		}
	}
	return out
}

func bitsKey(p netip.Prefix) int {
	if p.Addr().Is6() {
		return p.Bits() + 256
	}
	return p.Bits()
}

// SetBlock puts a block in. It does not tell when its owner and its loans are the same.
func (s *Store) SetBlock(b model.Block) {
	s.mu.Lock()
	old, ok := s.blocks[b.CIDR]
	s.blocks[b.CIDR] = b
	if !ok {
		s.bits[bitsKey(b.CIDR)]++
	}
	s.mu.Unlock()
	if !ok || old != b {
		s.Touch()
	}
}

// DeleteBlock takes a block out.
func (s *Store) DeleteBlock(cidr netip.Prefix) {
	s.mu.Lock()
	if _, ok := s.blocks[cidr]; ok {
		delete(s.blocks, cidr)
		s.bits[bitsKey(cidr)]--
	}
	s.mu.Unlock()
	s.Touch()
}

// Blocks returns all blocks.
func (s *Store) Blocks() []model.Block {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Values(s.blocks))
}

// BlockOwner returns the node that owns the block of just this CIDR, "" when there is none or nobody owns it.
func (s *Store) BlockOwner(cidr netip.Prefix) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.blocks[cidr].Node
}

// BlockExists says whether a block is known that is or overlaps cidr.
func (s *Store) BlockExists(cidr netip.Prefix) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	key := bitsKey(cidr)
	for k, n := range s.bits {
		switch {
		case n == 0 || k/256 != key/256:
		case k <= key:
			if _, ok := s.blocks[netip.PrefixFrom(cidr.Addr(), k%256).Masked()]; ok {
				return true
			}
		default: // smaller blocks inside: rare, a pool was replaced by one with larger blocks
			for p := range s.blocks {
				if cidr.Overlaps(p) {
					return true
				}
			}
		}
	}
	return false
}

// SetConfig sets the IPAM configuration; nil: there is none.
func (s *Store) SetConfig(c *model.IPAMConfig) {
	s.mu.Lock()
	s.config = c
	s.mu.Unlock()
	s.Touch()
}

// Config returns the IPAM configuration, the default one when there is none.
func (s *Store) Config() model.IPAMConfig {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.config == nil {
		return model.DefaultIPAMConfig
	}
	return *s.config
}

// SetParams sets the fields of the FelixConfiguration of this name, as text; nil: it is gone.
func (s *Store) SetParams(name string, fields map[string]string) {
	s.mu.Lock()
	if fields == nil {
		delete(s.params, name)
	} else {
		s.params[name] = fields
	}
	s.mu.Unlock()
	s.Touch()
}

// Params returns the fields of the FelixConfiguration of this name; the caller must not change them.
func (s *Store) Params(name string) map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.params[name]
}
