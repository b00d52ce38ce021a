package fault

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/margay-net/margay/test/lab"
)

// TestNodeAnnotationsRemoved: somebody undoes what an agent wrote on its Node object; it comes back, and with it the other
// nodes' routes.
func TestNodeAnnotationsRemoved(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true})
	a, b := l.Nodes[0].Pod("a"), l.Nodes[1].Pod("b")
	l.WaitRoutes(30 * time.Second)
	time.Sleep(1100 * time.Millisecond) // the agent trusts its last write for a second
	want := l.Nodes[0].State()
	nodes := l.Core.CoreV1().Nodes()
	start := time.Now()
	if _, err := nodes.Patch(t.Context(), l.Nodes[1].Name, types.MergePatchType, []byte(`{"metadata":{"annotations":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	l.Within(30*time.Second, "the annotations are back", func() error {
		n, err := nodes.Get(t.Context(), l.Nodes[1].Name, metav1.GetOptions{})
		if err == nil && len(n.Annotations) < 6 {
			err = fmt.Errorf("it has %v", n.Annotations)
		}
		return err
	})
	l.Within(30*time.Second, "the other node's routes are right", func() error {
		if diff := l.Nodes[0].State().Diff(want); diff != "" {
			return fmt.Errorf("%s", diff)
		}
		return nil
	})
	t.Logf("all is right again after %s", time.Since(start))
	for _, addr := range b.Addrs {
		if err := a.Echo(addr, 10*time.Second); err != nil {
			t.Error(err)
		}
	}
}

// TestNodeDeleted: a node that is deleted from the cluster goes from the others' routes; when it is registered again its
// pods are reached as before.
func TestNodeDeleted(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true})
	a, b := l.Nodes[0].Pod("a"), l.Nodes[1].Pod("b")
	l.WaitRoutes(30 * time.Second)
	want := l.Nodes[0].State()
	nodes := l.Core.CoreV1().Nodes()
	old, err := nodes.Get(t.Context(), l.Nodes[1].Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := nodes.Delete(t.Context(), old.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	l.Within(30*time.Second, "its routes are gone", func() error {
		for _, line := range l.Nodes[0].State() {
			if strings.HasPrefix(line, "neigh ") {
				return fmt.Errorf("there is %s", line)
			}
		}
		return nil
	})
	old.ResourceVersion, old.UID, old.Annotations = "", "", nil
	if _, err := nodes.Create(t.Context(), old, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	took := l.Within(30*time.Second, "its routes are back", func() error {
		if diff := l.Nodes[0].State().Diff(want); diff != "" {
			return fmt.Errorf("%s", diff)
		}
		return nil
	})
	t.Logf("routes are back %s after the node is", took)
	for _, addr := range b.Addrs {
		if err := a.Echo(addr, 10*time.Second); err != nil {
			t.Error(err)
		}
	}
}
