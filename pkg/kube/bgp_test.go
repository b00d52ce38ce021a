package kube

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/bgp"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/peering"
	"github.com/margay-net/margay/pkg/store"
)

// watched is a directory that watches fill.
type watched struct {
	t *testing.T
	c *Client
	d *peering.Directory
	s *store.Store
}

// build is what the directory makes of it for node n1, whose peers' addresses are listed with what matters here.
func (w *watched) build() (conf bgp.Config, peers string, faults []string) {
	nodes := w.s.NodeMap()
	maps.DeleteFunc(nodes, func(name string, _ model.Node) bool { return name != "n1" && name != "n2" }) // other tests' nodes
	conf, faults = w.d.Build(peering.Input{Self: "n1", Nodes: nodes})
	for _, p := range conf.Peers {
		peers += fmt.Sprintf("%s AS %d %s%v ", p.Address, p.AS, p.Password, p.Filters)
	}
	return conf, strings.TrimSpace(peers), faults
}

func (w *watched) expect(what, want string) {
	w.t.Helper()
	_, have, faults := w.build()
	defer func() { // after eventually has given up, too
		if w.t.Failed() {
			w.t.Logf("sessions %q, faults %q", have, faults)
		}
	}()
	eventually(w.t, what, func() bool { _, have, faults = w.build(); return have == want })
}

func (w *watched) create(kind, name, spec string) {
	w.t.Helper()
	k := kindOf(w.t, kind)
	o := document(w.t, fmt.Sprintf("{apiVersion: projectcalico.org/v3, kind: %s, metadata: {name: %s}, spec: %s}", k.Kind, name, spec))
	if _, err := w.c.CreateResource(w.t.Context(), k, o, false); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) patch(kind, name, patch string) {
	w.t.Helper()
	if _, err := w.c.PatchResource(w.t.Context(), kindOf(w.t, kind), "", name, types.MergePatchType, []byte(patch), false); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) remove(kind, name string) {
	w.t.Helper()
	if err := w.c.DeleteResource(w.t.Context(), kindOf(w.t, kind), "", name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// node makes a Node anew.
func (w *watched) node(name string, labels, annotations map[string]string) {
	w.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: annotations}}
	core := w.c.core
	_ = core.Delete().Resource("nodes").Name(name).Do(w.t.Context()).Error()
	if err := core.Post().Resource("nodes").Body(n).Do(w.t.Context()).Error(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) secret(name string, data map[string]string) {
	w.t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceSystem}, StringData: data}
	secrets := w.c.core
	_ = secrets.Delete().Namespace(s.Namespace).Resource("secrets").Name(name).Do(w.t.Context()).Error()
	if data == nil {
		return
	}
	if err := secrets.Post().Namespace(s.Namespace).Resource("secrets").Body(s).Do(w.t.Context()).Error(); err != nil {
		w.t.Fatal(err)
	}
}

// testBGP changes everything that sessions follow from, and sees that the directory hears of it.
func testBGP(t *testing.T, c *Client) {
	w := &watched{t: t, c: c, d: peering.NewDirectory(nil), s: store.New()}
	w.secret("bgp", nil)
	w.node("n1", nil, map[string]string{annAddr4: "192.168.10.1/24"})
	w.node("n2", map[string]string{"rack": "a"}, map[string]string{annAddr4: "192.168.10.2/24", annAS: "65002"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- NewWatcher(c, w.s, nil, slog.New(slog.DiscardHandler)).WithBGP(w.d).Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, n := range []string{"n1", "n2"} {
			_ = c.core.Delete().Resource("nodes").Name(n).Do(t.Context()).Error()
		}
	}()
	eventually(t, "the directory is in sync", func() bool { return w.d.InSync() && w.s.InSync() })
	w.expect("mesh with a node of its own AS", "192.168.10.2 AS 65002 []")
	w.node("n2", map[string]string{"rack": "b"}, map[string]string{annAddr4: "192.168.10.2/24", annAS: "1.10", annClusterID: "224.0.0.1", annLabels: `{"rack":"x","zone":"z"}`})
	w.expect("no mesh with a reflector", "")

	w.create("bgpconfiguration", "default", "{nodeToNodeMeshEnabled: false, asNumber: 65000, prefixAdvertisements: [{cidr: 172.20.0.0/16, communities: ['65000:1']}]}")
	eventually(t, "the configuration", func() bool { conf, _, _ := w.build(); return conf.AS == 65000 && len(conf.Tags) == 1 })
	w.create("bgpconfiguration", "node.n1", "{listenPort: 1790}")
	eventually(t, "the node's configuration", func() bool { conf, _, _ := w.build(); return conf.Port == 1790 })
	w.remove("bgpconfiguration", "node.n1")
	eventually(t, "the node's configuration is gone", func() bool { conf, _, _ := w.build(); return conf.Port == 179 })

	w.create("bgppeer", "p", `{nodeSelector: "!has(rack)", peerSelector: "rack == 'b' && zone == 'z'"}`)
	w.expect("a peer by labels of both kinds", "192.168.10.2 AS 65546 []")
	w.create("bgpfilter", "f", "{exportV4: [{action: Reject}]}")
	w.patch("bgppeer", "p", `{"spec": {"filters": ["f"], "password": {"secretKeyRef": {"name": "bgp", "key": "k"}}}}`)
	w.expect("no session without Secret", "")
	eventually(t, "the Secret is known to be missing", func() bool { w.build(); return w.d.InSync() })
	w.secret("bgp", map[string]string{"k": "one"})
	w.expect("a password", "192.168.10.2 AS 65546 one[f]")
	w.secret("bgp", map[string]string{"k": "two"})
	w.expect("another password", "192.168.10.2 AS 65546 two[f]")
	w.secret("bgp", nil)
	eventually(t, "the Secret is gone", func() bool {
		_, peers, faults := w.build()
		return peers == "192.168.10.2 AS 65546 two[f]" && len(faults) == 1 && strings.Contains(faults[0], "there is no Secret bgp") && strings.HasSuffix(faults[0], "its last password stays in use until the agent restarts")
	})
	w.secret("other", map[string]string{"k": "three"})
	w.patch("bgppeer", "p", `{"spec": {"password": {"secretKeyRef": {"name": "other"}}}}`)
	w.expect("the password of another Secret", "192.168.10.2 AS 65546 three[f]")
	w.create("bgppeer", "q", "{peerIP: 192.168.42.1, asNumber: 65001, password: {secretKeyRef: {name: bgp, key: k}}}")
	w.secret("bgp", map[string]string{"k": "four"})
	w.expect("a Secret that was followed before", "192.168.10.2 AS 65546 three[f] 192.168.42.1 AS 65001 four[]")

	filter := func(action bgp.Action) func() bool {
		return func() bool {
			conf, _, _ := w.build()
			rules := conf.Filters["f"].Export4
			return len(rules) == 1 && rules[0].Action == action
		}
	}
	eventually(t, "the filter", filter(bgp.Reject))
	w.patch("bgpfilter", "f", `{"spec": {"exportV4": [{"action": "Accept"}]}}`)
	eventually(t, "the filter has changed", filter(bgp.Accept))
	w.remove("bgpfilter", "f")
	eventually(t, "the filter is gone", func() bool {
		_, _, faults := w.build()
		return filter(bgp.Accept)() && slices.ContainsFunc(faults, func(f string) bool {
			return strings.Contains(f, "there is no BGPFilter f") && strings.HasSuffix(f, "its last rules stay in force until the agent restarts")
		})
	})
	w.remove("bgppeer", "p")
	w.remove("bgppeer", "q")
	w.expect("no peers", "")
	w.remove("bgpconfiguration", "default")
	w.node("n2", nil, map[string]string{annAddr4: "192.168.10.2/24", annAS: "many", annClusterID: "fd00::1"})
	w.expect("annotations that are malformed count as absent", "192.168.10.2 AS 64512 []")
	if err := c.core.Delete().Resource("nodes").Name("n2").Do(ctx).Error(); err != nil {
		t.Fatal(err)
	}
	w.expect("no node", "")
}

// testForbiddenSecret: a Secret that may not be read counts as missing, and is there when it may be.
func testForbiddenSecret(t *testing.T, config *rest.Config) {
	admin, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	as := rest.CopyConfig(config)
	as.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:kube-system:agent", Groups: []string{"system:authenticated"}}
	c, err := New(as)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{t: t, c: admin, d: peering.NewDirectory(nil)}
	w.secret("guarded", map[string]string{"k": "x"})
	for k := range model.BGPKinds {
		w.d.Synced(k)
	}
	ctx, cancel := context.WithCancel(t.Context())
	watcher, done := NewWatcher(c, store.New(), nil, slog.New(slog.DiscardHandler)).WithBGP(w.d), make(chan struct{})
	w.d.SetPeer("p", &v3.BGPPeerSpec{PeerIP: "192.168.42.1", Password: &v3.BGPPassword{
		SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "guarded"}, Key: "k"}}})
	go func() { watcher.followSecrets(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	eventually(t, "the Secret counts as missing", w.d.InSync)
	password := func() string {
		conf, _ := w.d.Build(peering.Input{Self: "n1", Nodes: map[string]model.Node{"n1": {Addr4: netip.MustParsePrefix("192.168.10.1/24")}}})
		if len(conf.Peers) == 0 {
			return ""
		}
		return conf.Peers[0].Password
	}
	if p := password(); p != "" {
		t.Fatalf("it was read: %s", p)
	}
	rules := `{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: bgp}, rules: [{apiGroups: [''], resources: [secrets], resourceNames: [guarded], verbs: [get, list, watch]}]}`
	binding := `{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: bgp}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: bgp}, subjects: [{kind: ServiceAccount, name: agent, namespace: kube-system}]}`
	for resource, text := range map[string]string{"roles": rules, "rolebindings": binding} {
		gvr := rbacv1.SchemeGroupVersion.WithResource(resource)
		if _, err := admin.dynamic.Resource(gvr).Namespace("kube-system").Create(ctx, document(t, text), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the password", func() bool { return password() == "x" })
}
