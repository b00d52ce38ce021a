package nft

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/model"
)

// form is part of each rule's hash. Count it up when the same text comes to mean other expressions, so that an agent of
// the new version replaces rules that an older one wrote.
const form = 1

// rule is one wanted rule.
type rule struct {
	comment string // what it is for, and the hash of its content
	exprs   []expression
}

// builder puts a rule together: what the kernel gets, and the same as text to hash.
type builder struct {
	six   bool
	text  []string
	exprs []expression
}

func (b *builder) add(text string, exprs ...expr.Any) {
	b.text = append(b.text, text)
	for _, e := range exprs {
		b.exprs = append(b.exprs, known{e})
	}
}

func (b *builder) rule(what string) rule {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", form, strings.Join(b.text, " ")))
	return rule{comment: what + " " + hex.EncodeToString(sum[:8]), exprs: b.exprs}
}

// portProtocols are those that have ports.
var portProtocols = [...]struct {
	name   string
	number byte
}{{"tcp", unix.IPPROTO_TCP}, {"udp", unix.IPPROTO_UDP}, {"sctp", unix.IPPROTO_SCTP}}

// rulesOf returns the rules of each chain, in order.
func rulesOf(n *model.NAT, six bool) (out [chains][]rule) {
	out[postrouting] = append(loopRules(n, six), masqueradeRules(n, six)...)
	out[prerouting] = floatingRules(n, six)
	out[output] = out[prerouting]
	return out
}

// floatingRules translate floating addresses to the pods' own.
func floatingRules(n *model.NAT, six bool) (out []rule) {
	for _, f := range n.Floating {
		b := &builder{six: six}
		b.add("daddr "+f.External.String(), b.address(16, 24), equal(f.External.AsSlice()))
		b.to(expr.NATTypeDestNAT, f.Internal)
		out = append(out, b.rule("floating"))
	}
	return out
}

// loopRules give what a pod sends to itself by way of a floating address that address as source: from its own one it would
// take nothing that comes from outside. With several of them it is the first.
func loopRules(n *model.NAT, six bool) (out []rule) {
	seen := map[netip.Addr]bool{}
	for _, f := range n.Floating {
		if seen[f.Internal] {
			continue
		}
		seen[f.Internal] = true
		b := &builder{six: six}
		b.add("saddr "+f.Internal.String(), b.address(12, 8), equal(f.Internal.AsSlice()))
		b.add("daddr "+f.Internal.String(), b.address(16, 24), equal(f.Internal.AsSlice()))
		b.to(expr.NATTypeSourceNAT, f.External)
		out = append(out, b.rule("floating to itself"))
	}
	return out
}

// to is a rule's end: the packet's destination or source becomes addr.
func (b *builder) to(kind expr.NATType, addr netip.Addr) {
	family := uint32(unix.NFPROTO_IPV4)
	if b.six {
		family = unix.NFPROTO_IPV6
	}
	b.add(fmt.Sprintf("nat %d to %s", kind, addr), &expr.Immediate{Register: reg1, Data: addr.AsSlice()},
		&expr.NAT{Type: kind, Family: family, RegAddrMin: reg1})
}

func masqueradeRules(n *model.NAT, six bool) (out []rule) {
	outgoing := func() *builder {
		b := &builder{six: six}
		b.source()
		b.destination()
		if n.Interface != "" && n.Interface != "+" {
			b.leaves(n.Interface)
		}
		return b
	}
	if n.Ports.Max > 0 {
		for _, p := range portProtocols {
			b := outgoing()
			b.add("meta l4proto "+p.name, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1}, equal([]byte{p.number}))
			b.translate(n, n.Ports)
			out = append(out, b.rule("natOutgoing "+p.name))
		}
	}
	b := outgoing()
	b.translate(n, model.PortRange{})
	out = append(out, b.rule("natOutgoing"))
	for _, dev := range n.Tunnels {
		b := &builder{six: six}
		b.leaves(dev)
		b.add("fib saddr . oif type != local", &expr.Fib{Register: reg1, FlagSADDR: true, FlagOIF: true, ResultADDRTYPE: true},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: local})
		b.add("fib saddr type local", &expr.Fib{Register: reg1, FlagSADDR: true, ResultADDRTYPE: true}, equal(local))
		b.translate(&model.NAT{}, model.PortRange{})
		out = append(out, b.rule("tunnel "+dev))
	}
	return out
}

// Registers of 16 bytes.
const (
	reg1 = unix.NFT_REG_1
	reg2 = unix.NFT_REG_2
	reg3 = unix.NFT_REG_3
)

// local is the address type of the node's own addresses, as fib returns it.
var local = binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)

func equal(data []byte) *expr.Cmp {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: data}
}

func (b *builder) source() {
	b.add("saddr @"+setSources, b.address(12, 8), &expr.Lookup{SourceRegister: reg1, SetName: setSources})
}

func (b *builder) destination() {
	b.add("daddr != @"+setSpared, b.address(16, 24), &expr.Lookup{SourceRegister: reg1, SetName: setSpared, Invert: true})
}

// address loads an address of the IP header, at one of these offsets, into the first register.
func (b *builder) address(offset4, offset6 uint32) expr.Any {
	p := &expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: offset4, Len: 4}
	if b.six {
		p.Offset, p.Len = offset6, 16
	}
	return p
}

// leaves matches the device that a packet leaves by: a name, or with a trailing + what begins like it.
func (b *builder) leaves(dev string) {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, dev)
	if start, wildcard := strings.CutSuffix(dev, "+"); wildcard {
		data = []byte(start)
	}
	b.add("oifname "+dev, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg1}, equal(data))
}

// translate is the rule's end: the packet's source becomes n.Address, or that of the device that it leaves by. The kernel is
// asked to choose ports at random, since its usual choice is not safe against two packets that come at the same moment.
func (b *builder) translate(n *model.NAT, ports model.PortRange) {
	var masq masquerade
	nat := &expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg1, FullyRandom: true}
	if b.six {
		nat.Family = unix.NFPROTO_IPV6
	}
	if ports.Max > 0 {
		b.add(fmt.Sprintf("ports %d-%d", ports.Min, ports.Max),
			&expr.Immediate{Register: reg2, Data: binaryutil.BigEndian.PutUint16(max(ports.Min, 1))},
			&expr.Immediate{Register: reg3, Data: binaryutil.BigEndian.PutUint16(ports.Max)})
		masq.portMin, masq.portMax = reg2, reg3
		nat.RegProtoMin, nat.RegProtoMax = reg2, reg3
	}
	if !n.Address.IsValid() || n.Address.Is6() != b.six {
		b.add("masquerade fully-random")
		b.exprs = append(b.exprs, masq)
		return
	}
	b.add("snat to "+n.Address.String()+" fully-random", &expr.Immediate{Register: reg1, Data: n.Address.AsSlice()}, nat)
}
