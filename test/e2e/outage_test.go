package e2e

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// adds is how many containers each node gets while the API server is off; half of them go before it is back.
const adds = 8

// TestAPIServerStopped stops the API server: pods go on talking, new containers get their network as the runtime asks
// for it, and give it up again. Afterwards blocks and handles must agree.
func TestAPIServerStopped(t *testing.T) {
	c := several(t)
	c.need(t)
	pings := c.pingAround(t, 0.05)
	start := time.Now()
	c.mustHack(t, "stop-apiserver")
	back := sync.OnceFunc(func() { c.mustHack(t, "start-apiserver") })
	defer back()

	results := c.onAllNodes(t, func(n node) string {
		var targets []string
		for _, o := range c.nodes {
			for _, f := range c.families {
				targets = append(targets, o.web.addr[f].String())
			}
		}
		return fmt.Sprintf(containers, n.name, strings.Join(targets, " ")) + fmt.Sprintf("for i in $(seq %d); do add $i; done; for i in $(seq %d); do del $i; done", adds, adds/2)
	})
	extra := map[netip.Addr]string{}
	for i, out := range results {
		c.checkContainers(t, c.nodes[i].name, out, adds, adds/2, extra)
	}
	// Long enough that whoever tries to write has failed a few times.
	if rest := 8*time.Second - time.Since(start); rest > 0 {
		time.Sleep(rest)
	}
	outage := time.Since(start)
	back()
	t.Logf("the API server was off for %.1f s", outage.Seconds())
	mustLoseNothing(t, pings, 100)
	c.mustAgree(t, t.Context(), extra)

	for i, out := range c.onAllNodes(t, func(n node) string {
		return fmt.Sprintf(containers, n.name, "") + fmt.Sprintf("for i in $(seq %d %d); do del $i; done", adds/2+1, adds)
	}) {
		c.checkContainers(t, c.nodes[i].name, out, 0, adds/2, extra)
	}
}

// containers are functions that play the runtime's part on a node: a network namespace is a container.
const containers = `
node=%s targets='%s'
cni() { # VERB NUMBER
	echo '{"cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "margay"}' |
		CNI_COMMAND=$1 CNI_CONTAINERID=e2e-$node-$2 CNI_NETNS=/run/netns/e2e$2 CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin /opt/cni/bin/margay 2>&1
}
add() {
	ip netns add e2e$1
	out=$(cni ADD $1) || { echo "FAIL add $1: $out"; return; }
	addrs=$(ip -n e2e$1 -o addr show dev eth0 scope global | sed 's/.*inet6* \([^/]*\).*/\1/')
	for target in $targets; do
		ip netns exec e2e$1 ping -n -c 1 -W 2 $target >/dev/null || { echo "FAIL $1 does not reach $target"; return; }
	done
	echo "added k8s-pod-network.e2e-$node-$1" $addrs
}
del() {
	out=$(cni DEL $1) || { echo "FAIL del $1: $out"; return; }
	ip netns del e2e$1
	echo "deleted k8s-pod-network.e2e-$node-$1"
}
`

// onAllNodes runs a script on each node, at once.
func (c *cluster) onAllNodes(t *testing.T, script func(node) string) []string {
	out := make([]string, len(c.nodes))
	var wg sync.WaitGroup
	for i, n := range c.nodes {
		wg.Add(1)
		go func() {
			defer wg.Done()
			text, err := command(context.Background(), "", c.hack+"/node", number(n), "bash", "-c", script(n))
			if err != nil {
				text += "FAIL " + err.Error() + "\n"
			}
			out[i] = text
		}()
	}
	wg.Wait()
	return out
}

// checkContainers reads what a node's containers came to, and keeps in live those that are there.
func (c *cluster) checkContainers(t *testing.T, node, out string, added, deleted int, live map[netip.Addr]string) {
	t.Helper()
	for line := range strings.Lines(out) {
		switch f := strings.Fields(line); {
		case len(f) == 2+len(c.families) && f[0] == "added":
			for _, text := range f[2:] {
				a, err := netip.ParseAddr(text)
				if err != nil || live[a] != "" {
					t.Errorf("%s: address %s of %s is not right or is %q's, too", node, text, f[1], live[a])
				}
				live[a] = f[1]
			}
			added--
		case len(f) == 2 && f[0] == "deleted":
			for a, handle := range live {
				if handle == f[1] {
					delete(live, a)
				}
			}
			deleted--
		default:
			t.Errorf("%s: %s", node, strings.TrimSpace(line))
		}
	}
	if added != 0 || deleted != 0 {
		t.Errorf("%s: %d additions and %d deletions are missing", node, added, deleted)
	}
}

// need skips the test where the nodes are not those of test/kube.
func (c *cluster) need(t *testing.T) {
	t.Helper()
	if c.hack == "" || number(c.nodes[0]) == "" {
		t.Skip("SKIPPED: needs a cluster that hack governs, and MARGAY_E2E_HACK is not set")
	}
}

// number is the node's, as hack knows it.
func number(n node) string {
	m := regexp.MustCompile(`^node(\d+)$`).FindStringSubmatch(n.name)
	if m == nil {
		return ""
	}
	return m[1]
}

// TestNodeRebooted powers a node off and on: it comes back, its pods too, and no address is left behind.
func TestNodeRebooted(t *testing.T) {
	c := several(t)
	c.need(t)
	last := len(c.nodes) - 1 // the first carries the control plane
	old := c.nodes[last]
	c.mustHack(t, "stop-node", number(old))
	on := sync.OnceFunc(func() { c.mustHack(t, "start-node", number(old)) })
	defer on()
	for _, f := range c.families {
		if out, err := c.sh(t.Context(), c.nodes[0].tools, "ping -n -c 2 -W 1 "+old.tools.addr[f].String()); err == nil {
			t.Errorf("a pod of a node that is off answers: %s", out)
		}
	}
	on()
	start := time.Now()
	eventually(t, 4*time.Minute, func() error { return c.isBack(t.Context(), old) })
	t.Logf("%s and its pods are back after %.1f s", old.name, time.Since(start).Seconds())
	c.mustKnowAll(t)
	c.each(t, func(t *testing.T, f family) {
		c.serviceAnswers(t, f)
		c.reachesAll(t, c.nodes[last], c.nodes[last].tools, f, 1000)
		c.reachesAll(t, c.nodes[0], c.nodes[0].tools, f, 1000)
	})
}

// serviceAnswers waits until every node's kube-proxy has heard of the new addresses, too: Services answer each time.
func (c *cluster) serviceAnswers(t *testing.T, f family) {
	t.Helper()
	for _, n := range c.nodes {
		took := eventually(t, 60*time.Second, func() error {
			out, err := c.sh(t.Context(), n.shell, fmt.Sprintf("for i in $(seq 15); do curl -sS -m 1 %s/hostname >/dev/null || exit 1; done 2>&1", url(c.service[f], 80)))
			if err != nil {
				return fmt.Errorf("the Service from %s: %w: %s", n.name, err, out)
			}
			return nil
		})
		t.Logf("the Service answers each time on %s after another %.1f s", n.name, took.Seconds())
	}
}

// isBack returns why the node cannot be said to be as it was: ready, with new containers that run, and reach others.
func (c *cluster) isBack(ctx context.Context, old node) error {
	n, err := c.client.CoreV1().Nodes().Get(ctx, old.name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, cond := range n.Status.Conditions {
		if cond.Type == corev1.NodeReady && cond.Status != corev1.ConditionTrue {
			return fmt.Errorf("node %s is not ready: %s", n.Name, cond.Message)
		}
	}
	pods, err := c.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + old.name})
	if err != nil {
		return err
	}
	for _, p := range pods.Items {
		if id := readPod(p).id; id == old.web.id || id == old.tools.id || id == old.shell.id {
			return fmt.Errorf("pod %s has its old container", p.Name)
		}
		for _, cond := range p.Status.Conditions {
			if cond.Type == corev1.PodReady && cond.Status != corev1.ConditionTrue {
				return fmt.Errorf("pod %s is not ready: %s", p.Name, cmp.Or(cond.Message, p.Status.Message))
			}
		}
	}
	return c.read(ctx)
}
