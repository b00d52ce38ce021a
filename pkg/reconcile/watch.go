package reconcile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"
)

// refusal is how long a loop must have been refused before Refused says so: a listing that was interrupted again and
// again is done again a moment later.
const refusal = 3 * time.Second

// Watch looks on while several loops run, and tells which of them can do their work no more. The zero value is ready. All
// methods may be called from any goroutine.
type Watch struct {
	mu    sync.Mutex
	loops map[string]*watched
}

// watched is one loop.
type watched struct {
	began   time.Time // of the pass that is under way; zero: none is
	refused time.Time // since when; zero: it is not
	why     error
}

// Hooks returns h with this watch of the loop of that name in it.
func (w *Watch) Hooks(name string, h Hooks) Hooks {
	l := &watched{}
	w.mu.Lock()
	if w.loops == nil {
		w.loops = map[string]*watched{}
	}
	w.loops[name] = l
	w.mu.Unlock()
	return Hooks{
		Began: func() {
			w.mu.Lock()
			l.began = time.Now()
			w.mu.Unlock()
			h.began()
		},
		Resynced: func(d time.Duration, err error) {
			if err != nil {
				w.end(l, fmt.Errorf("%s cannot be read from the kernel: %w", name, err))
			}
			h.resynced(d, err)
		},
		Applied: func(d time.Duration, err error) {
			var why error
			if denied(err) {
				why = fmt.Errorf("%s cannot be written to the kernel: %w", name, err)
			}
			w.end(l, why)
			h.applied(d, err)
		},
	}
}

// denied tells errors that hit everything that a loop could write from those of single objects. (EACCES is one of these:
// the kernel's answer for a device on which IPv6 is switched off.)
func denied(err error) bool { return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EROFS) }

// end takes a pass's end in; why says that nothing of the kind can be done.
func (w *Watch) end(l *watched, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.began, l.why = time.Time{}, why
	switch {
	case why == nil:
		l.refused = time.Time{}
	case l.refused.IsZero():
		l.refused = time.Now()
	}
}

// Refused says which of these loops the kernel lets do nothing, for a few seconds by now: it cannot be read, or nothing may
// be written. What fails for single objects alone is not in it: the loop logs that.
func (w *Watch) Refused(names ...string) error {
	return w.each(func(name string, l *watched) error {
		if !slices.Contains(names, name) || l.refused.IsZero() || time.Since(l.refused) < refusal {
			return nil
		}
		return l.why
	})
}

// Hanging says which of these loops have been in one pass for longer than limit; 0: none is.
func (w *Watch) Hanging(limit time.Duration, names ...string) error {
	return w.each(func(name string, l *watched) error {
		if !slices.Contains(names, name) {
			return nil
		}
		if took := time.Since(l.began); limit > 0 && !l.began.IsZero() && took > limit {
			return fmt.Errorf("%s: one pass has been under way for %s", name, took.Round(time.Second))
		}
		return nil
	})
}

func (w *Watch) each(f func(name string, l *watched) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(w.loops)) {
		errs = append(errs, f(name, w.loops[name]))
	}
	return errors.Join(errs...)
}
