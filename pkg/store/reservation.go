package store

import (
	"net/netip"
	"slices"
)

// SetReservation puts the networks of an IPReservation in.
func (s *Store) SetReservation(name string, cidrs []netip.Prefix) {
	s.mu.Lock()
	s.reservations[name] = cidrs
	s.collect()
	s.mu.Unlock()
	s.Touch()
}

// DeleteReservation takes an IPReservation out.
func (s *Store) DeleteReservation(name string) {
	s.mu.Lock()
	delete(s.reservations, name)
	s.collect()
	s.mu.Unlock()
	s.Touch()
}

// Reserved returns the networks whose addresses are given only to who asks for them by name, sorted. The caller must not
// change them.
func (s *Store) Reserved() []netip.Prefix {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.reserved
}

// collect makes the list of all reservations anew. The caller holds mu.
func (s *Store) collect() {
	var all []netip.Prefix
	for _, cidrs := range s.reservations {
		all = append(all, cidrs...)
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	s.reserved = slices.Compact(all)
}
