package selector

import (
	"fmt"
	"slices"
	"strings"
)

// MaxLabel is the longest name of a label, in bytes (Calico's bound).
const MaxLabel = 512

// maxDepth is how deep parentheses may be nested, so that no input exhausts the stack.
const maxDepth = 1000

// Parse reads a selector. Its errors are of type *Error.
func Parse(text string) (*Selector, error) {
	p := parser{text: text}
	var root node = constant("all()")
	p.blanks()
	if p.at < len(text) {
		if root = p.either(); p.err == nil && p.at < len(text) {
			p.fail("&&, || or the end")
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	var b strings.Builder
	root.write(&b)
	return &Selector{root: root, text: b.String()}, nil
}

// parser goes over the text once, by recursive descent. Each of its methods begins at a word and leaves at the next one, the
// blanks in between behind it. After the first error nothing it returns counts.
type parser struct {
	text  string
	at    int
	depth int
	err   error
}

func (p *parser) fail(want string) node {
	if p.err == nil {
		p.err = &Error{Text: p.text, At: p.at, Want: want}
	}
	return nil
}

func (p *parser) blanks() {
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\t') {
		p.at++
	}
}

// take passes over what the text goes on with, if it is just that.
func (p *parser) take(sign string) bool {
	if !strings.HasPrefix(p.text[p.at:], sign) {
		return false
	}
	p.at += len(sign)
	p.blanks()
	return true
}

// either is x || y || …
func (p *parser) either() node {
	nodes := or{p.both()}
	for p.err == nil && p.take("||") {
		nodes = append(nodes, p.both())
	}
	if len(nodes) == 1 {
		return nodes[0]
	}
	return nodes
}

// both is x && y && …
func (p *parser) both() node {
	nodes := and{p.term()}
	for p.err == nil && p.take("&&") {
		nodes = append(nodes, p.term())
	}
	if len(nodes) == 1 {
		return nodes[0]
	}
	return nodes
}

// term is what && joins, with any number of ! before it, of which an even number is none.
func (p *parser) term() node {
	negated := false
	for p.at < len(p.text) && p.text[p.at] == '!' {
		if strings.HasPrefix(p.text[p.at:], "!=") {
			return p.fail("a label before !=")
		}
		p.take("!")
		negated = !negated
	}
	n := p.operand()
	if !negated || p.err != nil {
		return n
	}
	if inner, ok := n.(not); ok {
		return inner.of // the inner one stood in parentheses
	}
	return not{n}
}

func (p *parser) operand() node {
	switch {
	case p.take("("):
		if p.depth++; p.depth > maxDepth {
			return p.fail(fmt.Sprintf("at most %d parentheses in each other", maxDepth))
		}
		n := p.either()
		p.depth--
		if p.err == nil && !p.take(")") {
			return p.fail("&&, || or )")
		}
		return n
	case p.take("has("):
		label := p.label("a label")
		if p.err == nil && !p.take(")") {
			return p.fail(") after has(" + label)
		}
		return has(label)
	case p.take("all("):
		if !p.take(")") {
			return p.fail(") after all(")
		}
		return constant("all()")
	case p.take("global("):
		if !p.take(")") {
			return p.fail(") after global(")
		}
		return constant("global()")
	}
	label := p.label("a label, has(…), all(), global(), ! or (")
	if p.err != nil {
		return nil
	}
	return p.comparison(label)
}

// comparison is what follows a label.
func (p *parser) comparison(label string) node {
	switch {
	case p.take("=="):
		return compare{label, opEqual, p.value()}
	case p.take("!="):
		return compare{label, opNotEqual, p.value()}
	case p.words("contains"):
		return compare{label, opContains, p.value()}
	case p.words("starts", "with"):
		return compare{label, opStarts, p.value()}
	case p.words("ends", "with"):
		return compare{label, opEnds, p.value()}
	case p.words("not", "in"):
		return member{label, opNotIn, p.set()}
	case p.words("in"):
		return member{label, opIn, p.set()}
	}
	return p.fail(fmt.Sprintf("an operator (==, !=, in, not in, contains, starts with, ends with) after label %q", label))
}

// words passes over an operator of these words, with or without blanks between them. A letter of a name behind the last
// one makes it another word.
func (p *parser) words(words ...string) bool {
	start := p.at
	for _, w := range words {
		if !strings.HasPrefix(p.text[p.at:], w) {
			p.at = start
			return false
		}
		p.at += len(w)
		last := p.at
		p.blanks()
		if w == words[len(words)-1] && last < len(p.text) && inName(p.text[last]) {
			p.at = start
			return false
		}
	}
	return true
}

func (p *parser) label(want string) string {
	start := p.at
	for p.at < len(p.text) && inName(p.text[p.at]) {
		p.at++
	}
	label := p.text[start:p.at]
	switch {
	case label == "":
		p.fail(want)
	case len(label) > MaxLabel:
		p.at = start
		p.fail(fmt.Sprintf("a label of at most %d characters", MaxLabel))
	}
	p.blanks()
	return label
}

// inName says whether a label's name may have this character.
func inName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_./-", c) >= 0
}

// value is a string in quotes.
func (p *parser) value() string {
	rest := p.text[p.at:]
	if rest == "" || rest[0] != '"' && rest[0] != '\'' {
		p.fail(`a string in quotes`)
		return ""
	}
	end := strings.IndexByte(rest[1:], rest[0])
	if end < 0 {
		p.fail("a closing " + rest[:1] + " after what begins here")
		return ""
	}
	p.at += end + 2
	p.blanks()
	return rest[1 : end+1]
}

// set is {'a', 'b'}, sorted and each value once.
func (p *parser) set() []string {
	if p.err == nil && !p.take("{") {
		p.fail("a set such as {'a', 'b'}")
	}
	var values []string
	for p.err == nil && !p.take("}") {
		values = append(values, p.value())
		if p.err == nil && !p.take(",") && !strings.HasPrefix(p.text[p.at:], "}") {
			p.fail(", or }")
		}
	}
	slices.Sort(values)
	return slices.Compact(values)
}
