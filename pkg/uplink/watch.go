package uplink

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/netlink"
)

const (
	gather = 100 * time.Millisecond // how long events gather before the node is looked at
	every  = time.Minute            // between looks that nothing asked for
	retry  = time.Second            // after the kernel did not answer
)

// Options are what a Watcher is made of.
type Options struct {
	Conn   *netlink.Conn
	V4, V6 Setting
	// Last4 and Last6 are the node's addresses from before, as its annotations have them; not valid when it had none.
	Last4, Last6 netip.Addr
	// Internal are the Node object's InternalIPs of both families; those that are not valid are passed over.
	Internal []netip.Addr
	// Every is the pause between looks that nothing asked for; 0: a minute. It is Calico's AUTODETECT_POLL_INTERVAL.
	Every time.Duration
	// Resolver resolves the name of can-reach; nil: the system's.
	Resolver *net.Resolver
	Log      *slog.Logger
}

// Pair is the state of both families.
type Pair struct{ V4, V6 State }

// Watcher follows the node's addresses. Its methods may be called from any goroutine.
type Watcher struct {
	conn    *netlink.Conn
	finders [2]*finder // touched by Run alone
	every   time.Duration
	log     *slog.Logger
	failing string // what was logged last; "" while the kernel answers

	kick    chan struct{}
	changed chan struct{}

	mu       sync.Mutex
	internal []netip.Addr
	pair     Pair
	looks    int // how often Run has looked
}

// NewWatcher returns a watcher that is not running.
func NewWatcher(o Options) *Watcher {
	if o.Every == 0 {
		o.Every = every
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	return &Watcher{
		conn: o.Conn, every: o.Every, log: o.Log, internal: o.Internal,
		finders: [2]*finder{newFinder(o.Conn, o.V4, o.Last4, o.Resolver), newFinder(o.Conn, o.V6, o.Last6, o.Resolver)},
		kick:    make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
}

// Changed is ready to read when Pair changed since it was last read: address, prefix length, device or MTU, or what Lost
// and Odd say. The first result is a change, too.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Pair returns what was found last.
func (w *Watcher) Pair() Pair {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pair
}

// Recheck asks for a look soon. It never blocks.
func (w *Watcher) Recheck() { wake(w.kick) }

// SetInternal sets the Node object's InternalIPs, of both families. It may be called with what was set before.
func (w *Watcher) SetInternal(addrs []netip.Addr) {
	w.mu.Lock()
	w.internal = slices.Clone(addrs)
	w.mu.Unlock()
	w.Recheck()
}

// Run looks at the node at once, then when the kernel's links, addresses or, for can-reach, routes change, when somebody
// asks, and now and then, until ctx is done.
func (w *Watcher) Run(ctx context.Context) error {
	sub, err := w.conn.Subscribe(w.groups()...)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return sub.Run(ctx, w.event, w.Recheck) })
	g.Go(func() error { return w.loop(ctx) })
	return g.Wait()
}

// groups are the events that can change the result: a node may have thousands of routes that matter to nobody here.
func (w *Watcher) groups() []netlink.Group {
	groups := []netlink.Group{netlink.GroupLink}
	for i, f := range w.finders {
		if f.setting.None() {
			continue
		}
		groups = append(groups, []netlink.Group{netlink.GroupAddr4, netlink.GroupAddr6}[i])
		if f.setting.kind == canReach {
			groups = append(groups, []netlink.Group{netlink.GroupRoute4, netlink.GroupRoute6}[i])
		}
	}
	return groups
}

// event passes over what comes and goes with each pod.
func (w *Watcher) event(e netlink.Event) {
	switch e.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if l, ok := e.Link(); !ok || ours.MatchString(l.Name) {
			return
		}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if a, ok := e.Addr(); !ok || !a.Prefix.Addr().IsGlobalUnicast() {
			return
		}
	}
	w.Recheck()
}

func (w *Watcher) loop(ctx context.Context) error {
	for {
		again := time.NewTimer(w.look(ctx))
		select {
		case <-ctx.Done():
			again.Stop()
			return nil
		case <-again.C:
			continue
		case <-w.kick:
			again.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(gather):
		}
		select { // what came meanwhile is covered by the look that follows
		case <-w.kick:
		default:
		}
	}
}

// look looks once at both families, tells what changed, and returns after what time to look again at the latest.
func (w *Watcher) look(ctx context.Context) (again time.Duration) {
	w.mu.Lock()
	internal := w.internal
	w.looks++
	w.mu.Unlock()
	again = w.every
	var failure string
	for _, f := range w.finders {
		soon, err := f.look(ctx, internal)
		if ctx.Err() != nil {
			return again
		}
		if err != nil {
			failure, soon = err.Error(), retry
		}
		if soon > 0 {
			again = min(again, soon)
		}
	}
	w.report(failure)
	w.publish(Pair{V4: w.finders[0].state, V6: w.finders[1].state})
	return again
}

func (w *Watcher) report(failure string) {
	switch {
	case failure == w.failing:
	case failure != "":
		w.log.Warn("node's addresses could not be read, will be tried again", "err", failure)
	default:
		w.log.Info("node's addresses can be read again")
	}
	w.failing = failure
}

func (w *Watcher) publish(pair Pair) {
	w.mu.Lock()
	old := w.pair
	w.pair = pair
	w.mu.Unlock()
	if pair == old {
		return
	}
	w.tell("IPv4", old.V4, pair.V4)
	w.tell("IPv6", old.V6, pair.V6)
	wake(w.changed)
}

// tell logs what changed in one family.
func (w *Watcher) tell(family string, old, now State) {
	log := w.log.With("family", family)
	switch {
	case now.Uplink != old.Uplink:
		log.Info("node address found", "address", now.Addr.String(), "device", now.Dev, "mtu", now.MTU, "was", old.Uplink.String())
	case now.Lost == "" && old.Lost != "":
		log.Info("node address is back", "address", now.Addr.String(), "device", now.Dev)
	}
	switch {
	case now.Lost == "" || now.Lost == old.Lost:
	case now.Addr.IsValid():
		log.Warn("node address is lost, the last one is kept", "address", now.Addr.String(), "err", now.Lost)
	default:
		log.Warn("node address is not found", "err", now.Lost)
	}
	if now.Odd != "" && now.Odd != old.Odd {
		log.Warn("node address is odd", "why", now.Odd)
	}
}

// wake makes a channel of one place ready to read.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
