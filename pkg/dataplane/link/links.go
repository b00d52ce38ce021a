package link

import (
	"context"
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

// ours are the names of the VXLAN devices that this package makes and removes.
var ours = [...]string{"vxlan.calico", "vxlan-v6.calico"}

// node stands for the node's own switches where device names stand else.
const node = ""

// lookEvery is the pause between looks at the sysctls for which there is no event.
const lookEvery = 900 * time.Millisecond

// linger is how long a tunnel device that is wanted no more stays: other nodes hear of the change later, and send to it until
// they do.
const linger = 2 * time.Second

// maxDeletes bounds how many device removals wait in the kernel at once, each with a thread.
const maxDeletes = 32

// Families says which address families a node or a pod has.
type Families struct{ V4, V6 bool }

// Endpoint is the host side of one pod: its device and the families that the pod has.
type Endpoint struct {
	Dev      string
	Families Families
}

// endpoint is what is kept of an Endpoint: its index tells when a device of the same name is another one.
type endpoint struct {
	Families
	index int
}

// Links is the node's devices as far as they are ours. All methods may be called from any goroutine.
type Links struct {
	conn    *netlink.Conn
	proc    procSys
	log     *slog.Logger
	loop    *reconcile.Loop
	deletes chan struct{}

	mu         sync.Mutex // never held during a call to the kernel
	forwarding Families
	vxlan      map[string]model.VXLAN // nil until it is known
	index      map[string]int         // of our tunnel devices
	ipip       *model.IPIP
	ipipKnown  bool                 // whether it is wanted
	unwanted   map[string]time.Time // since when a device of ours is
	endpoints  map[string]endpoint
	peering    map[string][]netip.Addr // the node's addresses on pods' devices
	peered     map[string]bool         // devices that were given such addresses
	dirty      map[string]bool         // devices to look at
}

// New returns Links that do nothing yet. The Conn must be their own. proc is where the node's /proc/sys is mounted.
func New(c *netlink.Conn, proc string, log *slog.Logger, hooks reconcile.Hooks) *Links {
	l := &Links{
		conn: c, proc: procSys(proc), log: log.With("subsystem", "link"), deletes: make(chan struct{}, maxDeletes),
		index: map[string]int{}, unwanted: map[string]time.Time{}, endpoints: map[string]endpoint{}, peered: map[string]bool{}, dirty: map[string]bool{},
	}
	l.loop = reconcile.NewLoop(l, l.log, hooks)
	return l
}

// SetForwarding says for which families the node must forward packets; the others are left as they are.
func (l *Links) SetForwarding(f Families) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forwarding = f
	l.mark(node)
}

// SetVXLAN says which VXLAN devices there should be. The first call means that the datastore is in sync: from then on
// those of our names that are not wanted are removed, two seconds later. The latest call counts.
func (l *Links) SetVXLAN(devices []model.VXLAN) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.vxlan = make(map[string]model.VXLAN, len(devices))
	for _, v := range devices {
		l.vxlan[v.Name] = v
		delete(l.unwanted, v.Name)
	}
	for _, name := range ours {
		if _, wanted := l.vxlan[name]; !wanted {
			l.lingers(name)
		}
		l.mark(name)
	}
}

// lingers notes that a device is not wanted from now on, and has it looked at when it need not stay.
func (l *Links) lingers(name string) {
	if !l.unwanted[name].IsZero() {
		return
	}
	l.unwanted[name] = time.Now()
	time.AfterFunc(linger, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.mark(name)
	})
}

// SetEndpoints says which pods' devices there are, at the start of the agent. The latest call counts.
func (l *Links) SetEndpoints(endpoints []Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.endpoints)
	for _, ep := range endpoints {
		l.endpoints[ep.Dev] = endpoint{Families: ep.Families}
		l.mark(ep.Dev)
	}
}

// PutEndpoint adds a pod's device; its sysctls are right and it is up when nil is returned. On error it stays wanted, and
// is tried again, until DeleteEndpoint.
func (l *Links) PutEndpoint(ctx context.Context, ep Endpoint) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put endpoint device %s: %w", ep.Dev, err)
	}
	l.mu.Lock()
	l.endpoints[ep.Dev] = endpoint{Families: ep.Families}
	l.mu.Unlock()
	if err := l.mendEndpoint(ep.Dev); err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.mark(ep.Dev)
		return err
	}
	return nil
}

// DeleteEndpoint ends the care for a pod's device. It leaves the device as it is: DeleteLink removes it.
func (l *Links) DeleteEndpoint(dev string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.endpoints, dev)
	delete(l.dirty, dev)
}

// SetAudit sets the pause between full comparisons with the kernel, beside its events; 0: there are none.
func (l *Links) SetAudit(d time.Duration) { l.loop.SetAudit(d) }

// Run keeps the kernel as it should be until ctx is done, and returns when the removals that DeleteLink began are over. It
// fails only when it can't hear of the kernel's events.
func (l *Links) Run(ctx context.Context) error {
	events, err := l.conn.Subscribe(netlink.GroupLink, netlink.GroupAddr4, netlink.GroupAddr6, netlink.GroupNetconf4, netlink.GroupNetconf6)
	if err != nil {
		return fmt.Errorf("run links: %w", err)
	}
	defer l.settle()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return events.Run(ctx, l.event, l.loop.KickResync) })
	g.Go(func() error { return l.loop.Run(ctx) })
	g.Go(func() error { return l.lookOn(ctx) })
	return g.Wait()
}

// mark has the loop look at a device soon.
func (l *Links) mark(name string) {
	l.dirty[name] = true
	l.loop.Kick()
}

// Resync has everything looked at by the next Apply.
func (l *Links) Resync(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dirty[node], l.dirty[tunl0] = true, true
	for _, name := range ours {
		l.dirty[name] = true
	}
	for dev := range l.endpoints {
		l.dirty[dev] = true
	}
	return nil
}

// Apply looks at each device that may be wrong and mends it. What fails is looked at again.
func (l *Links) Apply(ctx context.Context) error {
	l.mu.Lock()
	names := make([]string, 0, len(l.dirty))
	for name := range l.dirty {
		names = append(names, name)
	}
	clear(l.dirty)
	l.mu.Unlock()
	slices.Sort(names)
	var failed reconcile.Failures
	for i, name := range names {
		if ctx.Err() != nil {
			l.retry(names[i:]...)
			return ctx.Err()
		}
		if err := l.mend(name); err != nil {
			failed.Add(err)
			l.retry(name)
		}
	}
	return failed.Err()
}

func (l *Links) retry(names ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		l.dirty[name] = true
	}
}

func (l *Links) mend(name string) error {
	switch name {
	case node:
		return l.mendForwarding()
	case tunl0:
		return l.mendIPIP()
	}
	l.mu.Lock()
	v, wanted := l.vxlan[name]
	lingers := time.Since(l.unwanted[name]) < linger
	known := l.vxlan != nil
	l.mu.Unlock()
	switch {
	case wanted:
		return l.mendVXLAN(v)
	case slices.Contains(ours[:], name):
		if !known || lingers {
			return nil
		}
		return l.removeVXLAN(name)
	}
	return l.mendEndpoint(name)
}

// event takes in what the kernel says that somebody did.
func (l *Links) event(e netlink.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if dev, ok := e.Link(); ok && !e.Own {
			l.linkEvent(dev, e.Deleted())
		}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if a, ok := e.Addr(); ok && !e.Own {
			for name, index := range l.index {
				if index == a.Index {
					l.mark(name)
				}
			}
		}
	case unix.RTM_NEWNETCONF:
		if index, ok := e.Netconf(); ok {
			l.netconfEvent(index)
		}
	}
}

func (l *Links) linkEvent(dev netlink.Link, deleted bool) {
	if ep, ok := l.endpoints[dev.Name]; ok && !deleted && (!dev.Up || dev.Index != ep.index) {
		l.mark(dev.Name)
	}
	for _, v := range l.vxlan {
		if v.Name == dev.Name || v.Parent == dev.Name {
			l.mark(v.Name)
		}
	}
	if slices.Contains(ours[:], dev.Name) && !deleted {
		l.mark(dev.Name)
	}
	if dev.Name == tunl0 || dev.Index == l.index[tunl0] { // it may have been given another name
		l.mark(tunl0)
	}
}

func (l *Links) netconfEvent(index int) {
	if index < 0 {
		l.mark(node)
		return
	}
	for name, ep := range l.endpoints {
		if ep.index == index {
			l.mark(name)
		}
	}
	for name, at := range l.index {
		if at == index {
			l.mark(name)
		}
	}
}
