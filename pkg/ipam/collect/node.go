package collect

import (
	"strconv"
	"time"
)

// passNode looks at what one node has and owns.
func (c *Collector) passNode(s *State, name Name, now time.Time, p *Plan) {
	gone := c.gone(s, name, now, p)
	leaked, lives := c.leaked(s, name, now)
	c.release(s, name, leaked, lives, now, p)
	for b := range s.byNode[name] {
		block := s.blocks[b]
		if owner := block.Owner(); owner == name.Value() || owner == "" && (block.Affinity == name.Value()) {
			c.passBlock(s, block, gone, now, p)
		}
	}
}

// gone says whether there has been no such node for the time of Hold.
func (c *Collector) gone(s *State, name Name, now time.Time, p *Plan) bool {
	if s.nodes[name] != nil {
		delete(c.absent, name)
		return false
	}
	since, known := c.absent[name]
	if !known {
		since = now
		c.absent[name] = since
	}
	due := since.Add(c.Hold)
	if due.After(now) {
		p.due(due)
		return false
	}
	return true
}

// found is an allocation that is left over.
type found struct {
	held  Held
	since time.Time
	due   time.Time // when it may be collected; zero: not in its present form
}

// sweep is what one look at a node's allocations finds.
type sweep struct {
	found   map[string][]found // by what is released together
	tunnels map[string][]found // addresses of tunnels, by handle
	inUse   bool               // somebody lives there, or something of which nobody here knows
	seen    map[suspect]suspicion
}

// leaked returns what of a node's allocations is left over, by what is released together, and the handles of which
// something lives. It remembers what it saw in place of what it saw the last time.
func (c *Collector) leaked(s *State, name Name, now time.Time) (map[string][]found, map[string]bool) {
	w := sweep{}
	for b := range s.byNode[name] {
		block := s.blocks[b]
		for i := range block.Allocs {
			if a := &block.Allocs[i]; a.Node == name && a.Released == 0 {
				c.look(s, block, a, now, &w)
			}
		}
	}
	if w.seen == nil {
		delete(c.suspects, name)
		return nil, nil
	}
	c.suspects[name] = w.seen
	for handle, list := range w.tunnels {
		if !w.inUse {
			w.found[handle] = list
			continue
		}
		for _, f := range list { // the node is not gone as thoroughly as its object
			delete(w.seen, suspect{f.held.Addr, handle})
		}
	}
	return w.found, s.living(name)
}

// look judges one allocation.
func (c *Collector) look(s *State, b *Block, a *Alloc, now time.Time, w *sweep) {
	addr, node := b.Addr(a), s.nodes[a.Node]
	why := Judge(a, addr, node, s.Pod)
	if why == "" {
		w.inUse = w.inUse || a.Kind == Pod || a.Kind == Foreign
		return
	}
	if w.seen == nil {
		w.found, w.tunnels, w.seen = map[string][]found{}, map[string][]found{}, map[suspect]suspicion{}
	}
	key := suspect{addr, a.Handle}
	was, ok := c.suspects[a.Node][key]
	if !ok || was.seq != a.Seq {
		was = suspicion{since: now, seq: a.Seq}
	}
	w.seen[key] = was
	f := found{
		held:  Held{Block: b.Name, CIDR: b.CIDR, Ordinal: a.Ordinal, Addr: addr, Seq: a.Seq, Why: why, Alloc: *a},
		since: was.since, due: c.due(s, b, a, node, was.since),
	}
	switch {
	case why == TunnelMoved: // the handle's other address lives: the exception to "whole or not at all"
		w.found[a.Handle+"/moved"] = append(w.found[a.Handle+"/moved"], f)
	case a.Kind.Tunnel():
		w.tunnels[a.Handle] = append(w.tunnels[a.Handle], f)
	default:
		w.found[a.Handle] = append(w.found[a.Handle], f)
	}
}

// living returns the handles of which something lives in the blocks that a node has to do with.
func (s *State) living(name Name) map[string]bool {
	lives := map[string]bool{}
	for b := range s.byNode[name] {
		block := s.blocks[b]
		for i := range block.Allocs {
			if a := &block.Allocs[i]; a.Handle != "" && !a.Kind.Tunnel() && (a.Node != name || Judge(a, block.Addr(a), s.nodes[name], s.Pod) == "") {
				lives[a.Handle] = true
			}
		}
	}
	return lives
}

// due says when an allocation that is left over since a time may be collected; zero: not as things stand.
func (c *Collector) due(s *State, b *Block, a *Alloc, node *Node, since time.Time) time.Time {
	_, cameBack := c.taken[a.Handle]
	gone := node == nil && a.Node != NameOf("")
	former := node != nil && !a.Kind.Tunnel() && s.ofFormer(b, a)
	switch {
	case former && !cameBack:
		return since
	case gone && !cameBack:
		return since.Add(c.Hold)
	case (gone || former) && c.Grace == 0:
		return since.Add(returnGrace)
	case node != nil && node.Silent, c.Grace == 0:
		return time.Time{}
	}
	return since.Add(c.Grace)
}

// release plans what is left over and due, handle by handle.
func (c *Collector) release(s *State, name Name, leaked map[string][]found, lives map[string]bool, now time.Time, p *Plan) {
	for _, list := range leaked {
		handle, due, since := list[0].held.Alloc.Handle, time.Time{}, list[0].since
		r, never := Release{Handle: handle}, lives[handle]
		for _, f := range list {
			never = never || f.due.IsZero()
			r.AtOnce = r.AtOnce || f.due.Equal(f.since)
			if f.due.After(due) {
				due = f.due
			}
			if f.since.Before(since) {
				since = f.since
			}
			r.Held = append(r.Held, f.held)
		}
		switch {
		case never:
		case due.After(now):
			p.due(due)
		default:
			r.Since = since
			if node := s.nodes[name]; node != nil {
				r.NodeUID = node.UID
			}
			p.Releases[name.Value()] = append(p.Releases[name.Value()], r)
		}
	}
}

// passBlock looks at one block as a whole; gone is said of its owner.
func (c *Collector) passBlock(s *State, b *Block, gone bool, now time.Time, p *Plan) {
	owner := b.Owner()
	node := s.nodes[NameOf(owner)]
	cooling := false
	for i := range b.Allocs {
		if at := b.Allocs[i].Released; at != 0 {
			cooling = true
			// The agent of a node that lives sees to it at once; this is for those that do not run.
			until := time.Unix(at, 0).Add(s.Cooldown)
			if node != nil {
				until = until.Add(returnGrace)
			}
			if until.After(now) {
				p.due(until)
			} else {
				p.Reap = append(p.Reap, b.Name)
				break
			}
		}
	}
	used := false
	for i := range b.Allocs {
		used = used || b.Allocs[i].Kind != Reserved
	}
	switch {
	case b.Deleted: // whoever began that has died, or is about to end it
		p.Empty = append(p.Empty, Empty{*b, ""})
	case owner != "" && node != nil:
	case used && owner != "" && !cooling:
		if c.again(c.stuck, b.Name, b.UID, now, p) {
			p.Blocked++
		}
	case used:
	case owner != "" && !gone:
	case owner != "":
		p.Empty = append(p.Empty, Empty{*b, owner})
	case c.again(c.idle, b.Name, b.UID+" "+strconv.FormatUint(b.Seq, 10), now, p):
		p.Empty = append(p.Empty, Empty{*b, b.Affinity})
	}
}

// again says whether something was seen a grace period ago in the same form; never when the period is 0. The memory of what no pass asks about any
// more is harmless: its form is another one when it comes back.
func (c *Collector) again(memory map[string]sight, what, form string, now time.Time, p *Plan) bool {
	if c.Grace == 0 {
		return false
	}
	was, ok := memory[what]
	if !ok || was.form != form {
		was = sight{since: now, form: form}
		memory[what] = was
	}
	due := was.since.Add(c.Grace)
	if due.After(now) {
		p.due(due)
		return false
	}
	return ok
}
