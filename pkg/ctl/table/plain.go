package table

import (
	"io"
	"strings"
	"text/tabwriter"
)

// Plain prints rows, of which the first is the heading, as "calicoctl get" does: each column is as wide as its widest
// cell and three blanks, the last column, too.
//
//	NAME                  CIDR            SELECTOR
//	default-ipv4-ippool   10.244.0.0/16   all()
func Plain(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 5, 1, 3, ' ', 0)
	for _, row := range rows {
		line := strings.Builder{}
		for _, cell := range row {
			line.WriteString(oneLine.Replace(cell) + "\t") // the tab ends a cell: the last one is padded, too
		}
		if _, err := io.WriteString(t, line.String()+"\n"); err != nil {
			return err
		}
	}
	return t.Flush()
}

// oneLine keeps a cell from breaking its table.
var oneLine = strings.NewReplacer("\t", " ", "\n", " ", "\v", " ", "\f", " ", "\r", " ")
