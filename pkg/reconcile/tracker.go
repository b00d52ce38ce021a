package reconcile

import "slices"

// Tracker keeps wanted and actual values by key, and the keys that differ. Each change costs constant time. Not safe for
// several goroutines.
//
// A full listing of what is there takes a while, and is old when it is done. Between Listing and Listed the tracker
// therefore notes which keys it has heard better news of, and leaves these alone when the listing comes in.
type Tracker[K, V comparable] struct {
	want, have map[K]V
	dirty      map[K]struct{}
	news       map[K]struct{} // nil when no listing is under way
}

// NewTracker returns an empty tracker.
func NewTracker[K, V comparable]() *Tracker[K, V] {
	return &Tracker[K, V]{want: map[K]V{}, have: map[K]V{}, dirty: map[K]struct{}{}}
}

// Want notes that k should be v.
func (t *Tracker[K, V]) Want(k K, v V) {
	if old, ok := t.want[k]; ok && old == v {
		return
	}
	t.want[k] = v
	t.compare(k)
}

// Unwant notes that k should not be.
func (t *Tracker[K, V]) Unwant(k K) {
	delete(t.want, k)
	t.compare(k)
}

// WantOnly replaces all that is wanted.
func (t *Tracker[K, V]) WantOnly(want map[K]V) {
	for k := range t.want {
		if _, ok := want[k]; !ok {
			t.Unwant(k)
		}
	}
	for k, v := range want {
		t.Want(k, v)
	}
}

// Have notes that k is v.
func (t *Tracker[K, V]) Have(k K, v V) {
	t.have[k] = v
	t.heard(k)
}

// Lost notes that k is not there.
func (t *Tracker[K, V]) Lost(k K) {
	delete(t.have, k)
	t.heard(k)
}

// LostIf is Lost for all keys that match.
func (t *Tracker[K, V]) LostIf(match func(K, V) bool) {
	for k, v := range t.have {
		if match(k, v) {
			t.Lost(k)
		}
	}
}

// Listing begins a full listing.
func (t *Tracker[K, V]) Listing() { t.news = map[K]struct{}{} }

// Listed ends a full listing: have is what is there.
func (t *Tracker[K, V]) Listed(have map[K]V) {
	news := t.news
	t.news = nil
	for k := range t.have {
		if _, ok := have[k]; ok {
			continue
		}
		if _, ok := news[k]; !ok {
			t.Lost(k)
		}
	}
	for k, v := range have {
		if _, ok := news[k]; ok {
			continue
		}
		if old, ok := t.have[k]; !ok || old != v {
			t.Have(k, v)
		}
	}
}

// Wanted returns what k should be.
func (t *Tracker[K, V]) Wanted(k K) (V, bool) {
	v, ok := t.want[k]
	return v, ok
}

// Known returns what k is.
func (t *Tracker[K, V]) Known(k K) (V, bool) {
	v, ok := t.have[k]
	return v, ok
}

// IsDirty tells whether want and have differ for k.
func (t *Tracker[K, V]) IsDirty(k K) bool {
	_, dirty := t.dirty[k]
	return dirty
}

// Dirty returns the keys that differ, in cmp's order: those that should be something, and those that should not be there.
func (t *Tracker[K, V]) Dirty(cmp func(a, b K) int) (put, remove []K) {
	for k := range t.dirty {
		if _, ok := t.want[k]; ok {
			put = append(put, k)
		} else {
			remove = append(remove, k)
		}
	}
	slices.SortFunc(put, cmp)
	slices.SortFunc(remove, cmp)
	return put, remove
}

func (t *Tracker[K, V]) heard(k K) {
	if t.news != nil {
		t.news[k] = struct{}{}
	}
	t.compare(k)
}

func (t *Tracker[K, V]) compare(k K) {
	want, wanted := t.want[k]
	have, there := t.have[k]
	if wanted == there && want == have {
		delete(t.dirty, k)
	} else {
		t.dirty[k] = struct{}{}
	}
}
