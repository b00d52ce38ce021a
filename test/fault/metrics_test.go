package fault

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/margay-net/margay/test/lab"
)

// scrape is one answer of an agent to Prometheus.
type scrape struct {
	text   string
	values map[string]float64 // by name and labels
}

func scrapeOf(t *testing.T, n *lab.Node) scrape {
	t.Helper()
	text, err := n.Metrics()
	if err != nil {
		t.Fatalf("%s: metrics: %v", n.Name, err)
	}
	s := scrape{text: text, values: map[string]float64{}}
	for line := range strings.SplitSeq(text, "\n") {
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' {
			continue
		}
		if s.values[line[:i]], err = strconv.ParseFloat(line[i+1:], 64); err != nil {
			t.Fatalf("%s: metrics: %v", n.Name, err)
		}
	}
	return s
}

// has says whether there is a series of this name with all of these labels.
func (s scrape) has(name string, labels []string) bool {
	for series := range s.values {
		base, rest, _ := strings.Cut(series, "{")
		if base != name {
			continue
		}
		all := true
		for _, l := range labels {
			all = all && strings.Contains(rest, l)
		}
		if all {
			return true
		}
	}
	return false
}

// wantSeries waits until an agent serves these values.
func wantSeries(t *testing.T, l *lab.Lab, n *lab.Node, what string, want map[string]float64) {
	t.Helper()
	l.Within(30*time.Second, what, func() error {
		s := scrapeOf(t, n)
		for name, v := range want {
			if have, there := s.values[name]; !there || have != v {
				return fmt.Errorf("%s is %v (there: %v), want %v", name, have, there, v)
			}
		}
		return nil
	})
}

const (
	added    = `margay_cni_call_seconds_count{result="ok",verb="ADD"}`
	deleted  = `margay_cni_call_seconds_count{result="ok",verb="DEL"}`
	local    = `felix_active_local_endpoints`
	routes4  = `felix_route_table_num_routes{table="IPv4:254"}`
	routes6  = `felix_route_table_num_routes{table="IPv6:254"}`
	underlay = `margay_underlay_mtu_bytes{family="IPv4"}`
)

// TestMetrics has real agents serve what they promise: all that the dashboard asks for, from the first moment on, with the
// types and labels that Calico's dashboards expect, and values that follow what happens.
func TestMetrics(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true})
	n := l.Nodes[0]
	fresh := scrapeOf(t, n)
	for panel, exprs := range readBoard(t).queries() {
		for _, expr := range exprs {
			for name, labels := range selectors(expr) {
				if strings.Contains(name, "bgp_") {
					continue // these agents do not speak BGP; package metrics tests it
				}
				if !fresh.has(name, labels) {
					t.Errorf("panel %q asks for %s%v, which the agent does not serve", panel, name, labels)
				}
			}
		}
	}
	likeCalico(t, fresh)
	wantSeries(t, l, n, "what there is before the first pod", map[string]float64{
		local: 0, added: 0, deleted: 0, "felix_cluster_num_hosts": 2, "felix_resync_state": 3, "felix_resyncs_started": 1, "margay_ready": 1,
		`felix_host{host="node1"}`: 1, "margay_ip_pools": 2, "margay_cluster_faults": 0, "margay_node_address_faults": 0,
		"margay_ipam_blocks": 2, "margay_ipam_conflicts": 0, "margay_ipam_unsettled": 0, "margay_ipam_unsettled_seconds": 0,
		underlay: 1500, `margay_underlay_mtu_bytes{family="IPv6"}`: 1500, "margay_pod_mtu_bytes": 1430, "felix_int_dataplane_failures": 0,
	})
	countCalls(t, l, n)
	countRoutes(t, l, n)
	followMTU(t, l, n)
	countUnsettled(t, l, n)
	countFaults(t, l)
	metricsOfAStart(t, l, n)
}

// likeCalico compares with what dashboards for Calico rely on: the type, and one series per agent without further labels,
// or with just these.
func likeCalico(t *testing.T, s scrape) {
	t.Helper()
	for name, kind := range map[string]string{
		"felix_active_local_endpoints": "gauge", "felix_cluster_num_hosts": "gauge", "felix_resync_state": "gauge", "felix_host": "gauge",
		"felix_resyncs_started": "counter", "felix_int_dataplane_failures": "counter", "felix_route_table_num_routes": "gauge",
		"felix_int_dataplane_apply_time_seconds": "summary", "felix_calc_graph_update_time_seconds": "summary", "felix_route_table_resync_seconds": "summary",
		"process_start_time_seconds": "gauge", "process_cpu_seconds_total": "counter", "process_resident_memory_bytes": "gauge", "process_open_fds": "gauge",
		"go_memstats_next_gc_bytes": "gauge", "go_gc_duration_seconds": "summary",
	} {
		if !strings.Contains(s.text, "\n# TYPE "+name+" "+kind+"\n") && !strings.HasPrefix(s.text, "# TYPE "+name+" "+kind+"\n") {
			t.Errorf("%s is no %s", name, kind)
		}
		var want []string
		switch {
		case name == "felix_host":
			want = []string{name + `{host="node1"}`}
		case name == "felix_route_table_num_routes":
			want = []string{routes4, routes6}
		case name == "go_gc_duration_seconds":
			want = []string{name + "_sum", name + "_count"} // its quantiles are Go's
		case kind == "summary":
			want = []string{name + "_sum", name + "_count", name + `{quantile="0.5"}`, name + `{quantile="0.9"}`, name + `{quantile="0.99"}`}
		default:
			want = []string{name}
		}
		for _, series := range want {
			if _, there := s.values[series]; !there {
				t.Errorf("%s is not served", series)
			}
		}
	}
}

// countCalls makes calls of the plugin, and some that fail.
func countCalls(t *testing.T, l *lab.Lab, n *lab.Node) {
	t.Helper()
	a, b := n.Pod("a"), n.Pod("b")
	if err := a.Check(); err != nil {
		t.Error(err)
	}
	if err := n.Status(); err != nil {
		t.Error(err)
	}
	if err := n.GC(a, b); err != nil {
		t.Error(err)
	}
	if err := b.Remove(); err != nil {
		t.Error(err)
	}
	if r, err := dial(t, n).say(`{"op":"assign","containerID":"c1","ifName":"eth0","network":"n","namespace":"d"}` + "\n"); err != nil || r.Code == 0 {
		t.Errorf("an assign without a pod: %+v, %v", r, err)
	}
	c := dial(t, n)
	if r, err := c.say(`{"op":"assign","containerID":"c2","ifName":"eth0","network":"n","namespace":"d","pod":"dies"}` + "\n"); err != nil || r.Code != 0 {
		t.Errorf("assign: %+v, %v", r, err)
	}
	c.Close()
	wantSeries(t, l, n, "calls are counted", map[string]float64{
		local: 1, added: 2, deleted: 1, `margay_cni_call_seconds_count{result="ok",verb="CHECK"}`: 1, `margay_cni_call_seconds_count{result="ok",verb="GC"}`: 1,
		`margay_cni_call_seconds_count{result="ok",verb="STATUS"}`: 1, `margay_cni_call_seconds_count{result="failed",verb="ADD"}`: 2,
		`margay_cni_failures_total{reason="invalid",verb="ADD"}`: 1, `margay_cni_failures_total{reason="abandoned",verb="ADD"}`: 1,
	})
	s := scrapeOf(t, n)
	mean := s.values[`margay_cni_call_seconds_sum{result="ok",verb="ADD"}`] / 2
	if whole := a.Took.Seconds() + 1; mean <= 0 || mean > whole {
		t.Errorf("an ADD took %v s by the metrics, %s by the runtime's watch", mean, a.Took)
	}
	t.Logf("ADD: %.1f ms by the metrics", 1000*mean)
}

// countRoutes compares with the kernel, before and after somebody has deleted one.
func countRoutes(t *testing.T, l *lab.Lab, n *lab.Node) {
	t.Helper()
	inKernel := func(flag string) (count float64) {
		out, err := n.NS.Run("ip " + flag + " route show table main")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(out, "\n") {
			if strings.Contains(line, "proto 80") || strings.Contains(line, " dev cali") && !strings.Contains(line, "proto kernel") {
				count++
			}
		}
		return count
	}
	l.WaitRoutes(30 * time.Second)
	v4, v6 := inKernel("-4"), inKernel("-6")
	wantSeries(t, l, n, "routes are counted", map[string]float64{routes4: v4, routes6: v6})
	before := scrapeOf(t, n)
	if err := n.NS.Batch("route flush proto 80"); err != nil {
		t.Fatal(err)
	}
	const applied, parts = "felix_int_dataplane_apply_time_seconds_count", `margay_dataplane_apply_seconds_count{part="routes"}`
	l.Within(30*time.Second, "the repair is counted", func() error {
		now := scrapeOf(t, n)
		if now.values[applied] <= before.values[applied] || now.values[parts] <= before.values[parts] || inKernel("-4") != v4 {
			return fmt.Errorf("%v applied, before %v; the kernel has %v routes, wanted are %v", now.values[applied], before.values[applied], inKernel("-4"), v4)
		}
		return nil
	})
	t.Logf("routes: %v of IPv4, %v of IPv6", v4, v6)
}

// followMTU changes the underlay.
func followMTU(t *testing.T, l *lab.Lab, n *lab.Node) {
	t.Helper()
	for _, mtu := range []int{1400, 1500} {
		if err := n.NS.Batch(fmt.Sprintf("link set eth0 mtu %d", mtu)); err != nil {
			t.Fatal(err)
		}
		wantSeries(t, l, n, "the MTU is followed", map[string]float64{underlay: float64(mtu), "margay_pod_mtu_bytes": float64(mtu - 70)})
	}
}

// countUnsettled takes the API server away from the node.
func countUnsettled(t *testing.T, l *lab.Lab, n *lab.Node) {
	t.Helper()
	old := n.Pod("old")
	wantSeries(t, l, n, "all is settled", map[string]float64{"margay_ipam_unsettled": 0})
	time.Sleep(2 * time.Second)
	n.CutAPI()
	ends := time.Now()
	if err := old.Remove(); err != nil {
		t.Error(err)
	}
	s := scrapeOf(t, n)
	if age := s.values["margay_ipam_unsettled_seconds"]; s.values["margay_ipam_unsettled"] != 1 || age > time.Since(ends).Seconds() {
		t.Errorf("%v unsettled, the oldest for %v s: want 1, from its DEL on", s.values["margay_ipam_unsettled"], age)
	}
	n.Pod("new")
	l.Within(30*time.Second, "what waits is seen", func() error {
		s := scrapeOf(t, n)
		if s.values["margay_ipam_unsettled"] != 2 || s.values["margay_ipam_unsettled_seconds"] < 2 || s.values["margay_ready"] != 1 {
			return fmt.Errorf("%v unsettled, the oldest for %v s", s.values["margay_ipam_unsettled"], s.values["margay_ipam_unsettled_seconds"])
		}
		return nil
	})
	n.HealAPI()
	l.Within(30*time.Second, "nothing waits any more", func() error {
		if s := scrapeOf(t, n); s.values["margay_ipam_unsettled"] != 0 || s.values["margay_ipam_unsettled_seconds"] != 0 {
			return fmt.Errorf("%v unsettled", s.values["margay_ipam_unsettled"])
		}
		return nil
	})
}

// countFaults has another node claim this node's address.
func countFaults(t *testing.T, l *lab.Lab) {
	t.Helper()
	n, other := l.Nodes[0], l.Nodes[1]
	other.Kill()
	claim := func(addr string) {
		patch := fmt.Sprintf(`{"metadata":{"annotations":{"projectcalico.org/IPv4Address":%q}}}`, addr)
		if _, err := l.Core.CoreV1().Nodes().Patch(t.Context(), other.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	claim(n.Addr4.String())
	wantSeries(t, l, n, "the fault is counted", map[string]float64{"margay_node_address_faults": 1, "margay_cluster_faults": 1, "margay_ready": 1})
	claim(other.Addr4.String())
	wantSeries(t, l, n, "its end is", map[string]float64{"margay_node_address_faults": 0, "margay_cluster_faults": 0})
	other.Start()
	other.WaitReady(30 * time.Second)
}

// metricsOfAStart: an agent that waits for the API server says so.
func metricsOfAStart(t *testing.T, l *lab.Lab, n *lab.Node) {
	t.Helper()
	n.Kill()
	n.CutAPI()
	n.Start()
	l.Within(30*time.Second, "metrics are served", func() error { _, err := n.Metrics(); return err })
	wantSeries(t, l, n, "the start waits", map[string]float64{"margay_ready": 0, "felix_resync_state": 1, "felix_resyncs_started": 0, local: 2})
	n.HealAPI()
	n.WaitReady(30 * time.Second)
	wantSeries(t, l, n, "the start is over", map[string]float64{"margay_ready": 1, "felix_resync_state": 3, "felix_resyncs_started": 1, local: 2})
}

// TestScrapeIsCheap: a scrape of a node with 100 pods costs less than 5 ms of a CPU.
func TestScrapeIsCheap(t *testing.T) {
	const pods, scrapes, limit = 100, 100, 5 * time.Millisecond
	l := cluster.New(t, lab.Options{IPv6: true})
	n := l.Nodes[0]
	for i := range pods {
		n.Pod(fmt.Sprintf("pod%d", i))
	}
	l.Agrees(30 * time.Second)
	pid := agentPID(t, n)
	scrapeOf(t, n)
	before, start := usedCPU(t, pid), time.Now()
	for range scrapes {
		scrapeOf(t, n)
	}
	each, wall := (usedCPU(t, pid)-before)/scrapes, time.Since(start)/scrapes
	s := scrapeOf(t, n)
	t.Logf("a scrape of a node with %d pods: %s CPU, %s in all, %d bytes, %d series", pods, each, wall, len(s.text), len(s.values))
	if each > limit {
		t.Errorf("a scrape costs %s CPU, want %s at most", each, limit)
	}
	if s.values[local] != pods {
		t.Errorf("%v endpoints, want %d", s.values[local], pods)
	}
}

// agentPID asks the kernel who listens on the node's CNI socket.
func agentPID(t *testing.T, n *lab.Node) int {
	t.Helper()
	c, err := net.Dial("unix", n.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cred *unix.Ucred
	if ctlErr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); ctlErr != nil || err != nil {
		t.Fatal(ctlErr, err)
	}
	return int(cred.Pid)
}

// usedCPU is the CPU time of a process, by its own clock (clock_getcpuclockid(3)).
func usedCPU(t *testing.T, pid int) time.Duration {
	t.Helper()
	const sched = 2 // CPUCLOCK_SCHED in the kernel's posix-timers.h
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|sched, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
