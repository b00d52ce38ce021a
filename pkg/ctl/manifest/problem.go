package manifest

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// Problem is one thing that is wrong with a document.
type Problem struct {
	File    string // as it was named; "standard input" for -
	Line    int    // counted from 1; 0 when the whole file is meant
	Object  string // KIND/NAME, as far as known
	Field   string // such as spec.blockSize; empty when the whole object is meant
	Message string // what is wrong and how to mend it
}

// Error is the problem in one line: FILE:LINE: KIND/NAME: FIELD: MESSAGE.
func (p *Problem) Error() string {
	where := p.File
	if p.Line > 0 {
		where += ":" + strconv.Itoa(p.Line)
	}
	var parts []string
	for _, part := range []string{where, p.Object, p.Field, p.Message} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// Problems are all problems that an error holds, itself or joined. Another error in it is a problem of no line.
func Problems(err error) []*Problem {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*Problem
		for _, e := range joined.Unwrap() {
			all = append(all, Problems(e)...)
		}
		return all
	}
	if p := (*Problem)(nil); errors.As(err, &p) {
		return []*Problem{p}
	}
	return []*Problem{{Message: err.Error()}}
}

// Sort puts problems into the order of the documents' files, and of the lines in each.
func Sort(problems []*Problem, docs []*Document) {
	file := func(p *Problem) int {
		return slices.IndexFunc(docs, func(d *Document) bool { return d.File == p.File })
	}
	slices.SortStableFunc(problems, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(file(a), file(b)), strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
}
