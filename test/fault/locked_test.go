package fault

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/status"
	"github.com/margay-net/margay/test/lab"
)

// TestLockedDatastore: while somebody migrates the datastore no pod is added and nothing of IPAM is written, also by an
// agent that starts; pods that run go on, pods that end do, and afterwards all is as it should be.
func TestLockedDatastore(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 2})
	a, b, leaving := l.Nodes[0].Pod("a"), l.Nodes[1].Pod("b"), l.Nodes[0].Pod("leaving")
	l.WaitRoutes(30 * time.Second)
	l.Agrees(30 * time.Second)
	ping := a.Ping(b.V4(), 10*time.Millisecond)
	setReady := func(ready bool) {
		kind, _ := kube.KindOf("ClusterInformation")
		patch := fmt.Appendf(nil, `{"spec":{"datastoreReady":%v}}`, ready)
		if _, err := l.API.PatchResource(t.Context(), kind, "", "default", types.MergePatchType, patch, false); err != nil {
			t.Fatal(err)
		}
	}
	setReady(false)
	defer setReady(true)
	locked := func(err error) error {
		if err == nil || !strings.Contains(err.Error(), "datastore is locked") || !strings.Contains(err.Error(), "migrate unlock") {
			return fmt.Errorf("it says %w", err)
		}
		return nil
	}
	l.Within(30*time.Second, "the runtime is told", func() error { return locked(l.Nodes[0].Status()) })
	late := l.Nodes[0].NewPod("late")
	if err := locked(late.AddWithin(5 * time.Second)); err != nil {
		t.Errorf("a pod that is added: %v", err)
	}
	time.Sleep(2500 * time.Millisecond) // the agents' last writes
	before := versions(t, l)
	if err := leaving.Del(); err != nil {
		t.Errorf("a pod that ends: %v", err)
	}
	st, err := status.Ask(t.Context(), filepath.Join(filepath.Dir(l.Nodes[0].Socket), status.Socket))
	if err != nil || !st.Locked || locked(fmt.Errorf("%s", st.NotReady)) != nil || st.Node != "node1" || st.Unsettled == 0 {
		t.Errorf("status %+v, %v", st, err)
	}
	l.Nodes[0].Kill()
	l.Nodes[0].Start()
	l.Nodes[0].WaitReady(30 * time.Second)
	if err := locked(l.Nodes[0].Status()); err != nil {
		t.Errorf("an agent that starts: %v", err)
	}
	time.Sleep(time.Second)
	if after := versions(t, l); after != before {
		t.Errorf("IPAM was written while the datastore was locked:\n%s\nbefore\n%s", after, before)
	}
	setReady(true)
	took := l.Within(30*time.Second, "a pod can be added", func() error { return late.AddWithin(2 * time.Second) })
	t.Logf("a pod is added %s after the datastore is unlocked", took)
	l.Agrees(30 * time.Second)
	if err := b.Echo(late.V4(), 10*time.Second); err != nil {
		t.Error(err)
	}
	if loss := ping.Stop(); loss.Lost > 0 {
		t.Errorf("pings: %s", loss)
	}
	routes, err := status.AskRoutes(t.Context(), filepath.Join(filepath.Dir(l.Nodes[0].Socket), status.Socket))
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, r := range routes {
		text += r.Dst.String() + " " + r.Why + "\n"
	}
	for _, want := range []string{"own block", "pod default/late, eth0", "block of node2, pool pool1 (VXLAN Always), by the tunnel to node2"} {
		if !strings.Contains(text, want) {
			t.Errorf("routes lack %q:\n%s", want, text)
		}
	}
}

// versions is another text whenever a block, handle or claim was written.
func versions(t *testing.T, l *lab.Lab) (text string) {
	t.Helper()
	for _, name := range []string{"IPAMBlock", "IPAMHandle", "BlockAffinity"} {
		kind, _ := kube.KindOf(name)
		list, err := l.API.ListResources(t.Context(), kind, "", metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			text += name + " " + list.Items[i].GetName() + " " + list.Items[i].GetResourceVersion() + "\n"
		}
	}
	return text
}
