package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// asking is a lab whose pods are in the API server, too, with annotations.
type asking struct {
	*lab.Lab
	t    *testing.T
	core kubernetes.Interface
	n    *lab.Node
}

// newAsking makes a lab of one node, whose CNI configuration allows what it can.
func newAsking(t *testing.T) *asking {
	t.Helper()
	l := cluster.New(t, lab.Options{IPv6: true, Stopped: true})
	core, err := kubernetes.NewForConfig(l.Server.Config())
	if err != nil {
		t.Fatal(err)
	}
	n := l.Nodes[0]
	conf, err := json.Marshal(map[string]any{"cniVersion": "1.1.0", "name": "k8s-pod-network", "plugins": []any{map[string]any{
		"type": "margay", "socket": n.Socket, "spool": n.Spool, "feature_control": map[string]any{"ip_addrs_no_ipam": true},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	n.Env = map[string]string{"CNI_NETWORK_CONFIG": string(conf)}
	n.Start()
	n.WaitReady(30 * time.Second)
	return &asking{l, t, core, n}
}

const annotation = "cni.projectcalico.org/"

// pod makes a pod on the node: its object, and a sandbox without a network.
func (a *asking) pod(name string, annotations map[string]string) *lab.Pod {
	a.t.Helper()
	o := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}},
		Spec:       corev1.PodSpec{NodeName: a.n.Name, Containers: []corev1.Container{{Name: "c", Image: "c"}}},
	}
	for k, v := range annotations {
		o.Annotations[annotation+k] = v
	}
	o, err := a.core.CoreV1().Pods("default").Create(a.t.Context(), o, metav1.CreateOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() {
		now := int64(0)
		_ = a.core.CoreV1().Pods("default").Delete(context.Background(), name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	})
	p := a.n.NewPod(name)
	p.UID = string(o.UID)
	return p
}

// annotate changes an annotation of a pod; nil: it goes.
func (a *asking) annotate(name, key string, value any) {
	a.t.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{annotation + key: value}}})
	if err == nil {
		_, err = a.core.CoreV1().Pods("default").Patch(a.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// pings says whether an address answers in a namespace.
func pingsOnce(ns *lab.NS, to string) error {
	out, err := ns.Run("ping -n -c 1 -W 2 " + to)
	if err != nil {
		return fmt.Errorf("ping %s: %w: %s", to, err, out)
	}
	return nil
}

func silent(ns *lab.NS, to string) error {
	if pingsOnce(ns, to) == nil {
		return errors.New(to + " answers")
	}
	return nil
}

// TestFloatingAddresses: a pod is reached by its floating addresses from outside of the node, from the node and from itself,
// over a kill of the agent; what is changed of them is followed while the pod runs.
func TestFloatingAddresses(t *testing.T) {
	for _, mode := range []string{"Auto", "Disabled"} {
		t.Run("nftablesMode "+mode, func(t *testing.T) {
			a := newAsking(t)
			f := felixOf(t, a.Lab)
			floats := []string{"198.18.7.7", "fd00:77::7"}
			refused := a.pod("refused", map[string]string{"floatingIPs": `["198.18.7.7"]`})
			err := refused.Add()
			if code, text := lab.Code(err); code != 7 || !strings.Contains(text, "annotation "+annotation+"floatingIPs of pod default/refused") || !strings.Contains(text, "floatingIPs to Enabled in FelixConfiguration default") {
				t.Errorf("while floatingIPs is Disabled: %v", err)
			}
			if err := refused.Del(); err != nil {
				t.Error(err)
			}
			f.set("default", map[string]any{"floatingIPs": "Enabled", "nftablesMode": mode})
			p := a.pod("web", map[string]string{"floatingIPs": `["198.18.7.7","fd00:77::7"]`, "hwAddr": "1c:0c:0a:c0:ff:ee"})
			a.Within(30*time.Second, "floatingIPs is Enabled", p.Add)
			if out, err := p.NS.Run("ip link show eth0"); err != nil || !strings.Contains(out, "link/ether 1c:0c:0a:c0:ff:ee") {
				t.Errorf("hwAddr: %v\n%s", err, out)
			}
			for i, via := range []netip.Addr{a.n.Addr4.Addr(), a.n.Addr6.Addr()} {
				if out, err := a.Fabric.Run(fmt.Sprintf("ip route add %s via %s", floats[i], via)); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			answers := func() (err error) {
				for _, to := range floats {
					err = errors.Join(err, pingsOnce(a.Fabric, to), pingsOnce(a.n.NS, to), pingsOnce(p.NS, to))
				}
				return err
			}
			t.Logf("floating addresses answer after %s", a.Within(30*time.Second, "floating addresses answer", answers))
			a.n.Kill()
			if err := answers(); err != nil {
				t.Errorf("while the agent is down: %v", err)
			}
			a.n.Start()
			a.n.WaitReady(30 * time.Second)
			if err := answers(); err != nil {
				t.Errorf("right after a restart: %v", err)
			}
			a.annotate("web", "floatingIPs", `["fd00:77::7"]`)
			a.Within(30*time.Second, "the address that was taken away is silent", func() error { return silent(a.Fabric, floats[0]) })
			if err := pingsOnce(a.Fabric, floats[1]); err != nil {
				t.Error(err)
			}
			a.annotate("web", "floatingIPs", `["198.18.7.7","fd00:77::7"]`)
			a.Within(30*time.Second, "it is back", answers)
			if err := p.Remove(); err != nil {
				t.Fatal(err)
			}
			a.Within(30*time.Second, "nothing is left of it", func() error {
				routes, _ := a.n.NS.Run("ip route show 198.18.7.7")
				rules, err := a.n.NS.Run("nft list ruleset")
				if err == nil && (routes != "" || strings.Contains(rules, floats[0])) {
					err = errors.New(routes + rules)
				}
				return err
			})
			a.Agrees(30 * time.Second)
		})
	}
}

// TestAddressesWithoutIPAM: they stand over a restart of the agent, and nothing of them is in the datastore.
func TestAddressesWithoutIPAM(t *testing.T) {
	a := newAsking(t)
	p := a.pod("own", map[string]string{"ipAddrsNoIpam": `["10.99.0.7","fd00:99::7"]`})
	if err := p.Add(); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(p.Addrs) != "[10.99.0.7 fd00:99::7]" {
		t.Errorf("addresses %v", p.Addrs)
	}
	answers := func() error { return errors.Join(pingsOnce(a.n.NS, "10.99.0.7"), pingsOnce(a.n.NS, "fd00:99::7")) }
	for _, what := range []string{"after ADD", "after a kill", "after another one"} {
		if err := errors.Join(answers(), p.Check()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		a.n.Kill()
		if err := answers(); err != nil {
			t.Errorf("while the agent is down: %v", err)
		}
		if _, err := a.n.NS.Run("ip route del 10.99.0.7"); err != nil && what == "after a kill" {
			t.Error(err) // broken while nobody looks: mended by the next agent, which must know it
		}
		a.n.Start()
		a.n.WaitReady(30 * time.Second)
		a.Within(30*time.Second, "its routes stand", answers)
	}
	second := a.pod("second", map[string]string{"ipAddrsNoIpam": `["10.99.0.7"]`})
	if err := second.Add(); err == nil || !strings.Contains(err.Error(), "10.99.0.7 is that of pod default/own") {
		t.Errorf("the same address twice: %v", err)
	}
	if err := errors.Join(second.Del(), p.Remove()); err != nil {
		t.Fatal(err)
	}
	if err := silent(a.n.NS, "10.99.0.7"); err != nil {
		t.Error(err)
	}
	if files, err := os.ReadDir(filepath.Join(a.n.Journal, "foreign")); err != nil || len(files) > 0 {
		t.Errorf("left: %v, %v", files, err)
	}
	a.Agrees(30 * time.Second)
}

// TestBadAnnotation: ADD fails and says why, leaves nothing, and succeeds once the pod is corrected.
func TestBadAnnotation(t *testing.T) {
	a := newAsking(t)
	p := a.pod("web", map[string]string{"hwAddr": "01:00:5e:00:00:01", "ipv4pools": `["nowhere"]`})
	links, _ := a.n.NS.Run("ip -o link")
	err := p.Add()
	code, text := lab.Code(err)
	for _, says := range []string{"annotation " + annotation + "hwAddr of pod default/web, value 01:00:5e:00:00:01", "group's address", annotation + "ipv4pools", `"nowhere" is neither`, "kubectl get ippools"} {
		if code != 7 || !strings.Contains(text, says) {
			t.Errorf("code %d, %s: want code 7 and %s", code, text, says)
		}
	}
	if now, _ := a.n.NS.Run("ip -o link"); now != links {
		t.Errorf("left in the kernel: %s", now)
	}
	if err := p.Del(); err != nil { // as kubelet does after a refusal
		t.Error(err)
	}
	a.Agrees(30 * time.Second)
	a.annotate("web", "hwAddr", nil)
	a.annotate("web", "ipv4pools", `["pool1"]`)
	a.Within(30*time.Second, "the corrected pod is added", p.Add)
}

// TestSelectedPools: which pools give addresses on a node follows its labels, and a selector that does not parse is told of.
func TestSelectedPools(t *testing.T) {
	a := newAsking(t)
	label := func(value any) {
		t.Helper()
		patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]any{"zone": value}}})
		if _, err := a.core.CoreV1().Nodes().Patch(t.Context(), a.n.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, spec := range map[string]v3.IPPoolSpec{
		"east": {CIDR: "10.61.0.0/24", NodeSelector: "zone == 'east'"}, "broken": {CIDR: "10.62.0.0/24", NodeSelector: "zone = 'east'"},
	} {
		if err := a.CreatePool(name, spec); err != nil {
			t.Fatal(err)
		}
	}
	a.Within(30*time.Second, "the selector is told of", func() error {
		faults, err := a.n.Metric("margay_cluster_faults")
		if log := a.n.Log(); err == nil && (faults != 1 || !strings.Contains(log, "IPPool broken: spec.nodeSelector: ") || !strings.Contains(log, "character 6: want an operator")) {
			err = fmt.Errorf("%v faults; the log says %s", faults, a.n.LastLog(5))
		}
		return err
	})
	if err := a.DisablePool("pool1"); err != nil {
		t.Fatal(err)
	}
	added := 0
	from := func(annotations map[string]string, network string) func() error {
		return func() error {
			added++
			p := a.pod(fmt.Sprint("pod-", added), annotations)
			if err := p.Add(); err != nil {
				return errors.Join(err, p.Remove())
			}
			var err error
			if want := netip.MustParsePrefix(network); !want.Contains(p.Addrs[0]) {
				err = fmt.Errorf("%s is not of %s", p.Addrs[0], want)
			}
			return errors.Join(err, p.Remove())
		}
	}
	a.Within(30*time.Second, "only the IPv6 pool is left", from(nil, "fd00:172:20::/112"))
	a.Within(30*time.Second, "who asks for it by name gets it", from(map[string]string{"ipv4pools": `["east"]`}, "10.61.0.0/24"))
	a.Within(30*time.Second, "and so does who asks for an address", from(map[string]string{"ipAddrs": `["10.61.0.200"]`}, "10.61.0.200/32"))
	label("east")
	a.Within(30*time.Second, "the node is selected", from(nil, "10.61.0.0/24"))
	label(nil)
	a.Within(30*time.Second, "it is no longer", from(nil, "fd00:172:20::/112"))
	a.Agrees(30 * time.Second)
}
