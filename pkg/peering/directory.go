package peering

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"sync"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/bgp"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/selector"
)

// Node is what BGP must know of a node beside its addresses.
type Node = model.BGPNode

func sameNode(n, o *Node) bool {
	return n.AS == o.AS && n.ClusterID == o.ClusterID && maps.Equal(n.Labels, o.Labels)
}

// Directory is what the watches have told of. All methods may be called from any goroutine. What is put in must not be
// changed any more.
type Directory struct {
	changed func()

	mu        sync.Mutex
	configs   map[string]*v3.BGPConfigurationSpec
	peers     map[string]*v3.BGPPeerSpec
	filters   map[string]*v3.BGPFilterSpec
	nodes     map[string]*Node
	secrets   map[string]map[string][]byte // nil: read, and not there
	synced    [model.BGPKinds]bool
	unread    bool // Build lacked a Secret that had not been read
	selectors selector.Cache

	// What sessions went by last, for as long as a resource refers to it: what it was read from may vanish, see Build.
	lastFilters   map[string]bgp.Filter
	lastPasswords map[reference]string
}

// reference names a password: a key of a Secret.
type reference struct{ secret, key string }

// NewDirectory returns an empty directory. changed, which may be nil, is called when Build may have something new to say; it
// must not block.
func NewDirectory(changed func()) *Directory {
	if changed == nil {
		changed = func() {}
	}
	return &Directory{
		changed: changed, configs: map[string]*v3.BGPConfigurationSpec{}, peers: map[string]*v3.BGPPeerSpec{},
		filters: map[string]*v3.BGPFilterSpec{}, nodes: map[string]*Node{}, secrets: map[string]map[string][]byte{},
		lastFilters: map[string]bgp.Filter{}, lastPasswords: map[reference]string{},
	}
}

// SetConfiguration takes in the BGPConfiguration of a name, default or node.NAME; nil: it is gone.
func (d *Directory) SetConfiguration(name string, c *v3.BGPConfigurationSpec) {
	set(d, d.configs, name, c, func(x, y *v3.BGPConfigurationSpec) bool { return reflect.DeepEqual(x, y) })
}

// SetPeer takes in a BGPPeer; nil: it is gone.
func (d *Directory) SetPeer(name string, p *v3.BGPPeerSpec) {
	set(d, d.peers, name, p, func(x, y *v3.BGPPeerSpec) bool { return reflect.DeepEqual(x, y) })
}

// SetFilter takes in a BGPFilter; nil: it is gone.
func (d *Directory) SetFilter(name string, f *v3.BGPFilterSpec) {
	set(d, d.filters, name, f, func(x, y *v3.BGPFilterSpec) bool { return reflect.DeepEqual(x, y) })
}

// SetNode takes in a node; nil: it is gone.
func (d *Directory) SetNode(name string, n *Node) { set(d, d.nodes, name, n, sameNode) }

// set puts an object in, or takes it out, and tells if that is a change.
func set[T any](d *Directory, all map[string]*T, name string, now *T, equal func(x, y *T) bool) {
	d.mu.Lock()
	old := all[name]
	same := old == now || old != nil && now != nil && equal(old, now)
	switch {
	case same:
	case now == nil:
		delete(all, name)
	default:
		all[name] = now
	}
	d.mu.Unlock()
	if !same {
		d.changed()
	}
}

// SetSecret takes in the Secret of a name in the agents' namespace; nil: there is none, or it may not be read.
func (d *Directory) SetSecret(name string, data map[string][]byte) {
	d.mu.Lock()
	old, known := d.secrets[name]
	same := known && (old == nil) == (data == nil) && maps.EqualFunc(old, data, bytes.Equal)
	if !same {
		d.secrets[name] = data
	}
	d.mu.Unlock()
	if !same {
		d.changed()
	}
}

// ForgetSecret notes that a Secret is followed no more, since Secrets did not have it.
func (d *Directory) ForgetSecret(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.secrets, name)
}

// referred are the passwords that resources refer to.
func (d *Directory) referred() map[reference]bool {
	out := map[reference]bool{}
	add := func(p *v3.BGPPassword) {
		if p != nil && p.SecretKeyRef != nil && p.SecretKeyRef.Name != "" {
			out[reference{p.SecretKeyRef.Name, p.SecretKeyRef.Key}] = true
		}
	}
	for _, p := range d.peers {
		add(p.Password)
	}
	if c := d.configs["default"]; c != nil {
		add(c.NodeMeshPassword)
	}
	return out
}

// Secrets are the names of the Secrets that passwords are in, sorted.
func (d *Directory) Secrets() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for r := range d.referred() {
		names = append(names, r.secret)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// forget drops what sessions went by last, where no resource refers to it any more.
func (d *Directory) forget() {
	filters := map[string]bool{}
	for _, p := range d.peers {
		for _, name := range p.Filters {
			filters[name] = true
		}
	}
	maps.DeleteFunc(d.lastFilters, func(name string, _ bgp.Filter) bool { return !filters[name] })
	passwords := d.referred()
	maps.DeleteFunc(d.lastPasswords, func(r reference, _ string) bool { return !passwords[r] })
}

// Synced notes that all objects of a kind have been put in.
func (d *Directory) Synced(k model.BGPKind) {
	d.mu.Lock()
	first := !d.synced[k]
	d.synced[k] = true
	d.mu.Unlock()
	if first {
		d.changed()
	}
}

// InSync says whether all kinds have been read once, and of all Secrets that are referred to is known what is in them. It is
// false for a moment when a password moves to another Secret, too: what Build says then lacks sessions that are to stay.
// Asked after Build, it speaks of what that saw.
func (d *Directory) InSync() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.unread && !slices.Contains(d.synced[:], false) && d.secretsRead()
}

func (d *Directory) secretsRead() bool {
	for r := range d.referred() {
		if _, known := d.secrets[r.secret]; !known {
			return false
		}
	}
	return true
}
