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
	rules           [chains][]rule // of each chain
	sources, spared set
}

// has says whether a chain is wanted: with floating addresses all are.
func (c *content) has(i int) bool { return i == postrouting || len(c.rules[i]) > 0 }

// wanted is what a chain must be.
func (c *content) wanted(i int) (out chainState) {
	if c.has(i) {
		out.chain = ours[i].chain
	}
	for _, r := range c.rules[i] {
		out.comments = append(out.comments, r.comment)
	}
	return out
}

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
		after = state{there: true, sources: want.sources, spared: want.spared}
		for i := range ours {
			after.chains[i] = want.wanted(i)
		}
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
	foreign := func(s set) bool { return s.kind != setKind{} && s.kind != ourSet(t.family) }
	lookups := foreign(have.sources) || foreign(have.spared) // the rules of postrouting keep sets from being deleted
	var fill [chains]bool
	for i := range ours {
		fill[i] = t.clear(i, have.chains[i], want.wanted(i), lookups && i == postrouting)
	}
	t.putSet(setSources, 1, have.sources, want.sources)
	t.putSet(setSpared, 2, have.spared, want.spared)
	for i := range ours {
		if want.has(i) && have.chains[i].chain != ours[i].chain {
			t.putChain(i)
		}
		if fill[i] {
			t.putRules(i, want.rules[i])
		}
	}
}

// clear empties a chain whose rules are not right, and deletes it if it is not wanted or hangs wrongly. It tells whether
// rules must be put into it.
func (t *transaction) clear(i int, have, want chainState, always bool) (fill bool) {
	hang := have.chain
	hang.policy = want.policy // can be corrected in place
	gone := have.there && hang != want.chain
	fill = gone || always || !slices.Equal(have.comments, want.comments)
	if have.there && fill {
		t.add(unix.NFT_MSG_DELRULE, 0, inChain(i)) // all
	}
	if gone {
		t.add(unix.NFT_MSG_DELCHAIN, 0, func(a *attrs) {
			a.String(unix.NFTA_CHAIN_TABLE, tableName)
			a.String(unix.NFTA_CHAIN_NAME, ours[i].name)
		})
	}
	return fill && want.there
}

func inChain(i int) func(*attrs) {
	return func(a *attrs) {
		a.String(unix.NFTA_RULE_TABLE, tableName)
		a.String(unix.NFTA_RULE_CHAIN, ours[i].name)
	}
}

func (t *transaction) putRules(chain int, rules []rule) {
	for _, r := range rules {
		t.add(unix.NFT_MSG_NEWRULE, nl.Create|nl.Append, func(a *attrs) {
			inChain(chain)(a)
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

func (t *transaction) putChain(i int) {
	c := ours[i].chain
	t.add(unix.NFT_MSG_NEWCHAIN, nl.Create, func(a *attrs) {
		a.String(unix.NFTA_CHAIN_TABLE, tableName)
		a.String(unix.NFTA_CHAIN_NAME, ours[i].name)
		a.Nested(unix.NFTA_CHAIN_HOOK, func(a *attrs) error {
			a.Uint32(unix.NFTA_HOOK_HOOKNUM, c.hook)
			a.Uint32(unix.NFTA_HOOK_PRIORITY, c.priority)
			return nil
		})
		a.Uint32(unix.NFTA_CHAIN_POLICY, c.policy)
		a.String(unix.NFTA_CHAIN_TYPE, c.kind)
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
