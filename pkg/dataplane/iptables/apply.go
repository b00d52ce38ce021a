package iptables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/reconcile"
)

// program returns the one of a kind; nil when there is none.
func (t *Tables) program(k kind) *program {
	if p := t.programs[k]; p != nil {
		return p
	}
	p, err := find(t.conn, k)
	if err != nil && !errors.Is(err, errMissing) {
		t.log.Warn("iptables program does not work", "err", err)
	}
	t.programs[k] = p
	return p
}

// Resync lists what we look at. What can't be listed is left out and told by Apply, so that it keeps nothing else from being
// mended: legacy asks for more rights than nft.
func (t *Tables) Resync(context.Context) error {
	t.mu.Lock()
	want := t.want
	t.mu.Unlock()
	h := lookAt(t.conn)
	t.unread = nil
	chosen := want.backend
	if chosen == Auto {
		chosen = t.detect(h)
	}
	if chosen != t.chosen {
		t.log.Info("chose iptables backend", "backend", string(chosen), "setting", string(want.backend))
		t.chosen = chosen
	}
	t.have = map[place]listing{}
	for _, k := range kinds {
		if k.legacy && chosen != Legacy && !h.anyLegacy() {
			continue
		}
		p := t.program(k)
		if p == nil {
			continue
		}
		for i, s := range sections {
			l, err := p.look(h, s, i == filter && k.legacy != (chosen == Legacy))
			if err != nil {
				t.unread = append(t.unread, fmt.Errorf("%s: %w", k, err))
				continue
			}
			t.have[place{k, i}] = l
		}
	}
	return nil
}

// wants returns what a place should have; not known before it was set.
func (w wanted) wants(at place, chosen Backend, have listing, random bool) (r rules, known bool) {
	family := 0
	if at.six {
		family = 1
	}
	ours := at.legacy == (chosen == Legacy)
	if at.section != filter {
		switch {
		case ours && at.section == nat:
			r = natRules(w.nat[family], at.six, random)
		case ours:
			r = floatingRules(w.nat[family], at.six)
		}
		return r, w.natKnown
	}
	if w.forward[family] && (ours || sections[filter].drops(have)) {
		r = forwardRules()
	}
	return r, w.forwardKnown
}

// Apply mends what differs: first all that is missing, then, if that worked, what is too much.
func (t *Tables) Apply(ctx context.Context) error {
	err := t.apply(ctx)
	if err != nil { // mostly that somebody was faster: what we listed was old
		t.have = nil
		err = t.apply(ctx)
	}
	if err != nil {
		t.have = nil
	}
	return err
}

func (t *Tables) apply(ctx context.Context) error {
	if t.have == nil {
		if err := t.Resync(ctx); err != nil {
			return err
		}
	}
	t.mu.Lock()
	want := t.want
	t.mu.Unlock()
	t.warn(want)
	type aim struct {
		six     bool
		section int
	}
	failed := map[aim]bool{} // what was to be put but could not be
	errs := slices.Clone(t.unread)
	for _, removing := range []bool{false, true} {
		for _, k := range kinds {
			for i := range sections {
				if a := (aim{k.six, i}); !removing || !failed[a] {
					err := t.mend(want, place{k, i}, removing)
					failed[a] = failed[a] || err != nil
					errs = append(errs, err)
				}
			}
		}
	}
	if want.natKnown && t.inPlace(want) {
		select {
		case <-want.placed:
		default:
			close(want.placed)
		}
	}
	return errors.Join(errs...)
}

// inPlace tells whether the rules in table nat are where they are wanted.
func (t *Tables) inPlace(want wanted) bool {
	for _, six := range []bool{false, true} {
		for i, s := range sections {
			at := place{kind{legacy: t.chosen == Legacy, six: six}, i}
			have, looked := t.have[at]
			p := t.programs[at.kind]
			r, _ := want.wants(at, t.chosen, have, p == nil || p.HasRandomFully())
			if i != filter && r != nil && (!looked || s.script(have, r) != "") {
				return false
			}
		}
	}
	return true
}

// mend makes a place right, if it is of the kind that this turn is for.
func (t *Tables) mend(want wanted, at place, removing bool) error {
	p := t.programs[at.kind]
	have, looked := t.have[at]
	if p == nil || !looked {
		return nil
	}
	r, known := want.wants(at, t.chosen, have, p.HasRandomFully())
	if !known || removing != (r == nil) {
		return nil
	}
	s := sections[at.section]
	script := s.script(have, r)
	if script == "" {
		return nil
	}
	if !removing && len(have.hook) == 0 { // was not listed, and says where the jump belongs
		have, err := p.look(lookAt(t.conn), s, true)
		if err != nil {
			return fmt.Errorf("%s: %w", at.kind, err)
		}
		script = s.script(have, r)
	}
	if err := p.restore(script); err != nil {
		return fmt.Errorf("table %s: %w", s.table, err)
	}
	t.log.Info("wrote iptables chains", "program", at.String(), "table", s.table, "removed", removing)
	have, err := p.look(lookAt(t.conn), s, at.section == filter)
	if err != nil {
		return fmt.Errorf("%s: %w", at.kind, err)
	}
	t.have[at] = have
	return nil
}

// warn says once that there is no program for what is wanted of the chosen backend.
func (t *Tables) warn(want wanted) {
	var names []string
	for _, k := range kinds {
		if k.legacy != (t.chosen == Legacy) || t.programs[k] != nil {
			continue
		}
		for i := range sections {
			if r, known := want.wants(place{k, i}, t.chosen, listing{}, true); known && r != nil {
				names = append(names, k.String())
			}
		}
	}
	lacking := strings.Join(slices.Compact(names), " ")
	if lacking != "" && lacking != t.lacking {
		t.log.Warn("no iptables program: pods' packets are dropped where the host's FORWARD chain drops; natOutgoing works in nftables mode only",
			"programs", lacking)
	}
	t.lacking = lacking
}

// Clean removes our chains from all tables, whoever wrote them. No Tables may run.
func Clean(c *netlink.Conn, log *slog.Logger) error {
	t := New(c, log, reconcile.Hooks{})
	t.SetForward(false, false)
	t.SetNAT(nil, nil)
	h := lookAt(c)
	t.have = map[place]listing{}
	var errs []error
	for _, k := range kinds {
		p := t.program(k)
		for i, s := range sections {
			at := place{k, i}
			there, err := h.has(k, s.table, s.chains[0])
			if err == nil && there && p == nil && !k.legacy {
				err = errMissing
			}
			if err == nil && there && p != nil {
				if t.have[at], err = p.look(h, s, false); err == nil {
					err = t.mend(t.want, at, true)
				}
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("clean %s, table %s: %w", k, s.table, err))
			}
		}
	}
	return errors.Join(errs...)
}
