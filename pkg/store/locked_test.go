package store

import (
	"testing"
	"time"
)

// TestLocked: a lock that is there at the start is an old one; one that comes later is new, and stays as old as it is.
func TestLocked(t *testing.T) {
	s := New()
	s.SetLocked(true)
	if since := s.Locked(); time.Since(since) < time.Hour {
		t.Errorf("a lock that was there at the start is of %s", since)
	}
	s.Synced(Information)
	s.SetLocked(false)
	if !s.Locked().IsZero() {
		t.Error("still locked")
	}
	s.SetLocked(true)
	since := s.Locked()
	if time.Since(since) > time.Minute {
		t.Errorf("a new lock is of %s", since)
	}
	s.SetLocked(true)
	if s.Locked() != since {
		t.Error("a lock that is seen again is a new one")
	}
}
