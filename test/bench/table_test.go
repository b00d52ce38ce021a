package bench

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// sample is one series of measured values, all of one unit.
type sample []float64

// ms adds a duration in milliseconds, us in microseconds.
func (s *sample) ms(d time.Duration) { *s = append(*s, d.Seconds()*1e3) }
func (s *sample) us(d time.Duration) { *s = append(*s, d.Seconds()*1e6) }

// at is the nearest-rank percentile, p in 0..1.
func (s sample) at(p float64) float64 {
	if len(s) == 0 {
		return 0
	}
	all := slices.Sorted(slices.Values(s))
	rank := int(p*float64(len(all))+0.999999) - 1
	return all[min(max(rank, 0), len(all)-1)]
}

func (s sample) p50() float64 { return s.at(0.5) }

// aim says what a row should reach. The zero value is no aim.
type aim struct {
	text string
	ok   func(r row) bool
}

// Aims on the ratio of the medians, and on our own median.
func ratioUpTo(x float64) aim {
	return aim{fmt.Sprintf("≤ %.4g × peer", x), func(r row) bool { return r.ratio() <= x }}
}
func ratioFrom(x float64) aim {
	return aim{fmt.Sprintf("≥ %.4g × peer", x), func(r row) bool { return r.ratio() >= x }}
}
func upTo(x float64) aim {
	return aim{fmt.Sprintf("≤ %.4g", x), func(r row) bool { return r.ours.p50() <= x }}
}
func never() aim {
	return aim{"none", func(r row) bool { return len(r.ours) > 0 && r.ours.at(1) == 0 }}
}

// row is one line of the table.
type row struct {
	what, unit string
	n          int // runs; 0: as many as ours has values
	ours       sample
	peer       string // "" when there is none
	theirs     sample
	aim        aim
}

// ratio is our median by the peer's; 0 without one.
func (r row) ratio() float64 {
	if r.theirs.p50() == 0 {
		return 0
	}
	return r.ours.p50() / r.theirs.p50()
}

// report is what one section found.
type report struct {
	section string
	rows    []row
	notes   []string
	load    [2]string
	took    time.Duration
}

func (r *report) add(rows ...row) { r.rows = append(r.rows, rows...) }

func (r *report) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// columns of the table; those of figures stand right.
var columns = []struct {
	name  string
	right bool
}{
	{"", false}, {"unit", false}, {"n", true}, {"ours p50", true}, {"p99", true}, {"peer p50", true}, {"p99", true},
	{"ratio", true}, {"peer", false}, {"aim", false}, {"met", false},
}

// render draws the table.
func render(head string, reports []*report) string {
	var names []string
	for _, c := range columns {
		names = append(names, c.name)
	}
	lines := [][]string{names}
	for _, r := range reports {
		lines = append(lines, []string{fmt.Sprintf("%s (%s, load %s to %s)", r.section, r.took.Round(time.Second), r.load[0], r.load[1])})
		for _, x := range r.rows {
			lines = append(lines, x.cells())
		}
	}
	width := make([]int, len(columns))
	for _, l := range lines {
		for i, cell := range l {
			if len(l) > 1 {
				width[i] = max(width[i], utf8.RuneCountInString(cell))
			}
		}
	}
	var b strings.Builder
	fmt.Fprintln(&b, head)
	for _, l := range lines {
		b.WriteString(strings.TrimRight(joinCells(l, width), " ") + "\n")
	}
	for _, r := range reports {
		for _, n := range r.notes {
			fmt.Fprintf(&b, "%s: %s\n", r.section, n)
		}
	}
	return b.String()
}

func joinCells(cells []string, width []int) string {
	var out strings.Builder
	for i, cell := range cells {
		pad := ""
		if len(cells) > 1 {
			pad = strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
		}
		if columns[i].right {
			out.WriteString(pad + cell + "  ")
		} else {
			out.WriteString(cell + pad + "  ")
		}
	}
	return out.String()
}

func (r row) cells() []string {
	cells := []string{"  " + r.what, r.unit, fmt.Sprint(cmp.Or(r.n, len(r.ours))), number(r.ours.p50()), number(r.ours.at(0.99)), "-", "-"}
	if len(r.theirs) > 0 {
		cells[5], cells[6] = number(r.theirs.p50()), number(r.theirs.at(0.99))
	}
	ratio, met := "-", "-"
	if x := r.ratio(); x != 0 {
		ratio = fmt.Sprintf("%.2f", x)
	}
	if r.aim.ok != nil {
		met = "NO"
		if r.aim.ok(r) {
			met = "yes"
		}
	}
	return append(cells, ratio, cmp.Or(r.peer, "-"), cmp.Or(r.aim.text, "-"), met)
}

// number prints three significant digits without an exponent.
func number(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	case x >= 0.1:
		return fmt.Sprintf("%.2f", x)
	default:
		return fmt.Sprintf("%.4f", x)
	}
}

// loadavg is the load of the last minute.
func loadavg() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	return strings.Fields(string(b))[0]
}
