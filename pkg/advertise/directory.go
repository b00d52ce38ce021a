package advertise

import (
	"net/netip"
	"slices"
	"sync"
)

// Key names a Service or an EndpointSlice.
type Key struct{ Namespace, Name string }

// Service is what is kept of a Service that has cluster addresses.
type Service struct {
	Cluster, External, Balancer []netip.Addr
	// Inside and Outside: internalTrafficPolicy, externalTrafficPolicy is Local.
	Inside, Outside bool
}

func (s *Service) equal(o *Service) bool {
	return slices.Equal(s.Cluster, o.Cluster) && slices.Equal(s.External, o.External) && slices.Equal(s.Balancer, o.Balancer) &&
		s.Inside == o.Inside && s.Outside == o.Outside
}

// Slice is what is kept of an EndpointSlice that has a ready endpoint.
type Slice struct {
	Service string // in the same namespace
	Family6 bool   // its endpoints are IPv6 addresses
	Here    bool   // one of the ready endpoints is on this node
}

// Directory is what the watches have told of Services. All methods may be called from any goroutine.
type Directory struct {
	changed func()

	mu       sync.Mutex
	services map[Key]Service
	slices   map[Key]Slice
	read     [2]bool // services, slices were read whole
	wanted   bool
	news     chan struct{} // closed when wanted changes
}

// NewDirectory returns an empty directory, of which nothing is wanted yet. changed, which may be nil, is called when
// Announcements may have something else to say; it must not block.
func NewDirectory(changed func()) *Directory {
	if changed == nil {
		changed = func() {}
	}
	return &Directory{changed: changed, services: map[Key]Service{}, slices: map[Key]Slice{}, news: make(chan struct{})}
}

// SetRanges says whether any network of Services' addresses is configured, and so whether Services must be known.
func (d *Directory) SetRanges(some bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wanted != some {
		d.wanted = some
		close(d.news)
		d.news = make(chan struct{})
	}
}

// Wanted says whether Services must be known, and what is closed when that changes.
func (d *Directory) Wanted() (bool, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wanted, d.news
}

// InSync says whether all is known that is wanted.
func (d *Directory) InSync() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.wanted || d.complete()
}

// complete says whether all was read. The caller holds mu.
func (d *Directory) complete() bool { return d.read[0] && d.read[1] }

// SetService takes a Service in; nil: there is none, or none with cluster addresses.
func (d *Directory) SetService(k Key, s *Service) {
	d.change(func() bool {
		old, ok := d.services[k]
		if s == nil {
			delete(d.services, k)
			return ok
		}
		d.services[k] = *s
		return !ok || !old.equal(s)
	})
}

// SetSlice takes an EndpointSlice in; nil: there is none, or none with a ready endpoint.
func (d *Directory) SetSlice(k Key, s *Slice) {
	d.change(func() bool {
		old, ok := d.slices[k]
		if s == nil {
			delete(d.slices, k)
			return ok
		}
		d.slices[k] = *s
		return !ok || old != *s
	})
}

// ReadServices notes that all Services have been read.
func (d *Directory) ReadServices() { d.hasRead(0) }

// ReadSlices notes that all EndpointSlices have been read.
func (d *Directory) ReadSlices() { d.hasRead(1) }

func (d *Directory) hasRead(i int) {
	d.change(func() bool {
		first := !d.read[i]
		d.read[i] = true
		return first
	})
}

// Forget drops all that is known, when nobody keeps it up to date any more.
func (d *Directory) Forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.services, d.slices, d.read = map[Key]Service{}, map[Key]Slice{}, [2]bool{}
}

// change does something to the state and tells when it made a difference; while all is being read for the first time,
// only at the end.
func (d *Directory) change(do func() bool) {
	d.mu.Lock()
	tell := do() && d.complete()
	d.mu.Unlock()
	if tell {
		d.changed()
	}
}
