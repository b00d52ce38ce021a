package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/margay-net/margay/test/lab"
)

// rig is a node's namespace and a plugin that makes pods there.
type rig struct {
	t    *testing.T
	name string
	node *lab.NS
	path string // the plugin
	conf string
	dirs string // of plugins, for delegation
	next int
}

// margay is a rig on a node of a lab.
func (b *bench) margay(t *testing.T, n *lab.Node) *rig {
	conf := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"k8s-pod-network","type":"margay","socket":%q,"spool":%q}`, n.Socket, n.Spool)
	return &rig{t: t, name: "margay", node: n.NS, path: b.bin("margay"), conf: conf, dirs: b.bin("")}
}

// ptp is a rig in a namespace of its own, with the plainest of the reference plugins.
func (b *bench) ptp(t *testing.T) *rig {
	ns, err := lab.NewNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Close)
	conf := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"ptp","type":"ptp","ipMasq":false,"ipam":{"type":"host-local",
		"ranges":[[{"subnet":"10.9.0.0/16"}]],"routes":[{"dst":"0.0.0.0/0"}],"dataDir":%q}}`, t.TempDir())
	return &rig{t: t, name: "ptp", node: ns, path: b.bin("ptp"), conf: conf, dirs: b.bin("")}
}

// pod is a sandbox.
type pod struct {
	id string
	ns *lab.NS
}

// pods makes sandboxes without a network.
func (r *rig) pods(n int) []*pod {
	r.t.Helper()
	var out []*pod
	for range n {
		ns, err := lab.NewNS()
		if err != nil {
			r.t.Fatal(err)
		}
		r.next++
		out = append(out, &pod{id: fmt.Sprintf("%s-%d-%d", r.name, os.Getpid(), r.next), ns: ns})
	}
	r.t.Cleanup(func() { closeAll(out) })
	return out
}

// closeAll gives the namespaces back and lets the kernel get over it, so that nobody else's figures pay for that.
func closeAll(pods []*pod) {
	for _, p := range pods {
		p.ns.Close()
	}
	time.Sleep(100*time.Millisecond + time.Duration(len(pods))*5*time.Millisecond)
}

// cost is what one call of a plugin took: until its process had ended, and the CPU time of it and of those that it
// started.
type cost struct{ wall, cpu time.Duration }

// call runs a verb that must work.
func (r *rig) call(verb string, p *pod) (cost, *current.Result) {
	c, res, err := r.try(verb, p)
	if err != nil {
		r.t.Errorf("%s %s: %v", r.name, verb, err)
	}
	return c, res
}

// try runs a verb as a container runtime does.
func (r *rig) try(verb string, p *pod) (c cost, res *current.Result, err error) {
	var out, errs bytes.Buffer
	cmd := exec.Command(r.path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(r.conf), &out, &errs
	cmd.Env = []string{
		"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + p.id, "CNI_NETNS=" + p.ns.Path(), "CNI_IFNAME=eth0", "CNI_PATH=" + r.dirs,
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + p.id + ";K8S_POD_INFRA_CONTAINER_ID=" + p.id + ";K8S_POD_UID=" + p.id,
		"PATH=" + os.Getenv("PATH"),
	}
	err = r.node.Do(func() error {
		begin := time.Now()
		err := cmd.Run()
		c.wall = time.Since(begin)
		return err
	})
	if err != nil {
		return c, nil, fmt.Errorf("%w: %s%s", err, out.String(), errs.String())
	}
	c.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if verb != "ADD" {
		return c, nil, nil
	}
	res = &current.Result{}
	err = json.Unmarshal(out.Bytes(), res)
	if err == nil && len(res.IPs) == 0 {
		err = errors.New("it has no address")
	}
	if err != nil {
		return c, nil, fmt.Errorf("read result: %w: %s", err, out.String())
	}
	return c, res, nil
}

// together runs a verb for all pods at once; the time is until all are done.
func (r *rig) together(verb string, pods []*pod) time.Duration {
	var wg sync.WaitGroup
	begin := time.Now()
	for _, p := range pods {
		wg.Go(func() { r.call(verb, p) })
	}
	wg.Wait()
	return time.Since(begin)
}

// twoRigs are a node with the agent, and ptp.
func (b *bench) twoRigs(t *testing.T) (*lab.Node, []*rig) {
	n := b.lab(t).New(t, lab.Options{}).Nodes[0]
	return n, []*rig{b.margay(t, n), b.ptp(t)}
}

// inTurn calls f for each index and rig; who comes first changes with the index.
func inTurn(n int, f func(i, rig int)) {
	for i := range n {
		f(i, i%2)
		f(i, 1-i%2)
	}
}

// addDel measures single calls, one after the other.
func addDel(t *testing.T, b *bench, r *report) {
	n := count("N", 60)
	node, rigs := b.twoRigs(t)
	agent := agentPID(t, node)
	var all [2][]*pod
	for i, rig := range rigs {
		rig.call("ADD", rig.pods(1)[0]) // what is paid once is not counted
		all[i] = rig.pods(n)
	}
	var wall, cpu [2]sample
	for _, verb := range []string{"ADD", "DEL"} {
		wall, cpu = [2]sample{}, [2]sample{}
		inTurn(n, func(i, k int) {
			before := cpuTime(t, agent)
			c, _ := rigs[k].call(verb, all[k][i])
			if k == 0 {
				c.cpu += cpuTime(t, agent) - before
			}
			wall[k].ms(c.wall)
			cpu[k].ms(c.cpu)
		})
		r.add(
			row{what: verb + ", one after the other", unit: "ms", ours: wall[0], peer: "ptp", theirs: wall[1], aim: ratioUpTo(0.6)},
			row{what: verb + ", CPU time (agent's included)", unit: "ms", ours: cpu[0], peer: "ptp", theirs: cpu[1]})
	}
	r.note("ADD: %d pods gather on the node, then DEL of each", n)
}

// burst measures 20 calls at once.
func burst(t *testing.T, b *bench, r *report) {
	const atOnce = 20
	_, rigs := b.twoRigs(t)
	var adds, dels [2]sample
	inTurn(count("ROUNDS", 30), func(i, k int) {
		p := rigs[k].pods(atOnce)
		adds[k].ms(rigs[k].together("ADD", p))
		dels[k].ms(rigs[k].together("DEL", p))
		closeAll(p)
	})
	r.add(
		row{what: "20 ADDs at once, all done", unit: "ms", ours: adds[0], peer: "ptp", theirs: adds[1], aim: ratioUpTo(0.6)},
		row{what: "20 DELs at once, all done", unit: "ms", ours: dels[0], peer: "ptp", theirs: dels[1], aim: ratioUpTo(0.6)})
}

// start measures the programs themselves.
func start(t *testing.T, b *bench, r *report) {
	var took, size [2]sample
	names := []string{"margay", "ptp"}
	for i, name := range names {
		st, err := os.Stat(b.bin(name))
		if err != nil {
			t.Fatal(err)
		}
		size[i] = sample{float64(st.Size()) / 1e6}
	}
	inTurn(count("N", 200), func(i, k int) {
		cmd := exec.Command(b.bin(names[k]))
		cmd.Env = []string{"CNI_COMMAND=VERSION"}
		cmd.Stdin = strings.NewReader(`{"cniVersion":"1.0.0"}`)
		begin := time.Now()
		out, err := cmd.Output()
		took[k].ms(time.Since(begin))
		if err != nil || !bytes.Contains(out, []byte("supportedVersions")) {
			t.Errorf("%s VERSION: %v: %s", names[k], err, out)
		}
	})
	r.add(
		row{what: "plugin binary", unit: "MB", ours: size[0], peer: "ptp", theirs: size[1], aim: upTo(4)},
		row{what: "plugin start (VERSION)", unit: "ms", ours: took[0], peer: "ptp", theirs: took[1], aim: upTo(4)})
}
