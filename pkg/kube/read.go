package kube

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/model"
)

// Annotations of a Node that tell other nodes how to reach its pods (Calico's names).
const (
	annAddr4      = "projectcalico.org/IPv4Address"
	annAddr6      = "projectcalico.org/IPv6Address"
	annVXLANAddr4 = "projectcalico.org/IPv4VXLANTunnelAddr"
	annVXLANAddr6 = "projectcalico.org/IPv6VXLANTunnelAddr"
	annVXLANMAC4  = "projectcalico.org/VXLANTunnelMACAddr"
	annVXLANMAC6  = "projectcalico.org/VXLANTunnelMACAddrV6"
	annIPIPAddr4  = "projectcalico.org/IPv4IPIPTunnelAddr"
)

// readNode takes what counts of a Node. A malformed annotation counts as absent and is logged.
func readNode(n *corev1.Node, log *slog.Logger) model.Node {
	out := model.Node{Name: n.Name, UID: string(n.UID)}
	prefix := func(key string) (p netip.Prefix) {
		if v := n.Annotations[key]; v != "" {
			var err error
			if p, err = netip.ParsePrefix(v); err != nil {
				log.Warn("node annotation is malformed and not used", "node", n.Name, "annotation", key, "value", v)
			}
		}
		return p
	}
	addr := func(key string) (a netip.Addr) {
		if v := n.Annotations[key]; v != "" {
			var err error
			if a, err = netip.ParseAddr(v); err != nil {
				log.Warn("node annotation is malformed and not used", "node", n.Name, "annotation", key, "value", v)
			}
		}
		return a
	}
	mac := func(key string, family6 bool) model.MAC {
		v := n.Annotations[key]
		if v == "" {
			return model.TunnelMAC(n.Name, family6)
		}
		m, err := model.ParseMAC(v)
		if err != nil {
			log.Warn("node annotation is malformed and not used", "node", n.Name, "annotation", key, "value", v)
			return model.TunnelMAC(n.Name, family6)
		}
		return m
	}
	for _, a := range n.Status.Addresses {
		ip, err := netip.ParseAddr(a.Address)
		switch {
		case err != nil || a.Type != corev1.NodeInternalIP:
		case ip.Is4() && !out.Internal4.IsValid():
			out.Internal4 = ip
		case ip.Is6() && !out.Internal6.IsValid():
			out.Internal6 = ip
		}
	}
	out.Addr4, out.Addr6 = prefix(annAddr4), prefix(annAddr6)
	out.VXLANAddr4, out.VXLANAddr6 = addr(annVXLANAddr4), addr(annVXLANAddr6)
	out.VXLANMAC4, out.VXLANMAC6 = mac(annVXLANMAC4, false), mac(annVXLANMAC6, true)
	out.IPIPAddr4 = addr(annIPIPAddr4)
	if as, err := v3.ParseASNumber(n.Annotations[annAS]); err == nil { // readPeering tells of a bad one
		out.AS = uint32(as)
	}
	return out
}

// annLabels has labels of a Node as JSON that calicoctl and margayctl set.
const annLabels = "projectcalico.org/labels"

// readLabels returns what node selectors look at: the labels of annLabels, and over them Kubernetes' own.
func readLabels(n *corev1.Node, log *slog.Logger) map[string]string {
	labels := map[string]string{}
	if v := n.Annotations[annLabels]; v != "" {
		if err := json.Unmarshal([]byte(v), &labels); err != nil {
			log.Warn("node annotation is malformed and not used", "node", n.Name, "annotation", annLabels, "value", v)
			labels = map[string]string{}
		}
	}
	if labels == nil { // the annotation is null
		labels = map[string]string{}
	}
	maps.Copy(labels, n.Labels)
	return labels
}

// readPool fills in a pool's defaults. The schema has refused most bad values; what it cannot see is an error that
// names the field.
func readPool(p *v3.IPPool) (model.Pool, error) {
	cidr, err := netip.ParsePrefix(p.Spec.CIDR)
	if err != nil {
		return model.Pool{}, fmt.Errorf("spec.cidr %q is no CIDR", p.Spec.CIDR)
	}
	if cidr != cidr.Masked() {
		return model.Pool{}, fmt.Errorf("spec.cidr %s has host bits set: write %s", cidr, cidr.Masked())
	}
	out := model.Pool{
		Name: p.Name, CIDR: cidr, BlockBits: int(p.Spec.BlockSize), Created: p.CreationTimestamp.Time,
		VXLAN: encap(p.Spec.VXLANMode), IPIP: encap(p.Spec.IPIPMode), NATOutgoing: p.Spec.NATOutgoing,
		Disabled: p.Spec.Disabled || !p.DeletionTimestamp.IsZero(),
		Manual:   p.Spec.AssignmentMode == v3.AssignManual,

		NodeSelector: p.Spec.NodeSelector, NamespaceSelector: p.Spec.NamespaceSelector, DisableBGPExport: p.Spec.DisableBGPExport,
	}
	if out.BlockBits == 0 {
		out.BlockBits = 26
		if cidr.Addr().Is6() {
			out.BlockBits = 122
		}
	}
	if out.BlockBits < cidr.Bits() || out.BlockBits > cidr.Addr().BitLen() || cidr.Addr().BitLen()-out.BlockBits > 16 {
		return model.Pool{}, fmt.Errorf("spec.blockSize %d does not fit spec.cidr %s", out.BlockBits, cidr)
	}
	uses := p.Spec.AllowedUses
	out.Workload = len(uses) == 0 || slices.Contains(uses, v3.UseWorkload)
	out.Tunnel = len(uses) == 0 || slices.Contains(uses, v3.UseTunnel)
	return out, nil
}

func encap(m v3.EncapMode) model.Encap {
	if m == "" {
		return model.EncapNever
	}
	return model.Encap(m)
}

func readConfig(c *v3.IPAMConfiguration) *model.IPAMConfig {
	out := &model.IPAMConfig{
		StrictAffinity:     c.Spec.StrictAffinity,
		AutoAllocateBlocks: c.Spec.AutoAllocateBlocks,
		MaxBlocksPerHost:   int(c.Spec.MaxBlocksPerHost),
		Cooldown:           time.Duration(c.Spec.IPCooldownSeconds) * time.Second,
	}
	if out.MaxBlocksPerHost == 0 {
		out.MaxBlocksPerHost = model.DefaultIPAMConfig.MaxBlocksPerHost
	}
	return out
}

// readParams takes a FelixConfiguration's fields as text, whatever their types: package config knows what they mean.
func readParams(f *v3.FelixConfiguration) map[string]string {
	out := map[string]string{}
	for name, raw := range f.Spec.Fields {
		var text string
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw) // a number, a switch, or something larger
		}
		if text != "null" {
			out[name] = text
		}
	}
	return out
}

// readBlock takes what routes need of a block. Of a damaged one that is its owner alone.
func readBlock(cidr netip.Prefix, b *v3.IPAMBlock) model.Block {
	out := model.Block{CIDR: cidr, Node: block.Owner(b)}
	if !block.Lends(b) || block.Check(b) != nil {
		return out
	}
	var loans []model.Loan
	for _, l := range block.Loans(b) {
		loans = append(loans, model.Loan{Addr: block.AddrAt(cidr, l.Ordinal), Node: l.Node, Seq: l.Seq})
	}
	out.Loans = model.MakeLoans(loans)
	return out
}

// readReservation takes the networks of an IPReservation; single addresses count as networks of one. What is neither is
// logged and passed over.
func readReservation(r *v3.IPReservation, log *slog.Logger) (out []netip.Prefix) {
	for i, text := range r.Spec.ReservedCIDRs {
		p, err := netip.ParsePrefix(text)
		if addr, aerr := netip.ParseAddr(text); err != nil && aerr == nil {
			p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			log.Error("reserved network is not used until it is corrected: it is no CIDR", "ipreservation", r.Name, "field", fmt.Sprintf("spec.reservedCIDRs[%d]", i), "value", text)
			continue
		}
		out = append(out, p.Masked())
	}
	return out
}

// locked says whether the datastore is locked. There is one object of the kind, named default.
func locked(i *v3.ClusterInformation) bool {
	return i.Spec.DatastoreReady != nil && !*i.Spec.DatastoreReady
}
