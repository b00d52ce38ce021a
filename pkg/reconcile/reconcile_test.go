package reconcile

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Whatever happens in whatever order, the dirty keys are those in which want and have differ.
func TestTrackerAgreesWithPlainMaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := NewTracker[int, int]()
		want, have := map[int]int{}, map[int]int{}
		var listing, news map[int]int
		key, value := rapid.IntRange(0, 5), rapid.IntRange(0, 2)
		set := func(t *rapid.T) map[int]int { return rapid.MapOf(key, value).Draw(t, "map") }
		t.Repeat(map[string]func(*rapid.T){
			"want": func(t *rapid.T) {
				k, v := key.Draw(t, "k"), value.Draw(t, "v")
				tr.Want(k, v)
				want[k] = v
			},
			"unwant": func(t *rapid.T) {
				k := key.Draw(t, "k")
				tr.Unwant(k)
				delete(want, k)
			},
			"want only": func(t *rapid.T) {
				want = set(t)
				tr.WantOnly(want)
			},
			"have": func(t *rapid.T) {
				k, v := key.Draw(t, "k"), value.Draw(t, "v")
				tr.Have(k, v)
				have[k], news[k] = v, 1
			},
			"lost": func(t *rapid.T) {
				k := key.Draw(t, "k")
				tr.Lost(k)
				delete(have, k)
				news[k] = 1
			},
			"list": func(t *rapid.T) {
				if listing == nil {
					tr.Listing()
					listing, news = set(t), map[int]int{}
					return
				}
				tr.Listed(maps.Clone(listing))
				for k := range 6 {
					if _, newer := news[k]; newer {
						continue
					}
					delete(have, k)
					if v, ok := listing[k]; ok {
						have[k] = v
					}
				}
				listing, news = nil, map[int]int{}
			},
			"": func(t *rapid.T) {
				if news == nil {
					news = map[int]int{}
				}
				put, remove := tr.Dirty(cmp.Compare[int])
				for k := range 6 {
					w, wanted := want[k]
					h, there := have[k]
					if slices.Contains(put, k) != (wanted && (!there || w != h)) || slices.Contains(remove, k) != (!wanted && there) {
						t.Fatalf("key %d: want %v, have %v, put %v, remove %v", k, want, have, put, remove)
					}
				}
			},
		})
	})
}

type fake struct {
	resyncs, applies atomic.Int32
	fail             atomic.Pointer[error]
}

func (f *fake) Resync(context.Context) error { f.resyncs.Add(1); return nil }

func (f *fake) Apply(context.Context) error {
	f.applies.Add(1)
	if err := f.fail.Load(); err != nil {
		return *err
	}
	return nil
}

func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		var out bytes.Buffer
		var failures int
		l := NewLoop(f, slog.New(slog.NewTextHandler(&out, nil)), Hooks{Applied: func(_ time.Duration, err error) {
			if err != nil {
				failures++
			}
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		expect := func(what string, resyncs, applies int32) {
			t.Helper()
			synctest.Wait()
			if r, a := f.resyncs.Load(), f.applies.Load(); r != resyncs || a != applies {
				t.Errorf("%s: %d resyncs and %d applies, want %d and %d", what, r, a, resyncs, applies)
			}
		}
		expect("start", 1, 1)
		l.Kick()
		expect("kick", 1, 2)
		l.KickResync()
		expect("resync", 2, 3)
		time.Sleep(DefaultAudit)
		expect("audit", 3, 4)
		err := errors.New("broken")
		f.fail.Store(&err)
		l.Kick()
		expect("failure", 3, 5)
		time.Sleep(750 * time.Millisecond) // 100, 200, 400 ms
		expect("retries with growing pauses", 3, 8)
		f.fail.Store(nil)
		time.Sleep(time.Second)
		expect("recovered", 3, 9)
		l.SetAudit(10 * time.Second)
		expect("other pause", 3, 10)
		l.SetAudit(10 * time.Second)
		expect("the same pause", 3, 10)
		time.Sleep(20 * time.Second)
		expect("two audits", 5, 12)
		l.SetAudit(0)
		time.Sleep(time.Hour)
		expect("no audits", 5, 13)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if s := out.String(); strings.Count(s, "broken") != 1 || strings.Count(s, "works again") != 1 {
			t.Errorf("log: %s", s)
		}
		if failures != 4 {
			t.Errorf("%d failures counted", failures)
		}
	})
}

func TestFailuresStaySmall(t *testing.T) {
	var f Failures
	if f.Add(nil); f.Err() != nil {
		t.Error("nil counts")
	}
	for i := range 1000 {
		f.Add(fmt.Errorf("error %d", i))
	}
	if s := f.Err().Error(); strings.Count(s, "\n") != maxFailures || !strings.Contains(s, "and 995 more") {
		t.Error(s)
	}
}
