package datastore_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/address"
	"github.com/margay-net/margay/pkg/ctl/ctltest"
	"github.com/margay-net/margay/pkg/ctl/datastore"
	"github.com/margay-net/margay/pkg/kube"
)

// TestMigrate moves a cluster's network: out of one datastore, and into an empty one, after which addresses and resources
// are as before. The empty one is the same API server, emptied.
func TestMigrate(t *testing.T) {
	l := ctltest.New(t)
	l.Pool("default-ipv4-ippool", v3.IPPoolSpec{CIDR: "10.244.0.0/16", BlockSize: 30, VXLANMode: v3.EncapAlways})
	l.Pool("six", v3.IPPoolSpec{CIDR: "fd00:10:244::/112", BlockSize: 126})
	a, b := l.Node("node1", 11), l.Node("node2", 12)
	a.Pod("web-1")
	b.Pod("web-2")
	l.Must(address.Command, "ipam", "configure", "--ip-cooldown-seconds=30", "--kubevirt-ip-persistence=Enabled")
	for kind, doc := range map[string]map[string]any{
		"FelixConfiguration": {"metadata": map[string]any{"name": "default"}, "spec": map[string]any{"logSeverityScreen": "Debug"}},
		"IPReservation":      {"metadata": map[string]any{"name": "routers"}, "spec": map[string]any{"reservedCIDRs": []any{"10.244.0.0/30"}}},
		"NetworkSet":         {"metadata": map[string]any{"name": "friends", "namespace": "default"}, "spec": map[string]any{"nets": []any{"192.0.2.0/24"}}},
	} {
		doc["apiVersion"], doc["kind"] = "projectcalico.org/v3", kind
		k, _ := kube.KindOf(kind)
		if _, err := l.Kube.CreateResource(t.Context(), k, &unstructured.Unstructured{Object: doc}, false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Run(datastore.Command, "datastore", "migrate", "export"); err == nil || !strings.Contains(err.Error(), "migrate lock") {
		t.Errorf("export of an unlocked datastore: %v", err)
	}
	if out := l.Must(datastore.Command, "datastore", "migrate", "lock"); out != "Datastore locked.\n" {
		t.Errorf("lock printed %q", out)
	}
	text := l.Must(datastore.Command, "datastore", "migrate", "export")
	ctltest.Golden(t, "export.txt", ctltest.Plain(text))
	before := l.Must(address.Command, "ipam", "show", "--show-blocks")

	file := filepath.Join(t.TempDir(), "datastore.yaml")
	write(t, file, text)
	_, err := l.Run(datastore.Command, "datastore", "migrate", "import", "-f", file)
	if err == nil || !strings.Contains(err.Error(), "found existing Calico IPPool resource default-ipv4-ippool") {
		t.Errorf("import into a datastore that has resources: %v", err)
	}
	empty(t, l)
	refuse(t, l, text)
	out := l.Must(datastore.Command, "datastore", "migrate", "import", "-f", file)
	ctltest.Golden(t, "import.txt", out)
	if after := l.Must(address.Command, "ipam", "show", "--show-blocks"); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	if out := l.Must(address.Command, "ipam", "check", "--again=0s", "--show-problem-ips"); !strings.HasSuffix(out, "Check complete; found 0 problems.\n") {
		t.Errorf("check after the import:\n%s", out)
	}
	if again := l.Must(datastore.Command, "datastore", "migrate", "export"); ctltest.Plain(again) != ctltest.Plain(text) {
		t.Errorf("the export of what was imported differs:\n%s", again)
	}
	if out := l.Must(datastore.Command, "datastore", "migrate", "unlock"); out != "Datastore unlocked.\n" {
		t.Errorf("unlock printed %q", out)
	}
}

// root is where addresses are in a file.
const root = "/calico/ipam/v2/"

// refuse tries files that are no good: nothing of them is written.
func refuse(t *testing.T, l *ctltest.Lab, text string) {
	t.Helper()
	bad := filepath.Join(t.TempDir(), "bad")
	for want, spoiled := range map[string]string{
		"it has 1 parts":          "apiVersion: v1\n",
		"list 1 of the first":     "- [\n===\n{}\n===\n{}\n",
		"second part":             "===\nx\n===\n{}\n",
		"third part":              "===\n{}\n===\nx\n",
		"does not end in a netwo": strings.Replace(text, "/block/10.244", "/block/pods", 1),
		"is neither allocated":    strings.Replace(text, "\"unallocated\": [", "\"unallocated\": [], \"x\": [", 1),
		"spec.state":              strings.Replace(text, "\"state\": \"confirmed\"", "\"state\": \"perhaps\"", 1),
		"invalid: metadata.name":  strings.Replace(text, root+"handle/k8s", root+"handle/_", 1),
		"spec.vxlanMode":          strings.Replace(text, "vxlanMode: Always", "vxlanMode: Sometimes", 1),
		"unknown field":           strings.Replace(text, "vxlanMode: Always", "vxlanMod: Always", 1),
	} {
		write(t, bad, spoiled)
		if _, err := l.Run(datastore.Command, "datastore", "migrate", "import", "-f", bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := l.Run(datastore.Command, "datastore", "migrate", "import"); err == nil || !strings.Contains(err.Error(), "use -f") {
		t.Errorf("no file: %v", err)
	}
	for _, kind := range []string{"IPPool", "IPAMBlock", "BlockAffinity"} {
		k, _ := kube.KindOf(kind)
		if list, err := l.Kube.ListResources(t.Context(), k, "", metav1.ListOptions{}); err != nil || len(list.Items) > 0 {
			t.Errorf("%s after refusals: %v, %v", kind, list, err)
		}
	}
}

// empty deletes all resources.
func empty(t *testing.T, l *ctltest.Lab) {
	t.Helper()
	for _, k := range kube.Kinds {
		list, err := l.Kube.ListResources(t.Context(), k, "", metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			if err := l.Kube.DeleteResource(t.Context(), k, list.Items[i].GetNamespace(), list.Items[i].GetName(), metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
