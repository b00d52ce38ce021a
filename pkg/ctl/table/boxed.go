package table

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Boxed is a table with lines around its cells:
//
//	+----------+---------------+-----------+
//	| GROUPING | CIDR          | IPS TOTAL |
//	+----------+---------------+-----------+
//	| IP Pool  | 10.244.0.0/16 |     65536 |
//	+----------+---------------+-----------+
//
// Headings stand on the left, and cells do. A table without rows has just its heading,
// and the line that would end them.
type Boxed struct {
	Heading []string
	Rows    [][]string
	// Centre puts the headings in the middle, as those of "node status".
	Centre bool
	// Right holds the columns, counted from 0, whose cells stand on the right.
	Right []int
}

// Row adds a row. Cells that are missing at its end are empty.
func (b *Boxed) Row(cells ...string) { b.Rows = append(b.Rows, cells) }

// Print writes the table.
func (b *Boxed) Print(w io.Writer) error {
	widths := b.widths()
	line := strings.Builder{}
	for _, width := range widths {
		line.WriteString("+" + strings.Repeat("-", width+2))
	}
	line.WriteString("+\n")

	head := left
	if b.Centre {
		head = centre
	}
	out := strings.Builder{}
	out.WriteString(line.String())
	write(&out, b.Heading, widths, func(int) align { return head })
	out.WriteString(line.String())
	for _, row := range b.Rows {
		write(&out, row, widths, b.align)
	}
	out.WriteString(line.String())
	_, err := io.WriteString(w, out.String())
	return err
}

func (b *Boxed) widths() []int {
	widths := make([]int, len(b.Heading))
	for _, row := range append([][]string{b.Heading}, b.Rows...) {
		for i := range widths {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell(row, i)))
		}
	}
	return widths
}

func (b *Boxed) align(column int) align {
	for _, c := range b.Right {
		if c == column {
			return right
		}
	}
	return left
}

// align returns what comes before and after a cell that lacks that many characters.
type align func(missing int) (before, after int)

func left(missing int) (int, int)   { return 0, missing }
func right(missing int) (int, int)  { return missing, 0 }
func centre(missing int) (int, int) { return missing / 2, missing - missing/2 }

func write(out *strings.Builder, row []string, widths []int, of func(column int) align) {
	for i, width := range widths {
		text := cell(row, i)
		before, after := of(i)(width - utf8.RuneCountInString(text))
		out.WriteString("| " + strings.Repeat(" ", before) + text + strings.Repeat(" ", after) + " ")
	}
	out.WriteString("|\n")
}

func cell(row []string, i int) string {
	if i >= len(row) {
		return ""
	}
	return oneLine.Replace(row[i])
}
