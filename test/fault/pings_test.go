package fault

import (
	"testing"
	"time"

	"github.com/margay-net/margay/test/lab"
)

// every is the time between two pings of a pair: what the counted losses resolve.
const every = 2 * time.Millisecond

// pings run between pods while something changes under them. A change has nothing to do with the way of the still ones,
// and does touch that of the others.
type pings struct{ still, touched []*lab.Pinger }

// between begins to ping from one pod to another, in each family that they have.
func between(from, to *lab.Pod) (out []*lab.Pinger) {
	for _, a := range to.Addrs {
		out = append(out, from.Ping(a, every))
	}
	return out
}

// warm has each pod reach each other once, so that the kernels know all neighbours of the underlay.
func warm(t *testing.T, pods ...*lab.Pod) {
	t.Helper()
	for _, from := range pods {
		for _, to := range pods {
			for _, a := range to.Addrs {
				if err := from.Echo(a, 10*time.Second); err != nil && from != to {
					t.Fatal(err)
				}
			}
		}
	}
}

// stop ends the pings, reports what was lost, and fails the test if the still ones lost anything.
func (p *pings) stop(t *testing.T, what string) {
	t.Helper()
	time.Sleep(300 * time.Millisecond) // some more after the change
	sum := func(name string, losses []lab.Loss, fault bool) {
		sent, lost, longest := 0, 0, time.Duration(0)
		for _, l := range losses {
			sent, lost, longest = sent+l.Sent, lost+l.Lost, max(longest, l.Longest)
			if l.Lost > 0 && fault {
				t.Errorf("%s: packets were lost on a way that did not change: %s", what, l)
			} else if l.Lost > 0 {
				t.Logf("%s: %s", what, l)
			}
		}
		if len(losses) > 0 {
			t.Logf("%s: %s: %d of %d lost, longest gap %s (one each %s and pair)", what, name, lost, sent, longest, every)
		}
	}
	losses := lab.Stop(append(append([]*lab.Pinger(nil), p.still...), p.touched...)...)
	sum("ways that did not change", losses[:len(p.still)], true)
	sum("ways that changed", losses[len(p.still):], false)
	p.still, p.touched = nil, nil
}
