package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	api "github.com/osrg/gobgp/v3/api"

	"github.com/margay-net/margay/pkg/reconcile"
)

// apply brings the server from what it was told to c: first the policy, then what we announce, then sessions, so that a
// new session hears everything at once.
func (i *instance) apply(ctx context.Context, s *Speaker, c *Config) error {
	var failures reconcile.Failures
	old := i.have
	next := *c
	next.Peers = nil // filled by applyPeers with those that GoBGP took
	reset := map[netip.Addr]bool{}
	if err := i.applyPolicy(ctx, s, c, reset); err != nil {
		return err // nothing may be told that a filter would hold back
	}
	i.announce(ctx, c, &failures)
	i.applyPeers(ctx, s, c, &next, reset, &failures)
	i.have = &next
	i.refresh(ctx, old, &next, reset, &failures)
	return failures.Err()
}

// applyPolicy puts the policy in force. Peers that were told routes which it withholds are told that these are gone; where
// that is impossible, their session is marked to start anew.
func (i *instance) applyPolicy(ctx context.Context, s *Speaker, c *Config, reset map[netip.Addr]bool) error {
	policy := compile(c, pointers(c.Peers))
	text := digest(policy.request())
	if text == i.policy {
		return nil
	}
	i.policy = "" // in parts, until the end
	if err := i.retract(ctx, s, c, reset); err != nil {
		return err
	}
	if err := i.srv.SetPolicies(ctx, policy.request()); err != nil {
		return fmt.Errorf("set routing policy: %w", err)
	}
	if err := i.reread(ctx, i.unread); err != nil { // what retract has marked
		return err
	}
	clear(i.unread)
	i.policy = text
	return nil
}

// announce tells GoBGP which prefixes are ours.
func (i *instance) announce(ctx context.Context, c *Config, failures *reconcile.Failures) {
	want := map[netip.Prefix]bool{}
	for k := range c.Announce {
		a := &c.Announce[k]
		prefix := a.Prefix.Masked()
		want[prefix] = true
		text := digest(a)
		if i.announced[prefix] == text {
			continue
		}
		path, err := apiPath(a)
		if err == nil {
			_, err = i.srv.AddPath(ctx, &api.AddPathRequest{Path: path})
		}
		if err != nil {
			failures.Add(fmt.Errorf("announce %s: %w", prefix, err))
			continue
		}
		i.announced[prefix] = text
	}
	for prefix := range i.announced {
		if want[prefix] {
			continue
		}
		path, err := apiPath(&Announcement{Prefix: prefix})
		if err == nil {
			err = i.srv.DeletePath(ctx, &api.DeletePathRequest{Path: path})
		}
		if err != nil {
			failures.Add(fmt.Errorf("withdraw %s: %w", prefix, err))
			continue
		}
		delete(i.announced, prefix)
	}
}

// applyPeers adds, changes and removes sessions; next gets the peers that GoBGP has. reset are those whose session starts
// anew although it would not have to.
func (i *instance) applyPeers(ctx context.Context, s *Speaker, c, next *Config, reset map[netip.Addr]bool, failures *reconcile.Failures) {
	have := map[netip.Addr]*Peer{}
	for _, p := range pointers(i.have.Peers) {
		have[p.Address] = p
	}
	// Passive ones first: the other side comes right after we listen, and a stranger is sent away for seconds.
	peers := pointers(c.Peers)
	slices.SortStableFunc(peers, func(a, b *Peer) int {
		switch {
		case a.Passive == b.Passive:
			return 0
		case a.Passive:
			return -1
		}
		return 1
	})
	for _, p := range peers {
		old := have[p.Address]
		delete(have, p.Address)
		if p.external(c) {
			i.external.Store(p.Address, true)
		} else {
			i.external.Delete(p.Address)
		}
		var err error
		switch {
		case old == nil:
			i.notes.down.Add(1)
			err = i.srv.AddPeer(ctx, &api.AddPeerRequest{Peer: apiPeer(c, p, !i.ended)})
		case settings(i.have, old) != settings(c, p):
			s.rib.hold(p.Address, time.Now().Add(time.Duration(seconds(p.RestartTime, c.RestartTime))*time.Second))
			_, err = i.srv.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: apiPeer(c, p, !i.ended)})
		}
		if err != nil {
			failures.Add(fmt.Errorf("configure peer %s: %w", p.Address, err))
			if old != nil {
				next.Peers = append(next.Peers, *old)
			}
			continue
		}
		next.Peers = append(next.Peers, *p)
	}
	for _, p := range have {
		if err := i.remove(ctx, p); err != nil {
			failures.Add(fmt.Errorf("remove peer %s: %w", p.Address, err))
			next.Peers = append(next.Peers, *p)
		}
	}
}

// remove ends a session for good. DeletePeer alone would leave the password at the listening socket, for whoever has that
// address next; an update to one without takes it off.
func (i *instance) remove(ctx context.Context, p *Peer) error {
	if p.Password != "" {
		bare := *p
		bare.Password = ""
		peer := apiPeer(i.have, &bare, false)
		peer.Conf.AdminDown = true // or the other side would wait for us
		if _, err := i.srv.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: peer}); err != nil {
			return err
		}
	}
	if err := i.srv.DeletePeer(ctx, &api.DeletePeerRequest{Address: p.Address.String()}); err != nil {
		return err
	}
	i.notes.down.Add(-1) // a session that is up counts as down first
	i.told.Delete(end{p.Address, false})
	i.told.Delete(end{p.Address, true})
	return nil
}

// refresh has GoBGP evaluate a changed policy for the peers whose session stays: for both directions, or with a new
// session where that is the only way.
func (i *instance) refresh(ctx context.Context, old, c *Config, reset map[netip.Addr]bool, failures *reconcile.Failures) {
	for _, p := range pointers(c.Peers) {
		k := slices.IndexFunc(old.Peers, func(q Peer) bool { return q.Address == p.Address })
		anew := reset[p.Address]
		if k < 0 || settings(old, &old.Peers[k]) != settings(c, p) {
			continue
		}
		r := &api.ResetPeerRequest{Address: p.Address.String(), Soft: !anew, Direction: api.ResetPeerRequest_BOTH}
		if !anew && treatment(old, &old.Peers[k]) == treatment(c, p) {
			continue
		}
		if err := i.srv.ResetPeer(ctx, r); err != nil {
			failures.Add(fmt.Errorf("refresh peer %s: %w", p.Address, err))
		}
	}
}

// treatment is all that decides which routes a peer is told and how, and what is taken from it, beside the routes.
func treatment(c *Config, p *Peer) string {
	return digest([]any{p.NextHop, chains(c, p), c.chain(p.Filters, false, false), c.chain(p.Filters, false, true), c.Transit, c.Withhold, c.Tags})
}

func pointers(peers []Peer) []*Peer {
	out := make([]*Peer, 0, len(peers))
	for i := range peers {
		out = append(out, &peers[i])
	}
	return out
}
