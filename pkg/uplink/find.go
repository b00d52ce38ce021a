package uplink

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/margay-net/margay/pkg/netlink"
)

// Find finds the node's address of one family as of now. internal are the addresses of type InternalIP that the Node
// object has, of both families; last is the address that the node had before, not valid if it had none: it is found
// again if the setting allows it and nothing is better. The State is zero when the setting is none.
func Find(ctx context.Context, conn *netlink.Conn, s Setting, internal []netip.Addr, last netip.Addr) (State, error) {
	f := newFinder(conn, s, last, net.DefaultResolver)
	if _, err := f.look(ctx, internal); err != nil {
		return State{}, err
	}
	if f.state.Lost != "" {
		return State{}, errors.New(f.state.Lost)
	}
	return f.state, nil
}

// finder is a follower with eyes.
type finder struct {
	follower
	conn   *netlink.Conn
	target target
}

func newFinder(conn *netlink.Conn, s Setting, last netip.Addr, resolver *net.Resolver) *finder {
	return &finder{
		follower: follower{setting: s, last: last, patience: patience},
		conn:     conn, target: target{resolver: resolver, name: s.target},
	}
}

// look looks at the node and applies the rules; see step. An error means that the kernel did not answer, and nothing
// has changed.
func (f *finder) look(ctx context.Context, internal []netip.Addr) (again time.Duration, err error) {
	if f.setting.None() {
		return 0, nil
	}
	see := sight{internal: internal}
	see.have, err = look(f.conn, f.setting.family6)
	if err != nil {
		return 0, err
	}
	if f.setting.kind == canReach {
		see.named, see.trouble = f.target.sources(ctx, f.conn, f.setting.family6)
	} else {
		see.named = f.setting.named(internal)
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	again = f.step(see, time.Now())
	if see.trouble != nil && again == 0 {
		again = failureAge // no event tells that a name server is back
	}
	return again, nil
}
