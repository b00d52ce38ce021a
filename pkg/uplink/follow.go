package uplink

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// State is what is known of one family. It is comparable, and its texts are the same as long as what they tell is.
type State struct {
	Uplink // the last known one; zero when there has not been one yet, or none is wanted

	// Lost says why Uplink is kept although the kernel does not have it, or why there has not been one yet; "" when all
	// is well.
	Lost string
	// Odd says in one line what an operator should know although it works; "" for nothing.
	Odd string
}

// patience is how long a worse address has to wait after a better one vanished.
const patience = 30 * time.Second

// follower applies the rules of the package's documentation to one family. It does no I/O.
type follower struct {
	setting  Setting
	last     netip.Addr // from before the start
	patience time.Duration

	state  State
	grade  int                // that the address in use had when it was last seen
	guest  bool               // the address in use was one when it was chosen
	gone   time.Time          // since when it is not there; zero while it is
	second map[place]struct{} // addresses that were secondary, and have been there ever since
}

// place is an address on the device of an index.
type place struct {
	index int
	addr  netip.Addr
}

// sight is what one look at the node found.
type sight struct {
	have     []address
	named    []netip.Addr // by the method
	internal []netip.Addr // the Node object's
	trouble  error        // why named is not complete
}

// step takes a look in, and returns after what time to look again whatever happens; 0 for any.
func (f *follower) step(see sight, now time.Time) (again time.Duration) {
	f.resume(see.have)
	f.judge(see.have)
	cur := f.state.Uplink
	if !cur.Addr.IsValid() && f.last.IsValid() {
		cur.Addr = netip.PrefixFrom(f.last, f.last.BitLen())
	}
	best, grade, ok := f.setting.choose(see.have, see.named, cur)
	old, known := find(see.have, f.state.Uplink)
	there := known && old.up
	if there || !f.state.Addr.IsValid() {
		f.gone = time.Time{}
	} else if f.gone.IsZero() {
		f.gone = now
	}
	switch {
	case !ok && there && see.trouble != nil:
		// Whoever decides can't be asked: no reason to leave an address that works.
		f.state = State{Uplink: old.Uplink, Odd: fmt.Sprintf("%v; staying with %s", see.trouble, old.Uplink)}
	case !ok && there:
		f.state = State{Uplink: old.Uplink, Lost: fmt.Sprintf("%s is kept, but %s no longer allows it", old.Uplink, f.setting.describe())}
	case !ok:
		f.state = State{Uplink: f.state.Uplink, Lost: f.failure(see, old.on).Error()}
	case !f.gone.IsZero() && grade > f.grade && now.Sub(f.gone) < f.patience:
		lost := fmt.Sprintf("%v; %s takes its place when it stays away", f.absence(old.on), best.Uplink)
		f.state = State{Uplink: f.state.Uplink, Lost: lost}
		return f.patience - now.Sub(f.gone)
	default:
		f.grade, f.guest, f.gone = grade, best.guest, time.Time{}
		f.state = State{Uplink: best.Uplink, Odd: f.setting.odd(best.Uplink, see.internal)}
		if see.trouble != nil {
			f.state.Odd = fmt.Sprintf("%v; using %s", see.trouble, best.Uplink)
		}
	}
	return 0
}

// resume takes up the address from before the start, if it is still there: what a running agent would not leave, a
// restart must not either.
func (f *follower) resume(have []address) {
	if f.state.Addr.IsValid() || !f.last.IsValid() {
		return
	}
	i := slices.IndexFunc(have, func(a address) bool { return a.up && a.Addr.Addr() == f.last })
	if i >= 0 {
		f.state.Uplink, f.guest = have[i].Uplink, have[i].bare
	}
}

// judge finds the guests among the addresses. One that was secondary stays a guest when the kernel makes it the first of
// its subnet because that one was removed. The address in use gets no worse: that it lost its place to such a one, that
// the route to the world is away, or that the kernel checks it anew after a link came back, is no reason to leave it.
func (f *follower) judge(have []address) {
	second := map[place]struct{}{}
	for i := range have {
		a := &have[i]
		addr := a.Addr.Addr()
		p := place{a.index, addr}
		if _, was := f.second[p]; was || a.secondary {
			second[p] = struct{}{}
			a.secondary = true
		}
		a.guest = a.bare || a.secondary
		switch {
		case f.state.Addr.IsValid() && addr == f.state.Addr.Addr():
			a.guest = a.guest && f.guest
			a.passing = false
		case !f.state.Addr.IsValid() && addr == f.last:
			a.guest = a.bare
			a.passing = false
		}
	}
	f.second = second
}

// failure says why there is no address to use; on is the device that has the one that was in use, if one has.
func (f *follower) failure(see sight, on string) error {
	switch {
	case f.state.Addr.IsValid():
		return f.absence(on)
	case see.trouble != nil:
		return fmt.Errorf("autodetection method %s: %w", f.setting, see.trouble)
	}
	return f.setting.failure(see.have, see.named)
}

// absence says why the address that was in use is not there.
func (f *follower) absence(on string) error {
	if on != "" {
		return fmt.Errorf("device %s, which has %s, is down", on, f.state.Addr)
	}
	return fmt.Errorf("no device has %s any more, it was on %s", f.state.Addr, f.state.Dev)
}

// find returns the entry of an address: of a device that is up if there is, then of the same device.
func find(have []address, up Uplink) (out address, ok bool) {
	for _, a := range have {
		better := a.up && !out.up || a.up == out.up && a.Dev == up.Dev
		if a.Addr.Addr() == up.Addr.Addr() && (!ok || better) {
			out, ok = a, true
		}
	}
	return out, ok
}
