package watch

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/resource"
	"github.com/margay-net/margay/pkg/ipam/block"
)

// rows prints objects as "get" does, with what happened to them in front.
type rows struct {
	out      io.Writer
	kind     *resource.Kind
	headings []string
	widths   []int
	seen     map[string]bool
}

func newRows(out io.Writer, kind *resource.Kind, wide bool) *rows {
	r := &rows{out: out, kind: kind, headings: kind.Narrow, seen: map[string]bool{}}
	if wide {
		r.headings = kind.Wide
	}
	r.widths = make([]int, len(r.headings)+1)
	return r
}

// start prints the heading and all objects, in columns wide enough for them.
func (r *rows) start(all []unstructured.Unstructured) error {
	lines := [][]string{append([]string{"EVENT"}, r.headings...)}
	for i := range all {
		cells, err := r.cells("", &all[i])
		if err != nil {
			return err
		}
		r.seen[key(&all[i])] = true
		lines = append(lines, cells)
	}
	r.widths[0] = len("MODIFIED")
	for _, line := range lines {
		for i, c := range line {
			r.widths[i] = max(r.widths[i], len([]rune(c)))
		}
	}
	for _, line := range lines {
		if err := printRow(r.out, r.widths, line); err != nil {
			return err
		}
	}
	return nil
}

func (r *rows) cells(event string, o *unstructured.Unstructured) ([]string, error) {
	cells, err := r.kind.Row(o, r.headings, func() string { return "" })
	return append([]string{event}, cells...), err
}

func (r *rows) change(o *unstructured.Unstructured, gone bool) error {
	event := "MODIFIED"
	switch {
	case gone:
		event = "DELETED"
		delete(r.seen, key(o))
	case !r.seen[key(o)]:
		event = "ADDED"
		r.seen[key(o)] = true
	}
	cells, err := r.cells(event, o)
	if err != nil {
		return err
	}
	return printRow(r.out, r.widths, cells)
}

// addresses prints what happens to addresses: a block tells by what it holds now and did before.
type addresses struct {
	out    io.Writer
	now    func() time.Time
	widths [5]int
	have   map[string]map[netip.Addr]state // by block
	owner  map[string]string
}

// state is who has an address; cools: nobody any more.
type state struct {
	node, who string
	cools     bool
}

func (a *addresses) start(all []unstructured.Unstructured) error {
	a.have, a.owner = map[string]map[netip.Addr]state{}, map[string]string{}
	a.widths = [5]int{8, 9, 15, 10, 10}
	used := 0
	for i := range all {
		cidr, owner, now, err := read(&all[i])
		if err != nil {
			return err
		}
		a.have[cidr], a.owner[cidr] = now, owner
		used += len(now)
	}
	if err := a.print("TIME", "EVENT", "ADDRESS", "NODE", "OWNER"); err != nil {
		return err
	}
	return a.print("", "", fmt.Sprintf("%d in use", used), "", fmt.Sprintf("%d blocks", len(a.have)))
}

func (a *addresses) print(cells ...string) error { return printRow(a.out, a.widths[:], cells) }

// read takes what counts of a block.
func read(o *unstructured.Unstructured) (cidr, owner string, now map[netip.Addr]state, err error) {
	var b v3.IPAMBlock
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &b); err != nil {
		return "", "", nil, fmt.Errorf("read block %s: %w", o.GetName(), err)
	}
	now = map[netip.Addr]state{}
	if b.Spec.Affinity != nil {
		_, owner, _ = strings.Cut(*b.Spec.Affinity, ":")
	}
	if block.Check(&b) != nil || b.Spec.Deleted {
		return b.Spec.CIDR, owner, now, nil
	}
	p := netip.MustParsePrefix(b.Spec.CIDR) // Check has seen it
	for i := range b.Spec.Allocations {
		at := block.Attr(&b, i)
		if at == nil {
			continue
		}
		s := state{node: at.Secondary[block.AttrNode], cools: at.ReleasedAt != nil}
		switch pod := at.Secondary[block.AttrPod]; {
		case pod != "":
			s.who = at.Secondary[block.AttrNamespace] + "/" + pod
		case at.Secondary[block.AttrType] != "":
			s.who = at.Secondary[block.AttrType]
		case at.HandleID != nil:
			s.who = *at.HandleID
		}
		now[block.AddrAt(p, i)] = s
	}
	return b.Spec.CIDR, owner, now, nil
}

func (a *addresses) change(o *unstructured.Unstructured, gone bool) error {
	cidr, owner, now, err := read(o)
	if err != nil {
		return err
	}
	if gone {
		now, owner = nil, ""
	}
	before, known := a.have[cidr]
	was := a.owner[cidr]
	clock := a.now().Format("15:04:05")
	switch {
	case gone:
		err = a.print(clock, "block gone", cidr, was, "")
	case !known:
		err = a.print(clock, "new block", cidr, owner, "")
	case was != owner:
		err = a.print(clock, "new owner", cidr, owner, "before: "+was)
	}
	if err != nil {
		return err
	}
	all := maps.Clone(before)
	if all == nil {
		all = map[netip.Addr]state{}
	}
	maps.Copy(all, now)
	for _, addr := range slices.SortedFunc(maps.Keys(all), netip.Addr.Compare) {
		event, s := compare(before, now, addr)
		if event == "" {
			continue
		}
		if err := a.print(clock, event, addr.String(), s.node, s.who); err != nil {
			return err
		}
	}
	a.have[cidr], a.owner[cidr] = now, owner
	if gone {
		delete(a.have, cidr)
		delete(a.owner, cidr)
	}
	return nil
}

// compare says what happened to an address, and to whom; "" for nothing.
func compare(before, now map[netip.Addr]state, addr netip.Addr) (string, state) {
	old, had := before[addr]
	s, has := now[addr]
	switch {
	case !has && old.cools:
		return "free", old
	case !has:
		return "released", old
	case !had:
		return "assigned", s
	case s == old:
		return "", s
	case s.cools:
		return "released", old
	}
	return "new owner", s
}
