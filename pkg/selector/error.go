package selector

import (
	"fmt"
	"strings"
)

// Error says where a selector is wrong, and what was expected there.
type Error struct {
	Text string // the whole selector
	At   int    // offset into it, in bytes
	Want string // such as `an operator (==, !=, in, …) after label "a"`
}

func (e *Error) Error() string {
	found := "the end"
	if rest := e.Text[e.At:]; rest != "" {
		if cut := strings.IndexAny(rest[1:], " \t") + 1; cut > 0 {
			rest = rest[:cut]
		}
		found = fmt.Sprintf("%.20q", rest)
	}
	return fmt.Sprintf("selector %q, character %d: want %s, found %s", shorten(e.Text), e.At+1, e.Want, found)
}

func shorten(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
