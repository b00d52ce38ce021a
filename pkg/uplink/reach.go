package uplink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-net/margay/pkg/netlink"
)

// How long an answer of DNS is good for, how long a failure is not asked about again, and how long an answer may take.
const (
	answerAge   = time.Minute
	failureAge  = 5 * time.Second
	answerLimit = 2 * time.Second
)

// target is where can-reach wants to get to. It remembers what a name stood for: a name server that is away changes
// nothing.
type target struct {
	resolver *net.Resolver
	name     string
	addrs    []netip.Addr
	err      error     // of the last question
	ask      time.Time // when to ask again
}

// resolve returns the target's addresses. An error may come with addresses: those that the name had before.
func (t *target) resolve(ctx context.Context, family6 bool) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(t.name); err == nil {
		return []netip.Addr{a}, nil
	}
	now := time.Now()
	if now.Before(t.ask) {
		return t.addrs, t.err
	}
	network := "ip4"
	if family6 {
		network = "ip6"
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	addrs, err := t.resolver.LookupNetIP(ctx, network, t.name)
	if err != nil {
		t.err, t.ask = fmt.Errorf("look up %s: %s", t.name, reason(err)), now.Add(failureAge)
		return t.addrs, t.err
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	t.addrs, t.err, t.ask = slices.Compact(addrs), nil, now.Add(answerAge)
	return t.addrs, nil
}

// reason is a resolver's error without the ports and servers that make each one different.
func reason(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "there is no such name"
	case errors.As(err, &dns) && dns.IsTimeout:
		return "the name server does not answer"
	}
	return "the name server could not be asked"
}

// sources returns the addresses that packets to the target leave with. An error may come with addresses.
func (t *target) sources(ctx context.Context, conn *netlink.Conn, family6 bool) (out []netip.Addr, err error) {
	addrs, err := t.resolve(ctx, family6)
	var noRoute error
	for _, dst := range addrs {
		src, err := source(conn, dst)
		if err != nil {
			noRoute = err
		} else if !slices.Contains(out, src) {
			out = append(out, src)
		}
	}
	if err == nil && len(out) == 0 {
		err = noRoute
	}
	return out, err
}
