package lab

import (
	"fmt"
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AddNode makes one more machine, with the addresses of a number that no other one has, and registers it under a name.
// Its agent is not started.
func (l *Lab) AddNode(name string, number int) *Node {
	l.t.Helper()
	n, err := l.newNode(name, number)
	if err != nil {
		l.t.Fatalf("make node %s: %v", name, err)
	}
	l.Nodes = append(l.Nodes, n)
	return n
}

// Register makes the Node object, as kubelet does.
func (n *Node) Register() error {
	ctx, cancel := n.lab.ctx(10 * time.Second)
	defer cancel()
	nodes := n.lab.Core.CoreV1().Nodes()
	node, err := nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	node.Status.Addresses = n.addresses()
	_, err = nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

// Unregister deletes the Node object.
func (n *Node) Unregister() error {
	ctx, cancel := n.lab.ctx(10 * time.Second)
	defer cancel()
	return n.lab.Core.CoreV1().Nodes().Delete(ctx, n.Name, metav1.DeleteOptions{})
}

// PowerOff takes the machine away at once with all that runs on it, for ever: nothing of it, pods included, belongs to the
// lab any more. The Node object stays.
func (n *Node) PowerOff() {
	n.lab.t.Helper()
	n.off()
	n.lab.Nodes = slices.DeleteFunc(n.lab.Nodes, func(o *Node) bool { return o == n })
	n.lab.mu.Lock()
	defer n.lab.mu.Unlock()
	for p := range n.lab.pods {
		if p.Node == n {
			delete(n.lab.pods, p)
		}
	}
}

// off ends all that runs on the machine, and its kernel's state with it. Its cable goes first: nothing says goodbye.
func (n *Node) off() {
	n.lab.t.Helper()
	if err := n.lab.Fabric.Batch(fmt.Sprintf("link set n%d down", n.number)); err != nil {
		n.lab.t.Errorf("%s: unplug: %v", n.Name, err)
	}
	n.Kill()
	n.api.cut()
	for _, p := range n.lab.Pods() {
		if p.Node == n {
			p.NS.Close()
		}
	}
	if err := n.lab.Fabric.Batch(fmt.Sprintf("link del n%d", n.number)); err != nil {
		n.lab.t.Errorf("%s: unplug: %v", n.Name, err)
	}
	n.NS.Close()
}

// Reboot switches the machine off and on: what was on tmpfs (journal, socket) is gone, and the namespaces of its pods; the
// pods stay the lab's until the runtime, which remembers them, calls DEL. The agent is not started.
func (n *Node) Reboot() {
	n.lab.t.Helper()
	n.off()
	for _, path := range []string{n.Journal, n.Socket} {
		if err := os.RemoveAll(path); err != nil {
			n.lab.t.Error(err)
		}
	}
	if err := n.boot(); err != nil {
		n.lab.t.Fatalf("%s: boot: %v", n.Name, err)
	}
}

// Rename gives the machine another name, as when kubelet comes back with another --hostname-override; the agent must not
// run, and the Node object of the old name stays.
func (n *Node) Rename(name string) error {
	n.Name = name
	return n.Register()
}

// Object is the Node object; nil when there is none.
func (n *Node) Object() *corev1.Node {
	n.lab.t.Helper()
	ctx, cancel := n.lab.ctx(10 * time.Second)
	defer cancel()
	o, err := n.lab.Core.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		n.lab.t.Fatal(err)
	}
	return o
}

// Condition returns a condition of the Node object; its status is empty when it is not there.
func (n *Node) Condition(kind string) (c corev1.NodeCondition) {
	n.lab.t.Helper()
	if o := n.Object(); o != nil {
		for _, have := range o.Status.Conditions {
			if string(have.Type) == kind {
				c = have
			}
		}
	}
	return c
}

// Events returns the messages of the events of a reason that are about the node.
func (n *Node) Events(reason string) (out []string) {
	n.lab.t.Helper()
	ctx, cancel := n.lab.ctx(10 * time.Second)
	defer cancel()
	list, err := n.lab.Core.CoreV1().Events("").List(ctx, metav1.ListOptions{})
	if err != nil {
		n.lab.t.Fatal(err)
	}
	for _, e := range list.Items {
		if e.InvolvedObject.Kind == "Node" && e.InvolvedObject.Name == n.Name && e.Reason == reason {
			out = append(out, e.Message)
		}
	}
	return out
}
