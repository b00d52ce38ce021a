package neigh

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
	"github.com/margay-net/margay/pkg/reconcile"
)

// devices are those whose entries are all ours.
var devices = [...]string{"vxlan.calico", "vxlan-v6.calico"}

// key tells entries apart: a neighbour by its address, a forwarding entry by MAC and destination, since one MAC can have
// several.
type key struct {
	index int
	fdb   bool
	mac   netlink.MAC // of a forwarding entry
	ip    netip.Addr
}

// value is what an entry must be right in beside its key.
type value struct {
	mac       netlink.MAC // of a neighbour
	permanent bool
}

func compareKeys(a, b key) int {
	return cmp.Or(cmp.Compare(a.index, b.index), bytes.Compare(a.mac[:], b.mac[:]), a.ip.Compare(b.ip))
}

// Table is the neighbour and forwarding tables of our VXLAN devices. All methods may be called from any goroutine.
type Table struct {
	conn *netlink.Conn
	loop *reconcile.Loop

	mu          sync.Mutex // held for one kernel write at most, never during a listing
	devs        *netlink.Devices
	entries     *reconcile.Tracker[key, value]
	neighs      []model.Neigh
	fdb         []model.FDB
	neighsKnown bool
	fdbKnown    bool
	fdbOf       map[key]key // the forwarding entry of each wanted neighbour
	asked       bool        // Reaches has said no since the last Apply

	written func() bool // see Follow
	reached func()
}

// New returns a table that does nothing yet. The Conn must be this table's own.
func New(c *netlink.Conn, log *slog.Logger, hooks reconcile.Hooks) *Table {
	t := &Table{conn: c, devs: c.Devices(), entries: reconcile.NewTracker[key, value]()}
	t.loop = reconcile.NewLoop(t, log.With("subsystem", "neigh"), hooks)
	return t
}

// Follow has entries go after the routes that needed them: none is removed while written says no, until Kick. reached is
// called when Reaches may say yes where it has said no. Call it before Run.
func (t *Table) Follow(written func() bool, reached func()) { t.written, t.reached = written, reached }

// Kick has what was not removed yet looked at again soon.
func (t *Table) Kick() { t.loop.Kick() }

// Reaches says whether a device with this index can send to a neighbour: one of ours, when both its entries are there.
func (t *Table) Reaches(dev string, index int, ip netip.Addr) bool {
	if !slices.Contains(devices[:], dev) {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	neigh := key{index: index, ip: ip}
	fdb, wanted := t.fdbOf[neigh]
	if !wanted || t.entries.IsDirty(neigh) || t.entries.IsDirty(fdb) {
		t.asked = true
		return false
	}
	return true
}

// SetNeighs says which neighbours there should be. The latest call counts. Entries for other devices than our VXLAN
// devices are passed over.
func (t *Table) SetNeighs(neighs []model.Neigh) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.neighs, t.neighsKnown = neighs, true
	t.refresh()
	t.loop.Kick()
}

// SetFDB says which forwarding entries there should be. The latest call counts.
func (t *Table) SetFDB(entries []model.FDB) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fdb, t.fdbKnown = entries, true
	t.refresh()
	t.loop.Kick()
}

// SetAudit sets the pause between full comparisons with the kernel, beside its events; 0: there are none.
func (t *Table) SetAudit(d time.Duration) { t.loop.SetAudit(d) }

// Run keeps the kernel as it should be until ctx is done. It fails only when it can't hear of the kernel's events.
func (t *Table) Run(ctx context.Context) error {
	events, err := t.conn.Subscribe(netlink.GroupLink, netlink.GroupNeigh)
	if err != nil {
		return fmt.Errorf("run neighbour table: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return events.Run(ctx, t.event, t.loop.KickResync) })
	g.Go(func() error { return t.loop.Run(ctx) })
	return g.Wait()
}

// refresh works out anew what is wanted, with the devices' present indexes.
func (t *Table) refresh() {
	index := map[string]int{}
	for _, dev := range devices {
		index[dev] = t.devs.Index(dev)
	}
	want := make(map[key]value, len(t.neighs)+len(t.fdb))
	by := make(map[key]key, len(t.fdb)) // forwarding entries by device and MAC
	for _, f := range t.fdb {
		if i := index[f.Dev]; i != 0 {
			k := key{index: i, fdb: true, mac: netlink.MAC(f.MAC), ip: f.Dst}
			want[k], by[key{index: i, mac: k.mac}] = value{permanent: true}, k
		}
	}
	t.fdbOf = make(map[key]key, len(t.neighs))
	for _, n := range t.neighs {
		if i := index[n.Dev]; i != 0 {
			k, mac := key{index: i, ip: n.IP}, netlink.MAC(n.MAC)
			want[k] = value{mac: mac, permanent: true}
			if fdb, ok := by[key{index: i, mac: mac}]; ok {
				t.fdbOf[k] = fdb
			}
		}
	}
	t.entries.WantOnly(want)
}

// entry turns what the kernel says into key and value; not ours when it is the kernel's own business.
func entry(n netlink.Neigh) (k key, v value, ours bool) {
	v.permanent = n.State&unix.NUD_PERMANENT != 0
	if n.FDB {
		return key{index: n.Index, fdb: true, mac: n.MAC, ip: n.IP}, v, n.MAC != netlink.MAC{}
	}
	v.mac = n.MAC
	return key{index: n.Index, ip: n.IP}, v, n.State&unix.NUD_NOARP == 0 && !n.IP.IsMulticast()
}

// unanswered are the states of neighbours that were asked for and have not said who they are.
const unanswered = unix.NUD_INCOMPLETE | unix.NUD_FAILED

func absent(n netlink.Neigh) bool {
	return !n.FDB && (n.State == unix.NUD_NONE || n.State&unanswered != 0)
}

// Resync lists the kernel's entries of our devices.
func (t *Table) Resync(context.Context) error {
	t.mu.Lock()
	if len(t.devs.Look()) > 0 {
		t.refresh()
	}
	var indexes []int
	for _, dev := range devices {
		if i := t.devs.Index(dev); i != 0 {
			indexes = append(indexes, i)
		}
	}
	t.entries.Listing()
	t.mu.Unlock()

	have := map[key]value{}
	for _, index := range indexes {
		var all []netlink.Neigh
		for _, family := range netlink.Families {
			neighs, err := t.conn.Neighs(family, index)
			if err != nil {
				return err
			}
			all = append(all, neighs...)
		}
		fdb, err := t.conn.FDB(index)
		if err != nil {
			return err
		}
		for _, n := range append(all, fdb...) {
			if k, v, ours := entry(n); ours && !absent(n) {
				have[k] = v
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries.Listed(have)
	return nil
}

// Apply writes what is missing, then removes what is too much.
func (t *Table) Apply(ctx context.Context) error {
	t.mu.Lock()
	if !t.neighsKnown || !t.fdbKnown {
		t.mu.Unlock()
		return nil
	}
	put, remove := t.entries.Dirty(compareKeys)
	t.mu.Unlock()
	if t.written != nil && !t.written() {
		remove = nil
	}
	var failed reconcile.Failures
	for _, k := range append(put, remove...) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failed.Add(t.mend(k))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asked && t.reached != nil {
		t.reached()
	}
	t.asked = false
	return failed.Err()
}

func (t *Table) mend(k key) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.entries.IsDirty(k) {
		return nil
	}
	n := netlink.Neigh{Index: k.index, FDB: k.fdb, IP: k.ip, MAC: k.mac}
	want, wanted := t.entries.Wanted(k)
	if !wanted {
		if err := t.conn.DeleteNeigh(n); err != nil {
			return err
		}
		t.entries.Lost(k)
		return nil
	}
	if !k.fdb {
		n.MAC = want.mac
	}
	err := t.conn.PutNeigh(n)
	if errors.Is(err, unix.ENODEV) && len(t.devs.Look()) > 0 { // the device went before its event came
		t.refresh()
		t.loop.KickResync()
		return nil
	}
	if err != nil {
		return err
	}
	t.entries.Have(k, want)
	return nil
}

// event takes in what the kernel says that somebody did. What this table did itself it knows already.
func (t *Table) event(e netlink.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e.Type {
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		n, ok := e.Neigh()
		if _, followed := t.devs.Name(n.Index); !ok || !followed || e.Own {
			return
		}
		k, v, ours := entry(n)
		_, wanted := t.entries.Wanted(k)
		switch {
		case !ours && !wanted:
			return
		case k.fdb && !k.ip.IsValid() && !e.Deleted():
			// Linux before 6.13 tells of each new entry once more without its destination, and not as our own doing.
			t.loop.KickResync()
			return
		case e.Deleted() || absent(n):
			t.entries.Lost(k)
		default:
			if _, known := t.entries.Known(k); k.fdb && !known {
				// It came beside the MAC's other destinations or in place of one: the event doesn't say.
				t.entries.LostIf(func(o key, _ value) bool { return o.fdb && o.index == k.index && o.mac == k.mac })
			}
			t.entries.Have(k, v)
		}
		t.loop.Kick()
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		changed, lost := t.devs.Event(e)
		if lost != 0 {
			t.entries.LostIf(func(k key, _ value) bool { return k.index == lost })
		}
		if len(changed) > 0 {
			t.refresh()
			t.loop.KickResync() // what a device brings along, such as forwarding entries that outlived being down
		}
	}
}
