package nft

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables/userdata"
	nl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/netlink"
)

// state is what a family has under our names. Whatever else others add to our table is left alone: it does no more there
// than it would in a table of their own.
type state struct {
	there           bool   // a table
	flags           uint32 // of the table: it may be asleep
	chains          [chains]chainState
	sources, spared set
}

// chainState is what a chain is and has.
type chainState struct {
	chain
	comments []string // of its rules
}

// set is what a set is and has.
type set struct {
	kind  setKind // zero: there is none
	spans []span
	odd   bool // there are elements that make no spans
}

// matches tells whether a family has what is wanted.
func (s state) matches(want *content) bool {
	if want == nil {
		return !s.there
	}
	for i, have := range s.chains {
		if c := want.wanted(i); have.chain != c.chain || !slices.Equal(have.comments, c.comments) {
			return false
		}
	}
	return s.there && s.flags == 0 && s.sources.matches(want.sources) && s.spared.matches(want.spared)
}

func (s set) matches(want set) bool {
	return s.kind == want.kind && !s.odd && slices.Equal(s.spans, want.spans)
}

// read looks at the table of a family. The kernel's listings of a table are consistent as long as nobody changes that
// table; should somebody change ours meanwhile, an event follows.
func (s *socket) read(family byte) (out state, err error) {
	err = s.ask(family, unix.NFT_MSG_GETTABLE, 0, func(a *attrs) { a.String(unix.NFTA_TABLE_NAME, tableName) }, func(d *nl.AttributeDecoder) {
		out.there = true
		if d.Type() == unix.NFTA_TABLE_FLAGS {
			out.flags = d.Uint32()
		}
	})
	if err != nil || !out.there {
		return out, wrap("read table", err)
	}
	for i := range ours {
		c := &out.chains[i]
		if c.chain, err = s.readChain(family, i); err != nil {
			return out, err
		}
		if c.kind != "" {
			if c.comments, err = s.readRules(family, i); err != nil {
				return out, err
			}
		}
	}
	if out.sources, err = s.readSet(family, setSources); err != nil {
		return out, err
	}
	out.spared, err = s.readSet(family, setSpared)
	return out, err
}

// readChain returns a chain of ours; without one, or with one that hangs nowhere, its kind is "".
func (s *socket) readChain(family byte, i int) (have chain, err error) {
	err = s.ask(family, unix.NFT_MSG_GETCHAIN, 0, func(a *attrs) {
		a.String(unix.NFTA_CHAIN_TABLE, tableName)
		a.String(unix.NFTA_CHAIN_NAME, ours[i].name)
	}, func(d *nl.AttributeDecoder) {
		have.there = true
		switch d.Type() {
		case unix.NFTA_CHAIN_TYPE:
			have.kind = d.String()
		case unix.NFTA_CHAIN_POLICY:
			have.policy = d.Uint32()
		case unix.NFTA_CHAIN_HOOK:
			d.Nested(func(d *nl.AttributeDecoder) error {
				for d.Next() {
					switch d.Type() {
					case unix.NFTA_HOOK_HOOKNUM:
						have.hook = d.Uint32()
					case unix.NFTA_HOOK_PRIORITY:
						have.priority = d.Uint32()
					}
				}
				return nil
			})
		}
	})
	return have, wrap("read chain", err)
}

func (s *socket) readRules(family byte, i int) (comments []string, err error) {
	err = s.ask(family, unix.NFT_MSG_GETRULE, nl.Dump, inChain(i), func(d *nl.AttributeDecoder) {
		switch d.Type() {
		case unix.NFTA_RULE_HANDLE: // each rule has one, and it comes first
			comments = append(comments, "")
		case unix.NFTA_RULE_USERDATA:
			if comment, ok := userdata.GetString(d.Bytes(), userdata.TypeComment); ok && len(comments) > 0 {
				comments[len(comments)-1] = comment
			}
		}
	})
	return comments, wrap("list rules", err)
}

func (s *socket) readSet(family byte, name string) (have set, err error) {
	err = s.ask(family, unix.NFT_MSG_GETSET, 0, func(a *attrs) {
		a.String(unix.NFTA_SET_TABLE, tableName)
		a.String(unix.NFTA_SET_NAME, name)
	}, func(d *nl.AttributeDecoder) {
		switch d.Type() {
		case unix.NFTA_SET_FLAGS:
			have.kind.flags = d.Uint32()
		case unix.NFTA_SET_KEY_TYPE:
			have.kind.key = d.Uint32()
		case unix.NFTA_SET_KEY_LEN:
			have.kind.length = d.Uint32()
		}
	})
	if err != nil || have.kind != ourSet(family) {
		return have, wrap("read set", err)
	}
	elements, err := s.readElements(family, name)
	if err != nil {
		return have, err
	}
	spans, ok := spansFrom(elements)
	have.spans, have.odd = spans, !ok
	return have, nil
}

func (s *socket) readElements(family byte, name string) (out []element, err error) {
	err = s.ask(family, unix.NFT_MSG_GETSETELEM, nl.Dump, func(a *attrs) {
		a.String(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
		a.String(unix.NFTA_SET_ELEM_LIST_SET, name)
	}, func(d *nl.AttributeDecoder) {
		if d.Type() == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			d.Nested(func(d *nl.AttributeDecoder) error {
				for d.Next() {
					d.Nested(func(d *nl.AttributeDecoder) error {
						out = append(out, parseElement(d))
						return nil
					})
				}
				return nil
			})
		}
	})
	return out, wrap("list set", err)
}

func parseElement(d *nl.AttributeDecoder) (e element) {
	for d.Next() {
		switch d.Type() {
		case unix.NFTA_SET_ELEM_FLAGS:
			e.flags = d.Uint32()
		case unix.NFTA_SET_ELEM_KEY:
			d.Nested(func(d *nl.AttributeDecoder) error {
				for d.Next() {
					e.key = slices.Clone(d.Bytes()) // of the one attribute NFTA_DATA_VALUE
				}
				return nil
			})
		}
	}
	return e
}

// wrap says what failed. That something is not there is no failure.
func wrap(what string, err error) error {
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// lacking tells errors of a kernel that has no nf_tables, or not of this family.
func lacking(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT)
}

// HasChain tells whether there is a chain of that name in somebody's table. It says nothing of what the chain holds.
func HasChain(c *netlink.Conn, family byte, table, chain string) (bool, error) {
	s, err := open(c)
	if err != nil {
		return false, err
	}
	defer s.Close()
	found := false
	err = s.ask(family, unix.NFT_MSG_GETCHAIN, 0, func(a *attrs) {
		a.String(unix.NFTA_CHAIN_TABLE, table)
		a.String(unix.NFTA_CHAIN_NAME, chain)
	}, func(*nl.AttributeDecoder) { found = true })
	if lacking(err) {
		return false, nil
	}
	return found, wrap("look for chain "+chain, err)
}
