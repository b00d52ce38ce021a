package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/margay-net/margay/test/lab"
)

// flannel is flannel's daemon on a node of a lab.
type flannel struct {
	t          *testing.T
	node       *lab.Node
	path       string
	kubeconfig string
	conf       string // net-conf.json
	lease      string // the file that it writes when it is ready
	subnet     string // of its pods
	iptables   bool
	pid        int
	stop       func()
}

// flannel prepares a daemon; number tells the nodes apart. It uses another pool and UDP port than Margay's agents.
func (b *bench) flannel(t *testing.T, n *lab.Node, number int, iptables bool) *flannel {
	t.Helper()
	dir := t.TempDir()
	f := &flannel{t: t, node: n, path: b.bin("flannel"), conf: filepath.Join(dir, "net-conf.json"), lease: filepath.Join(dir, "subnet.env"),
		subnet: fmt.Sprintf("10.244.%d.0/24", number), iptables: iptables, kubeconfig: kubeconfig(t, b.cluster.Server.Config())}
	if err := os.WriteFile(f.conf, []byte(`{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	// A node has annotations wherever a kubelet runs, and flannel relies on it.
	patch := fmt.Sprintf(`{"metadata": {"annotations": {"bench": ""}}, "spec": {"podCIDR": %q, "podCIDRs": [%q]}}`, f.subnet, f.subnet)
	if _, err := b.cluster.Core.CoreV1().Nodes().Patch(t.Context(), n.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	return f
}

// start starts the daemon and waits until it is ready; it returns the time that took.
func (f *flannel) start() time.Duration {
	f.t.Helper()
	if f.stop != nil {
		f.stop()
	}
	if err := os.Remove(f.lease); err != nil && !os.IsNotExist(err) {
		f.t.Fatal(err)
	}
	begin := time.Now()
	f.pid, f.stop = daemon(f.t, f.node.NS, []string{"NODE_NAME=" + f.node.Name}, f.path, "-kubeconfig", f.kubeconfig, "-conf", f.conf,
		"-subnet-file", f.lease, "-iface", "eth0", fmt.Sprintf("-iptables=%v", f.iptables))
	eventually(f.t, 20*time.Second, "flannel has its lease", func() bool { _, err := os.Stat(f.lease); return err == nil })
	return time.Since(begin)
}

// agentCost measures what the agent costs a node that has nothing to do, next to flannel's daemon on another node.
func agentCost(t *testing.T, b *bench, r *report) {
	l := b.lab(t).New(t, lab.Options{Nodes: 2, Stopped: true})
	node := l.Nodes[0]
	peer := b.flannel(t, l.Nodes[1], 2, true)
	node.Start()
	node.WaitReady(30 * time.Second)
	peer.start()
	rig := b.margay(t, node)
	for _, endpoints := range []int{0, 100} {
		if endpoints > 0 {
			for _, p := range rig.pods(endpoints) {
				rig.call("ADD", p)
			}
		}
		starts(t, r, node, peer, endpoints)
		time.Sleep(5 * time.Second)
		idle(t, r, agentPID(t, node), peer.pid, endpoints)
	}
	r.note("the peer is flannel's daemon with its defaults, on another node of the same API server; it knows no endpoints")
}

// starts measures the time from the start of a process to its being ready, with a warm kernel.
func starts(t *testing.T, r *report, node *lab.Node, peer *flannel, endpoints int) {
	var took [2]sample
	inTurn(count("N", 60), func(_, k int) {
		if k == 1 {
			took[1].ms(peer.start())
			return
		}
		node.Kill()
		begin := time.Now()
		node.Start()
		eventually(t, 30*time.Second, "agent is ready", func() bool { return node.Probe("readiness") == nil })
		took[0].ms(time.Since(begin))
	})
	r.add(row{what: fmt.Sprintf("restart to ready, %d endpoints", endpoints), unit: "ms", ours: took[0], peer: "flannel", theirs: took[1]})
}

// idle looks at both for a while, once a second.
func idle(t *testing.T, r *report, ours, theirs, endpoints int) {
	var rss, anon, cpu [2]sample
	pids := [2]int{ours, theirs}
	var before [2]time.Duration
	for k, pid := range pids {
		before[k] = cpuTime(t, pid)
	}
	begin := time.Now()
	for range count("SECONDS_EACH", 60) {
		time.Sleep(time.Second)
		for k, pid := range pids {
			a, b := memory(t, pid)
			rss[k], anon[k] = append(rss[k], a), append(anon[k], b)
		}
	}
	took := time.Since(begin)
	for k, pid := range pids {
		cpu[k] = sample{1000 * (cpuTime(t, pid) - before[k]).Seconds() / took.Seconds()}
	}
	with := fmt.Sprintf(", %d endpoints", endpoints)
	r.add(
		row{what: "idle CPU over " + took.Round(time.Second).String() + with, unit: "mCPU", ours: cpu[0], peer: "flannel", theirs: cpu[1], aim: upTo(3)},
		row{what: "resident memory" + with, unit: "MB", ours: rss[0], peer: "flannel", theirs: rss[1], aim: upTo(50)},
		row{what: "of it anonymous" + with, unit: "MB", ours: anon[0], peer: "flannel", theirs: anon[1], aim: upTo(20)})
}
