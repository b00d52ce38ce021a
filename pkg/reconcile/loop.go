package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Pauses between attempts, and between full comparisons when nothing is known to be wrong.
const (
	firstRetry   = 100 * time.Millisecond
	lastRetry    = 15 * time.Second
	DefaultAudit = 90 * time.Second
)

// Reconciler is one subsystem. Both methods are called by one goroutine, and must be idempotent.
type Reconciler interface {
	// Resync compares everything with the kernel; it writes nothing.
	Resync(ctx context.Context) error
	// Apply mends the difference that is known. One failure must not keep it from the rest.
	Apply(ctx context.Context) error
}

// Loop runs one Reconciler.
type Loop struct {
	r     Reconciler
	log   *slog.Logger
	hooks Hooks

	pause         atomic.Int64 // between full comparisons, time.Duration
	apply, resync chan struct{}
	repaced       chan struct{} // pause changed
	failing       string        // what was logged last; "" when all is well
}

// NewLoop returns a loop that isn't running. The audit's pause is DefaultAudit.
func NewLoop(r Reconciler, log *slog.Logger, hooks Hooks) *Loop {
	l := &Loop{r: r, log: log, hooks: hooks, apply: make(chan struct{}, 1), resync: make(chan struct{}, 1), repaced: make(chan struct{}, 1)}
	l.pause.Store(int64(DefaultAudit))
	return l
}

// SetAudit sets the pause between full comparisons when nothing is known to be wrong; 0: there are none.
func (l *Loop) SetAudit(d time.Duration) {
	if time.Duration(l.pause.Swap(int64(d))) != d {
		wake(l.repaced)
	}
}

// Kick asks for an Apply soon. It never blocks.
func (l *Loop) Kick() { wake(l.apply) }

// KickResync asks for a Resync and an Apply soon. It never blocks.
func (l *Loop) KickResync() { wake(l.resync) }

// Run resyncs and applies until ctx is done. A failure is logged when it is new, and its end is too.
func (l *Loop) Run(ctx context.Context) error {
	audit := time.NewTimer(0)
	defer audit.Stop()
	repace := func() {
		audit.Stop()
		if d := time.Duration(l.pause.Load()); d > 0 {
			audit.Reset(d)
		}
	}
	repace()
	retry := time.NewTimer(0)
	retry.Stop()
	full, pause := true, firstRetry
	for {
		resynced, err := l.once(ctx, full)
		if ctx.Err() != nil {
			return nil
		}
		full = !resynced
		l.report(err)
		if err != nil {
			retry.Reset(pause)
		} else {
			retry.Stop()
			pause = firstRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.apply:
		case <-l.resync:
			full = true
		case <-l.repaced:
			repace()
		case <-audit.C:
			full = true
			repace()
		case <-retry.C:
			pause = min(2*pause, lastRetry)
		}
	}
}

// once does one pass; resynced tells whether there is no resync left to do.
func (l *Loop) once(ctx context.Context, full bool) (resynced bool, err error) {
	l.hooks.began()
	if full {
		start := time.Now()
		err := l.r.Resync(ctx)
		l.hooks.resynced(time.Since(start), err)
		if err != nil {
			return false, err
		}
	}
	start := time.Now()
	err = l.r.Apply(ctx)
	l.hooks.applied(time.Since(start), err)
	return true, err
}

func (l *Loop) report(err error) {
	switch {
	case err == nil && l.failing != "":
		l.log.Info("reconciling works again")
		l.failing = ""
	case err != nil && err.Error() != l.failing:
		l.failing = err.Error()
		l.log.Warn("reconciling failed, will be tried again", "err", err)
	}
}

// maxFailures bounds how many errors Failures keeps as they are.
const maxFailures = 5

// Failures collects errors of many like objects without growing with their number.
type Failures struct {
	errs []error
	more int
}

// Add takes an error in; nil is none.
func (f *Failures) Add(err error) {
	switch {
	case err == nil:
	case len(f.errs) < maxFailures:
		f.errs = append(f.errs, err)
	default:
		f.more++
	}
}

// Err joins what was added; nil when nothing was.
func (f *Failures) Err() error {
	if f.more > 0 {
		return errors.Join(append(f.errs, fmt.Errorf("and %d more", f.more))...)
	}
	return errors.Join(f.errs...)
}

// wake makes a channel of one place ready to read.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
