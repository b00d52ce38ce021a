package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/model"
)

// self is what the agent found out about its own node.
type self struct {
	node     model.Node
	up4, up6 uplink
	odd      []string  // what is odd about them, a line each
	podMTU   int       // bytes
	wrote    time.Time // when the node's annotations were last written
}

// selfNow returns what is known of the own node, without IPv6 where that is switched off.
func (a *Agent) selfNow() self {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.self
	if !a.params.IPv6 {
		s.up6, s.node.Addr6, s.node.VXLANAddr6 = uplink{}, netip.Prefix{}, netip.Addr{}
	}
	return s
}

// ensureTunnel sees to the node's tunnel address of a family when a pool needs it: asked of IPAM each time, from memory
// but for the first.
func (a *Agent) ensureTunnel(ctx context.Context, pools []model.Pool, family6 bool) error {
	needed := a.config.Backend == "vxlan" && slices.ContainsFunc(pools, func(p model.Pool) bool {
		return p.CIDR.Addr().Is6() == family6 && p.VXLAN != model.EncapNever
	})
	self := a.selfNow()
	n, handle, kind := self.node.Addr4, "vxlan-tunnel-addr-", ipam.TypeVXLAN4
	if family6 {
		n, handle, kind = self.node.Addr6, "vxlan-v6-tunnel-addr-", ipam.TypeVXLAN6
	}
	if !needed || !n.IsValid() {
		return nil
	}
	addr, err := a.ipam.TunnelAddr(ctx, handle+a.config.Node, kind, family6)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if family6 {
		a.self.node.VXLANAddr6 = addr
	} else {
		a.self.node.VXLANAddr4 = addr
	}
	return nil
}

// annotate writes what other nodes must know of this one, when the Node object says otherwise.
func (a *Agent) annotate(ctx context.Context) error {
	self := a.selfNow()
	want, wrote := self.node, self.wrote
	seen, ok := a.store.Node(a.config.Node)
	if ok && a.health.ready() == nil && seen.UID != want.UID {
		// The Node object was made anew: it lacks the condition.
		if err := a.client.Up(ctx, a.config.Node); err != nil {
			return err
		}
		a.mu.Lock()
		a.self.node.UID = seen.UID
		a.mu.Unlock()
	}
	seen.UID, want.UID = "", ""
	seen.Internal4, seen.Internal6 = netip.Addr{}, netip.Addr{}
	if ok && seen == want || time.Since(wrote) < time.Second {
		return nil // right, or the watch has not told of our own write yet
	}
	if err := a.client.Annotate(ctx, want); err != nil {
		return err
	}
	a.mu.Lock()
	a.self.wrote = time.Now()
	a.mu.Unlock()
	time.AfterFunc(time.Second, a.store.Touch) // look again, should somebody have undone it meanwhile
	return nil
}

// findSelf finds the node's own addresses.
func (a *Agent) findSelf() error {
	seen, ok := a.store.Node(a.config.Node)
	if !ok {
		return fmt.Errorf("there is no Node object %q: set NODENAME to the name that kubelet registers", a.config.Node)
	}
	internal := []netip.Addr{seen.Internal4, seen.Internal6}
	up4, err := findUplink(a.config.IP4, a.config.Detect4, internal, false)
	if err != nil {
		return fmt.Errorf("variable IP or IP_AUTODETECTION_METHOD: %w", err)
	}
	up6, err := findUplink(a.config.IP6, a.config.Detect6, internal, true)
	if err != nil {
		return fmt.Errorf("variable IP6 or IP6_AUTODETECTION_METHOD: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.self.up4, a.self.up6 = up4, up6
	a.self.node.Addr4, a.self.node.Addr6 = up4.Addr, up6.Addr
	return nil
}

// softChecksum says whether the VXLAN devices must compute checksums themselves: as set, or by the kernel's version
// (Linux up to 5.7 sends wrong ones for packets whose source was rewritten).
func softChecksum(p model.Parameters) bool {
	if p.ChecksumBroken != "" {
		return p.ChecksumBroken == "true"
	}
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	return brokenKernel(unix.ByteSliceToString(u.Release[:]))
}

// brokenKernel says whether a kernel's release, such as 5.4.0-150-generic, is one up to 5.7.
func brokenKernel(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major < 5 || major == 5 && minor <= 7
}
