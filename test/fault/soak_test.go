package fault

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// soak is a cluster in which all comes and goes: pods on all nodes, one node whose agent is killed again and again, one
// that is rebooted, deleted and made anew, pools and their modes, the API server's answers, and what is in the kernels.
// The first two nodes' agents live through all of it: they must not grow.
type soak struct {
	t      *testing.T
	l      *lab.Lab
	o      *owners
	lasts  []*lab.Node // whose agents are never ended
	killed *lab.Node
	mortal *lab.Node
	base   []*lab.Pod // that live all the time, one on each node but the mortal one

	mu   sync.Mutex
	done map[string]int // what was done, how often
	deed []deed         // the same in order
	errs map[string]int // of ADDs that failed
}

// deed is something that was done to the cluster.
type deed struct {
	at   time.Time
	what string
}

// soakFor is how long there is churn.
func soakFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("MARGAY_SOAK")
	if text == "" {
		return 2 * time.Minute // and up to two more until all has settled
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("MARGAY_SOAK: %v", err)
	}
	return d
}

// TestSoak: after a time of churn, two minutes or what MARGAY_SOAK says, there is just what the living pods need, and the
// agents are as they were after the first third.
func TestSoak(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 4, IPv6: true})
	s := &soak{t: t, l: l, o: &owners{t: t, of: map[netip.Addr]string{}}, lasts: l.Nodes[:2:2], killed: l.Nodes[2], mortal: l.Nodes[3], done: map[string]int{}, errs: map[string]int{}}
	for _, n := range l.Nodes[:3] {
		p := n.Pod(n.Name + "-base")
		s.o.take(p)
		s.base = append(s.base, p)
	}
	l.WaitRoutes(30 * time.Second)
	length, seed := soakFor(t), uint64(time.Now().UnixNano())
	t.Logf("seed %d, churn for %s", seed, length)
	start, ping := time.Now(), s.base[0].Ping(s.base[1].V4(), 10*time.Millisecond)
	s.churn(length/3, seed)
	long, quiet := length >= 10*time.Minute, 2*time.Second
	if long {
		quiet = 3 * time.Minute // the runtime collects garbage every two
	}
	s.settle(long)
	first := s.measure(quiet)
	s.churn(length-length/3, seed+1)
	s.settle(true)
	last := s.measure(quiet)
	loss := ping.Stop()
	t.Logf("%s to %s while devices, routes and modes came and went: %d of %d pings lost, longest gap %s (one each %s)",
		s.base[0].Name, s.base[1].Name, loss.Lost, loss.Sent, loss.Longest, loss.Every)
	t.Logf("what was done: %v", s.done)
	t.Logf("before the longest gap: %v", s.before(loss, start))
	t.Logf("errors of ADD: %v", s.errs)
	t.Logf("figures:\n%s", table(first, last))
	s.judge(first, last, long)
	for _, n := range s.lasts {
		if ended, err := n.Agent().Ended(); ended {
			t.Errorf("%s: its agent ended: %v", n.Name, err)
		}
	}
	for _, p := range s.base {
		if err := p.Check(); err != nil {
			t.Error(err)
		}
	}
}

func (s *soak) count(what string, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[what] += times
}

// did is count of one thing, with its object.
func (s *soak) did(what, object string) {
	s.count(what, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deed = append(s.deed, deed{time.Now(), what + " " + object})
}

// before returns what was done in the last seconds before the longest gap of pings, and within it, in seconds from its
// begin.
func (s *soak) before(loss lab.Loss, start time.Time) (out []string) {
	var from, to, longest, first time.Duration
	for i, at := range loss.At {
		if i == 0 || at-loss.At[i-1] > loss.Every {
			first = at
		}
		if at-first >= longest {
			longest, from, to = at-first, first, at
		}
	}
	for _, d := range s.deed {
		if at := d.at.Sub(start); at > from-8*time.Second && at < to {
			out = append(out, fmt.Sprintf("%+.1f %s", (at-from).Seconds(), d.what))
		}
	}
	return out
}

// churn has all actors act for a while. What takes the address audit a minute or two to clean up after, nodes and pools,
// rests in the second half.
func (s *soak) churn(d time.Duration, seed uint64) {
	stop, early := make(chan struct{}), make(chan struct{})
	var actors sync.WaitGroup
	for i, n := range append([]*lab.Node{s.killed}, s.lasts...) {
		actors.Go(func() { s.pods(n, seed+uint64(i), stop) })
	}
	actors.Go(func() { s.killer(seed, stop) })
	actors.Go(func() { s.reaper(seed, early) })
	actors.Go(func() { s.pools(seed, early) })
	actors.Go(func() { s.cutter(seed, stop) })
	actors.Go(func() { s.saboteur(seed, stop) })
	time.Sleep(d / 2)
	close(early)
	time.Sleep(d - d/2)
	close(stop)
	actors.Wait()
}

// pods has pods come and go on a node, and removes all at the end.
func (s *soak) pods(n *lab.Node, seed uint64, stop chan struct{}) {
	var c churn
	c.run(s.o, n, seed, stop)
	s.remove(&c)
}

// remove ends the pods that a churn left.
func (s *soak) remove(c *churn) {
	for _, p := range c.live {
		s.o.drop(p)
		c.remove(s.o, p)
	}
	c.live = nil
	s.count("pods added", c.adds)
	s.count("pods not added", c.failed)
	s.mu.Lock()
	for text, times := range c.errs {
		s.errs[text[:min(len(text), 80)]] += times
	}
	s.mu.Unlock()
	if c.delTries != c.dels {
		s.t.Errorf("DEL failed %d times: %v", c.delTries-c.dels, c.errs)
	}
}

// settle waits until all is quiet. When it is to be exact it also waits until the audits have given back what the mortal
// node's pods held, and empty blocks.
func (s *soak) settle(exact bool) {
	s.t.Helper()
	for _, n := range s.l.Nodes {
		n.WaitReady(30 * time.Second)
	}
	for _, n := range s.lasts {
		s.l.Within(30*time.Second, n.Name+" has settled", func() error {
			v, err := n.Metric("margay_ipam_unsettled")
			if err == nil && v > 0 {
				err = fmt.Errorf("%v addresses are not", v)
			}
			return err
		})
	}
	if !exact {
		return
	}
	took := s.l.Within(4*time.Minute, "there is just what the living pods need", s.clean)
	s.t.Logf("there is just what the living pods need %s after the churn", took.Round(time.Second))
}

// clean says what is there beside what the living pods need: each node has one block of each family, with its tunnel and
// its base pod in it; the others' routes, neighbours and forwarding entries; and nothing else.
func (s *soak) clean() error {
	blocks, err := s.l.Blocks()
	if err != nil {
		return err
	}
	if want := 2 * len(s.l.Nodes); len(blocks) != want {
		return fmt.Errorf("there are %d blocks, want %d", len(blocks), want)
	}
	errs := []error{s.l.Compare(), s.l.CompareKernels(), s.l.ComparePeers(), fits(s.l, v3.EncapAlways)}
	for _, n := range s.l.Nodes {
		if files := n.Spooled(); len(files) > 0 {
			errs = append(errs, fmt.Errorf("%s: spool has %v", n.Name, files))
		}
	}
	return errors.Join(errs...)
}
