package cluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/ipam/collect"
	"github.com/margay-net/margay/pkg/kube"
)

// tunnels are the annotations in which a Node says what its tunnels' addresses are (Calico's names).
var tunnels = map[collect.Kind]string{
	collect.TunnelIPIP:       "projectcalico.org/IPv4IPIPTunnelAddr",
	collect.TunnelVXLAN4:     "projectcalico.org/IPv4VXLANTunnelAddr",
	collect.TunnelVXLAN6:     "projectcalico.org/IPv6VXLANTunnelAddr",
	collect.TunnelWireguard4: "projectcalico.org/IPv4WireguardInterfaceAddr",
	collect.TunnelWireguard6: "projectcalico.org/IPv6WireguardInterfaceAddr",
}

func readNode(n *corev1.Node) collect.Node { return ReadNode(n) }

// ReadNode takes what counts of a Node.
func ReadNode(n *corev1.Node) collect.Node {
	out := collect.Node{UID: string(n.UID)}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.Silent = c.Status == corev1.ConditionUnknown
		}
	}
	for kind, key := range tunnels {
		if a, err := netip.ParseAddr(n.Annotations[key]); err == nil {
			out.SetTunnel(kind, a)
		}
	}
	return out
}

// Annotations of a Pod that name addresses beside its status: those that the plugin gave (Calico's), and those of further
// interfaces (Multus's, a JSON list).
var podIPs = []string{"cni.projectcalico.org/podIPs", "cni.projectcalico.org/podIP"}

const networkStatus = "k8s.v1.cni.cncf.io/network-status"

func readPod(p *corev1.Pod) collect.PodState { return ReadPod(p) }

// ReadPod takes what counts of a Pod. It has the addresses of its annotations only while its status has some, too: else it
// reports none yet.
func ReadPod(p *corev1.Pod) collect.PodState {
	out := collect.PodState{
		Node:    collect.NameOf(p.Spec.NodeName),
		Evicted: p.Status.Phase == corev1.PodFailed && p.Status.Reason == "Evicted",
	}
	add := func(text string) {
		text, _, _ = strings.Cut(strings.TrimSpace(text), "/")
		if a, err := netip.ParseAddr(text); err == nil && !slices.Contains(out.Addrs, a) {
			out.Addrs = append(out.Addrs, a)
		}
	}
	for _, ip := range p.Status.PodIPs {
		add(ip.IP)
	}
	add(p.Status.PodIP)
	if len(out.Addrs) == 0 {
		return out
	}
	for _, key := range podIPs {
		for text := range strings.SplitSeq(p.Annotations[key], ",") {
			add(text)
		}
	}
	var networks []struct {
		IPs []string `json:"ips"`
	}
	if text := p.Annotations[networkStatus]; text != "" && json.Unmarshal([]byte(text), &networks) == nil {
		for _, n := range networks {
			for _, ip := range n.IPs {
				add(ip)
			}
		}
	}
	return out
}

func (c *Cluster) putPod(k kube.Key, p collect.PodState) {
	c.State(func(s *collect.State) {
		s.SetPod(collect.PodKey{Namespace: collect.NameOf(k.Namespace), Name: k.Name}, p)
	})
}

func (c *Cluster) dropPod(k kube.Key) {
	c.State(func(s *collect.State) {
		s.DeletePod(collect.PodKey{Namespace: collect.NameOf(k.Namespace), Name: k.Name})
	})
}

// readBlock returns a block of size 0 in place of one that is damaged.
func (c *Cluster) readBlock(obj *v3.IPAMBlock) *collect.Block {
	b, err := collect.ReadBlock(obj)
	if err != nil {
		c.log.Error("block is damaged; nothing of it is collected until it is repaired", "block", obj.Name, "err", err)
		return &collect.Block{Name: obj.Name}
	}
	return &b
}

func (c *Cluster) putBlock(b *collect.Block) {
	c.State(func(s *collect.State) {
		if b.Size == 0 {
			s.DeleteBlock(b.Name)
			return
		}
		s.SetBlock(*b)
	})
	if b.Size == 0 || b.Affinity == block.LoadBalancer {
		c.changed(Services)
	}
}

func (c *Cluster) dropBlock(k kube.Key) {
	c.State(func(s *collect.State) { s.DeleteBlock(k.Name) })
	c.changed(Services)
}

func readAffinity(a *v3.BlockAffinity) collect.Affinity {
	cidr, _ := netip.ParsePrefix(a.Spec.CIDR)
	return collect.Affinity{Name: a.Name, Node: a.Spec.Node, Type: a.Spec.Type, CIDR: cidr}
}

func readCooldown(c *v3.IPAMConfiguration) time.Duration {
	return time.Duration(c.Spec.IPCooldownSeconds) * time.Second
}

func (c *Cluster) putCooldown(_ kube.Key, d time.Duration) {
	c.State(func(s *collect.State) { s.Cooldown = d })
}

func (c *Cluster) dropCooldown(k kube.Key) { c.putCooldown(k, 0) }

// Service is what counts of a Service.
type Service struct {
	UID            string
	LoadBalancer   bool // of type LoadBalancer
	Class          string
	Families6      []bool // the families that it wants, in order: IPv6 or not
	LoadBalancerIP string
	Annotations    map[string]string // those of Calico's group
	Ingress        []string          // addresses and names of its status
}

func readService(s *corev1.Service) Service { return ReadService(s) }

// ReadService takes what counts of a Service.
func ReadService(s *corev1.Service) Service {
	out := Service{UID: string(s.UID), LoadBalancer: s.Spec.Type == corev1.ServiceTypeLoadBalancer}
	if !out.LoadBalancer {
		return out
	}
	if s.Spec.LoadBalancerClass != nil {
		out.Class = *s.Spec.LoadBalancerClass
	}
	for _, f := range s.Spec.IPFamilies {
		out.Families6 = append(out.Families6, f == corev1.IPv6Protocol)
	}
	out.LoadBalancerIP = s.Spec.LoadBalancerIP
	for k, v := range s.Annotations {
		if strings.HasPrefix(k, "projectcalico.org/") {
			if out.Annotations == nil {
				out.Annotations = map[string]string{}
			}
			out.Annotations[k] = v
		}
	}
	for _, i := range s.Status.LoadBalancer.Ingress {
		out.Ingress = append(out.Ingress, i.IP+i.Hostname)
	}
	return out
}

func readLabels(n *corev1.Namespace) map[string]string { return maps.Clone(n.Labels) }

// Pool is what counts of an IPPool.
type Pool struct {
	Name, UID         string
	CIDR              netip.Prefix
	BlockBits         int
	Disabled          bool
	Manual            bool // gives addresses only to who asks for it
	LoadBalancer      bool
	NodeSelector      string
	NamespaceSelector string
	Err               string // why it is not used; "" when it is
}

func (c *Cluster) readPool(p *v3.IPPool) Pool {
	out := Pool{
		Name: p.Name, UID: string(p.UID), BlockBits: int(p.Spec.BlockSize), NodeSelector: p.Spec.NodeSelector, NamespaceSelector: p.Spec.NamespaceSelector,
		Disabled: p.Spec.Disabled || !p.DeletionTimestamp.IsZero(), Manual: p.Spec.AssignmentMode == v3.AssignManual,
		LoadBalancer: slices.Contains(p.Spec.AllowedUses, v3.UseLoadBalancer),
	}
	var err error
	if out.CIDR, err = netip.ParsePrefix(p.Spec.CIDR); err != nil || out.CIDR != out.CIDR.Masked() {
		out.CIDR, out.Err = netip.Prefix{}, fmt.Sprintf("spec.cidr %q is no CIDR, or has host bits", p.Spec.CIDR)
		return out
	}
	if out.BlockBits == 0 {
		out.BlockBits = 26
		if out.CIDR.Addr().Is6() {
			out.BlockBits = 122
		}
	}
	if bits := out.CIDR.Addr().BitLen(); out.BlockBits < out.CIDR.Bits() || out.BlockBits > bits || bits-out.BlockBits > 16 {
		out.Err = fmt.Sprintf("spec.blockSize %d does not fit spec.cidr %s", out.BlockBits, out.CIDR)
	}
	return out
}

func (c *Cluster) readReservation(r *v3.IPReservation) (out []netip.Prefix) {
	for _, text := range r.Spec.ReservedCIDRs {
		p, err := netip.ParsePrefix(text)
		if a, aerr := netip.ParseAddr(text); aerr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			c.log.Warn("reservation is not used: spec.reservedCIDRs has what is no CIDR", "reservation", r.Name, "cidr", text)
			continue
		}
		out = append(out, p.Masked())
	}
	return out
}

func (c *Cluster) putConfig(k kube.Key, config *v3.KubeControllersConfiguration) {
	if k.Name != kube.ControllersConfig {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.config = config
}

func (c *Cluster) dropConfig(k kube.Key) { c.putConfig(k, nil) }

// readLocked: there is one object of the kind, named default.
func readLocked(i *v3.ClusterInformation) bool {
	return i.Spec.DatastoreReady != nil && !*i.Spec.DatastoreReady
}

func (c *Cluster) putLocked(locked bool) {
	c.mu.Lock()
	c.locked = locked
	c.mu.Unlock()
	c.changed(Services)
}
