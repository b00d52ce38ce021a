package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/status"
	"github.com/margay-net/margay/test/apiserver"
)

// asker makes CalicoNodeStatus resources and reads their answers.
type asker struct {
	*testing.T
	client *kube.Client
	kind   kube.Kind
}

func (a asker) ask(name, node string, period int64, classes ...any) {
	a.Helper()
	if _, err := a.client.CreateResource(a.Context(), a.kind, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": kube.GroupV3, "kind": "CalicoNodeStatus", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"node": node, "classes": classes, "updatePeriodSeconds": period},
	}}, false); err != nil {
		a.Fatal(err)
	}
}

func (a asker) patch(name, patch string) {
	a.Helper()
	if _, err := a.client.PatchResource(a.Context(), a.kind, "", name, types.MergePatchType, []byte(patch), false); err != nil {
		a.Fatal(err)
	}
}

// read returns the answer; the text is its JSON.
func (a asker) read(name string) (s v3.CalicoNodeStatusStatus, text string) {
	a.Helper()
	o, err := a.client.GetResource(a.Context(), a.kind, "", name)
	if err != nil {
		a.Fatal(err)
	}
	b, err := json.Marshal(o.Object["status"])
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		a.Fatal(err)
	}
	return s, string(b)
}

// answered waits for an answer that is as ok wants it.
func (a asker) answered(name string, ok func(v3.CalicoNodeStatusStatus) bool) (s v3.CalicoNodeStatusStatus) {
	a.Helper()
	within(a.T, "answer to "+name, func() string {
		var text string
		if s, text = a.read(name); s.LastUpdated.IsZero() || !ok(s) {
			return text
		}
		return ""
	})
	return s
}

// TestNodeStatus asks a node with real sessions; package kube tests the other group of resources.
func TestNodeStatus(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED under -short: needs a real kube-apiserver")
	}
	s := newSessions(neighbourhood(t), time.Now())
	routes := []status.Route{
		{Dst: netip.MustParsePrefix("10.1.0.0/26"), Blackhole: true, Proto: model.ProtoMargay},
		{Dst: netip.MustParsePrefix("10.1.0.1/32"), Dev: "cali1", Proto: model.ProtoBoot},
		{Dst: netip.MustParsePrefix("10.2.0.0/26"), Via: loopback(2), Dev: "eth0", Proto: model.ProtoBIRD},
		{Dst: netip.MustParsePrefix("fd00:1::/122"), Blackhole: true, Proto: model.ProtoMargay},
	}
	look := func(ctx context.Context, _ bool) sight {
		return sight{daemon: s.daemon(), peers: s.Peers(ctx), paths: s.all(ctx), routes: routes}
	}
	config := apiserver.Start(t)
	apiserver.InstallCRDs(t, config)
	client, err := kube.Connect(t.Context(), config, kube.GroupV3)
	if err != nil {
		t.Fatal(err)
	}
	kind, _ := kube.KindOf("CalicoNodeStatus")
	testNodeStatus(asker{t, client, kind}, look)
}

func testNodeStatus(a asker, look looker) {
	a.ask("other", "node2", 1, "Agent", "BGP")
	a.ask("all", "node1", 1, "Agent", "BGP", "Routes")
	stop := a.reporter(look)
	defer func() { stop() }()
	all := a.answered("all", func(s v3.CalicoNodeStatusStatus) bool {
		return s.BGP.NumberEstablishedV4 == 2 && s.BGP.NumberNotEstablishedV4 == 3 && len(s.Routes.RoutesV4) == 5
	})
	if d := all.Agent.BIRDV4; d.State != v3.BGPDaemonReady || d.Version != Version || d.RouterID != "10.0.0.1" || d.LastReconfigurationTime == "" || d != all.Agent.BIRDV6 {
		a.Errorf("agent %+v", all.Agent)
	}
	var peers, routes []string
	for _, p := range all.BGP.PeersV4 {
		if _, err := time.Parse("15:04:05", p.Since); err != nil && p.PeerIP != loopback(6).String() {
			a.Errorf("since %q", p.Since)
		}
		peers = append(peers, fmt.Sprintf("%s %s %s", p.PeerIP[strings.LastIndexByte(p.PeerIP, '.'):], p.Type, p.State))
	}
	if want := []string{".2 NodeMesh Established", ".3 GlobalPeer Established", ".4 NodePeer Active", ".5 NodeMesh Active", ".6 GlobalPeer Idle"}; !slices.Equal(peers, want) {
		a.Errorf("peers %q, want %q", peers, want)
	}
	for _, r := range slices.Concat(all.Routes.RoutesV4, all.Routes.RoutesV6) {
		routes = append(routes, strings.ReplaceAll(fmt.Sprint(r.Type, " ", r.Destination, " ", r.Gateway, " ", r.Interface, " ", r.LearnedFrom.SourceType, " ", r.LearnedFrom.PeerIP), strings.TrimSuffix(loopback(0).String(), "0"), ""))
	}
	if want := []string{
		"FIB 10.1.0.0/26 N/A blackhole Static ", "FIB 10.1.0.1/32 N/A cali1 Kernel ", "FIB 10.2.0.0/26 2 eth0 NodeMesh 2",
		"RIB 10.2.0.0/26 3  BGPPeer 3", "RIB 10.3.0.0/26 3  BGPPeer 3", // used, but the kernel has no route
		"FIB fd00:1::/122 N/A blackhole Static ",
	}; !slices.Equal(routes, want) {
		a.Errorf("routes\n%q, want\n%q", routes, want)
	}

	a.patch("all", `{"spec":{"classes":["Agent"]}}`)
	a.answered("all", func(s v3.CalicoNodeStatusStatus) bool {
		return s.Agent.BIRDV4.State == v3.BGPDaemonReady && len(s.BGP.PeersV4) == 0 && s.Routes.RoutesV4 == nil
	})
	// 0: one last report. A restarted agent leaves it.
	a.ask("once", "node1", 0, "BGP")
	once := a.answered("once", func(s v3.CalicoNodeStatusStatus) bool { return s.BGP.NumberEstablishedV4 == 2 })
	a.patch("all", `{"spec":{"updatePeriodSeconds":0}}`)
	stop()
	stop = a.reporter(func(context.Context, bool) sight {
		return sight{daemon: v3.BGPDaemonStatus{State: v3.BGPDaemonNotReady}}
	})
	a.ask("later", "node1", 3600, "Agent")
	a.answered("later", func(s v3.CalicoNodeStatusStatus) bool { return s.Agent.BIRDV6.State == v3.BGPDaemonNotReady })
	if again, _ := a.read("once"); !again.LastUpdated.Equal(&once.LastUpdated) || again.BGP.NumberEstablishedV4 != 2 {
		a.Errorf("a report that was the last was followed by %+v", again)
	}
	// A change is reported at once, whatever the period; what asks another node by now is left to that.
	a.patch("later", `{"spec":{"classes":["BGP"]}}`)
	a.answered("later", func(s v3.CalicoNodeStatusStatus) bool { return s.Agent.BIRDV6.State == "" })
	err := a.client.ReportNodeStatus(a.Context(), "node1", kube.NodeStatusRequest{Name: "other", UID: "x"}, v3.CalicoNodeStatusStatus{})
	if !errors.Is(err, kube.ErrNotAsked) {
		a.Errorf("another node's request was answered: %v", err)
	}
	if other, text := a.read("other"); !other.LastUpdated.IsZero() {
		a.Errorf("another node's request was answered: %s", text)
	}
	if err := a.client.DeleteResource(a.Context(), a.kind, "", "later", metav1.DeleteOptions{}); err != nil {
		a.Error(err)
	}
}

// reporter runs one until the returned function is called.
func (a asker) reporter(look looker) (stop func()) {
	ctx, cancel := context.WithCancel(a.Context())
	r := newReporter("node1", a.client, look, slog.New(slog.DiscardHandler))
	var done sync.WaitGroup
	done.Go(func() {
		if err := r.run(ctx); err != nil {
			a.Error(err)
		}
	})
	return func() { cancel(); done.Wait() }
}
