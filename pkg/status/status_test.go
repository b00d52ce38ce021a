package status

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/model"
)

// serve runs a server until the test ends.
func serve(t *testing.T, o Options) {
	t.Helper()
	o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := New(o).Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); done.Wait() })
	for range 4000 {
		if c, err := net.Dial("unix", o.Socket); err == nil {
			c.Close()
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("nobody listens")
}

func TestAsk(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "run", Socket)
	if _, err := Ask(t.Context(), socket); !errors.Is(err, ErrNoAgent) || !strings.Contains(err.Error(), socket) {
		t.Errorf("without an agent: %v", err)
	}
	want := Status{
		Node: "node1", Version: "v1", PID: 7, Started: time.Unix(1_800_000_000, 0).UTC(), NotReady: "it starts", PodMTU: 1450, Blocks: 2,
		Addr4: netip.MustParsePrefix("192.168.10.11/24"), Tunnel4: netip.MustParseAddr("10.0.0.0"), Plan: Plan{Routes: 3, Faults: []string{"odd"}},
		Peers: []Peer{{Addr: netip.MustParseAddr("192.168.10.12"), Type: PeerMesh, Up: true, State: "Established", Since: time.Unix(1_800_000_000, 0).UTC()}},
	}
	routes := []Route{{Dst: netip.MustParsePrefix("10.0.0.0/26"), Blackhole: true, Proto: 80, Why: "own block"}}
	serve(t, Options{Socket: socket, Status: func() Status { return want }, Routes: func() []Route { return routes }})

	have, err := Ask(t.Context(), socket)
	if err != nil || !slices.Equal(have.Peers, want.Peers) || have.Node != want.Node || have.Addr4 != want.Addr4 || have.Addr6.IsValid() || have.Plan.Faults[0] != "odd" {
		t.Errorf("status %+v, %v", have, err)
	}
	got, err := AskRoutes(t.Context(), socket)
	if err != nil || !slices.Equal(got, routes) {
		t.Errorf("routes %+v, %v", got, err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v: want mode 0600", info.Mode(), err)
	}
	if _, err := Listen(socket); !errors.Is(err, ErrInUse) {
		t.Errorf("second agent: %v", err)
	}
}

// TestProtocol: several requests on one connection; what is no request is answered with an error, or ends the connection.
func TestProtocol(t *testing.T) {
	socket := filepath.Join(t.TempDir(), Socket)
	serve(t, Options{Socket: socket, Status: func() Status { return Status{Node: "n"} }, Routes: func() []Route { return nil }})
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for _, test := range []struct{ request, want string }{
		{`{"get":"status"}`, `{"status":{"node":"n",`}, {`{"get":"secrets"}`, `{"error":"unknown request \"secrets\": want status, routes or way"}`},
		{`status`, `{"error":"read request: want a line such as`}, {`{"get":"routes"}`, `{}`},
		{`{"get":"way"}`, `{"error":"request \"way\" has no \"to\"`}, {`{"get":"way","to":"10.0.0.7"}`, `{"error":"read request`},
	} {
		if _, err := c.Write([]byte(test.request + "\n")); err != nil {
			t.Fatal(err)
		}
		line, err := in.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, test.want) {
			t.Errorf("%s: %s, %v; want %s", test.request, line, err, test.want)
		}
	}
	_, _ = c.Write([]byte(strings.Repeat("x", 2*maxLine)))
	if line, err := in.ReadString('\n'); err == nil {
		t.Errorf("an endless line is answered with %s", line)
	}
}

// TestStaleSocket: one that a killed agent left is replaced.
func TestStaleSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), Socket)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := Ask(t.Context(), socket); !errors.Is(err, ErrNoAgent) {
		t.Errorf("stale socket: %v", err)
	}
	serve(t, Options{Socket: socket, Status: func() Status { return Status{} }, Routes: func() []Route { return nil }})
}

func TestExplain(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	c := Cluster{
		Self: "node1",
		Nodes: map[string]model.Node{
			"node1": {Name: "node1", Addr4: p("192.168.10.11/24")},
			"node2": {Name: "node2", Addr4: p("192.168.10.12/24"), VXLANAddr4: a("10.0.0.64")},
			"node3": {Name: "node3", Addr4: p("192.168.10.13/24")},
		},
		Pools: []model.Pool{
			{Name: "ipip", CIDR: p("10.2.0.0/24"), VXLAN: model.EncapNever, IPIP: model.EncapAlways},
			{Name: "tunnelled", CIDR: p("10.0.0.0/24"), VXLAN: model.EncapAlways}, {Name: "plain", CIDR: p("10.1.0.0/24"), VXLAN: model.EncapNever},
		},
		Blocks: []model.Block{{CIDR: p("10.0.0.0/26"), Node: "node1"}, {CIDR: p("10.0.0.64/26"), Node: "node2"}, {CIDR: p("10.1.0.0/26"), Node: "node3"}, {CIDR: p("10.2.0.0/26"), Node: "node3"}, {CIDR: p("10.2.0.64/26"), Node: "node2"}},
		Paths: []Path{
			{Prefix: p("10.2.0.0/26"), Peer: a("192.168.10.12"), Type: PeerNode, NextHop: a("192.168.10.13")},
			{Prefix: p("10.2.0.0/26"), Peer: a("192.168.10.14"), Type: PeerNode, NextHop: a("192.168.10.13")},
			{Prefix: p("0.0.0.0/0"), Peer: a("192.168.42.1"), Type: PeerGlobal, NextHop: a("192.168.42.1"), Stale: true},
			{Prefix: p("0.0.0.0/0"), Peer: a("192.168.42.2"), Type: PeerGlobal, NextHop: a("192.168.42.2")},
		},
		Endpoints: []model.Endpoint{
			{Namespace: "default", Pod: "web", IfName: "eth0", HostVeth: "cali1", Addrs: []netip.Addr{a("10.0.0.1")}},
			{Namespace: "default", Pod: "guest", IfName: "eth0", HostVeth: "cali2", Addrs: []netip.Addr{a("10.0.0.70")}},
		},
	}
	routes := []model.Route{
		{Dst: p("10.0.0.0/26"), Kind: model.RouteBlackhole, Proto: model.ProtoMargay},
		{Dst: p("10.0.0.64/26"), Via: a("10.0.0.64"), Dev: "vxlan.calico", OnLink: true, Proto: model.ProtoMargay},
		{Dst: p("10.1.0.0/26"), Via: a("192.168.10.13"), Dev: "eth0", Proto: model.ProtoMargay},
		{Dst: p("10.2.0.0/26"), Via: a("192.168.10.13"), Dev: "tunl0", OnLink: true, Proto: model.ProtoBIRD},
		{Dst: p("10.2.0.64/26"), Via: a("192.168.10.12"), Dev: "tunl0", OnLink: true, Proto: model.ProtoMargay},
		{Dst: p("0.0.0.0/0"), Via: a("192.168.42.1"), Dev: "eth0", Others: "eth0 192.168.42.2 - ", Proto: model.ProtoBIRD},
		{Dst: p("10.9.0.0/26"), Via: a("192.168.42.1"), Dev: "eth0", Proto: model.ProtoBIRD},
		{Dst: p("10.0.0.9/32"), Via: a("10.0.0.64"), Dev: "vxlan.calico", OnLink: true, Proto: model.ProtoMargay},
	}
	want := []string{
		"10.0.0.0/26: own block: addresses without a pod go nowhere, pool tunnelled (VXLAN Always)",
		"10.0.0.1/32: pod default/web, eth0",
		"10.0.0.9/32: address that another node than its block's owner has, pool tunnelled (VXLAN Always), by the tunnel to node2",
		"10.0.0.64/26: block of node2, pool tunnelled (VXLAN Always), by the tunnel to node2",
		"10.0.0.70/32: pod default/guest, eth0, borrowed of block 10.0.0.64/26 of node2",
		"0.0.0.0/0: learned from peer 192.168.42.1 (global), which is gone and waited for, next hop 192.168.42.1; learned from peer 192.168.42.2 (global), next hop 192.168.42.2; no pool",
		"10.2.0.0/26: learned from peer 192.168.10.12 (node specific) and peer 192.168.10.14 (node specific), next hop 192.168.10.13; block of node3, pool ipip (IPIP Always)",
		"10.2.0.64/26: block of node2, pool ipip (IPIP Always), by the IPIP tunnel to node2",
		"10.9.0.0/26: learned by BGP; no pool",
		"10.1.0.0/26: block of node3, pool plain (not encapsulated), unencapsulated to node3",
	}
	var have []string
	for _, r := range Explain(c, routes) {
		have = append(have, r.Dst.String()+": "+r.Why)
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("have\n%s\nwant\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
}

func TestAskWay(t *testing.T) {
	socket, to := filepath.Join(t.TempDir(), Socket), netip.MustParsePrefix("10.0.0.7/26")
	serve(t, Options{Socket: socket, Find: func(asked netip.Prefix) Found {
		return Found{BGP: true, Paths: []Path{{Prefix: asked, ASPath: []uint32{64513}, Stale: true}}, Announced: []Announced{{Prefix: asked, Own: true}}}
	}})
	have, err := AskWay(t.Context(), socket, to)
	if err != nil || !have.BGP || len(have.Paths) != 1 || have.Paths[0].Prefix != to.Masked() || !have.Paths[0].Stale || !slices.Equal(have.Paths[0].ASPath, []uint32{64513}) || !have.Announced[0].Own {
		t.Errorf("%+v, %v", have, err)
	}
}

func TestPeerInWordsOfBIRD(t *testing.T) {
	for reason, want := range map[string]string{
		"": "", "connect: connection refused": "Socket: Connection refused", "connect: timeout (a wrong password looks the same)": "Socket: Connection timed out (a wrong password looks the same)",
		"peer closed: cease (administrative reset)": "Received: Cease (administrative reset)", "closed: bad peer as": "BGP Error: Bad peer as",
		"hold timer expired": "BGP Error: Hold timer expired", "there is no BGPFilter \"x\"": "Error: There is no BGPFilter \"x\"",
	} {
		if have := InfoOf(reason); have != want {
			t.Errorf("%q is %q, want %q", reason, have, want)
		}
	}
	for want, p := range map[string]Peer{"up": {Up: true, State: "Established"}, "start": {State: "Active"}, "down": {State: Refused}} {
		if p.Proto() != want {
			t.Errorf("%+v is %q, want %q", p, p.Proto(), want)
		}
	}
}
