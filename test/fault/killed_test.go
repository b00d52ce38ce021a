package fault

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/margay-net/margay/test/lab"
)

// owners knows which live pod has which address, and notices when two have the same one.
type owners struct {
	t  *testing.T
	mu sync.Mutex
	of map[netip.Addr]string
}

func (o *owners) take(p *lab.Pod) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range p.Addrs {
		if by := o.of[a]; by != "" {
			o.t.Errorf("%s was given to %s of %s while %s has it", a, p.Name, p.Node.Name, by)
		}
		o.of[a] = p.Name + " of " + p.Node.Name
	}
	if len(p.Addrs) != 2 {
		o.t.Errorf("pod %s has addresses %v, want one of each family", p.Name, p.Addrs)
	}
}

func (o *owners) drop(p *lab.Pod) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range p.Addrs {
		delete(o.of, a)
	}
}

// churn adds and deletes pods on a node until stop is closed, as a kubelet does: after a failed ADD comes a DEL, and a
// DEL is called until it succeeds. A few pods live at each time.
type churn struct {
	adds, failed, dels, delTries int
	slowest                      time.Duration
	errs                         map[string]int
	live                         []*lab.Pod
}

func (c *churn) run(o *owners, n *lab.Node, seed uint64, stop chan struct{}) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	c.errs = map[string]int{}
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rnd.IntN(60)) * time.Millisecond):
		}
		if len(c.live) < 4 || len(c.live) < 8 && rnd.IntN(2) == 0 {
			p := n.NewPod(fmt.Sprintf("%s-churn%d", n.Name, i))
			if err := p.Add(); err != nil {
				c.failed++
				c.errs[words(err)]++
				c.remove(o, p)
				continue
			}
			c.adds++
			c.slowest = max(c.slowest, p.Took)
			o.take(p)
			c.live = append(c.live, p)
			continue
		}
		k := rnd.IntN(len(c.live))
		p := c.live[k]
		c.live = slices.Delete(c.live, k, k+1)
		o.drop(p)
		c.remove(o, p)
	}
}

func (c *churn) remove(o *owners, p *lab.Pod) {
	c.dels++
	for range 100 {
		c.delTries++
		if err := p.Del(); err != nil {
			c.errs["DEL: "+words(err)]++
			continue
		}
		p.NS.Close()
		return
	}
	o.t.Errorf("DEL of %s never succeeds", p.Name)
}

// words are an error's, without the pod's name and paths.
func words(err error) string {
	_, text := lab.Code(err)
	if _, after, ok := strings.Cut(text, "eth0: "); ok {
		text = after
	}
	text, _, _ = strings.Cut(text, ": see ")
	return strings.Join(slices.DeleteFunc(strings.Fields(text), func(w string) bool { return strings.Contains(w, "/") }), " ")
}

// TestAgentKilled200 kills agents 200 times at random moments, starts included, while pods come and go and others talk
// across nodes.
func TestAgentKilled200(t *testing.T) {
	const kills = 200
	l := cluster.New(t, lab.Options{Nodes: 3, IPv6: true})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	o := &owners{t: t, of: map[netip.Addr]string{}}
	var old []*lab.Pod
	for _, n := range l.Nodes {
		old = append(old, n.Pod(n.Name+"-old"))
		o.take(old[len(old)-1])
	}
	l.WaitRoutes(30 * time.Second)
	before := map[*lab.Node]lab.State{}
	monitors := map[*lab.Node]*lab.Monitor{}
	for _, n := range l.Nodes {
		before[n], monitors[n] = n.State().Cluster(), n.Monitor()
	}
	var pingers []*lab.Pinger
	for i, p := range old {
		for _, a := range old[(i+1)%len(old)].Addrs {
			pingers = append(pingers, p.Ping(a, 4*time.Millisecond))
		}
	}
	stop := make(chan struct{})
	churns := make([]churn, len(l.Nodes))
	var killers, churners sync.WaitGroup
	start := time.Now()
	for i, n := range l.Nodes {
		churners.Go(func() { churns[i].run(o, n, seed+uint64(i), stop) })
		mine := kills / len(l.Nodes)
		if i < kills%len(l.Nodes) {
			mine++
		}
		killers.Go(func() { killAgain(n, mine, rand.New(rand.NewPCG(seed+uint64(i), 1))) })
	}
	killers.Wait()
	took := time.Since(start)
	close(stop)
	churners.Wait()
	for _, n := range l.Nodes {
		n.WaitReady(30 * time.Second)
	}
	report(t, l, churns, took, kills)
	settled := l.Agrees(30 * time.Second)
	t.Logf("datastore, kernels and pods agree %s after the last start", settled)
	for _, loss := range lab.Stop(pingers...) {
		t.Log(loss)
		if loss.Lost > 0 {
			t.Errorf("packets were lost: %s", loss)
		}
	}
	for _, n := range l.Nodes {
		events, again, wrong := monitors[n].Stop()
		t.Logf("%s: %d kernel events for our objects, %d for such as were right; %d new pods' routes written twice", n.Name, events, len(wrong), again)
		for _, w := range wrong {
			t.Errorf("%s: %s", n.Name, w)
		}
		checkUntouched(t, l, n, before[n])
	}
	for _, p := range l.Pods() {
		if err := p.Remove(); err != nil {
			t.Error(err)
		}
	}
	l.Agrees(30 * time.Second)
}

// killAgain kills a node's agent again and again, mostly soon after its start, sometimes when it has long been ready.
func killAgain(n *lab.Node, times int, rnd *rand.Rand) {
	for range times {
		time.Sleep(time.Duration(rnd.ExpFloat64()*float64(600*time.Millisecond)) % (3 * time.Second))
		n.Kill()
		time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond)
		n.Start()
	}
}

func report(t *testing.T, l *lab.Lab, churns []churn, took time.Duration, kills int) {
	t.Helper()
	adds := 0
	for i := range churns {
		c := &churns[i]
		adds += c.adds
		t.Logf("%s: %d ADDs, slowest %s, %d failed; %d DELs in %d calls; errors %v", l.Nodes[i].Name, c.adds, c.slowest, c.failed, c.dels, c.delTries, c.errs)
		if c.delTries != c.dels {
			t.Errorf("%s: a DEL failed", l.Nodes[i].Name)
		}
	}
	t.Logf("%d kills in %s, %d ADDs succeeded meanwhile", kills, took.Round(time.Second), adds)
	if adds < kills/2 {
		t.Errorf("only %d ADDs succeeded: the test shows little", adds)
	}
}

// checkUntouched: what was there is there still; blocks that were claimed meanwhile may have come to it.
func checkUntouched(t *testing.T, l *lab.Lab, n *lab.Node, before lab.State) {
	t.Helper()
	now := n.State()
	for _, line := range before {
		if !slices.Contains(now, line) {
			t.Errorf("%s: %q is gone; now:\n%s", n.Name, line, now.Diff(before))
		}
	}
}

// TestPluginKilled kills plugins in the middle of ADD, as a runtime does that has lost patience: nothing leaks, whether
// DEL follows or the sandbox just goes away.
func TestPluginKilled(t *testing.T) {
	const times = 120
	l := cluster.New(t, lab.Options{IPv6: true})
	n := l.Nodes[0]
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 3))
	t.Logf("seed %d", seed)
	killed := 0
	var stay []*lab.Pod
	for i := range times {
		p := n.NewPod(fmt.Sprintf("pod%d", i))
		if err := p.AddWithin(time.Duration(rnd.IntN(25_000)) * time.Microsecond); err == nil && i%10 == 0 {
			stay = append(stay, p)
			continue
		} else if err != nil {
			killed++
		}
		if rnd.IntN(2) == 0 {
			p.NS.Close()
		}
		if err := p.Remove(); err != nil {
			t.Errorf("DEL: %v", err)
		}
	}
	t.Logf("%d of %d plugins were killed", killed, times)
	if killed < times/10 {
		t.Errorf("only %d of %d plugins were killed: the test shows little", killed, times)
	}
	for _, p := range stay {
		if err := p.Check(); err != nil {
			t.Error(err)
		}
	}
	l.Agrees(30 * time.Second)
}

// TestKilledBeforeHandle kills an agent that has written an address into its block and not the handle yet: the next agent
// makes the handle. The API server refuses handles meanwhile.
func TestKilledBeforeHandle(t *testing.T) {
	l := cluster.New(t, lab.Options{IPv6: true})
	n := l.Nodes[0]
	allow, err := l.Deny("ipamhandles")
	if err != nil {
		t.Fatal(err)
	}
	defer allow()
	l.Within(30*time.Second, "an address is in its block and has no handle", func() error {
		p := n.Pod(fmt.Sprintf("pod%d", len(l.Pods())))
		time.Sleep(2 * time.Second) // until it is written
		if err := l.Compare(); err == nil || !strings.Contains(err.Error(), "handle "+p.Handle()+" is missing") {
			return fmt.Errorf("the refusal has no effect yet: %w", err)
		}
		return nil
	})
	n.Kill()
	allow()
	n.Start()
	n.WaitReady(30 * time.Second)
	l.Agrees(30 * time.Second)
}
