package explain

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/margay-net/margay/pkg/ctl/address"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/ipam/check"
	"github.com/margay-net/margay/pkg/model"
)

// kernel is what this node's kernel has for a pod.
type kernel struct {
	here   bool // the pod's interface is on this node
	up     bool
	routes []netip.Prefix // that lead to the interface
}

func explainPod(out io.Writer, s *address.Snapshot, namespace, name string, look func(dev string) (kernel, error)) error {
	i := slices.IndexFunc(s.PodList, func(p corev1.Pod) bool { return p.Namespace == namespace && p.Name == name })
	if i < 0 {
		return fmt.Errorf("find pod %s/%s: there is none", namespace, name)
	}
	pod := &s.PodList[i]
	f := &facts{}
	uses := address.PodUses(pod)
	if pod.Spec.NodeName == "" {
		f.add("Pod", "%s/%s, %s", namespace, name, pod.Status.Phase)
		f.add("Network", "none yet: the pod waits for a node")
		return f.print(out)
	}
	f.add("Pod", "%s/%s, %s, on node %s", namespace, name, pod.Status.Phase, pod.Spec.NodeName)
	switch {
	case pod.Spec.HostNetwork:
		f.add("Network", "the node's own (hostNetwork): no address of a pool, no interface of its own")
		return f.print(out)
	case len(uses) == 0:
		f.add("Network", "none any more: the pod is over")
		return f.print(out)
	}
	dev := model.HostVeth(namespace, name)
	var addrs []netip.Addr
	for _, u := range uses {
		if u.Addr.IsValid() {
			addrs = append(addrs, u.Addr)
		}
	}
	if len(addrs) == 0 {
		f.add("Addresses", "none that Kubernetes knows of yet: kubelet's log on %s and the pod's events say why", pod.Spec.NodeName)
	}
	var subjects []*subject
	r := check.Run(s.State)
	for _, a := range addrs {
		x := subjectOf(s, r, a)
		subjects = append(subjects, x)
		f.podAddress(x)
	}
	f.add("Interface", "%s on %s; eth0 in the pod", dev, pod.Spec.NodeName)
	f.wanted(subjects, pod.Spec.NodeName, dev)
	if k, err := look(dev); err != nil {
		f.add("Kernel", "cannot be asked: %v", err)
	} else {
		f.found(k, dev, addrs)
	}
	f.add("Policy", "not part of this version: everything may reach the pod")
	return f.print(out)
}

// podAddress says where one of a pod's addresses comes from.
func (f *facts) podAddress(x *subject) {
	if x.alloc == nil {
		f.add("Address", "%s, not allocated: see margayctl explain ip %[1]s", x.addr)
	} else {
		f.add("Address", "%s of block %s of %s%s", x.addr, x.cidr, ownerOf(x), since(x.alloc.CreationTimestamp, x.Now))
		f.add("", "handle %s", cmp.Or(x.alloc.Handle, "none: it was released, and cools down"))
	}
	if x.pool != nil {
		f.add("", "pool %s %s%s", x.pool.Name, x.pool.Spec.CIDR, notes(x.pool))
	}
}

func ownerOf(x *subject) string {
	if node := block.Owner(x.block); node != "" {
		if x.alloc.Borrowed {
			return node + ", borrowed"
		}
		return node
	}
	return "nobody"
}

// wanted says which routes lead to the pod and away from it, as they should be.
func (f *facts) wanted(list []*subject, node, dev string) {
	for _, x := range list {
		a := x.addr
		gateway := model.GatewayV4.String()
		if a.Is6() {
			gateway = "the link-local address of " + dev
		}
		f.add("In the pod", "default via %s dev eth0", gateway)
		f.add("On its node", "%s/%d dev %s", a, a.BitLen(), dev)
		if x.alloc == nil || x.block == nil {
			continue
		}
		what := x.cidr.String()
		if x.alloc.Borrowed {
			what = fmt.Sprintf("%s/%d", a, a.BitLen())
		}
		hop := "by the nodes' own network"
		if x.pool != nil && x.pool.Spec.VXLANMode != "" && x.pool.Spec.VXLANMode != "Never" {
			hop = "by VXLAN (" + string(x.pool.Spec.VXLANMode) + ")"
		}
		f.add("Elsewhere", "%s to %s %s", what, node, hop)
	}
}

// found says what this node's kernel has, when the pod is on it.
func (f *facts) found(k kernel, dev string, addrs []netip.Addr) {
	if !k.here {
		f.add("Kernel", "not looked at: %s is not on this node; run this on the pod's node", dev)
		return
	}
	state := "up"
	if !k.up {
		state = "DOWN: the pod is cut off"
	}
	f.add("Kernel", "%s is there and %s", dev, state)
	for _, a := range addrs {
		want := netip.PrefixFrom(a, a.BitLen())
		if slices.Contains(k.routes, want) {
			f.add("", "%s dev %s is there", want, dev)
		} else {
			f.add("", "%s dev %s is MISSING: the agent mends that at once, see margayctl node status", want, dev)
		}
	}
}
