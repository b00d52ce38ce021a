package link

import (
	"context"
	"fmt"
	"time"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
)

// setting is a model.Sysctl of a pod's device; %s in the path is the device. For silent ones the kernel sends no event.
type setting struct {
	path, value string
	silent      bool
}

// What the host side of a pod needs: to answer ARP for the gateway at once (proxy_arp, proxy_delay), to forward, to let
// node-local ports answer pods (route_localnet), and to take no router's word from a pod (accept_ra).
var (
	settings4 = []setting{
		{"net/ipv4/conf/%s/proxy_arp", "1", false},
		{"net/ipv4/conf/%s/forwarding", "1", false},
		{"net/ipv4/conf/%s/route_localnet", "1", true},
		{"net/ipv4/neigh/%s/proxy_delay", "0", true},
	}
	settings6 = []setting{
		{"net/ipv6/conf/%s/proxy_ndp", "1", false},
		{"net/ipv6/conf/%s/forwarding", "1", false},
		{"net/ipv6/conf/%s/accept_ra", "0", true},
	}
)

// sysctls returns what a device of these families needs, of all or only the silent ones.
func sysctls(dev string, f Families, silent bool) []model.Sysctl {
	out := make([]model.Sysctl, 0, len(settings4)+len(settings6))
	add := func(settings []setting) {
		for _, s := range settings {
			if s.silent || !silent {
				out = append(out, model.Sysctl{Path: fmt.Sprintf(s.path, dev), Value: s.value})
			}
		}
	}
	if f.V4 {
		add(settings4)
	}
	if f.V6 {
		add(settings6)
	}
	return out
}

// mendEndpoint makes a pod's device as wanted; one that isn't wanted is passed over.
func (l *Links) mendEndpoint(dev string) error {
	l.mu.Lock()
	ep, ok := l.endpoints[dev]
	l.mu.Unlock()
	if !ok {
		return nil
	}
	index, up := l.conn.Index(dev)
	if index == 0 {
		return fmt.Errorf("put endpoint device %s: %w", dev, netlink.ErrNoDevice)
	}
	if err := l.conn.Do(func() error { return l.proc.put(sysctls(dev, ep.Families, false)) }); err != nil {
		return err
	}
	if !up {
		if err := l.conn.SetLink(netlink.Link{Index: index}); err != nil {
			return err
		}
	}
	l.mu.Lock()
	if ep, ok := l.endpoints[dev]; ok {
		ep.index = index
		l.endpoints[dev] = ep
	}
	l.mu.Unlock()
	return l.mendPeering(dev, index)
}

func (l *Links) mendForwarding() error {
	l.mu.Lock()
	f := l.forwarding
	l.mu.Unlock()
	var want []model.Sysctl
	if f.V4 {
		want = append(want, model.Sysctl{Path: "net/ipv4/ip_forward", Value: "1"})
	}
	if f.V6 {
		want = append(want, model.Sysctl{Path: "net/ipv6/conf/all/forwarding", Value: "1"})
	}
	return l.conn.Do(func() error { return l.proc.put(want) })
}

// How long DeleteLink waits, and how often it looks.
const (
	deleteTimeout = 2 * time.Second
	firstLook     = 100 * time.Microsecond
	lastLook      = 2 * time.Millisecond
)

// DeleteLink removes a pod's device, whose index is index, or is looked up when that is 0. It returns when the kernel
// lists the device no more, and does not wait for what the kernel does after that; should it still list it after two
// seconds, it returns when and what the kernel answers. A device that is gone already, or a
// name that belongs to a newer device, is no error.
func (l *Links) DeleteLink(ctx context.Context, name string, index int) error {
	now, _ := l.conn.Index(name)
	if index == 0 {
		index = now
	}
	if now == 0 || now != index {
		return nil
	}
	select {
	case l.deletes <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("delete device %s: %w", name, ctx.Err())
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-l.deletes }()
		done <- l.conn.DeleteLink(index)
	}()
	last := time.After(deleteTimeout)
	timer := time.NewTimer(firstLook)
	defer timer.Stop()
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("delete device %s: %w", name, err)
			}
			return nil
		case <-ctx.Done():
			return fmt.Errorf("delete device %s: %w", name, ctx.Err())
		case <-last:
			timer.Stop() // no more looks: what the call says counts
		case <-timer.C:
			if !l.conn.Exists(index) {
				return nil
			}
			timer.Reset(pause)
		}
	}
}

// settle waits until no removal is under way.
func (l *Links) settle() {
	for range maxDeletes {
		l.deletes <- struct{}{}
	}
	for range maxDeletes {
		<-l.deletes
	}
}
