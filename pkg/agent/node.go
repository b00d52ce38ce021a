package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/uplink"
)

// self is what the agent found out about its own node.
type self struct {
	node        model.Node
	up4, up6    uplink.Uplink
	internal    []netip.Addr // InternalIPs, as the watcher of addresses knows them
	odd         []string     // what is odd about them, a line each
	podMTU      int          // bytes
	conflistMTU int          // that the CNI configuration was written for; 0: it was not yet
	wrote       time.Time    // when the node's annotations were last written
}

// selfNow returns what is known of the own node, without IPv6 where that is switched off.
func (a *Agent) selfNow() self {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.self
	if !a.params.IPv6 {
		s.up6, s.node.Addr6, s.node.VXLANAddr6 = uplink.Uplink{}, netip.Prefix{}, netip.Addr{}
	}
	return s
}

// ensureTunnels sees to the addresses of the tunnel devices that pools need. Without ask it makes no request, and has says
// whether all are there.
func (a *Agent) ensureTunnels(ctx context.Context, pools []model.Pool, params model.Parameters, ask bool) (has bool, err error) {
	needs := func(family6 bool, mode func(model.Pool) model.Encap) bool {
		return a.config.Backend != "none" && slices.ContainsFunc(pools, func(p model.Pool) bool {
			return p.CIDR.Addr().Is6() == family6 && mode(p) != model.EncapNever
		})
	}
	vxlan := func(p model.Pool) model.Encap { return p.VXLAN }
	ipip := needs(false, func(p model.Pool) model.Encap { return p.IPIP }) && (a.speech != nil || params.ClusterRoutes)
	node := &a.self.node
	has = true
	for _, t := range []struct {
		needed, family6 bool
		handle, kind    string
		addr            *netip.Addr
	}{
		{needs(false, vxlan), false, "vxlan-tunnel-addr-", block.TypeVXLAN4, &node.VXLANAddr4},
		{needs(true, vxlan), true, "vxlan-v6-tunnel-addr-", block.TypeVXLAN6, &node.VXLANAddr6},
		{ipip, false, "ipip-tunnel-addr-", block.TypeIPIP, &node.IPIPAddr4},
	} {
		there, terr := a.ensureTunnel(ctx, t.needed, t.family6, ask, t.handle, t.kind, t.addr)
		has, err = has && there, errors.Join(err, terr)
	}
	return has, err
}

// ensureTunnel sees to one of the node's tunnel addresses, which is asked of IPAM each time, from memory but for the first. to
// is of a.self.
func (a *Agent) ensureTunnel(ctx context.Context, needed, family6, ask bool, handle, kind string, to *netip.Addr) (has bool, err error) {
	self := a.selfNow()
	own := self.node.Addr4
	if family6 {
		own = self.node.Addr6
	}
	var addr netip.Addr
	needed = needed && own.IsValid()
	switch {
	case !needed:
		addr, err = a.ipam.HasTunnelAddr(handle+a.config.Node, kind, family6) // kept for life
	case ask:
		addr, err = a.ipam.TunnelAddr(ctx, handle+a.config.Node, kind, family6)
	default:
		addr, err = a.ipam.ReadyTunnelAddr(handle+a.config.Node, kind, family6)
	}
	if err != nil || needed && !addr.IsValid() {
		return false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	*to = addr
	return true, nil
}

// annotate writes what other nodes must know of this one, when the Node object says otherwise.
func (a *Agent) annotate(ctx context.Context) error {
	self := a.selfNow()
	want, wrote := self.node, self.wrote
	seen, ok := a.store.Node(a.config.Node)
	if ok {
		a.setInternal(seen)
	}
	if ok && a.health.ready() == nil && seen.UID != want.UID {
		// The Node object was made anew: it lacks the condition.
		if err := a.client.Up(ctx, a.config.Node); err != nil {
			return err
		}
		a.mu.Lock()
		a.self.node.UID = seen.UID
		a.mu.Unlock()
	}
	if want.AS = uint32(a.config.AS); want.AS == 0 {
		want.AS = seen.AS
	}
	seen.UID, want.UID = "", ""
	seen.Internal4, seen.Internal6 = netip.Addr{}, netip.Addr{}
	if ok && seen == want || time.Since(wrote) < time.Second {
		return nil // right, or the watch has not told of our own write yet
	}
	a.mu.Lock()
	a.self.wrote = time.Now() // also when it is refused: once a second is enough
	a.mu.Unlock()
	if err := a.client.Annotate(ctx, want); err != nil {
		return err
	}
	time.AfterFunc(time.Second, a.store.Touch) // look again, should somebody have undone it meanwhile
	return nil
}

// familyPatience is how long a start waits for a family that the node had before.
const familyPatience = 30 * time.Second

// findSelf finds the node's own addresses, and has them followed from then on. One family is enough to start with: an
// address that comes later is taken then.
func (a *Agent) findSelf(ctx context.Context, g *errgroup.Group) error {
	seen, ok := a.store.Node(a.config.Node)
	if !ok {
		return fmt.Errorf("there is no Node object %q: set NODENAME to the name that kubelet registers", a.config.Node)
	}
	if a.uplinks == nil {
		a.uplinks = uplink.NewWatcher(uplink.Options{
			Conn: a.plane.look, V4: a.setting4, V6: a.setting6, Last4: seen.Addr4.Addr(), Last6: seen.Addr6.Addr(),
			Internal: []netip.Addr{seen.Internal4, seen.Internal6}, Log: a.log,
		})
		g.Go(func() error { return a.uplinks.Run(ctx) })
	}
	a.setInternal(seen)
	select {
	case <-a.uplinks.Changed():
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
	}
	pair := a.uplinks.Pair()
	a.setUplinks(pair)
	self := a.selfNow()
	// A family that the node had before is waited for, as a running agent would keep it: others have routes to it.
	waits := seen.Addr4.IsValid() && pair.V4.Lost != "" && !self.node.Addr4.IsValid() ||
		seen.Addr6.IsValid() && pair.V6.Lost != "" && !self.node.Addr6.IsValid() && a.currentParams().IPv6
	if waits && time.Since(a.born) < familyPatience || !self.node.Addr4.IsValid() && !self.node.Addr6.IsValid() {
		return fmt.Errorf("variables IP, IP_AUTODETECTION_METHOD, IP6 and IP6_AUTODETECTION_METHOD: %s", cmp.Or(pair.V4.Lost, pair.V6.Lost, "no address is found yet, or none is wanted"))
	}
	return nil
}

// setInternal tells the watcher of addresses what the Node object says, when that has changed.
func (a *Agent) setInternal(seen model.Node) {
	internal := []netip.Addr{seen.Internal4, seen.Internal6}
	a.mu.Lock()
	same := slices.Equal(a.self.internal, internal)
	a.self.internal = internal
	a.mu.Unlock()
	if !same {
		a.uplinks.SetInternal(internal)
	}
}

func (a *Agent) setUplinks(p uplink.Pair) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.self.up4, a.self.up6 = p.V4.Uplink, p.V6.Uplink
	a.self.node.Addr4, a.self.node.Addr6 = p.V4.Addr, p.V6.Addr
	a.self.odd = nil
	for _, line := range []string{p.V4.Lost, p.V4.Odd, p.V6.Lost, p.V6.Odd} {
		if line != "" {
			a.self.odd = append(a.self.odd, line)
		}
	}
}

// followUplinks takes changes of the node's addresses, devices and MTUs in.
func (a *Agent) followUplinks(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.uplinks.Changed():
			a.setUplinks(a.uplinks.Pair())
			a.store.Touch()
		}
	}
}

// checksum says who must compute the checksums of what leaves by a VXLAN device: as set, or the kernel where its version
// sends wrong ones for packets whose source was rewritten. Else it stays as it is: switching offload off by hand is what
// people do about network cards.
func checksum(p model.Parameters) model.Checksum {
	switch p.ChecksumBroken {
	case "true":
		return model.ChecksumSoft
	case "false":
		return model.ChecksumDevice
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil && brokenKernel(unix.ByteSliceToString(u.Release[:])) {
		return model.ChecksumSoft
	}
	return model.ChecksumAny
}

// brokenKernel says whether a kernel's release, such as 5.4.0-150-generic, is one up to 5.7.
func brokenKernel(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major < 5 || major == 5 && minor <= 7
}

// show is an address for the log, none when there is none.
func show(p netip.Prefix) string {
	if !p.IsValid() {
		return "none"
	}
	return p.String()
}
