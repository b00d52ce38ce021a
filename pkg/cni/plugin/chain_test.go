package plugin

import (
	"github.com/margay-net/margay/pkg/netlink/nstest"

	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// buildChained builds the plugins of the usual list, from the module of the test cluster, which pins them.
var buildChained = sync.OnceValue(func() error {
	for _, p := range []string{"portmap", "bandwidth"} {
		if err := build("../../../test/kube", p, "github.com/containernetworking/plugins/plugins/meta/"+p); err != nil {
			return err
		}
	}
	return nil
})

// The list that is installed on nodes, as a runtime runs it: all verbs, all versions.
func TestChain(t *testing.T) {
	nstest.Root(t)
	if _, err := exec.LookPath("nft"); err != nil {
		nstest.Need(t, "nft, which portmap executes: install nftables")
	}
	if err := buildChained(); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(v, func(t *testing.T) {
			l, pod := newLab(t), newNS(t)
			if err := l.node.do(func() error { return chain(t, l, pod, v) }); err != nil {
				t.Error(err)
			}
			l.empty()
			if names(t, pod) != "lo" {
				t.Errorf("pod still has %s", names(t, pod))
			}
		})
	}
}

func chain(t *testing.T, l *lab, pod *ns, v string) error {
	list, err := libcni.ConfListFromBytes(l.confList(v))
	if err != nil {
		return err
	}
	cni := libcni.NewCNIConfigWithCacheDir([]string{binDir}, t.TempDir(), nil)
	rt := &libcni.RuntimeConf{
		ContainerID: "c1",
		NetNS:       pod.path,
		IfName:      "eth0",
		Args:        [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", "web"}},
		CapabilityArgs: map[string]any{
			"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}},
			"bandwidth":    map[string]any{"ingressRate": 8000000, "ingressBurst": 80000, "egressRate": 8000000, "egressBurst": 80000},
		},
	}
	ctx := t.Context()
	if _, err := cni.ValidateNetworkList(ctx, list); err != nil {
		return err
	}
	result, err := cni.AddNetworkList(ctx, list, rt)
	if err != nil {
		return err
	}
	if result.Version() != v {
		t.Errorf("result has version %s, want %s", result.Version(), v)
	}
	if r, err := current.NewResultFromResult(result); err != nil || len(r.IPs) != 1 || r.IPs[0].Address.String() != "172.20.239.130/32" {
		t.Errorf("result %+v: %v", result, err)
	}
	if checks, _ := version.GreaterThanOrEqualTo(v, "0.4.0"); checks {
		if err := cni.CheckNetworkList(ctx, list, rt); err != nil {
			return err
		}
	}
	if err := newVerbs(ctx, cni, list); err != nil {
		return err
	}
	if !pod.has("eth0") {
		t.Error("GC took a live pod's interface")
	}
	return cni.DelNetworkList(ctx, list, rt)
}

// newVerbs runs STATUS and GC, which libcni passes over where the version does not have them.
func newVerbs(ctx context.Context, cni *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
	if err := cni.GetStatusNetworkList(ctx, list); err != nil {
		return err
	}
	return cni.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: "c1", IfName: "eth0"}}})
}

func (l *lab) confList(v string) []byte {
	data, err := json.Marshal(map[string]any{
		"cniVersion": v,
		"name":       "k8s-pod-network",
		"plugins": []map[string]any{
			{"type": "margay", "socket": l.socket, "spool": filepath.Clean(l.spool)},
			{"type": "portmap", "snat": true, "backend": "nftables", "capabilities": map[string]bool{"portMappings": true}},
			{"type": "bandwidth", "capabilities": map[string]bool{"bandwidth": true}},
		},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return data
}
