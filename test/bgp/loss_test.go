package bgp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// viaFabric is the row of the session with FRR.
const viaFabric = fabricPeer + ", global, up, Established"

// change is a cluster on which something changes while pods ping each other: over two subnets, whose router has the blocks'
// routes by BGP, too.
type change struct {
	*lab.Lab
	t    *testing.T
	frr  *router
	one  *lab.Node
	pods []*lab.Pod
}

// TestLoss changes what BGP runs on, and nothing may be lost.
func TestLoss(t *testing.T) {
	l := bird(t, lab.Options{Nodes: 4, Subnets: 2, Pools: []v3.IPPoolSpec{plain4}})
	c := &change{Lab: l, t: t, frr: runFRR(t, l), one: l.Nodes[0]}
	readSecrets(t, l, "mesh", "fabric")
	password(t, l, "mesh", "first")
	password(t, l, "fabric", "first")
	c.frr.password("first")
	apply(t, resource("BGPConfiguration", "default", "nodeMeshPassword: {secretKeyRef: {name: mesh, key: password}}"),
		resource("BGPPeer", "fabric", "peerIP: "+fabricPeer, "asNumber: 65000", "password: {secretKeyRef: {name: fabric, key: password}}"))
	c.pods = onePodEach(l)
	c.mesh()
	for _, n := range l.Nodes {
		l.Within(patience, "the fabric's routes to "+n.Name, func() error {
			return routesTo(l, l.Fabric, n, "via "+n.Addr4.Addr().String(), "")
		})
	}
	meet(t, c.pods)

	c.killed(c.one)
	c.killed(l.Nodes...)
	c.upgraded()
	others := addresses(l.Nodes[1:]...)
	c.renewed("the mesh's password changed", others, func() { password(t, l, "mesh", "second") })
	c.renewed("the fabric's password changed on both sides", []string{fabricPeer}, func() {
		password(t, l, "fabric", "second")
		c.frr.password("second")
	})
	c.renewed("all of a node's sessions reset", append(others, fabricPeer), func() {
		if _, err := c.one.NS.Run("ss -K -t state established ( sport = :179 or dport = :179 )"); err != nil {
			t.Fatal(err)
		}
	})
	c.reflectors()

	// A machine that dies says nothing: its peers know after the hold time. Only ways by it may lose.
	p := ring(c.pods[1:]...)
	c.one.PowerOff()
	p.stop(t, l, "another node is off for ever", false)
}

// mesh waits until all sessions of the mesh, and with the fabric, are established.
func (c *change) mesh() {
	for _, n := range c.Nodes {
		waitTable(c.Lab, n, 4, inMesh(c.Lab, n, 4, viaFabric)...)
	}
}

// killed kills agents at once; they come back one after the other.
func (c *change) killed(nodes ...*lab.Node) {
	p := ring(c.pods...)
	for _, n := range nodes {
		n.Kill()
	}
	for _, n := range nodes {
		time.Sleep(300 * time.Millisecond)
		n.Start()
	}
	for _, n := range nodes {
		n.WaitReady(patience)
	}
	c.mesh()
	time.Sleep(3 * time.Second) // what is swept too early would go now
	p.stop(c.t, c.Lab, fmt.Sprintf("agents killed: %d", len(nodes)), true)
}

func (c *change) upgraded() {
	next, err := cluster.Next("next")
	if err != nil {
		c.t.Fatal(err)
	}
	p := ring(c.pods...)
	for _, n := range c.Nodes {
		n.Stop()
		n.Programs = next
		n.Start()
		n.WaitReady(patience)
		if out, err := ctl("", "node", "status", "--details", "--socket", socket(n)); err != nil || !strings.Contains(squeezed(out), "Agent next, process") {
			c.t.Errorf("%s was not upgraded: %v %s", n.Name, err, out)
		}
	}
	c.mesh()
	p.stop(c.t, c.Lab, "all agents upgraded, one after the other", true)
}

// renewed does something that has node 1's sessions with some peers start anew.
func (c *change) renewed(what string, peers []string, do func()) {
	was, err := sessions(c.one)
	if err != nil {
		c.t.Fatal(err)
	}
	p := ring(c.pods...)
	do()
	renewed(c.Lab, c.one, was, peers)
	c.mesh()
	p.stop(c.t, c.Lab, what, true)
}

// reflectors goes from the mesh to route reflectors in the right order: sessions with the reflectors, then what makes them
// reflect, which takes them out of the mesh, then the mesh off.
func (c *change) reflectors() {
	t, l := c.t, c.Lab
	p := ring(c.pods...)
	for _, n := range l.Nodes[:2] {
		label(t, l, n, "calico-rr=true")
	}
	apply(t, resource("BGPPeer", "rr-to-node", `nodeSelector: "!has(calico-rr)"`, "peerSelector: has(calico-rr)"),
		resource("BGPPeer", "rr-to-rr", "nodeSelector: has(calico-rr)", "peerSelector: has(calico-rr)"))
	c.reflected(true)
	for _, n := range l.Nodes[:2] {
		was, err := sessions(n)
		if err != nil {
			t.Fatal(err)
		}
		setBGP(t, n, "routeReflectorClusterID: 224.0.0.1")
		renewed(l, n, was, addresses(l.Nodes[2:]...))
		c.reflected(true)
	}
	apply(t, resource("BGPConfiguration", "default", "nodeToNodeMeshEnabled: false"))
	c.reflected(false)
	p.stop(t, l, "route reflectors on, mesh off", true)
}

// reflected waits until all sessions with the first two nodes are those of the reflectors, and the others the mesh's, if there
// is one.
func (c *change) reflected(mesh bool) {
	rr := c.Nodes[:2]
	for _, n := range c.Nodes {
		rows := []string{viaFabric}
		for _, to := range c.Nodes {
			switch {
			case to == n:
			case slices.Contains(rr, n) || slices.Contains(rr, to):
				rows = append(rows, up(to.Addr4.Addr(), "node specific"))
			case mesh:
				rows = append(rows, up(to.Addr4.Addr(), "node-to-node mesh"))
			}
		}
		waitTable(c.Lab, n, 4, byAddress(rows)...)
	}
}

// renewed waits until a node has new sessions with some peers.
func renewed(l *lab.Lab, n *lab.Node, was map[string]time.Time, peers []string) {
	l.Within(patience, n.Name+" has new sessions", func() error {
		now, err := sessions(n)
		for _, p := range peers {
			if !now[p].After(was[p]) {
				err = errors.Join(err, fmt.Errorf("that with %s is up since %s, was since %s", p, now[p], was[p]))
			}
		}
		return err
	})
}

// readSecrets gives the agents the right to some Secrets, as a person does: the install manifest lets them read none.
func readSecrets(t *testing.T, l *lab.Lab, names ...string) {
	t.Helper()
	meta, rbac := metav1.ObjectMeta{Name: "bgp-passwords", Namespace: "kube-system"}, l.Core.RbacV1()
	_, err := rbac.Roles(meta.Namespace).Create(t.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: names, Verbs: []string{"get", "list", "watch"}},
	}}, metav1.CreateOptions{})
	if err == nil {
		_, err = rbac.RoleBindings(meta.Namespace).Create(t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "margay-node", Namespace: meta.Namespace}},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = rbac.RoleBindings(meta.Namespace).Delete(context.Background(), meta.Name, metav1.DeleteOptions{})
		_ = rbac.Roles(meta.Namespace).Delete(context.Background(), meta.Name, metav1.DeleteOptions{})
	})
}

// password writes a Secret where the agents read it.
func password(t *testing.T, l *lab.Lab, name, value string) {
	t.Helper()
	secrets := l.Core.CoreV1().Secrets("kube-system")
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system"}, StringData: map[string]string{"password": value}}
	_, err := secrets.Get(t.Context(), name, metav1.GetOptions{})
	if err == nil {
		_, err = secrets.Update(t.Context(), s, metav1.UpdateOptions{})
	} else {
		_, err = secrets.Create(t.Context(), s, metav1.CreateOptions{})
		t.Cleanup(func() { _ = secrets.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	}
	if err != nil {
		t.Fatal(err)
	}
}
