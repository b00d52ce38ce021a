package bgp

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/margay-net/margay/pkg/reconcile"
)

// Options are what a speaker needs beside its configuration.
type Options struct {
	Log   *slog.Logger
	Hooks reconcile.Hooks
	// Fresh: no peer can have routes of ours from before, such as on a node that just joined. What we announce is then told
	// to each peer as it comes up, not at the end of a restart.
	Fresh bool
}

// Speaker is one BGP speaker. All methods may be called from any goroutine.
type Speaker struct {
	log     *slog.Logger
	fresh   bool
	loop    *reconcile.Loop
	rib     *rib
	changed chan struct{}
	pace    *time.Timer // asks for the next look at what is due by time alone

	mu     sync.Mutex
	want   *Config
	inst   *instance // nil until the first configuration is in force
	synced bool
	wrong  map[netip.Addr]error // peers that have no session, since they can't be as they are configured
}

// New returns a speaker that does nothing yet.
func New(o Options) *Speaker {
	s := &Speaker{log: o.Log.With("subsystem", "bgp"), fresh: o.Fresh, rib: newRIB(), changed: make(chan struct{}, 1), pace: time.NewTimer(time.Hour), wrong: map[netip.Addr]error{}}
	s.loop = reconcile.NewLoop(s, s.log, o.Hooks)
	s.loop.SetAudit(0) // GoBGP's state is ours alone
	return s
}

// Set says what the speaker should do. The latest call counts, and may be repeated. Only differences reach GoBGP: a
// session that is to stay as it is does not notice. The speaker keeps c's slices and maps: they must not change.
func (s *Speaker) Set(c Config) {
	s.mu.Lock()
	s.want = &c
	s.mu.Unlock()
	s.loop.Kick()
}

// Changed is ready to read when Paths, Peers or Synced may have something new.
func (s *Speaker) Changed() <-chan struct{} { return s.changed }

// Paths returns the best paths to everything that was learned, those of one prefix next to each other.
func (s *Speaker) Paths() []Path { return s.rib.list() }

// Synced says whether Paths is complete: every peer has told all it has, or RestartTime has passed since the start. What a
// restarted agent finds in the kernel beside Paths may be removed from then on, not before.
func (s *Speaker) Synced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.synced
}

// Run speaks until ctx is done. It then leaves the sessions as they are, for the end of the process to close: without a
// notification peers keep our routes for RestartTime, as they do when the process is killed. See Stop.
func (s *Speaker) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.loop.Run(ctx) })
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-s.pace.C:
				s.loop.Kick()
			}
		}
	})
	return g.Wait()
}

// Stop ends all sessions with a notification, on which peers forget our routes. Run must have returned.
func (s *Speaker) Stop(ctx context.Context) {
	if s.inst != nil {
		s.inst.close(ctx)
		s.inst = nil
	}
}

// Resync has nothing to compare with: GoBGP does only what Apply tells it.
func (s *Speaker) Resync(context.Context) error { return nil }

// Apply tells GoBGP what has changed.
func (s *Speaker) Apply(ctx context.Context) error {
	s.mu.Lock()
	want := s.want
	s.mu.Unlock()
	if want == nil {
		return nil
	}
	c, err := want.settle()
	if err != nil {
		return err
	}
	s.checkPeers(&c)
	if s.inst == nil || global(s.inst.have) != global(&c) {
		if err := s.restart(ctx, &c); err != nil {
			s.release(c.Peers) // what was held goes in time all the same
			return err
		}
	}
	err = s.inst.apply(ctx, s, &c)
	s.settle(ctx)
	return err
}

// checkPeers leaves the peers in c that can have a session, and notes what is wrong with the others.
func (s *Speaker) checkPeers(c *Config) {
	wrong := map[netip.Addr]error{}
	good := make([]Peer, 0, len(c.Peers))
	for i := range c.Peers {
		p := &c.Peers[i]
		err := p.check(c)
		if err == nil && len(good) > 0 && good[len(good)-1].Address == p.Address {
			err = fmt.Errorf("peer %s is there twice: there can be one session per address", p.Address)
			wrong[p.Address] = err
			continue
		}
		if err != nil {
			wrong[p.Address] = err
			continue
		}
		good = append(good, *p)
	}
	c.Peers = good
	s.mu.Lock()
	defer s.mu.Unlock()
	for a, err := range wrong {
		if old := s.wrong[a]; old == nil || old.Error() != err.Error() {
			s.log.Warn("peer is configured wrongly", "err", err)
		}
	}
	s.wrong = wrong
}

// global is what can't change while a server runs.
func global(c *Config) string {
	return fmt.Sprint(c.AS, c.RouterID, c.Listen, c.Port)
}

// restart starts a server, after it has ended the one before. What that had learned is kept until it is learned again, here
// and by peers. To peers who know us by another address now we are new: they have kept nothing.
func (s *Speaker) restart(ctx context.Context, c *Config) error {
	if old := s.inst; old != nil {
		s.fresh = !slices.ContainsFunc(old.have.Peers, func(p Peer) bool {
			return slices.ContainsFunc(c.Peers, func(q Peer) bool { return q.Address == p.Address && q.LocalAddress == p.LocalAddress })
		})
		old.stop()
		for _, p := range old.have.Peers {
			s.rib.hold(p.Address, time.Now().Add(c.RestartTime))
			s.rib.state(p.Address, false)
		}
		s.setInstance(nil, nil)
		old.pause(ctx)
		old.close(ctx)
		s.rib.reset()
	}
	inst, err := start(ctx, s, c)
	if err != nil {
		return err
	}
	s.setInstance(inst, c)
	return nil
}

func (s *Speaker) setInstance(i *instance, c *Config) {
	s.mu.Lock()
	s.inst, s.synced = i, false
	s.mu.Unlock()
	if i != nil {
		s.log.Info("speaking BGP", "as", c.AS, "routerID", c.RouterID, "port", c.Port)
	}
}

// digest is short for plain data.
func digest(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain data
	}
	return string(b)
}

func (s *Speaker) tellChanged() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
