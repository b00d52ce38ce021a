package explain

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/ctl/ctltest"
	"github.com/margay-net/margay/pkg/netlink/nstest"
	"github.com/margay-net/margay/pkg/status"
)

// TestRoute explains routes of every kind, from what an agent and a kernel say.
func TestRoute(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	node2, fabric := a("192.168.10.12"), a("192.168.42.1")
	own := status.Route{Dst: p("172.20.36.128/26"), Blackhole: true, Proto: 80, Why: "own block: addresses without a pod go nowhere, pool default-ipv4-ippool (IPIP CrossSubnet)"}
	pod := status.Route{Dst: p("172.20.36.130/32"), Dev: "cali385152345a1", Proto: 3, Why: "pod default/web, eth0"}
	learned := status.Route{
		Dst: p("172.20.253.64/26"), Via: node2, Dev: "tunl0", Proto: 12,
		Why: "learned from peer 192.168.10.12 (node-to-node mesh), next hop 192.168.10.12; block of node2, pool default-ipv4-ippool (IPIP Always)",
	}
	outside := status.Route{
		Dst: p("10.8.0.0/16"), Via: fabric, Dev: "eth0", Others: "eth0 192.168.42.2 - ", Proto: 12,
		Why: "learned from peer 192.168.42.1 (global), next hop 192.168.42.1; learned from peer 192.168.42.2 (global), next hop 192.168.42.2; no pool",
	}
	all := []status.Route{own, pod, learned, outside}
	for name, test := range map[string]struct {
		to    string
		found status.Found
		have  []status.Route
	}{
		"route-learned.txt": {"172.20.253.66", status.Found{
			BGP: true, Peers: 3, Routes: []status.Route{learned}, Paths: []status.Path{
				{Prefix: learned.Dst, NextHop: node2, Peer: node2, Type: status.PeerMesh, AS: 64512, Preference: 100, Communities: []string{"64512:100", "64512:1:2"}, Used: true},
				{Prefix: learned.Dst, NextHop: fabric, Peer: fabric, Type: status.PeerGlobal, AS: 64513, ASPath: []uint32{64513, 64512}, MED: 7},
				{Prefix: p("172.20.0.0/16"), NextHop: fabric, Peer: fabric, Type: status.PeerGlobal, AS: 64513, ASPath: []uint32{64513}, Refused: true},
			}, Announced: []status.Announced{{Prefix: learned.Dst, To: []netip.Addr{fabric}}},
		}, all},
		"route-own.txt": {"172.20.36.130", status.Found{
			BGP: true, Peers: 8, Routes: []status.Route{pod, own}, Announced: []status.Announced{{Prefix: own.Dst, Own: true, To: []netip.Addr{
				a("192.168.10.12"), a("192.168.10.13"), a("192.168.10.14"), a("192.168.10.15"), a("192.168.10.16"), a("192.168.10.17"), a("192.168.10.18"), fabric,
			}}},
		}, all},
		"route-missing.txt": {"172.20.253.64/26", status.Found{
			BGP: true, Peers: 1, Routes: []status.Route{learned}, Inside: 2, Paths: []status.Path{
				{Prefix: learned.Dst, NextHop: node2, Peer: node2, Type: status.PeerMesh, AS: 64512, Preference: 100, Used: true, Stale: true},
			}, Announced: []status.Announced{{Prefix: learned.Dst, Own: true}},
		}, []status.Route{{Dst: learned.Dst, Via: a("192.168.10.13"), Dev: "eth0", Proto: 12}}},
		"route-ecmp.txt": {"10.8.1.1", status.Found{
			BGP: true, Peers: 2, Routes: []status.Route{outside}, Paths: []status.Path{
				{Prefix: outside.Dst, NextHop: fabric, Peer: fabric, Type: status.PeerGlobal, AS: 64513, ASPath: []uint32{64513, 65000}, Used: true},
				{Prefix: outside.Dst, NextHop: a("192.168.42.2"), Peer: a("192.168.42.2"), Type: status.PeerGlobal, AS: 64513, ASPath: []uint32{64513, 65000}, Used: true},
			},
		}, all},
		"route-elsewhere.txt": {"172.20.36.128/26", status.Found{BGP: true, Peers: 1, Routes: []status.Route{own}, Paths: []status.Path{
			{Prefix: own.Dst, NextHop: node2, Peer: node2, Type: status.PeerNode, AS: 64512, Preference: 100, Used: true},
		}}, all},
		"route-none.txt":   {"203.0.113.7", status.Found{BGP: true, Peers: 2}, all},
		"route-no-bgp.txt": {"fd00:172:20::1", status.Found{Routes: []status.Route{{Dst: p("fd00:172:20::/122"), Via: a("fd00:172:20::"), Dev: "vxlan-v6.calico", Proto: 80, Why: "block of node2, pool six (VXLAN Always), by the tunnel to node2"}}}, nil},
		"route-service.txt": {"192.168.50.0/24", status.Found{
			BGP: true, Peers: 1, Announced: []status.Announced{{Prefix: p("192.168.50.0/24"), Own: true, To: []netip.Addr{fabric}}},
		}, all},
	} {
		to, err := network(test.to)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := explainRoute(&out, to, test.found, test.have); err != nil {
			t.Fatal(err)
		}
		ctltest.Golden(t, name, out.String())
	}
	for _, bad := range []string{"pods", "172.20.36.128/33", "fe80::1%eth0", ""} {
		if _, err := network(bad); err == nil || !strings.Contains(err.Error(), "neither a network nor an address") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestRouteCommand asks an agent's socket; no API server is needed.
func TestRouteCommand(t *testing.T) {
	nstest.Root(t)
	socket := filepath.Join(t.TempDir(), status.Socket)
	run := func(to string) (string, error) {
		cmd := Command(nil)
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs([]string{"route", to, "--socket", socket})
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	if _, err := run("203.0.113.7"); !errors.Is(err, status.ErrNoAgent) {
		t.Errorf("without an agent: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	s := status.New(status.Options{Socket: socket, Log: slog.New(slog.DiscardHandler), Find: func(to netip.Prefix) status.Found {
		return status.Found{BGP: true, Peers: 1, Announced: []status.Announced{{Prefix: to, Own: true}}}
	}})
	done.Go(func() { _ = s.Run(ctx) })
	defer done.Wait()
	defer stop()
	var have string
	err := status.ErrNoAgent
	for end := time.Now().Add(30 * time.Second); errors.Is(err, status.ErrNoAgent) && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		have, err = run("203.0.113.7")
	}
	want := "Address      203.0.113.7\nRoute        none of the agent's: packets go where the node's other routes lead, see ip route get\n" +
		"Announced    203.0.113.7/32 to nobody (1 peer up)\n"
	if err != nil || have != want {
		t.Errorf("%v\n%s", err, have)
	}
}
