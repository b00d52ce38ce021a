package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// TestParametersLive changes FelixConfiguration resources under agents that run: what they switch follows, on the nodes
// that they are for, and no agent ends.
func TestParametersLive(t *testing.T) {
	// The lab's own variables would beat the resources.
	l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true, Env: map[string]string{"FELIX_PROMETHEUSMETRICSENABLED": "", "FELIX_LOGSEVERITYSCREEN": ""}})
	f := felixOf(t, l)
	n, other := l.Nodes[0], l.Nodes[1]
	const metrics, health = "http://localhost:9091/metrics", "http://localhost:9099/readiness"

	closed(t, l, n, metrics) // the default
	f.set("default", map[string]any{"prometheusMetricsEnabled": true})
	open(t, l, n, metrics, 200, "go_goroutines", "process_open_fds", "margay_ready 1")
	open(t, l, other, metrics, 200, "margay_ready 1")

	f.set("default", map[string]any{"prometheusMetricsEnabled": true, "prometheusGoMetricsEnabled": false, "prometheusProcessMetricsEnabled": false})
	l.Within(30*time.Second, "metrics of runtime and process are left out", func() error {
		_, text, err := ask(n, metrics)
		if err == nil && (strings.Contains(text, "\ngo_") || strings.Contains(text, "\nprocess_") || !strings.Contains(text, "margay_ready 1")) {
			err = errors.New("they are there, or all are away")
		}
		return err
	})

	f.set("node.node1", map[string]any{"prometheusMetricsPort": 9191, "prometheusMetricsHost": n.Addr4.Addr().String()})
	open(t, l, n, fmt.Sprintf("http://%s:9191/metrics", n.Addr4.Addr()), 200, "margay_ready 1")
	closed(t, l, n, metrics)
	closed(t, l, n, "http://localhost:9191/metrics")
	open(t, l, other, metrics, 200) // it was the one node's
	f.set("node.node1", nil)
	open(t, l, n, metrics, 200)
	closed(t, l, n, fmt.Sprintf("http://%s:9191/metrics", n.Addr4.Addr()))
	f.set("default", nil)
	closed(t, l, n, metrics)
	closed(t, l, other, metrics)

	open(t, l, n, health, 204)
	f.set("default", map[string]any{"healthPort": 9199})
	open(t, l, n, "http://localhost:9199/readiness", 204)
	closed(t, l, n, health)
	f.set("default", map[string]any{"healthEnabled": false})
	closed(t, l, n, "http://localhost:9199/readiness")
	closed(t, l, n, health)
	f.set("default", map[string]any{"healthHost": n.Addr6.Addr().String()})
	open(t, l, n, fmt.Sprintf("http://[%s]:9099/liveness", n.Addr6.Addr()), 204)
	closed(t, l, n, health)
	f.set("default", nil)
	open(t, l, n, health, 204)

	portInUse(t, l, n, f)
	logLevel(t, l, n, f)
	for _, n := range l.Nodes {
		if ended, err := n.Agent().Ended(); ended {
			t.Errorf("%s: agent ended: %v", n.Name, err)
		}
	}
}

// portInUse moves the metrics to a port that somebody else has: the agent says so, and takes it when it is free.
func portInUse(t *testing.T, l *lab.Lab, n *lab.Node, f *felix) {
	t.Helper()
	var taken net.Listener
	if err := n.NS.Do(func() (err error) { taken, err = net.Listen("tcp", ":9291"); return err }); err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	f.set("default", map[string]any{"prometheusMetricsEnabled": true, "prometheusMetricsPort": 9291})
	l.Within(30*time.Second, "the log says that the port is taken", func() error {
		if !strings.Contains(n.Log(), `msg="address is in use by another program; waiting for its end" addr=:9291`) {
			return errors.New("it does not")
		}
		return nil
	})
	if err := n.Probe("readiness"); err != nil {
		t.Errorf("a node whose metrics have no port is not ready: %v", err)
	}
	taken.Close()
	open(t, l, n, "http://localhost:9291/metrics", 200, "margay_ready 1")
	f.set("default", nil)
	closed(t, l, n, "http://localhost:9291/metrics")
}

// logLevel has the agent repair its device under each level, which it tells of at Info.
func logLevel(t *testing.T, l *lab.Lab, n *lab.Node, f *felix) {
	t.Helper()
	const line = `msg="device corrected" subsystem=link dev=vxlan.calico`
	for i, level := range []string{"Error", "Info", "Warning", "Debug"} { // each second one tells
		f.set("default", map[string]any{"logSeverityScreen": level})
		want := i % 2
		// Nothing says when an agent has heard of the level: until then a repair is told of as before.
		l.Within(30*time.Second, "level "+level+" counts", func() error {
			before := strings.Count(n.Log(), line)
			if err := n.NS.Batch(fmt.Sprintf("link set vxlan.calico mtu %d", 1300+i)); err != nil {
				t.Fatal(err)
			}
			l.Within(30*time.Second, "the device is repaired", func() error {
				out, err := n.NS.Run("ip link show vxlan.calico")
				if err == nil && !strings.Contains(out, "mtu 1450") {
					err = errors.New(out)
				}
				return err
			})
			time.Sleep(100 * time.Millisecond)
			if told := strings.Count(n.Log(), line) - before; told != want {
				return fmt.Errorf("told %d times of the repair, want %d", told, want)
			}
			return nil
		})
	}
	f.set("default", nil)
}

// felix writes FelixConfiguration resources.
type felix struct {
	t  *testing.T
	to dynamic.ResourceInterface
}

func felixOf(t *testing.T, l *lab.Lab) *felix {
	t.Helper()
	c, err := dynamic.NewForConfig(l.Server.Config())
	if err != nil {
		t.Fatal(err)
	}
	return &felix{t, c.Resource(v3.GroupVersion.WithResource("felixconfigurations"))}
}

// set makes a resource have these fields and no others; nil: there is no such resource.
func (f *felix) set(name string, fields map[string]any) {
	f.t.Helper()
	if fields == nil {
		if err := f.to.Delete(f.t.Context(), name, metav1.DeleteOptions{}); err != nil {
			f.t.Fatal(err)
		}
		return
	}
	b, err := json.Marshal(map[string]any{"apiVersion": v3.GroupVersion.String(), "kind": "FelixConfiguration", "metadata": map[string]any{"name": name}, "spec": fields})
	if err != nil {
		f.t.Fatal(err)
	}
	force := true
	if _, err := f.to.Patch(f.t.Context(), name, types.ApplyPatchType, b, metav1.PatchOptions{FieldManager: "test", Force: &force}); err != nil {
		f.t.Fatal(err)
	}
}

// ask asks an HTTP server as a program on the node does.
func ask(n *lab.Node, url string) (code int, text string, err error) {
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, addr string) (conn net.Conn, err error) {
			err = n.NS.Do(func() error { conn, err = net.DialTimeout(network, addr, 5*time.Second); return err })
			return conn, err
		}}}
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// open waits until a URL answers with a code and words.
func open(t *testing.T, l *lab.Lab, n *lab.Node, url string, want int, words ...string) {
	t.Helper()
	l.Within(30*time.Second, url+" answers", func() error {
		code, text, err := ask(n, url)
		if err == nil && code != want {
			err = fmt.Errorf("%d %s", code, text)
		}
		for _, w := range words {
			if err == nil && !strings.Contains(text, w) {
				err = fmt.Errorf("no %s", w)
			}
		}
		return err
	})
}

// closed waits until nobody listens.
func closed(t *testing.T, l *lab.Lab, n *lab.Node, url string) {
	t.Helper()
	l.Within(30*time.Second, "nobody serves "+url, func() error {
		if code, _, err := ask(n, url); !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("%d %w", code, err)
		}
		return nil
	})
}
