package address

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ipam/block"
)

const (
	mapRows   = 8   // of a pool's picture, at most
	mapBlocks = 64  // that are listed of a pool, unless all are asked for
	maxCells  = 128 // of a row
)

func mapCommand(o *connect.Options) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "map",
		Short: "Draw pools, blocks and addresses",
		Long: "Draws each pool, a character for a block or for several: the higher it is, the fuller they are. Below stand its blocks, a character\n" +
			"for an address. In a terminal each node has a colour.",
		Args: cobra.NoArgs,
	}
	cmd.RunE = run(o, func(ctx context.Context, c *connect.Cluster, out io.Writer) error {
		s := &Snapshot{}
		if err := s.loadIPAM(ctx, c); err != nil {
			return err
		}
		width, tty := terminal(out)
		p := &picture{printer: printer{out: out}, Snapshot: s, width: width, colour: tty, all: all}
		p.print()
		return p.err
	})
	cmd.Flags().BoolVar(&all, "all", false, "List all blocks, not the first "+strconv.Itoa(mapBlocks)+" of each pool.")
	return cmd
}

// terminal says how wide out is, and whether it is a terminal. Elsewhere COLUMNS counts, or 80.
func terminal(out io.Writer) (width int, tty bool) {
	if f, ok := out.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			return max(int(size.Col), 40), os.Getenv("NO_COLOR") == ""
		}
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil {
		return max(n, 40), false
	}
	return 80, false
}

// picture draws what a snapshot holds.
type picture struct {
	printer
	*Snapshot
	width  int
	colour bool
	all    bool
}

func (p *picture) print() {
	for _, u := range p.Count() {
		if u.Pool == nil {
			if len(u.Blocks) > 0 {
				p.line("blocks of no pool")
				p.blocks(u)
			}
			continue
		}
		p.line("%s  %s%s", u.Pool.Name, u.CIDR, poolNotes(u.Pool))
		p.line("  %.5g addresses: %.5g in use, %.5g free, %.5g reserved; %d of %.5g blocks have an owner",
			u.Total, u.InUse, u.Free, u.Reserved, len(u.Blocks), size(u.CIDR)/size(netip.PrefixFrom(u.CIDR.Addr(), blockBits(u.Pool, u.CIDR))))
		p.pool(u)
		p.blocks(u)
		p.line("")
	}
	p.line(legend)
}

const legend = "pools: . nobody's  _ empty  ▁ to █ how full\n" +
	"addresses: # pod  T tunnel  S service  b borrowed  ~ cools down\n" +
	"           r reserved  - free, its owner's to give  . free"

func poolNotes(p *v3.IPPool) string {
	notes := ""
	switch {
	case p.Spec.VXLANMode != "" && p.Spec.VXLANMode != v3.EncapNever:
		notes += ", VXLAN " + string(p.Spec.VXLANMode)
	case p.Spec.IPIPMode != "" && p.Spec.IPIPMode != v3.EncapNever:
		notes += ", IPIP " + string(p.Spec.IPIPMode)
	default:
		notes += ", not encapsulated"
	}
	if p.Spec.Disabled {
		notes += ", disabled"
	}
	if p.Spec.AssignmentMode == v3.AssignManual {
		notes += ", only by name"
	}
	if s := p.Spec.NodeSelector; s != "" && s != "all()" {
		notes += ", nodes " + s
	}
	return notes
}

// pool draws a pool, or the part of it that has all its blocks.
func (p *picture) pool(u PoolUsage) {
	window, bits := shown(u), blockBits(u.Pool, u.CIDR)
	columns := 1
	for columns*2 <= min(p.width-label(window), maxCells) {
		columns *= 2
	}
	depth := 0 // bits of a cell's number
	for 1<<depth < columns*mapRows && window.Bits()+depth < bits {
		depth++
	}
	if window != u.CIDR {
		p.line("  shown: %s; the rest is nobody's", window)
	}
	if per := bits - window.Bits() - depth; per > 0 {
		p.line("  a character for %.5g blocks of /%d", math.Ldexp(1, per), bits)
	}
	cells := make([]cell, 1<<depth)
	for _, b := range u.Blocks {
		if window.Contains(b.CIDR.Addr()) {
			cells[number(b.CIDR.Addr(), window.Bits(), depth)].add(b)
		}
	}
	columns = min(columns, len(cells))
	for row := 0; row < len(cells); row += columns {
		first := block.Nth(window, window.Bits()+depth, uint64(row)).Addr()
		line := strings.Builder{}
		for _, c := range cells[row : row+columns] {
			line.WriteString(p.paint(c.node, c.glyph()))
		}
		p.line("  %-*s %s", label(window)-4, first, line.String())
	}
}

// label is how wide what stands before a row is.
func label(window netip.Prefix) int {
	if window.Addr().Is6() {
		return max(len(window.Addr().String())+4, 20) + 4
	}
	return len("255.255.255.255") + 4
}

// shown is the part of a pool that is drawn: all of it, or what has its blocks, if that is much smaller.
func shown(u PoolUsage) netip.Prefix {
	bits := blockBits(u.Pool, u.CIDR)
	part := netip.PrefixFrom(u.CIDR.Addr(), bits)
	if len(u.Blocks) > 0 {
		part = u.Blocks[0].CIDR
	}
	for part.Bits() > u.CIDR.Bits() && (bits-part.Bits() < 6 || slices.ContainsFunc(u.Blocks, func(b BlockUsage) bool { return !part.Contains(b.CIDR.Addr()) })) {
		part = netip.PrefixFrom(part.Addr(), part.Bits()-1).Masked()
	}
	if part.Bits()-u.CIDR.Bits() < 4 || bits-u.CIDR.Bits() < 10 {
		return u.CIDR
	}
	return part
}

// number is the value of the depth bits of an address after the first skip ones.
func number(a netip.Addr, skip, depth int) int {
	n, b := 0, a.AsSlice()
	for i := skip; i < skip+depth; i++ {
		n = n<<1 | int(b[i/8]>>(7-i%8)&1)
	}
	return n
}

// cell is one character of a pool's picture.
type cell struct {
	blocks int
	node   string // whose they are, when they are one node's
	Usage
}

func (c *cell) add(b BlockUsage) {
	node := block.Owner(b.Block)
	if c.blocks > 0 && c.node != node {
		node = ""
	}
	c.blocks, c.node = c.blocks+1, node
	c.Total, c.InUse = c.Total+b.Total, c.InUse+b.InUse
}

// levels of how full a cell is.
var levels = []rune("▁▂▃▄▅▆▇█")

func (c *cell) glyph() string {
	switch {
	case c.blocks == 0:
		return "."
	case c.InUse == 0:
		return "_"
	}
	return string(levels[min(int(c.InUse/c.Total*float64(len(levels))), len(levels)-1)])
}

// paint gives a text its node's colour.
func (p *picture) paint(node, text string) string {
	if !p.colour || node == "" {
		return text
	}
	sum := 0
	for _, r := range node {
		sum = sum*31 + int(r)
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", 31+(sum&0xffff)%6, text)
}
