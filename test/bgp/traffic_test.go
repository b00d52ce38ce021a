package bgp

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/margay-net/margay/test/lab"
)

// meet has each pod ping each other once, in all families.
func meet(t *testing.T, pods []*lab.Pod) {
	t.Helper()
	var errs []error
	for _, from := range pods {
		for _, to := range pods {
			for _, a := range to.Addrs {
				if from != to {
					errs = append(errs, from.Echo(a, 10*time.Second))
				}
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// every is the time between two pings of a pair, enough is how many of them each way has at least while something changes.
const (
	every  = 4 * time.Millisecond
	enough = 1000
)

// traffic is pings that run while something changes.
type traffic []*lab.Pinger

// ring begins to ping from each pod to the next one.
func ring(pods ...*lab.Pod) (c traffic) {
	for i, p := range pods {
		for _, a := range pods[(i+1)%len(pods)].Addrs {
			c = append(c, p.Ping(a, every))
		}
	}
	return c
}

// stop ends the pings when there were enough of them, and says how many were lost: none may be, where that is judged.
func (c traffic) stop(t *testing.T, l *lab.Lab, what string, judged bool) {
	t.Helper()
	l.Within(patience, "enough pings", func() error {
		for _, p := range c {
			if p.Sent() < enough {
				return fmt.Errorf("%s was pinged %d times", p.To, p.Sent())
			}
		}
		return nil
	})
	sent, lost, longest := 0, 0, time.Duration(0)
	for _, l := range lab.Stop(c...) {
		sent, lost, longest = sent+l.Sent, lost+l.Lost, max(longest, l.Longest)
		if l.Lost > 0 && judged {
			t.Errorf("%s: %s", what, l)
		}
	}
	t.Logf("%s: %d of %d pings lost on %d ways, longest gap %s", what, lost, sent, len(c), longest)
}
