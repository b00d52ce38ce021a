package watch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/ctltest"
	"github.com/margay-net/margay/pkg/ctl/watch"
	"github.com/margay-net/margay/pkg/kube"
)

// screen is what a command prints while it runs.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// wait returns when a line has all these words.
func (s *screen) wait(t *testing.T, words ...string) {
	t.Helper()
	for range 600 {
		for _, line := range strings.Split(s.String(), "\n") {
			found := true
			for _, w := range words {
				found = found && strings.Contains(line, w)
			}
			if found {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("no line has %q:\n%s", words, s)
}

// show runs a watch until the test ends.
func show(t *testing.T, l *ctltest.Lab, args ...string) *screen {
	t.Helper()
	s := &screen{}
	ctx, stop := context.WithCancel(t.Context())
	root := &cobra.Command{Use: "margayctl", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(command(l.Options))
	root.SetOut(s)
	root.SetArgs(append([]string{"watch"}, args...))
	var done sync.WaitGroup
	done.Go(func() {
		if err := root.ExecuteContext(ctx); err != nil {
			t.Errorf("watch %v: %v", args, err)
		}
	})
	t.Cleanup(func() { stop(); done.Wait() })
	return s
}

func command(o *connect.Options) *cobra.Command { return watch.Command(o) }

func TestWatch(t *testing.T) {
	l := ctltest.New(t)
	l.Pool("first", v3.IPPoolSpec{CIDR: "10.244.0.0/16", BlockSize: 26})
	a := l.Node("node1", 11)
	a.Pod("web-1")
	pools, addresses := show(t, l, "ippools"), show(t, l, "ipam")
	pools.wait(t, "EVENT", "NAME", "CIDR", "SELECTOR")
	pools.wait(t, "first", "10.244.0.0/16", "all()")
	addresses.wait(t, "2 in use", "1 blocks")

	l.Pool("second", v3.IPPoolSpec{CIDR: "10.250.0.0/16", BlockSize: 26})
	pools.wait(t, "ADDED", "second", "10.250.0.0/16")
	kind, _ := kube.KindOf("IPPool")
	patch, _ := json.Marshal(map[string]any{"spec": map[string]any{"nodeSelector": "zone == 'a'"}})
	if _, err := l.Kube.PatchResource(t.Context(), kind, "", "second", types.MergePatchType, patch, false); err != nil {
		t.Fatal(err)
	}
	pools.wait(t, "MODIFIED", "second", "zone == 'a'")

	a.Pod("web-2")
	addresses.wait(t, "assigned", "10.244.197.2", "node1", "default/web-2")
	a.Release("web-2")
	addresses.wait(t, "released", "10.244.197.2", "node1", "default/web-2")
	b, err := l.Kube.GetBlock(t.Context(), "10-244-197-0-26")
	if err == nil {
		err = l.Kube.DeleteBlock(t.Context(), b)
	}
	if err != nil {
		t.Fatal(err)
	}
	addresses.wait(t, "block gone", "10.244.197.0/26")
	if _, err := l.Run(watch.Command, "watch", "pods"); err == nil || !strings.Contains(err.Error(), "kubectl get -w") {
		t.Errorf("a kind that is not ours: %v", err)
	}
}
