package kube

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// testNodeStatuses asks about two nodes, of which one follows and answers.
func testNodeStatuses(t *testing.T, c *Client) {
	kind, _ := KindOf("CalicoNodeStatus")
	for name, node := range map[string]string{"mine": "node1", "other": "node2"} {
		if _, err := c.CreateResource(t.Context(), kind, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": GroupV3, "kind": kind.Kind, "metadata": map[string]any{"name": name},
			"spec": map[string]any{"node": node, "classes": []any{"Routes", "Agent"}, "updatePeriodSeconds": int64(10)},
		}}, false); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen, gone := make(chan NodeStatusRequest, 10), make(chan string, 10)
	var done sync.WaitGroup
	done.Go(func() {
		c.FollowNodeStatuses(ctx, "node1", func(r NodeStatusRequest) { seen <- r }, func(name string) { gone <- name })
	})
	defer done.Wait()
	defer cancel()
	next := func() (r NodeStatusRequest) {
		t.Helper()
		select {
		case r = <-seen:
		case <-time.After(30 * time.Second):
			t.Fatal("no request within 30 s")
		}
		return r
	}
	r := next()
	if r.Name != "mine" || r.UID == "" || r.Written || r.Period != 10*time.Second || !r.Asks(v3.StatusAgent) || r.Asks(v3.StatusBGP) || r.Classes != "Agent Routes" {
		t.Errorf("request %+v", r)
	}
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	report := v3.CalicoNodeStatusStatus{LastUpdated: now, Agent: v3.CalicoNodeAgentStatus{BIRDV4: v3.BGPDaemonStatus{State: v3.BGPDaemonReady, RouterID: "10.0.0.1"}}}
	if err := c.ReportNodeStatus(t.Context(), "node1", r, report); err != nil {
		t.Fatal(err)
	}
	have, err := get[v3.CalicoNodeStatus](t.Context(), c.v3, nodestatuses, "mine")
	if err != nil || have.Status.Agent != report.Agent || !have.Status.LastUpdated.Equal(&now) || have.Spec.Node != "node1" {
		t.Errorf("answer %+v, %v", have, err)
	}
	if r = next(); !r.Written {
		t.Errorf("after the answer: %+v", r)
	}
	for what, wrong := range map[string]NodeStatusRequest{
		"another node's": {Name: "other", UID: r.UID}, "one that is gone": {Name: "none", UID: r.UID}, "another one of this name": {Name: "mine", UID: "x"},
	} {
		if err := c.ReportNodeStatus(t.Context(), "node1", wrong, report); !errors.Is(err, ErrNotAsked) {
			t.Errorf("%s was answered: %v", what, err)
		}
	}
	for len(gone) > 0 {
		<-gone // the other node's
	}
	if _, err := c.PatchResource(t.Context(), kind, "", "mine", types.MergePatchType, []byte(`{"spec":{"node":"node3"}}`), false); err != nil {
		t.Fatal(err)
	}
	select {
	case name := <-gone:
		if name != "mine" {
			t.Errorf("gone is %s", name)
		}
	case <-time.After(30 * time.Second):
		t.Error("what asks about another node now is not gone within 30 s")
	}
	for _, name := range []string{"mine", "other"} {
		if err := c.DeleteResource(t.Context(), kind, "", name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}
}
