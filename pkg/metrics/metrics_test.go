package metrics

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/cni/server"
	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/status"
)

// agent is the sources of a scrape, as a test sets them.
type agent struct {
	params          model.Parameters
	stats           ipam.Stats
	ready           error
	reads           int
	inSync          bool
	v4, v6          int
	mtu4, mtu6, pod int
	peers           []status.Peer
}

func (a *agent) sources() Sources {
	return Sources{
		Params: func() model.Parameters { return a.params }, IPAM: func() ipam.Stats { return a.stats }, Ready: func() error { return a.ready },
		Resyncs: func() (int, bool) { return a.reads, a.inSync }, Routes: func() (int, int) { return a.v4, a.v6 },
		MTU:   func() (int, int, int) { return a.mtu4, a.mtu6, a.pod },
		Peers: func() []status.Peer { return a.peers }, Learned: func() (int, int) { return a.v4, a.v6 },
	}
}

// scrape returns a function that reads all series: name with labels to value.
func scrape(t testing.TB, m *Metrics, s Sources) func() map[string]float64 {
	h := m.Handler(s)
	return func() map[string]float64 {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
		if w.Code != 200 {
			t.Fatalf("%d: %s", w.Code, w.Body)
		}
		out := map[string]float64{}
		for sc := bufio.NewScanner(bytes.NewReader(w.Body.Bytes())); sc.Scan(); {
			if line := sc.Text(); !strings.HasPrefix(line, "#") {
				i := strings.LastIndexByte(line, ' ')
				v, err := strconv.ParseFloat(line[i+1:], 64)
				if err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				out[line[:i]] = v
			}
		}
		return out
	}
}

func want(t *testing.T, got map[string]float64, values map[string]float64) {
	t.Helper()
	for name, v := range values {
		if have, ok := got[name]; !ok || have != v {
			t.Errorf("%s is %v (there: %v), want %v", name, have, ok, v)
		}
	}
}

// Everything happens once, and is seen under its name; nothing but values changes.
func TestSeries(t *testing.T) {
	m := New("node1", "v9")
	for _, part := range []string{"links", Routes, "neighbours"} {
		m.Dataplane(part)
	}
	a := &agent{params: model.Parameters{GoMetrics: true, ProcessMetrics: true}, ready: errors.New("starting")}
	look := scrape(t, m, a.sources())
	before := look()
	want(t, before, map[string]float64{
		`felix_host{host="node1"}`: 1, `felix_active_local_endpoints`: 0, `felix_cluster_num_hosts`: 0, `felix_resync_state`: 1, `felix_resyncs_started`: 0,
		`felix_int_dataplane_failures`: 0, `felix_int_dataplane_apply_time_seconds_count`: 0, `felix_int_dataplane_apply_time_seconds_sum`: 0,
		`felix_calc_graph_update_time_seconds_count`: 0, `felix_route_table_resync_seconds_count`: 0,
		`felix_route_table_num_routes{table="IPv4:254"}`: 0, `felix_route_table_num_routes{table="IPv6:254"}`: 0,
		`bgp_peers{ip_version="IPv4",status="Established"}`: 0, `bgp_peers{ip_version="IPv6",status="Refused"}`: 0, `bgp_routes_imported{ip_version="IPv6"}`: 0,
		`margay_ready`: 0, `margay_ipam_unsettled_seconds`: 0, `margay_pod_mtu_bytes`: 0,
		`margay_dataplane_failures_total{part="links"}`: 0, `margay_dataplane_resync_seconds_count{part="neighbours"}`: 0,
		`margay_cni_call_seconds_count{result="ok",verb="ADD"}`: 0, `margay_cni_call_seconds_count{result="failed",verb="DEL"}`: 0,
		`margay_cni_failures_total{reason="exhausted",verb="ADD"}`: 0, `margay_cni_failures_total{reason="abandoned",verb="ADD"}`: 0,
	})
	if _, there := before[`margay_underlay_mtu_bytes{family="IPv6"}`]; there {
		t.Error("a node without an IPv6 address has an MTU for it")
	}

	routes, links := m.Dataplane(Routes), m.Dataplane("links")
	routes.Resynced(2*time.Second, nil)
	routes.Applied(time.Second, nil)
	links.Resynced(time.Second, errors.New("no"))
	links.Applied(3*time.Second, errors.New("no"))
	m.Computed(5 * time.Millisecond)
	m.Planned(3, 2, 4, 1)
	m.Served(server.VerbAdd, 6*time.Millisecond, wire.OK)
	m.Served(server.VerbAdd, time.Hour, server.Abandoned)
	m.Served(server.VerbDel, time.Millisecond, wire.Internal)
	*a = agent{params: a.params, stats: ipam.Stats{Endpoints: 7, Unsettled: 2, Blocks: 1, Free: 57, Ready: 32, Conflicts: 1, Oldest: time.Now().Add(-time.Minute)},
		reads: 2, inSync: true, v4: 9, v6: 3, mtu4: 1500, mtu6: 1400, pod: 1330}
	after := look()
	want(t, after, map[string]float64{
		`felix_active_local_endpoints`: 7, `felix_cluster_num_hosts`: 3, `felix_resync_state`: 3, `felix_resyncs_started`: 2, `felix_int_dataplane_failures`: 2,
		`felix_int_dataplane_apply_time_seconds_count`: 2, `felix_int_dataplane_apply_time_seconds_sum`: 4, `felix_int_dataplane_apply_time_seconds{quantile="0.99"}`: 3,
		`felix_calc_graph_update_time_seconds{quantile="0.9"}`: 0.005, `felix_route_table_resync_seconds_sum`: 2,
		`felix_route_table_num_routes{table="IPv4:254"}`: 9, `felix_route_table_num_routes{table="IPv6:254"}`: 3,
		`margay_ready`: 1, `margay_ip_pools`: 2, `margay_cluster_faults`: 4, `margay_node_address_faults`: 1,
		`margay_dataplane_failures_total{part="links"}`: 2, `margay_dataplane_failures_total{part="routes"}`: 0,
		`margay_dataplane_apply_seconds_sum{part="links"}`: 3, `margay_dataplane_resync_seconds_sum{part="routes"}`: 2,
		`margay_cni_call_seconds_bucket{result="ok",verb="ADD",le="0.005"}`: 0, `margay_cni_call_seconds_bucket{result="ok",verb="ADD",le="0.01"}`: 1,
		`margay_cni_call_seconds_bucket{result="failed",verb="ADD",le="10"}`: 0, `margay_cni_call_seconds_count{result="failed",verb="ADD"}`: 1,
		`margay_cni_failures_total{reason="abandoned",verb="ADD"}`: 1, `margay_cni_failures_total{reason="internal",verb="DEL"}`: 1,
		`margay_ipam_blocks`: 1, `margay_ipam_free_addresses`: 57, `margay_ipam_ready_addresses`: 32, `margay_ipam_unsettled`: 2, `margay_ipam_conflicts`: 1,
		`margay_underlay_mtu_bytes{family="IPv4"}`: 1500, `margay_underlay_mtu_bytes{family="IPv6"}`: 1400, `margay_pod_mtu_bytes`: 1330,
	})
	if s := after[`margay_ipam_unsettled_seconds`]; s < 60 || s > 70 {
		t.Errorf("the oldest waits since %v s, want 60", s)
	}
	for name := range after {
		if _, there := before[name]; !there && !strings.HasPrefix(name, "margay_underlay_mtu_bytes") && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("%s is there only after the first event", name)
		}
	}
	a.inSync = false
	want(t, look(), map[string]float64{`felix_resync_state`: 2})
}

// TestPeers: what BGP peers' sessions do; an agent that speaks no BGP has nothing of it.
func TestPeers(t *testing.T) {
	a := &agent{v4: 9, v6: 3, peers: []status.Peer{
		{Addr: netip.MustParseAddr("192.168.10.12"), Type: status.PeerMesh, Up: true, State: "Established", Since: time.Unix(1_800_000_000, 0), Received: 4, Sessions: 2, UpdatesIn: 7, UpdatesOut: 5},
		{Addr: netip.MustParseAddr("192.168.10.13"), Type: status.PeerMesh, State: "Active", UpdatesIn: 1},
		{Addr: netip.MustParseAddr("fd00:42::1"), Type: status.PeerGlobal, State: status.Refused},
	}}
	got := scrape(t, New("node1", "v9"), a.sources())()
	want(t, got, map[string]float64{
		`bgp_peers{ip_version="IPv4",status="Established"}`: 1, `bgp_peers{ip_version="IPv4",status="Active"}`: 1, `bgp_peers{ip_version="IPv6",status="Refused"}`: 1,
		`bgp_peers{ip_version="IPv6",status="Established"}`: 0, `bgp_routes_imported{ip_version="IPv4"}`: 9, `bgp_routes_imported{ip_version="IPv6"}`: 3,
		`bgp_route_updates_received{ip_version="IPv4"}`: 8, `bgp_route_updates_received{ip_version="IPv6"}`: 0,
		`margay_bgp_peer_up{peer="192.168.10.12",type="mesh"}`: 1, `margay_bgp_peer_up{peer="192.168.10.13",type="mesh"}`: 0, `margay_bgp_peer_up{peer="fd00:42::1",type="global"}`: 0,
		`margay_bgp_peer_since_seconds{peer="192.168.10.12",type="mesh"}`: 1_800_000_000, `margay_bgp_peer_since_seconds{peer="fd00:42::1",type="global"}`: 0,
		`margay_bgp_peer_paths{peer="192.168.10.12",type="mesh"}`: 4, `margay_bgp_peer_sessions_total{peer="192.168.10.12",type="mesh"}`: 2,
		`margay_bgp_peer_updates_total{direction="in",peer="192.168.10.12",type="mesh"}`: 7, `margay_bgp_peer_updates_total{direction="out",peer="192.168.10.12",type="mesh"}`: 5,
	})
	board, err := os.ReadFile("../../manifests/grafana/margay.json")
	if err != nil {
		t.Fatal(err)
	}
	asked := regexp.MustCompile(`\b(?:margay_)?bgp_\w+`).FindAllString(string(board), -1)
	for _, name := range asked {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(got)), func(series string) bool { return strings.HasPrefix(series, name+"{") }) {
			t.Errorf("the dashboard asks for %s, which is not served", name)
		}
	}
	if len(asked) < 8 {
		t.Errorf("the dashboard asks for %v alone", asked)
	}
	s := a.sources()
	s.Peers, s.Learned = nil, nil
	for name := range scrape(t, New("node1", "v9"), s)() {
		if strings.Contains(name, "bgp_") {
			t.Errorf("%s is there without BGP", name)
		}
	}
}

// The metrics of runtime and process come and go with their parameters, at the next scrape.
func TestGoAndProcess(t *testing.T) {
	m, a := New("node1", "v9"), &agent{}
	look := scrape(t, m, a.sources())
	for range 2 {
		for _, runtime := range []bool{true, false} {
			for _, process := range []bool{true, false} {
				a.params.GoMetrics, a.params.ProcessMetrics = runtime, process
				got := look()
				_, goThere := got["go_goroutines"]
				_, processThere := got["process_open_fds"]
				if goThere != runtime || processThere != process {
					t.Errorf("go_ %v, process_ %v: have %v, %v", runtime, process, goThere, processThere)
				}
			}
		}
	}
}

// What the package's text promises of Calico's names is what is served, and what it says is missing is.
func TestDocTellsTheNames(t *testing.T) {
	b, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	served, missing, ok := strings.Cut(string(b), "# Names of Calico's that are not")
	if !ok {
		t.Fatal("doc.go has another shape")
	}
	m, a := New("node1", "v9"), &agent{}
	m.Dataplane(Routes)
	var have, told []string
	for series := range scrape(t, m, a.sources())() {
		if name, _, _ := strings.Cut(series, "{"); strings.HasPrefix(name, "felix_") || strings.HasPrefix(name, "bgp_") {
			have = append(have, strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count"))
		}
	}
	for _, line := range regexp.MustCompile(`(?m)^//\t((?:felix|bgp)_[a-z_]+)`).FindAllStringSubmatch(served, -1) {
		told = append(told, line[1])
	}
	slices.Sort(have)
	slices.Sort(told)
	if have = slices.Compact(have); !slices.Equal(have, told) {
		t.Errorf("served are %v, doc.go tells of %v", have, told)
	}
	for _, name := range have {
		if strings.Contains(missing, name) {
			t.Errorf("doc.go says that %s is missing", name)
		}
	}
}

// BenchmarkScrape is one scrape of everything, without the network.
func BenchmarkScrape(b *testing.B) {
	m, a := New("node1", "v9"), &agent{params: model.Parameters{GoMetrics: true, ProcessMetrics: true}, inSync: true}
	for _, part := range []string{"links", Routes, "neighbours"} {
		h := m.Dataplane(part)
		for i := range 1000 {
			h.Applied(time.Duration(i)*time.Microsecond, nil)
		}
	}
	h := m.Handler(a.sources())
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), "GET", "/metrics", nil))
		if w.Code != 200 {
			b.Fatal(fmt.Sprint(w.Code))
		}
		b.ReportMetric(float64(w.Body.Len()), "bytes")
	}
}
