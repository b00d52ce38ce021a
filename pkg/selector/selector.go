package selector

import (
	"slices"
	"strings"
)

// Selector is a parsed selector. Its zero value is not useful: see Parse.
type Selector struct {
	root node
	text string
}

// Matches reports whether an object with these labels is meant.
func (s *Selector) Matches(labels map[string]string) bool { return s.root.matches(labels) }

// String returns the canonical form, as Calico writes it: "" quotes where that is possible, sets sorted, each && and ||
// in parentheses. Parsing it gives the same selector.
func (s *Selector) String() string { return s.text }

// All reports whether the selector means everything by its very form: all(), global(), or empty.
func (s *Selector) All() bool { return s.text == "all()" || s.text == "global()" }

// node is one step of a selector.
type node interface {
	matches(labels map[string]string) bool
	write(b *strings.Builder)
}

// constant is all() or global(), which differ in policies alone.
type constant string

func (constant) matches(map[string]string) bool { return true }
func (c constant) write(b *strings.Builder)     { b.WriteString(string(c)) }

// has is has(label).
type has string

func (h has) matches(labels map[string]string) bool {
	_, ok := labels[string(h)]
	return ok
}

func (h has) write(b *strings.Builder) { b.WriteString("has(" + string(h) + ")") }

// operator compares a label's value with another one.
type operator string

const (
	opEqual    operator = "=="
	opNotEqual operator = "!="
	opContains operator = "contains"
	opStarts   operator = "starts with"
	opEnds     operator = "ends with"
	opIn       operator = "in"
	opNotIn    operator = "not in"
)

// compare is LABEL operator 'value'.
type compare struct {
	label string
	op    operator
	value string
}

func (c compare) matches(labels map[string]string) bool {
	have, ok := labels[c.label]
	switch c.op {
	case opEqual:
		return ok && have == c.value
	case opNotEqual:
		return !ok || have != c.value
	case opContains:
		return ok && strings.Contains(have, c.value)
	case opStarts:
		return ok && strings.HasPrefix(have, c.value)
	default:
		return ok && strings.HasSuffix(have, c.value)
	}
}

func (c compare) write(b *strings.Builder) {
	b.WriteString(c.label + " " + string(c.op) + " ")
	quote(b, c.value)
}

// member is LABEL in {…} or LABEL not in {…}; values are sorted and different.
type member struct {
	label  string
	op     operator
	values []string
}

func (m member) matches(labels map[string]string) bool {
	have, ok := labels[m.label]
	if !ok {
		return m.op == opNotIn
	}
	_, found := slices.BinarySearch(m.values, have)
	return found == (m.op == opIn)
}

func (m member) write(b *strings.Builder) {
	b.WriteString(m.label + " " + string(m.op) + " {")
	for i, v := range m.values {
		if i > 0 {
			b.WriteString(", ")
		}
		quote(b, v)
	}
	b.WriteByte('}')
}

// not is !x.
type not struct{ of node }

func (n not) matches(labels map[string]string) bool { return !n.of.matches(labels) }

func (n not) write(b *strings.Builder) {
	b.WriteByte('!')
	n.of.write(b)
}

// and is x && y && …, at least two.
type and []node

func (a and) matches(labels map[string]string) bool {
	for _, n := range a {
		if !n.matches(labels) {
			return false
		}
	}
	return true
}

func (a and) write(b *strings.Builder) { join(b, a, " && ") }

// or is x || y || …, at least two.
type or []node

func (o or) matches(labels map[string]string) bool {
	for _, n := range o {
		if n.matches(labels) {
			return true
		}
	}
	return false
}

func (o or) write(b *strings.Builder) { join(b, o, " || ") }

func join(b *strings.Builder, nodes []node, with string) {
	b.WriteByte('(')
	for i, n := range nodes {
		if i > 0 {
			b.WriteString(with)
		}
		n.write(b)
	}
	b.WriteByte(')')
}

// quote writes a string in the quotes that it does not hold; it cannot hold both, since it was between one of them.
func quote(b *strings.Builder, s string) {
	q := byte('"')
	if strings.IndexByte(s, q) >= 0 {
		q = '\''
	}
	b.WriteByte(q)
	b.WriteString(s)
	b.WriteByte(q)
}
