package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// scripted is a reconciler whose methods do what the test says.
type scripted struct{ resync, apply func() error }

func (s *scripted) Resync(context.Context) error { return s.resync() }
func (s *scripted) Apply(context.Context) error  { return s.apply() }

// watchLoops runs a loop per name under one watch, in the bubble of the calling test.
func watchLoops(t *testing.T, w *Watch, loops map[string]*scripted) map[string]*Loop {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, done := map[string]*Loop{}, make(chan error)
	for name, r := range loops {
		l := NewLoop(r, slog.New(slog.DiscardHandler), w.Hooks(name, Hooks{}))
		out[name] = l
		go func() { done <- l.Run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range loops {
			<-done
		}
	})
	synctest.Wait()
	return out
}

func fine() error { return nil }

// wantWords fails unless err has all of these words, and is nil when there are none.
func wantWords(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	if (err != nil) != (len(words) > 0) {
		t.Errorf("%s: %v, want %q", what, err, words)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %q lacks %q", what, err, word)
		}
	}
}

// A loop that waits for work is not one that hangs, however long; one that does not come back from the kernel is.
func TestWatchHanging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Watch
		wantWords(t, "no loops", w.Hanging(time.Second, "links", "routes"))
		stuck := make(chan struct{})
		routes := &scripted{resync: fine, apply: fine}
		links := &scripted{resync: fine, apply: fine}
		loops := watchLoops(t, &w, map[string]*scripted{"routes": routes, "links": links})
		loops["routes"].SetAudit(0)
		time.Sleep(24 * time.Hour)
		wantWords(t, "idle for a day", w.Hanging(time.Minute, "links", "routes"))

		routes.apply = func() error { <-stuck; return nil }
		loops["routes"].Kick()
		synctest.Wait()
		time.Sleep(59 * time.Second)
		wantWords(t, "a slow pass", w.Hanging(time.Minute, "links", "routes"))
		time.Sleep(2 * time.Second)
		wantWords(t, "a pass that does not end", w.Hanging(time.Minute, "links", "routes"), "routes: one pass has been under way for 1m1s")
		wantWords(t, "no limit", w.Hanging(0, "links", "routes"))
		routes.apply = fine
		close(stuck)
		synctest.Wait()
		wantWords(t, "it has come back", w.Hanging(time.Minute, "links", "routes"))

		stuck = make(chan struct{})
		links.resync = func() error { <-stuck; return errors.New("late") }
		loops["links"].KickResync()
		synctest.Wait()
		time.Sleep(time.Hour)
		wantWords(t, "a listing that does not end", w.Hanging(90*time.Second, "links", "routes"), "links: one pass has been under way for 1h0m0s")
		links.resync = fine
		close(stuck)
		synctest.Wait()
		wantWords(t, "it has failed, and so has ended", w.Hanging(90*time.Second, "links", "routes"))
	})
}

// Refused tells what keeps a loop from all of its work, once that has lasted; not what hits single objects.
func TestWatchRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Watch
		r := &scripted{resync: fine, apply: fine}
		l := watchLoops(t, &w, map[string]*scripted{"neighbours": r})["neighbours"]
		wantWords(t, "all is well", w.Refused("neighbours"))
		refuse := func(resync, apply error) {
			r.resync, r.apply = func() error { return resync }, func() error { return apply }
			l.KickResync()
			synctest.Wait()
		}
		refuse(errors.New("dump interrupted"), nil)
		wantWords(t, "at once", w.Refused("neighbours"))
		time.Sleep(50 * time.Millisecond) // the loop tries again after 100 ms
		refuse(nil, nil)
		time.Sleep(time.Hour)
		wantWords(t, "it was once only", w.Refused("neighbours"))

		refuse(errors.New("no answer"), nil)
		time.Sleep(5 * time.Second)
		wantWords(t, "the kernel does not answer", w.Refused("neighbours"), "neighbours cannot be read from the kernel: no answer")
		wantWords(t, "nobody asks for it", w.Refused("routes"))
		refuse(nil, nil)
		wantWords(t, "it answers again", w.Refused("neighbours"))

		for _, no := range []error{syscall.EPERM, syscall.EROFS} {
			refuse(nil, errors.Join(errors.New("first"), fmt.Errorf("put route: %w", no)))
			time.Sleep(5 * time.Second)
			wantWords(t, "nothing may be written", w.Refused("neighbours"), "neighbours cannot be written to the kernel", no.Error())
			refuse(nil, nil)
		}
		for _, one := range []error{syscall.ENODEV, syscall.EACCES, syscall.EEXIST, context.Canceled} {
			refuse(nil, fmt.Errorf("put route: %w", one))
			time.Sleep(time.Minute)
			wantWords(t, fmt.Sprintf("one object fails with %v", one), w.Refused("neighbours"))
			refuse(nil, nil)
		}
	})
}

// The hooks that a watch is put around still hear of everything.
func TestWatchPassesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Watch
		var heard []string
		h := w.Hooks("x", Hooks{
			Began:    func() { heard = append(heard, "began") },
			Resynced: func(_ time.Duration, err error) { heard = append(heard, fmt.Sprint("resynced ", err)) },
			Applied:  func(_ time.Duration, err error) { heard = append(heard, fmt.Sprint("applied ", err)) },
		})
		l := NewLoop(&scripted{resync: fine, apply: func() error { return errors.New("no") }}, slog.New(slog.DiscardHandler), h)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := l.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(heard, ", "); got != "began, resynced <nil>, applied no" {
			t.Errorf("heard: %s", got)
		}
	})
}
