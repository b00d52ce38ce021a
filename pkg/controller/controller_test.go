package controller_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/margay-net/margay/pkg/controller"
	"github.com/margay-net/margay/pkg/controller/setting"
)

// running is a controller as the program runs it.
type running struct {
	stop   context.CancelFunc
	done   chan error
	health int
}

// run starts a controller under a name. Its metrics are on the port that the cluster's configuration says, its probes on one
// of its own.
func (l *lab) run(name string) *running {
	l.t.Helper()
	r := &running{health: freePort(l.t), done: make(chan error, 1)}
	env, err := setting.Read([]string{"POD_NAME=" + name, fmt.Sprintf("HEALTH_PORT=%d", r.health), "DATASTORE_TYPE=kubernetes", "ENABLED_CONTROLLERS=node,loadbalancer"})
	l.must(err)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	c := controller.New(env, l.account, l.acting, quiet(), new(slog.LevelVar))
	go func() { r.done <- c.Run(ctx) }()
	l.t.Cleanup(func() {
		stop()
		<-r.done
		r.done <- nil
	})
	return r
}

func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	r.done <- nil
}

// freePort returns a port that nobody has, and that the kernel gives to no connection before it is used.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(10000) // below net.ipv4.ip_local_port_range
		lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			lis.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// get asks one of the controller's ports; 0: it does not answer.
func get(t *testing.T, port int, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// leader is who holds the lease.
func (l *lab) leader() string {
	lease, err := l.core.CoordinationV1().Leases("kube-system").Get(l.t.Context(), controller.LeaseName, getOptions)
	if err != nil || lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// scrapes waits until the metrics have these lines.
func scrapes(t *testing.T, port int, lines ...string) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		var missing []string
		_, body := get(t, port, "/metrics")
		for _, line := range lines {
			if !strings.Contains(body, line+"\n") {
				missing = append(missing, line)
			}
		}
		if len(missing) == 0 {
			return
		}
		if time.Since(begin) > time.Minute {
			t.Fatalf("metrics lack %q:\n%s", missing, body)
		}
	}
}

// TestController: two controllers; the leader collects, serves metrics in Calico's names, follows its configuration and says
// so in the status; when it ends the other goes on.
func TestController(t *testing.T) {
	l := newLab(t)
	port := freePort(t)
	_, err := l.any.Resource(controllers).Create(t.Context(), object("KubeControllersConfiguration", "default", map[string]any{
		"prometheusMetricsPort": int64(port), "controllers": map[string]any{"node": map[string]any{"leakGracePeriod": "2s"}, "loadBalancer": map[string]any{}},
	}), createOptions)
	l.must(err)
	l.must(l.core.CoordinationV1().Leases("kube-system").Delete(t.Context(), controller.LeaseName, deleteOptions))
	l.pool("pool", "10.0.0.0/24", nil)
	l.pool("overlaps", "10.0.0.128/25", nil)
	l.node("n1", nil)
	l.node("n2", nil)
	l.own("n1", cidr1)
	l.takePod(cidr1, 1, "lives", "n1")
	l.takePod(cidr1, 2, "borrower", "n2")
	l.pod("lives", "n1", "10.0.0.1")
	l.pod("borrower", "n2", "10.0.0.2")
	first := l.run("first")
	l.eventually("the first leads", func() bool { return l.leader() == "first" })
	second := l.run("second")
	ready := func(r *running) bool { code, _ := get(t, r.health, "/readiness"); return code == http.StatusNoContent }
	l.eventually("both are ready", func() bool { return ready(first) && ready(second) })
	scrapes(t, port, `ipam_allocations_in_use{ippool="pool",node="n1"} 1`, `ipam_allocations_in_use{ippool="pool",node="n2"} 1`,
		`ipam_allocations_borrowed{ippool="pool",node="n1"} 0`, `ipam_allocations_borrowed{ippool="pool",node="n2"} 1`,
		`ipam_allocations_gc_candidates{ippool="pool",node="n1"} 0`, `ipam_blocks{ippool="pool",node="n1"} 1`, `ipam_ippool_size{ippool="pool"} 256`,
		`ipam_allocations_per_node{node="n1"} 1`, `ipam_allocations_borrowed_per_node{node="n2"} 1`, `ipam_blocks_per_node{node="n1"} 1`,
		`margay_controller_leader 1`, `margay_ip_pool_faults{ippool="overlaps"} 1`, `ipam_ippool_reserved{ippool="pool"} 0`)
	l.eventually("the pool's event says what is wrong", func() bool { return strings.Contains(l.events("overlaps"), "overlaps with IP pool pool") })

	l.deletePod("lives")
	l.eventually("the leak is collected after the grace period", func() bool { return len(l.holders()) == 1 })
	scrapes(t, port, `ipam_allocations_gc_reclamations{ippool="pool",node="n1"} 1`)
	status := func() string {
		u, err := l.any.Resource(controllers).Get(t.Context(), "default", getOptions)
		l.must(err)
		return fmt.Sprint(u.Object["status"])
	}
	l.eventually("the status says what runs", func() bool {
		return strings.Contains(status(), "ENABLED_CONTROLLERS:node,loadbalancer") && strings.Contains(status(), "leakGracePeriod:2s")
	})
	_, err = l.any.Resource(controllers).Patch(t.Context(), "default", types.MergePatchType, []byte(`{"spec":{"logSeverityScreen":"Debug","controllers":{"node":{"leakGracePeriod":"0s"}}}}`), metav1.PatchOptions{})
	l.must(err)
	l.eventually("the change is applied", func() bool {
		return strings.Contains(status(), "logSeverityScreen:Debug") && strings.Contains(status(), "leakGracePeriod:0s")
	})

	first.end(t)
	l.eventually("the second leads", func() bool { return l.leader() == "second" && ready(second) })
	l.deletePod("borrower")
	l.deleteNode("n2")
	l.node("n2", nil)
	l.eventually("what the former n2 had is collected", func() bool { return len(l.holders())+l.objects("ipamhandles") == 0 })
}
