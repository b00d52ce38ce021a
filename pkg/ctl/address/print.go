package address

import (
	"fmt"
	"io"
)

// printer writes lines until one fails; err is that failure.
type printer struct {
	out io.Writer
	err error
}

// line writes one line.
func (p *printer) line(format string, args ...any) { p.text(format+"\n", args...) }

// text writes as it is.
func (p *printer) text(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format, args...)
	}
}
