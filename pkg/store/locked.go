package store

import "time"

// SetLocked notes whether somebody has locked the datastore, so that no addresses are given out.
func (s *Store) SetLocked(locked bool) {
	s.mu.Lock()
	changed := locked == s.locked.IsZero()
	switch {
	case !changed:
	case locked && s.reads[Information] == 0:
		s.locked = time.Unix(0, 0) // it was before this agent knew anything
	case locked:
		s.locked = time.Now()
	default:
		s.locked = time.Time{}
	}
	s.mu.Unlock()
	if changed {
		s.Touch()
	}
}

// Locked says since when the datastore is known to be locked: 1970 if it was at the start; zero: it is not.
func (s *Store) Locked() time.Time {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.locked
}
