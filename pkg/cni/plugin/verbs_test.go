package plugin

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/cni/wire"
)

func TestVersion(t *testing.T) {
	l := newLab(t)
	var got struct{ SupportedVersions []string }
	if err := json.Unmarshal(l.mustRun(call{verb: "VERSION"}), &got); err != nil {
		t.Fatal(err)
	}
	if want := "0.3.0 0.3.1 0.4.0 1.0.0 1.1.0"; strings.Join(got.SupportedVersions, " ") != want {
		t.Errorf("versions %v, want %s", got.SupportedVersions, want)
	}
	about, err := exec.Command(filepath.Join(binDir, "margay")).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(about), "CNI plugin margay ") {
		t.Errorf("without a verb: %q, %v", about, err)
	}
}

func TestStatus(t *testing.T) {
	l := newLab(t)
	l.mustRun(call{verb: "STATUS"})
	for _, c := range []wire.Code{wire.NotReady, wire.Exhausted, wire.Internal} {
		l.agent.on(wire.OpStatus, func(*wire.Request) *wire.Response {
			return &wire.Response{Code: c, Msg: "no pool yet", Hint: "make a pool"}
		})
		l.wantErr(call{verb: "STATUS"}, 50, "status of network k8s-pod-network: no pool yet", "make a pool")
	}
	l.agent.stop()
	within(t, 3*time.Second, func() {
		l.wantErr(call{verb: "STATUS"}, 50, "the agent is not running on this node", "kubectl -n kube-system")
	})
	l.wantErr(call{verb: "STATUS", version: "1.0.0"}, 1)
}

func TestGC(t *testing.T) {
	l := newLab(t)
	const key = "cni.dev/valid-attachments"
	gc := func(valid any) call {
		return call{verb: "GC", conf: map[string]any{key: valid}}
	}
	l.mustRun(gc([]map[string]string{{"containerID": "c1", "ifname": "eth0"}, {"containerID": "c2", "ifname": "net1"}}))
	l.mustRun(gc([]string{}))
	l.mustRun(gc(nil))
	asked := l.agent.requests(wire.OpGC)
	if len(asked) != 3 || len(asked[0].Valid) != 2 || asked[0].Valid[1] != (wire.Attachment{ContainerID: "c2", IfName: "net1"}) ||
		asked[0].Network != "k8s-pod-network" || len(asked[1].Valid)+len(asked[2].Valid) != 0 {
		t.Errorf("the agent was asked %+v", asked)
	}
	l.wantErr(call{verb: "GC"}, 7, key, "is missing")
	l.wantErr(gc("all"), 7, key, "give an array")
	l.agent.stop()
	l.wantErr(gc([]string{}), 11, "collect garbage of network k8s-pod-network", "the agent is not running")
	if got := len(l.agent.requests(wire.OpGC)); got != 3 {
		t.Errorf("the agent was asked %d times", got)
	}
}

// A list beyond a line's length is refused here, and with words.
func TestGCTooLong(t *testing.T) {
	l := newLab(t)
	var many []map[string]string
	for range 20000 {
		many = append(many, map[string]string{"containerID": strings.Repeat("c", 64), "ifname": "eth0"})
	}
	l.wantErr(call{verb: "GC", conf: map[string]any{"cni.dev/valid-attachments": many}}, 11, "longer than")
}

func TestConfigErrorsReachRuntime(t *testing.T) {
	l, pod := newLab(t), newNS(t)
	for _, verb := range []string{"ADD", "DEL", "CHECK", "GC", "STATUS"} {
		c := call{verb: verb, id: "c1", pod: "web", netns: pod.path, conf: map[string]any{"sokcet": "/x"}}
		l.wantErr(c, 7, `"sokcet"`)
	}
	c := call{verb: "ADD", id: "c1", args: "K8S_POD_NAME", netns: pod.path}
	l.wantErr(c, 4, "CNI_ARGS")
	c = call{verb: "ADD", id: "c1", pod: "web", netns: pod.path, version: "2.0.0"}
	l.wantErr(c, 1)
}
