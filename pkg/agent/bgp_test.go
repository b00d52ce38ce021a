package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/margay-net/margay/pkg/advertise"
	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/bgp"
	"github.com/margay-net/margay/pkg/config"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/peering"
	"github.com/margay-net/margay/pkg/pods"
	"github.com/margay-net/margay/pkg/store"
	"github.com/margay-net/margay/pkg/topology"
)

// TestTalk: a route reflector passes on just what nodes announce of Services, wherever that is set, and the environment's hold
// time counts.
func TestTalk(t *testing.T) {
	known := peering.NewDirectory(nil)
	cluster := netip.MustParseAddr("224.0.0.1")
	known.SetNode("rr", &peering.Node{ClusterID: cluster})
	known.SetConfiguration("default", &v3.BGPConfigurationSpec{
		ServiceClusterIPs:  []v3.ServiceIPBlock{{CIDR: "10.96.0.0/16"}},
		ServiceExternalIPs: []v3.ServiceIPBlock{{CIDR: "192.168.50.0/24"}},
	})
	known.SetConfiguration("node.rr", &v3.BGPConfigurationSpec{ServiceExternalIPs: []v3.ServiceIPBlock{{CIDR: "192.168.51.0/24"}}})
	for k := range model.BGPKinds {
		known.Synced(k)
	}
	services := advertise.NewDirectory(nil)
	services.ReadServices()
	services.ReadSlices()
	a := &Agent{
		pods:  pods.NewDirectory(nil, nil, slog.New(slog.DiscardHandler)),
		store: store.New(), config: config.Config{Node: "rr", ClusterIPs: "10.97.0.0/16", Hold: 30, LongLived: 600},
		speech: &speech{known: known, services: services, speaker: bgp.New(bgp.Options{Log: slog.New(slog.DiscardHandler)})},
	}
	nodes := map[string]model.Node{"rr": {Name: "rr", Addr4: netip.MustParsePrefix("192.168.10.1/24")}}
	_, faults := a.talk(topology.Wanted{}, topology.Input{Self: "rr", Nodes: nodes}, true)
	have, ok := a.speech.speaker.Config()
	if !ok || faults != nil {
		t.Fatalf("the speaker was told %t, faults are %q", ok, faults)
	}
	const want = "[10.97.0.0/16 192.168.50.0/24]"
	var announced []netip.Prefix
	for _, x := range have.Announce {
		announced = append(announced, x.Prefix)
	}
	if fmt.Sprint(announced) != want || fmt.Sprint(have.Transit) != want || have.Hold != 30*time.Second || have.LongLived != 10*time.Minute {
		t.Errorf("announced are %v, passed on %v, want %s; times are %s and %s", announced, have.Transit, want, have.Hold, have.LongLived)
	}
}

// TestStays: a session stays up, and keeps its filter, when the Secret of its password and its BGPFilter are deleted and made anew.
func TestStays(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED under -short: sessions take seconds")
	}
	speak(t, 12, bgp.Config{AS: 64512, Announce: announce("10.2.0.0/26", "10.66.0.0/26"),
		Peers: []bgp.Peer{{Kind: bgp.Node, Address: loopback(11), AS: 64512, Passive: true, Password: "hush"}}})
	known, off, bind := peering.NewDirectory(nil), false, v3.BindNodeIP
	as := v3.ASNumber(64512)
	secret := map[string][]byte{"k": []byte("hush")}
	filter := &v3.BGPFilterSpec{ImportV4: []v3.BGPFilterRuleV4{
		{CIDR: "10.66.0.0/16", BGPFilterRule: v3.BGPFilterRule{MatchOperator: v3.MatchIn, Action: v3.FilterReject}}}}
	known.SetConfiguration("default", &v3.BGPConfigurationSpec{NodeToNodeMeshEnabled: &off, ListenPort: port, BindMode: &bind})
	known.SetPeer("p", &v3.BGPPeerSpec{PeerIP: netip.AddrPortFrom(loopback(12), port).String(), ASNumber: &as, Filters: []string{"f"},
		Password: &v3.BGPPassword{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "k"}}})
	known.SetSecret("s", secret)
	known.SetFilter("f", filter)
	for k := range model.BGPKinds {
		known.Synced(k)
	}
	speaker := bgp.New(bgp.Options{Log: slog.New(slog.DiscardHandler), Fresh: true})
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := speaker.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait(); speaker.Stop(context.Background()) })
	a := &Agent{store: store.New(), pods: pods.NewDirectory(nil, nil, slog.New(slog.DiscardHandler)), config: config.Config{Node: "n", RouterID: "hash"}, speech: &speech{known: known, services: advertise.NewDirectory(nil), speaker: speaker}}
	in := topology.Input{Self: "n", Nodes: map[string]model.Node{"n": {Name: "n", Addr4: netip.PrefixFrom(loopback(11), 8)}}}
	up := func(what string) (since time.Time) {
		within(t, what, func() string {
			peers := speaker.Peers(t.Context())
			if len(peers) != 1 || peers[0].State != bgp.Established || len(speaker.Paths()) != 1 {
				return fmt.Sprintf("%+v, paths %v", peers, speaker.Paths())
			}
			since = peers[0].Since
			return ""
		})
		return since
	}
	a.talk(topology.Wanted{}, in, true)
	was := up("the session")
	known.SetSecret("s", nil)
	known.SetFilter("f", nil)
	if _, faults := a.talk(topology.Wanted{}, in, true); len(faults) != 2 {
		t.Errorf("faults are %q", faults)
	}
	more := in
	more.Blocks = []model.Block{{CIDR: netip.MustParsePrefix("10.1.0.0/26"), Node: "n"}}
	a.talk(topology.Wanted{}, more, true)
	within(t, "what is announced meanwhile is told", func() string {
		if told := speaker.Told(t.Context(), netip.MustParsePrefix("10.1.0.0/26")); len(told) != 1 {
			return fmt.Sprint(told)
		}
		return ""
	})
	if now := up("the session without Secret and filter"); !now.Equal(was) {
		t.Errorf("the session is one since %s, was one since %s", now, was)
	}
	known.SetSecret("s", secret)
	known.SetFilter("f", filter)
	if _, faults := a.talk(topology.Wanted{}, more, true); faults != nil {
		t.Errorf("faults are %q", faults)
	}
	if now := up("the session with both made anew"); !now.Equal(was) {
		t.Errorf("the session is one since %s, was one since %s", now, was)
	}
}
