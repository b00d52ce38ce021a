package address_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/address"
	"github.com/margay-net/margay/pkg/ctl/ctltest"
	"github.com/margay-net/margay/pkg/ctl/datastore"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/ipam/check"
	"github.com/margay-net/margay/pkg/kube"
)

// cluster is three nodes with a tunnel address each, and three pods on two of them.
func cluster(t *testing.T, l *ctltest.Lab) (*ctltest.Lab, []*ctltest.Node) {
	t.Helper()
	l.Pool("default-ipv4-ippool", v3.IPPoolSpec{CIDR: "10.244.0.0/16", BlockSize: 26, VXLANMode: v3.EncapAlways, NATOutgoing: true})
	var nodes []*ctltest.Node
	for i, name := range []string{"node1", "node2", "node3"} {
		nodes = append(nodes, l.Node(name, 11+i))
	}
	nodes[1].Pod("net-node2")
	nodes[1].Pod("web-1")
	nodes[2].Pod("net-node3")
	return l, nodes
}

// TestWalkthrough11Addresses runs all commands on one cluster, in the order of a person's day.
func TestWalkthrough11Addresses(t *testing.T) {
	l, nodes := cluster(t, ctltest.New(t))
	ipam := func(t *testing.T, golden string, args ...string) {
		t.Helper()
		ctltest.Golden(t, golden, ctltest.Plain(l.Must(address.Command, append([]string{"ipam"}, args...)...)))
	}
	t.Run("show", func(t *testing.T) {
		ipam(t, "show.txt", "show")
		ipam(t, "show-blocks.txt", "show", "--show-blocks")
		ipam(t, "show-borrowed-none.txt", "show", "--show-borrowed")
		ipam(t, "show-ip.txt", "show", "--ip=10.244.11.65")
		ipam(t, "show-ip-tunnel.txt", "show", "--ip=10.244.11.64")
		ipam(t, "show-ip-free.txt", "show", "--ip=10.244.11.100")
		ipam(t, "show-configuration.txt", "show", "--show-configuration")
	})
	t.Run("check", func(t *testing.T) {
		ipam(t, "check.txt", "check")
		ipam(t, "check-all.txt", "check", "--show-all-ips")
	})
	t.Run("map", func(t *testing.T) {
		ipam(t, "map.txt", "map")
		t.Setenv("COLUMNS", "50")
		ipam(t, "map-narrow.txt", "map")
	})
	t.Run("damage", func(t *testing.T) { damage(t, l, nodes) })
	t.Run("release", func(t *testing.T) { release(t, l, nodes) })
	t.Run("report", func(t *testing.T) { report(t, l, nodes) })
	t.Run("configure", func(t *testing.T) { configure(t, l) })
	t.Run("crowd", func(t *testing.T) { crowd(t, l, nodes, ipam) })
	t.Run("split", func(t *testing.T) { split(t, l) })
	t.Run("bad input", func(t *testing.T) { badInput(t, l) })
}

// checked runs "check" without a second look and returns its lines.
func checked(t *testing.T, l *ctltest.Lab, args ...string) string {
	t.Helper()
	return l.Must(address.Command, append([]string{"ipam", "check", "--again=0s", "--show-problem-ips"}, args...)...)
}

// damage plants each kind of damage that a person can do to a datastore: it is found, and nothing else, and undone.
func damage(t *testing.T, l *ctltest.Lab, nodes []*ctltest.Node) {
	ctx := t.Context()
	pods := l.Core.CoreV1().Pods("default")
	for _, test := range []struct {
		name, line, way string
		plant           func(t *testing.T) (undo func())
	}{
		{"allocation without pod", "10.244.158.129 leaked; attrs Main:k8s-pod-network.net-node3", "margayctl ipam release --ip=ADDRESS", func(t *testing.T) func() {
			if err := pods.Delete(ctx, "net-node3", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
				t.Fatal(err)
			}
			return func() { l.PodWith("net-node3", "node3", netip.MustParseAddr("10.244.158.129")) }
		}},
		{"pod without allocation", "10.244.11.100 in use by Workload(default/node2-k8s-stray-eth0) and in active IPAM pool but has no IPAM allocation.", "delete the pod", func(t *testing.T) func() {
			l.PodWith("stray", "node2", netip.MustParseAddr("10.244.11.100"))
			return func() { _ = pods.Delete(ctx, "stray", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}) }
		}},
		{"handle without address", "k8s-pod-network.gone doesn't have any active IPs.", "kubectl delete ipamhandle", func(t *testing.T) func() {
			h, err := l.Kube.CreateHandle(ctx, &v3.IPAMHandle{
				TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "IPAMHandle"},
				ObjectMeta: metav1.ObjectMeta{Name: "k8s-pod-network.gone"},
				Spec:       v3.IPAMHandleSpec{HandleID: "k8s-pod-network.gone", Block: map[string]int{"10.244.11.64/26": 1}},
			})
			if err != nil {
				t.Fatal(err)
			}
			return func() { _ = l.Kube.DeleteHandle(ctx, h) }
		}},
		{"address without handle", "k8s-pod-network.web-1 is in use in a block but doesn't exist.", "restart the agent", func(t *testing.T) func() {
			h, err := l.Kube.GetHandle(ctx, "k8s-pod-network.web-1")
			if err == nil {
				err = l.Kube.DeleteHandle(ctx, h)
			}
			if err != nil {
				t.Fatal(err)
			}
			return func() {
				h.ResourceVersion, h.UID = "", ""
				h.TypeMeta = metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "IPAMHandle"}
				_, err = l.Kube.CreateHandle(ctx, h)
			}
		}},
		{"damaged block", "IPAMBlock 10-99-0-0-30 is invalid: ordinal 0 is neither allocated nor unallocated", "kubectl delete ipamblock", func(t *testing.T) func() {
			b := block.New(netip.MustParsePrefix("10.99.0.0/30"), "", nodesTime)
			b.Spec.Affinity, b.Spec.Unallocated = nil, b.Spec.Unallocated[1:]
			b, err := l.Kube.CreateBlock(ctx, b)
			if err != nil {
				t.Fatal(err)
			}
			return func() { _ = l.Kube.DeleteBlock(ctx, b) }
		}},
		{"tunnel address", "10.244.11.65 is the tunnel address of Node(node1), but it is allocated to Main:k8s-pod-network.net-node2", "restart the agent", func(t *testing.T) func() {
			return annotate(t, l, "node1", "projectcalico.org/IPv4VXLANTunnelAddr", "10.244.11.65")
		}},
		{"double affinity", "node1-10-244-11-64-26 claims block 10.244.11.64/26 for host:node1, but its owner is host:node2.", "kubectl delete blockaffinity", func(t *testing.T) func() {
			cidr := netip.MustParsePrefix("10.244.11.64/26")
			a, err := l.Kube.CreateAffinity(ctx, &v3.BlockAffinity{
				TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "BlockAffinity"},
				ObjectMeta: metav1.ObjectMeta{Name: block.AffinityName("node1", cidr), Labels: block.AffinityLabels("host:node1", false)},
				Spec:       v3.BlockAffinitySpec{CIDR: cidr.String(), Node: "node1", Type: "host", State: v3.AffinityConfirmed},
			})
			if err != nil {
				t.Fatal(err)
			}
			return func() { _ = l.Kube.DeleteAffinity(ctx, a) }
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			undo := test.plant(t)
			out := checked(t, l)
			if !strings.Contains(out, test.line) || !strings.Contains(out, test.way) || strings.HasSuffix(out, "found 0 problems.\n") {
				t.Errorf("want %q and %q in\n%s", test.line, test.way, out)
			}
			undo()
			if out := checked(t, l); !strings.HasSuffix(out, "Check complete; found 0 problems.\n") {
				t.Errorf("after it was undone:\n%s", out)
			}
		})
	}
}

// annotate sets an annotation of a node and returns what undoes it.
func annotate(t *testing.T, l *ctltest.Lab, node, key, value string) func() {
	t.Helper()
	set := func(value string) (old string) {
		n, err := l.Core.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		old, n.Annotations[key] = n.Annotations[key], value
		if _, err := l.Core.CoreV1().Nodes().Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		return old
	}
	old := set(value)
	return func() { set(old) }
}

// release takes one address back by hand: of an address whose pod lives the agent takes it again.
func release(t *testing.T, l *ctltest.Lab, nodes []*ctltest.Node) {
	b, err := l.Kube.GetBlock(t.Context(), "10-244-197-0-26")
	if err != nil {
		t.Fatal(err)
	}
	// A foreign allocation, as a borrower's that died would be.
	if err := block.Take(b, 60, "k8s-pod-network.dead", map[string]string{block.AttrNode: "node9", block.AttrNamespace: "default", block.AttrPod: "dead"}); err != nil {
		t.Fatal(err)
	}
	b.Spec.SequenceNumber++
	if _, err := l.Kube.UpdateBlock(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if out := checked(t, l); !strings.Contains(out, "10.244.197.60 leaked") {
		t.Errorf("the allocation is not found:\n%s", out)
	}
	out := l.Must(address.Command, "ipam", "release", "--ip=10.244.197.60")
	if out != "Successfully released IP address 10.244.197.60\n" {
		t.Errorf("printed %q", out)
	}
	if _, err := l.Run(address.Command, "ipam", "release", "--ip=10.244.197.60"); err == nil || err.Error() != "IP address 10.244.197.60 is not assigned" {
		t.Errorf("second release: %v", err)
	}
	l.Must(address.Command, "ipam", "release", "--ip=10.244.158.129")
	nodes[2].Settle()
	for range 100 {
		if out = checked(t, l); strings.HasSuffix(out, "found 0 problems.\n") {
			return
		}
		nodes[2].Settle()
	}
	t.Errorf("the agent did not take its pod's address again:\n%s", out)
}

// report releases what a report calls unused, and only in the state that it saw.
func report(t *testing.T, l *ctltest.Lab, nodes []*ctltest.Node) {
	file := filepath.Join(t.TempDir(), "report.json")
	nodes[0].Pod("leaker")
	pods := l.Core.CoreV1().Pods("default")
	if err := pods.Delete(t.Context(), "leaker", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	nodes[0].Alloc.Close() // an agent that died: it does not take the address again
	idle, err := l.Kube.CreateHandle(t.Context(), &v3.IPAMHandle{
		TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "IPAMHandle"},
		ObjectMeta: metav1.ObjectMeta{Name: "k8s-pod-network.idle"}, Spec: v3.IPAMHandleSpec{HandleID: "k8s-pod-network.idle", Block: map[string]int{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	checked(t, l, "-o", file)
	for want, args := range map[string][]string{
		"not locked":      {"ipam", "release", "--from-report=" + file},
		"no such file":    {"ipam", "release", "--from-report=/nowhere"},
		"nothing to rele": {"ipam", "release"},
	} {
		if _, err := l.Run(address.Command, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
	l.Must(datastore.Command, "datastore", "migrate", "lock")
	if _, err := l.Run(address.Command, "ipam", "release", "--from-report="+file); err == nil || !strings.Contains(err.Error(), "no report is of the present") {
		t.Errorf("a report of before the lock: %v", err)
	}
	checked(t, l, "-o", file)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r check.Report
	if err := json.Unmarshal(raw, &r); err != nil || !r.DatastoreLocked || len(r.LeakedHandles) != 1 || r.LeakedHandles[0].ID != idle.Name {
		t.Errorf("report %+v, %v", r, err)
	}
	ctltest.Golden(t, "report.json", ctltest.Plain(string(raw)))
	out := l.Must(address.Command, "ipam", "release", "--from-report="+file)
	ctltest.Golden(t, "release-report.txt", out)
	// Once more: all is done already.
	if out = l.Must(address.Command, "ipam", "release", "--from-report="+file); !strings.Contains(out, "1 addresses marked as leaked in the report had already been cleaned up.") {
		t.Errorf("second time:\n%s", out)
	}
	l.Must(datastore.Command, "datastore", "migrate", "unlock")
	if out := checked(t, l); !strings.HasSuffix(out, "Check complete; found 0 problems.\n") {
		t.Errorf("afterwards:\n%s", out)
	}
}

func configure(t *testing.T, l *ctltest.Lab) {
	out := l.Must(address.Command, "ipam", "configure", "--strictaffinity=true", "--max-blocks-per-host=4")
	if out != "Successfully set StrictAffinity to: true\nSuccessfully set MaxBlocksPerHost to: 4\n" {
		t.Errorf("printed %q", out)
	}
	ctltest.Golden(t, "show-configuration-strict.txt", l.Must(address.Command, "ipam", "show", "--show-configuration"))
	for want, args := range map[string][]string{
		"use true or false":             {"--strictaffinity=yes please"},
		"use a number":                  {"--max-blocks-per-host=-1"},
		"nothing to set":                {},
		"maxBlocksPerHost above 0 need": {"--strictaffinity=false"},
		"less than or equal to 1200":    {"--ip-cooldown-seconds=1201"},
	} {
		if _, err := l.Run(address.Command, append([]string{"ipam", "configure"}, args...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
	l.Must(address.Command, "ipam", "configure", "--strictaffinity=false", "--max-blocks-per-host=0", "--ip-cooldown-seconds=600")
}

// crowd shows what else can be in a pool: borrowed, cooling and reserved addresses, another family, a huge pool, and a block
// of no pool.
func crowd(t *testing.T, l *ctltest.Lab, nodes []*ctltest.Node, ipam func(*testing.T, string, ...string)) {
	ctx := t.Context()
	l.Pool("huge", v3.IPPoolSpec{CIDR: "11.0.0.0/8", Disabled: true})
	l.Pool("six", v3.IPPoolSpec{CIDR: "fd00:10::/48", BlockSize: 122, VXLANMode: v3.EncapCrossSubnet, Disabled: true})
	for _, b := range []struct{ cidr, node string }{{"fd00:10::40/122", "node2"}, {"fd00:10:0:8000::/122", "node3"}, {"11.64.0.0/26", "node2"}, {"172.30.0.0/30", "node3"}} {
		cidr := netip.MustParsePrefix(b.cidr)
		if _, err := l.Kube.CreateBlock(ctx, block.New(cidr, block.HostAffinity(b.node), nodesTime)); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Kube.CreateAffinity(ctx, &v3.BlockAffinity{
			TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "BlockAffinity"},
			ObjectMeta: metav1.ObjectMeta{Name: block.AffinityName(b.node, cidr), Labels: block.AffinityLabels("host:"+b.node, cidr.Addr().Is6())},
			Spec:       v3.BlockAffinitySpec{CIDR: b.cidr, Node: b.node, Type: "host", State: v3.AffinityConfirmed},
		}); err != nil {
			t.Fatal(err)
		}
	}
	reservation, _ := kube.KindOf("IPReservation")
	if _, err := l.Kube.CreateResource(ctx, reservation, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "projectcalico.org/v3", "kind": "IPReservation", "metadata": map[string]any{"name": "routers"},
		"spec": map[string]any{"reservedCIDRs": []any{"10.244.11.64/30", "10.244.11.65/32", "10.244.200.0/24", "10.244.11.120"}},
	}}, false); err != nil {
		t.Fatal(err)
	}
	b, err := l.Kube.GetBlock(ctx, "10-244-11-64-26")
	if err != nil {
		t.Fatal(err)
	}
	if err := block.Take(b, 40, "k8s-pod-network.guest", map[string]string{block.AttrNode: "node3", block.AttrNamespace: "default", block.AttrPod: "guest", block.AttrTimestamp: "2026-11-22 08:14:36.61 +0000 UTC"}); err != nil {
		t.Fatal(err)
	}
	b.Spec.SequenceNumber++
	if _, err := l.Kube.UpdateBlock(ctx, b); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Kube.CreateHandle(ctx, &v3.IPAMHandle{
		TypeMeta:   metav1.TypeMeta{APIVersion: v3.GroupVersion.String(), Kind: "IPAMHandle"},
		ObjectMeta: metav1.ObjectMeta{Name: "k8s-pod-network.guest"},
		Spec:       v3.IPAMHandleSpec{HandleID: "k8s-pod-network.guest", Block: map[string]int{"10.244.11.64/26": 1}},
	}); err != nil {
		t.Fatal(err)
	}
	l.PodWith("guest", "node3", netip.MustParseAddr("10.244.11.104"))
	l.Must(address.Command, "ipam", "release", "--ip=10.244.11.104") // with a cooldown: it stays allocated for a while
	l.Must(address.Command, "ipam", "show", "--ip=10.244.11.104")
	if err := l.Core.CoreV1().Pods("default").Delete(ctx, "guest", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	b, err = l.Kube.GetBlock(ctx, "10-244-158-128-26")
	if err != nil {
		t.Fatal(err)
	}
	if err := block.Take(b, 41, "k8s-pod-network.guest2", map[string]string{block.AttrNode: "node2", block.AttrNamespace: "default", block.AttrPod: "guest2"}); err != nil {
		t.Fatal(err)
	}
	b.Spec.SequenceNumber++
	if _, err := l.Kube.UpdateBlock(ctx, b); err != nil {
		t.Fatal(err)
	}
	ipam(t, "crowd-show.txt", "show")
	ipam(t, "crowd-show-blocks.txt", "show", "--show-blocks")
	ipam(t, "crowd-borrowed.txt", "show", "--show-borrowed")
	ipam(t, "crowd-map.txt", "map")
	ipam(t, "crowd-check.txt", "check", "--again=0s", "--show-problem-ips")
}

// split makes four pools of one that has blocks.
func split(t *testing.T, l *ctltest.Lab) {
	args := []string{"ipam", "split", "4", "--cidr=10.244.0.0/16"}
	if _, err := l.Run(address.Command, args...); err == nil || !strings.Contains(err.Error(), "not locked") {
		t.Errorf("unlocked: %v", err)
	}
	l.Must(datastore.Command, "datastore", "migrate", "lock")
	for want, bad := range map[string][]string{
		"power of two":          {"ipam", "split", "3", "--name=default-ipv4-ippool"},
		"smaller than a block":  {"ipam", "split", "2048", "--name=default-ipv4-ippool"},
		"is no number":          {"ipam", "split", "four", "--name=x"},
		"no pool is named":      {"ipam", "split", "4"},
		"find pool x":           {"ipam", "split", "4", "--name=x"},
		"with just this spec.c": {"ipam", "split", "4", "--cidr=10.0.0.0/8"},
	} {
		if _, err := l.Run(address.Command, bad...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", bad, err, want)
		}
	}
	ctltest.Golden(t, "split.txt", l.Must(address.Command, args...))
	l.Must(datastore.Command, "datastore", "migrate", "unlock")
	ctltest.Golden(t, "split-show.txt", l.Must(address.Command, "ipam", "show", "--show-blocks"))
}

func badInput(t *testing.T, l *ctltest.Lab) {
	for want, args := range map[string][]string{
		`--ip "pods" is no address`:    {"ipam", "show", "--ip=pods"},
		`--ip "10.0.0.0/26" is no add`: {"ipam", "release", "--ip=10.0.0.0/26"},
	} {
		if _, err := l.Run(address.Command, args...); err == nil || !regexp.MustCompile(regexp.QuoteMeta(want)).MatchString(err.Error()) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}

// TestV1: in a cluster of the older group the same commands print the same.
func TestV1(t *testing.T) {
	l, _ := cluster(t, ctltest.NewIn(t, kube.GroupV1))
	ctltest.Golden(t, "show-blocks.txt", l.Must(address.Command, "ipam", "show", "--show-blocks"))
	ctltest.Golden(t, "check.txt", l.Must(address.Command, "ipam", "check"))
	l.Must(address.Command, "ipam", "configure", "--strictaffinity=true", "--max-blocks-per-host=4")
	ctltest.Golden(t, "show-configuration-strict.txt", l.Must(address.Command, "ipam", "show", "--show-configuration"))
	l.Must(datastore.Command, "datastore", "migrate", "lock")
	if _, err := l.Run(datastore.Command, "datastore", "migrate", "export"); err != nil {
		t.Error(err)
	}
	l.Must(datastore.Command, "datastore", "migrate", "unlock")
}
