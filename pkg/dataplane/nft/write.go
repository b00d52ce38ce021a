package nft

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	nl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Names of what is ours, in both families.
const (
	tableName  = "margay"
	chainName  = "postrouting"
	setSources = "sources"
	setSpared  = "spared"
)

// families are those that have a table of ours, in the order in which everything here goes over them.
var families = [...]byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6}

func familyName(family byte) string {
	if family == unix.NFPROTO_IPV6 {
		return "ip6"
	}
	return "ip"
}

// content is what the table of a family holds.
type content struct {
	rules           []rule
	sources, spared set
}

func (c *content) comments() (out []string) {
	for _, r := range c.rules {
		out = append(out, r.comment)
	}
	return out
}

// chain is what a chain must be right in beside its rules.
type chain struct {
	there                  bool
	kind                   string
	hook, priority, policy uint32
}

// ourChain comes right after srcnat (100), where kube-proxy is: what it has marked for masquerading must lose the mark there.
// VXLAN copies a mark to the outer packet, which would be masqueraded, too.
var ourChain = chain{there: true, kind: "nat", hook: unix.NF_INET_POST_ROUTING, priority: 101, policy: 1 /* accept */}

// setKind is what a set must be right in beside its elements.
type setKind struct{ flags, key, length uint32 }

// ourSet is a set of ranges of a family's addresses. The key's type is a number for people's tools alone.
func ourSet(family byte) setKind {
	if family == unix.NFPROTO_IPV6 {
		return setKind{unix.NFT_SET_INTERVAL, nftables.TypeIP6Addr.GetNFTMagic(), 16}
	}
	return setKind{unix.NFT_SET_INTERVAL, nftables.TypeIPAddr.GetNFTMagic(), 4}
}

// write makes what a family has into what is wanted, nil for no table, in one transaction. It returns what is there then.
//
// A chain that hangs right is never made anew but keeps its place and gets other rules: of two chains the kernel runs the
// newer one first, so a packet could meet it when it is not in force yet, and the older one when it is no longer.
func (s *socket) write(family byte, want *content, have state) (state, error) {
	t := &transaction{family: family}
	after := state{}
	if want == nil {
		t.add(unix.NFT_MSG_DELTABLE, 0, func(a *attrs) { a.String(unix.NFTA_TABLE_NAME, tableName) })
	} else {
		t.put(want, have)
		after = state{there: true, chain: ourChain, comments: want.comments(), sources: want.sources, spared: want.spared}
	}
	if err := s.commit(t); err != nil {
		return state{}, fmt.Errorf("write table: %w", err)
	}
	return after, nil
}

// put adds to the transaction what mends the difference.
func (t *transaction) put(want *content, have state) {
	if !have.there || have.flags != 0 {
		t.add(unix.NFT_MSG_NEWTABLE, nl.Create, func(a *attrs) {
			a.String(unix.NFTA_TABLE_NAME, tableName)
			a.Uint32(unix.NFTA_TABLE_FLAGS, 0)
		})
	}
	hang := have.chain
	hang.policy = ourChain.policy // can be corrected in place
	anew := have.chain.there && hang != ourChain
	foreign := func(s set) bool { return s.kind != setKind{} && s.kind != ourSet(t.family) }
	rewrite := anew || foreign(have.sources) || foreign(have.spared) || !slices.Equal(have.comments, want.comments())
	if have.chain.there && rewrite {
		t.add(unix.NFT_MSG_DELRULE, 0, inChain) // all
	}
	if anew {
		t.add(unix.NFT_MSG_DELCHAIN, 0, func(a *attrs) {
			a.String(unix.NFTA_CHAIN_TABLE, tableName)
			a.String(unix.NFTA_CHAIN_NAME, chainName)
		})
	}
	t.putSet(setSources, 1, have.sources, want.sources)
	t.putSet(setSpared, 2, have.spared, want.spared)
	if have.chain != ourChain {
		t.putChain()
	}
	if rewrite {
		t.putRules(want.rules)
	}
}

func inChain(a *attrs) {
	a.String(unix.NFTA_RULE_TABLE, tableName)
	a.String(unix.NFTA_RULE_CHAIN, chainName)
}

func (t *transaction) putRules(rules []rule) {
	for _, r := range rules {
		t.add(unix.NFT_MSG_NEWRULE, nl.Create|nl.Append, func(a *attrs) {
			inChain(a)
			a.Nested(unix.NFTA_RULE_EXPRESSIONS, func(a *attrs) error {
				for _, e := range r.exprs {
					a.Do(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, func() ([]byte, error) { return e.marshal(t.family) })
				}
				return nil
			})
			a.Bytes(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, r.comment))
		})
	}
}

// putSet mends a set; id names it within the transaction.
func (t *transaction) putSet(name string, id uint32, have, want set) {
	this := func(a *attrs) {
		a.String(unix.NFTA_SET_TABLE, tableName)
		a.String(unix.NFTA_SET_NAME, name)
	}
	if have.kind != want.kind {
		if have.kind != (setKind{}) {
			t.add(unix.NFT_MSG_DELSET, 0, this)
		}
		t.add(unix.NFT_MSG_NEWSET, nl.Create, func(a *attrs) {
			this(a)
			a.Uint32(unix.NFTA_SET_FLAGS, want.kind.flags)
			a.Uint32(unix.NFTA_SET_KEY_TYPE, want.kind.key)
			a.Uint32(unix.NFTA_SET_KEY_LEN, want.kind.length)
			a.Uint32(unix.NFTA_SET_ID, id)
			// nft lists the elements wrongly unless this says that they are big endian.
			a.Bytes(unix.NFTA_SET_USERDATA, userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, 2))
		})
		have.spans, have.odd = nil, false
	}
	if have.odd {
		t.add(unix.NFT_MSG_DELSETELEM, 0, this) // all
		have.spans = nil
	}
	t.fill(name, have.spans, want.spans)
}

func (t *transaction) putChain() {
	t.add(unix.NFT_MSG_NEWCHAIN, nl.Create, func(a *attrs) {
		a.String(unix.NFTA_CHAIN_TABLE, tableName)
		a.String(unix.NFTA_CHAIN_NAME, chainName)
		a.Nested(unix.NFTA_CHAIN_HOOK, func(a *attrs) error {
			a.Uint32(unix.NFTA_HOOK_HOOKNUM, ourChain.hook)
			a.Uint32(unix.NFTA_HOOK_PRIORITY, ourChain.priority)
			return nil
		})
		a.Uint32(unix.NFTA_CHAIN_POLICY, ourChain.policy)
		a.String(unix.NFTA_CHAIN_TYPE, ourChain.kind)
	})
}

// chunk is how many spans go into one message: an attribute has 64 KiB at most, and an IPv6 span takes 80 bytes of it.
const chunk = 500

// fill adds to the transaction what makes a set's spans have into want.
func (t *transaction) fill(set string, have, want []span) {
	remove, add := diff(have, want)
	change := func(kind int, flags nl.HeaderFlags, spans []span) {
		for part := range slices.Chunk(spans, chunk) {
			t.add(kind, flags, func(a *attrs) {
				a.String(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
				a.String(unix.NFTA_SET_ELEM_LIST_SET, set)
				a.Nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(a *attrs) error {
					for _, e := range elements(part) {
						a.Nested(unix.NFTA_LIST_ELEM, e.encode)
					}
					return nil
				})
			})
		}
	}
	change(unix.NFT_MSG_DELSETELEM, 0, remove)
	change(unix.NFT_MSG_NEWSETELEM, nl.Create, add)
}

func (e element) encode(a *attrs) error {
	a.Nested(unix.NFTA_SET_ELEM_KEY, func(a *attrs) error {
		a.Bytes(unix.NFTA_DATA_VALUE, e.key)
		return nil
	})
	if e.flags != 0 {
		a.Uint32(unix.NFTA_SET_ELEM_FLAGS, e.flags)
	}
	return nil
}

// expression is one step of a rule.
type expression interface {
	marshal(family byte) ([]byte, error)
}

// known is an expression that the library has.
type known struct{ expr.Any }

func (k known) marshal(family byte) ([]byte, error) { return expr.Marshal(family, k.Any) }

// masquerade gives a packet the address of the device that it leaves by, and a port of the range that begins and ends with
// these registers, 0 for the kernel's choice.
type masquerade struct{ portMin, portMax uint32 }

func (m masquerade) marshal(byte) ([]byte, error) {
	a := nl.NewAttributeEncoder()
	a.ByteOrder = binary.BigEndian
	a.String(unix.NFTA_EXPR_NAME, "masq")
	a.Nested(unix.NFTA_EXPR_DATA, func(a *attrs) error {
		flags := uint32(unix.NF_NAT_RANGE_PROTO_RANDOM_FULLY)
		if m.portMin != 0 {
			flags |= unix.NF_NAT_RANGE_PROTO_SPECIFIED
			a.Uint32(unix.NFTA_MASQ_REG_PROTO_MIN, m.portMin)
			a.Uint32(unix.NFTA_MASQ_REG_PROTO_MAX, m.portMax)
		}
		a.Uint32(unix.NFTA_MASQ_FLAGS, flags)
		return nil
	})
	return a.Encode()
}
