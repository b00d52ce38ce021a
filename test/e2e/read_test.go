package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// node is one node with the tests' pods on it.
type node struct {
	name   string
	addr   map[family]netip.Prefix // its own, with the subnet's length
	tunnel map[family]netip.Addr
	mac    map[family]string // of its VXLAN devices
	web    pod
	tools  pod
	shell  pod // in the node's own namespaces
}

type pod struct {
	name string
	addr map[family]netip.Addr
	id   string // of its container
}

// near says whether two nodes are in one subnet.
func (n node) near(o node, f family) bool { return n.addr[f].Masked() == o.addr[f].Masked() }

// read takes nodes, pods and services from the API server.
func (c *cluster) read(ctx context.Context) error {
	nodes, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	pods, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	web, err := c.client.CoreV1().Services(namespace).Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if err := c.readService(web); err != nil {
		return err
	}
	c.nodes = nil
	var errs []error
	for _, n := range nodes.Items {
		one, err := c.readNode(n, pods.Items)
		errs = append(errs, err)
		c.nodes = append(c.nodes, one)
	}
	slices.SortFunc(c.nodes, func(a, b node) int { return cmp.Compare(a.name, b.name) })
	for _, p := range pods.Items {
		if p.Name == "slow" {
			c.slow = readPod(p)
		}
	}
	return errors.Join(errs...)
}

// readService learns from the Service which families the cluster has: it asks for all that there are.
func (c *cluster) readService(web *corev1.Service) error {
	c.port = uint16(web.Spec.Ports[0].NodePort)
	c.families, c.service = nil, map[family]netip.Addr{}
	for _, ip := range web.Spec.ClusterIPs {
		a, err := netip.ParseAddr(ip)
		if err != nil {
			return err
		}
		c.families = append(c.families, familyOf(a))
		c.service[familyOf(a)] = a
	}
	return nil
}

// readNode puts together what is known of a node. It and its pods must have an address of each of the cluster's families.
func (c *cluster) readNode(n corev1.Node, pods []corev1.Pod) (node, error) {
	out := node{name: n.Name, addr: map[family]netip.Prefix{}, tunnel: map[family]netip.Addr{}, mac: map[family]string{}}
	for _, p := range pods {
		if p.Spec.NodeName != n.Name || p.DeletionTimestamp != nil {
			continue
		}
		switch p.Labels["app"] {
		case "web":
			out.web = readPod(p)
		case "tools":
			out.tools = readPod(p)
		case "shell":
			out.shell = readPod(p)
		}
	}
	for _, f := range c.families {
		var err1, err2 error
		annotation := func(name string) string { return n.Annotations["projectcalico.org/"+name] }
		out.addr[f], err1 = netip.ParsePrefix(annotation(f.String() + "Address"))
		if text := annotation(f.String() + "VXLANTunnelAddr"); text != "" { // none where no pool has a VXLAN mode
			out.tunnel[f], err2 = netip.ParseAddr(text)
		}
		out.mac[f] = annotation(pick(f, "VXLANTunnelMACAddr", "VXLANTunnelMACAddrV6"))
		if err := errors.Join(err1, err2); err != nil {
			return node{}, fmt.Errorf("read annotations of node %s: %w", n.Name, err)
		}
		for what, p := range map[string]pod{"web": out.web, "tools": out.tools, "shell": out.shell} {
			if !p.addr[f].IsValid() {
				return node{}, fmt.Errorf("node %s has no pod of %s with an %s address", n.Name, what, f)
			}
		}
	}
	return out, nil
}

func readPod(p corev1.Pod) pod {
	out := pod{name: p.Name, addr: map[family]netip.Addr{}}
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out.addr[familyOf(a)] = a
		}
	}
	if len(p.Status.ContainerStatuses) > 0 {
		out.id = p.Status.ContainerStatuses[0].ContainerID
	}
	return out
}

// list reads all objects of one of our resources.
func list[T any](ctx context.Context, c *cluster, resource string) (*T, error) {
	b, err := c.client.CoreV1().RESTClient().Get().AbsPath("/apis/projectcalico.org/v3/" + resource).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", resource, err)
	}
	var out T
	return &out, json.Unmarshal(b, &out)
}
