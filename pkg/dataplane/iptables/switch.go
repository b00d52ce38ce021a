package iptables

import (
	"context"
	"sync"

	"github.com/margay-net/margay/pkg/dataplane/nft"
	"github.com/margay-net/margay/pkg/model"
)

// masquerader is one way to have natOutgoing.
type masquerader interface {
	SetNAT(v4, v6 *model.NAT)
	Placed() <-chan struct{}
}

// Switch has natOutgoing done either by nftables or by iptables. It does not touch the rules of the one before those of
// the other are in place; where they never are, say for want of a program, the old ones stay.
type Switch struct {
	nft, iptables masquerader
	changed       chan struct{}

	mu      sync.Mutex
	pending handover
}

// handover is what remains to be done: once the one has its rules, the other loses its own. Zero for nothing.
type handover struct {
	placed <-chan struct{}
	loser  masquerader
}

// NewSwitch returns a switch that does nothing yet. From then on nobody else may call SetNAT of the two.
func NewSwitch(n *nft.Table, t *Tables) *Switch {
	return &Switch{nft: n, iptables: t, changed: make(chan struct{}, 1)}
}

// SetNAT says what is masqueraded, and by which of the two. The first call means that the datastore is in sync. The latest
// call counts.
func (s *Switch) SetNAT(byIPTables bool, v4, v6 *model.NAT) {
	winner, loser := s.nft, s.iptables
	if byIPTables {
		winner, loser = loser, winner
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	winner.SetNAT(v4, v6)
	s.pending = handover{winner.Placed(), loser}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run hands over until ctx is done. The two must run, too.
func (s *Switch) Run(ctx context.Context) error {
	for {
		s.mu.Lock()
		placed := s.pending.placed
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		case <-placed:
			s.handOver(placed)
		}
	}
}

// handOver ends what placed stood for, unless something else was set meanwhile.
func (s *Switch) handOver(placed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending.placed == placed {
		s.pending.loser.SetNAT(nil, nil)
		s.pending = handover{}
	}
}
