package collect

import (
	"net/netip"
	"strings"
	"time"
)

// Fix asks for a handle that says what its blocks say. Whoever does it counts anew, in the blocks that either names.
type Fix struct {
	Name   string // of the object
	ID     string
	Blocks map[netip.Prefix]int // counts as the blocks have them; empty: nothing is held
	Listed []netip.Prefix       // blocks that the handle names; none when there is no such handle
}

// passHandles compares all handles with all blocks. Those that do not fit, in one form for a grace period, are to be
// fixed. A handle comes after its addresses and goes before them, or the other way about (Calico's), so that for a moment
// none of them fits.
func (c *Collector) passHandles(s *State, now time.Time, p *Plan) {
	for _, h := range s.handles {
		h.have = 0
	}
	wrong := map[string]*Fix{}
	for _, b := range s.blocks {
		for i := range b.Allocs {
			a := &b.Allocs[i]
			if a.Handle == "" || a.Kind == Reserved {
				continue
			}
			if h := s.handles[strings.ToLower(a.Handle)]; h != nil {
				h.have += b.sum
			} else if _, left := c.suspects[a.Node][suspect{b.Addr(a), a.Handle}]; !left {
				wrong[strings.ToLower(a.Handle)] = &Fix{ID: a.Handle}
			}
		}
	}
	for name, h := range s.handles {
		if h.have != h.want || h.Deleted {
			wrong[name] = &Fix{ID: h.ID}
			for _, n := range h.Counts {
				wrong[name].Listed = append(wrong[name].Listed, n.CIDR)
			}
		}
	}
	if len(wrong) > 0 {
		s.count(wrong)
	}
	c.fix(s, wrong, now, p)
}

// count fills in what the blocks have.
func (s *State) count(wrong map[string]*Fix) {
	for _, b := range s.blocks {
		for i := range b.Allocs {
			if b.Allocs[i].Handle == "" {
				continue
			}
			if f := wrong[strings.ToLower(b.Allocs[i].Handle)]; f != nil {
				if f.Blocks == nil {
					f.Blocks = map[netip.Prefix]int{}
				}
				f.Blocks[b.CIDR]++
			}
		}
	}
}

// fix plans what has been wrong for a grace period.
func (c *Collector) fix(s *State, wrong map[string]*Fix, now time.Time, p *Plan) {
	for name := range c.odd {
		if wrong[name] == nil {
			delete(c.odd, name)
		}
	}
	for name, f := range wrong {
		form := "missing"
		if h := s.handles[name]; h != nil {
			form = h.Version
		}
		if c.again(c.odd, name, form, now, p) {
			f.Name = name
			p.Handles = append(p.Handles, *f)
		}
	}
}
