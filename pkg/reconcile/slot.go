package reconcile

import "sync"

// Slot hands over a value from any goroutine to one reader: the latest wins, older ones that were not taken are dropped.
type Slot[T any] struct {
	mu   sync.Mutex
	v    T
	full bool
	c    chan struct{}
}

// NewSlot returns an empty slot.
func NewSlot[T any]() *Slot[T] { return &Slot[T]{c: make(chan struct{}, 1)} }

// Set puts v in and wakes the reader. It never blocks.
func (s *Slot[T]) Set(v T) {
	s.mu.Lock()
	s.v, s.full = v, true
	s.mu.Unlock()
	wake(s.c)
}

// C tells the reader that there may be a new value.
func (s *Slot[T]) C() <-chan struct{} { return s.c }

// Take returns the latest value, once.
func (s *Slot[T]) Take() (v T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok = s.v, s.full
	var none T
	s.v, s.full = none, false
	return v, ok
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
