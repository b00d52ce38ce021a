package node

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/netlink/nstest"
	"github.com/margay-net/margay/pkg/status"
)

var update = flag.Bool("update", false, "write the files in testdata anew")

func golden(t *testing.T, name, have string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if have != string(want) {
		t.Errorf("%s: have\n%s\nwant\n%s", path, have, want)
	}
}

var now = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

func peer(addr string, kind status.PeerType, up bool, since, state, info string) status.Peer {
	at, _ := time.Parse(time.DateTime, since)
	return status.Peer{Addr: netip.MustParseAddr(addr), Type: kind, Up: up, Since: at, State: state, Info: info}
}

// TestWalkthrough10NodeStatus: the tables of "node status" for the mesh, with the mesh off, with route reflectors, and with
// what goes wrong.
func TestWalkthrough10NodeStatus(t *testing.T) {
	mesh := peer("192.168.10.12", status.PeerMesh, true, "2026-11-22 07:27:42", "Established", "")
	for name, st := range map[string]status.Status{
		"status-mesh.txt":     {Peers: []status.Peer{mesh}},
		"status-mesh-off.txt": {},
		"status-reflectors.txt": {Peers: []status.Peer{
			peer("192.168.10.14", status.PeerNode, true, "2026-11-22 07:30:01", "Established", ""),
			peer("192.168.10.11", status.PeerNode, true, "2026-11-20 07:30:01", "Established", ""),
			peer("fd00:192:168:10::11", status.PeerNode, true, "2026-11-22 07:30:01", "Established", ""),
		}},
		"status-fabric.txt": {Peers: []status.Peer{
			mesh, peer("192.168.42.1", status.PeerGlobal, false, "2026-11-22 08:59:59", "Active", "Socket: Connection refused"),
		}},
		"status-states.txt": {Peers: []status.Peer{
			peer("192.168.10.12", status.PeerMesh, false, "2026-11-22 07:27:42", "Passive", ""),
			peer("192.168.10.13", status.PeerMesh, false, "2026-11-22 07:27:42", "Active", ""),
			peer("192.168.10.14", status.PeerNode, false, "2026-11-22 07:27:42", "Idle", "BGP Error: Hold timer expired"),
			peer("192.168.10.15", status.PeerNode, false, "2026-11-22 07:27:42", "OpenSent", ""),
			peer("192.168.42.9", status.PeerGlobal, false, "0001-01-01 00:00:00", status.Refused, "Error: There is no BGPFilter \"fabric\""),
			peer("fd00:42::1", status.PeerGlobal, false, "2026-11-22 07:27:42", "Active", "Socket: No route to host"),
		}},
		"status-not-ready.txt": {NotReady: "the datastore is locked"},
	} {
		var out bytes.Buffer
		if err := printStatus(&out, st, false, now); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.String())
	}
}

func TestDetails(t *testing.T) {
	var out bytes.Buffer
	st := status.Status{
		Node: "node1", Version: "v0.1.0", PID: 4711, Started: now.Add(-26 * time.Hour), PodMTU: 1450, Endpoints: 12, Blocks: 2, Free: 114, Ready: 63,
		Addr4: netip.MustParsePrefix("192.168.10.11/24"), Tunnel4: netip.MustParseAddr("172.20.36.128"), Unsettled: 2, Oldest: now.Add(-time.Second), Conflicts: 1,
		Plan: status.Plan{Made: now.Add(-time.Minute), Nodes: 3, Pools: 1, Routes: 3, Neighs: 2, FDB: 2, Devices: 1, Faults: []string{"IPPool a overlaps b"}},
		Peers: []status.Peer{
			{Addr: netip.MustParseAddr("192.168.10.12"), Type: status.PeerMesh, AS: 64512, Up: true, State: "Established", Since: now.Add(-time.Hour), Received: 4, Sessions: 2, UpdatesIn: 7, UpdatesOut: 5, Reason: "hold timer expired", At: now.Add(-62 * time.Minute)},
			{Addr: netip.MustParseAddr("fd00:42::1"), Type: status.PeerGlobal, AS: 64513, State: "Active", Since: now.Add(-time.Minute), Restarting: true},
		},
	}
	if err := printStatus(&out, st, true, now); err != nil {
		t.Fatal(err)
	}
	golden(t, "status-details.txt", out.String())
}

func TestNoAgent(t *testing.T) {
	cmd := Command(nil)
	cmd.SetArgs([]string{"status", "--socket", filepath.Join(t.TempDir(), "none")})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if os.Geteuid() != 0 {
		nstest.Need(t, "root")
	}
	if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "Calico process is not running.") || !errors.Is(err, status.ErrNoAgent) {
		t.Errorf("without an agent: %v", err)
	}
}

// TestRoutes compares what an agent wants with what a kernel has.
func TestRoutes(t *testing.T) {
	ns := nstest.New(t)
	ns.Exec(t,
		"ip link add cali1 type veth peer name pod1", "ip link set cali1 up", "ip link set pod1 up",
		"ip link add eth0 type veth peer name wire", "ip link set eth0 up", "ip link set wire up", "ip addr add 192.168.10.11/24 dev eth0",
		"ip route add blackhole 172.20.36.128/26 proto 80",
		"ip route add 172.20.36.129/32 dev cali1 proto boot",
		"ip route add 172.20.253.64/26 via 192.168.10.12 dev eth0 proto 80",
		"ip route add 172.20.9.0/26 via 192.168.10.13 dev eth0 proto 80",
		"ip -6 route add fd00:172:20::1/128 dev cali1 proto boot",
		"ip route add 172.20.10.0/26 proto bird nexthop via 192.168.10.14 dev eth0 nexthop via 192.168.10.15 dev eth0",
		"ip route add 172.20.11.0/26 proto bird nexthop via 192.168.10.14 dev eth0 nexthop via 192.168.10.15 dev eth0",
		"ip -6 route add fd00:172:20:a::/122 via fe80::1 dev eth0 proto bird",
		"ip route add 198.51.100.0/24 dev eth0 proto static",
	)
	have, err := KernelRoutes(ns.Handle)
	if err != nil {
		t.Fatal(err)
	}
	p := netip.MustParsePrefix
	want := []status.Route{
		{Dst: p("172.20.36.128/26"), Blackhole: true, Proto: 80, Why: "own block: addresses without a pod go nowhere, pool default-ipv4-ippool (VXLAN Never)"},
		{Dst: p("172.20.36.129/32"), Dev: "cali1", Proto: 3, Why: "pod default/web, eth0"},
		{Dst: p("172.20.36.130/32"), Dev: "cali2", Proto: 3, Why: "pod default/new, eth0"},
		{Dst: p("172.20.253.64/26"), Via: netip.MustParseAddr("192.168.10.12"), Dev: "eth0", Proto: 80, Why: "block of node2, pool default-ipv4-ippool (not encapsulated), unencapsulated to node2"},
		{Dst: p("172.20.10.0/26"), Via: netip.MustParseAddr("192.168.10.14"), Dev: "eth0", Others: "eth0 192.168.10.15 - ", Proto: 12, Why: "learned from peer 192.168.10.14 (node specific), next hop 192.168.10.14; learned from peer 192.168.10.15 (node specific), next hop 192.168.10.15; no pool"},
		{Dst: p("172.20.11.0/26"), Via: netip.MustParseAddr("192.168.10.15"), Dev: "eth0", Proto: 12, Why: "learned from peer 192.168.10.15 (node specific), next hop 192.168.10.15; no pool"},
		{Dst: p("fd00:172:20:a::/122"), Via: netip.MustParseAddr("fe80::1"), Dev: "eth0", Proto: 12, Why: "learned from peer fd00:42::1 (global), next hop fe80::1; no pool"},
		{Dst: p("fd00:172:20::1/128"), Dev: "cali1", Proto: 3, Why: "pod default/web, eth0"},
	}
	var out bytes.Buffer
	if err := printRoutes(&out, want, have); err != nil {
		t.Fatal(err)
	}
	golden(t, "routes.txt", out.String())
}

// TestChecksystem tries this machine's kernel, and a kernel that lacks what is needed.
func TestChecksystem(t *testing.T) {
	nstest.Root(t)
	var out bytes.Buffer
	if err := checkSystem(&out, features()); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	for _, name := range []string{"veth", "vxlan", "sysctls", "nftables", "routes, neighbours"} {
		if !regexp.MustCompile(`(?m)^\t\t` + name + ` *\t+OK$`).MatchString(out.String()) {
			t.Errorf("%s is not OK:\n%s", name, out.String())
		}
	}
	t.Log("\n" + out.String())
	out.Reset()
	err := checkSystem(&out, []feature{
		{name: "here", try: func() error { return nil }},
		{name: "gone", try: func() error { return errors.New("operation not supported") }},
		{name: "optional", need: "ipipMode", try: func() error { return errors.New("operation not supported") }},
	})
	if err == nil || err.Error() != "system doesn't meet one or more minimum systems requirements to run Calico" {
		t.Errorf("error %v", err)
	}
	golden(t, "checksystem.txt", regexp.MustCompile(`\t\t[0-9]+\.[^\n]*`).ReplaceAllString(out.String(), "\t\tVERSION"))
	if !old("3.10.0-1160.el7") || !old("4.18.0-80") || old("4.19.0") || old("6.18.0") || old("strange") {
		t.Error("kernels' ages are wrong")
	}
}

// TestDiags: the archive has what is there, says what is not, and has no secrets.
func TestDiags(t *testing.T) {
	nstest.Root(t)
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("net.d/10-margay.conflist", `{"name": "k8s-pod-network", "token": "s3cret-1"}`)
	write("net.d/calico-kubeconfig", "token: s3cret-2")
	write("log/margay.log", "level=INFO msg=\"node is ready\"\nAuthorization: Bearer s3cret-3.aaaa\npassword=s3cret-4 next\n-----BEGIN RSA PRIVATE KEY-----\ns3cret-5\n-----END RSA PRIVATE KEY-----\n")
	write("log/client.key", "s3cret-6")
	write("journal", "0 {\"op\":\"boot\"}\n0 {\"op\":\"assign\"}\n0 {\"op\":\"assign\"}\nbroken\n")
	var out bytes.Buffer
	d := &diagnosis{socket: filepath.Join(dir, "none"), logs: []string{filepath.Join(dir, "log"), filepath.Join(dir, "nowhere")}, journal: filepath.Join(dir, "journal"), net: filepath.Join(dir, "net.d"), out: &out}
	if err := d.collect(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	_, name, ok := strings.Cut(out.String(), "Diags saved to ")
	if !ok {
		t.Fatalf("printed %s", out.String())
	}
	files := unpack(t, strings.TrimSpace(name))
	for name, want := range map[string]string{
		"link": "lo", "ipv4_route": "", "logs/margay.log": "node is ready", "cni/10-margay.conflist": "k8s-pod-network",
		"status.json": "NOT COLLECTED: ask for status: no agent runs on this node", "journal_stats": `{"":1,"assign":2,"boot":1}`,
	} {
		if text, ok := files["diagnostics/"+name]; !ok || !strings.Contains(text, want) {
			t.Errorf("%s: %q, want %q in it", name, text, want)
		}
	}
	for name, text := range files {
		if strings.Contains(text, "s3cret") {
			t.Errorf("%s has a secret:\n%s", name, text)
		}
	}
	if files["diagnostics/cni/calico-kubeconfig"] != "" || files["diagnostics/logs/client.key"] != "" {
		t.Error("files with secrets are there")
	}
}

func unpack(t *testing.T, name string) map[string]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = string(b)
	}
}
