package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/dataplane/link"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/topology"
)

const (
	gather       = 20 * time.Millisecond // how long changes of the store gather before the plan is made anew
	replan       = 5 * time.Second       // after a failed plan
	vxlanHeader4 = 50                    // bytes that VXLAN takes of the underlay's MTU
	vxlanHeader6 = 70
	defaultVNI   = 4096
	defaultPort  = 4789
)

// planLoop makes the plan anew whenever the store changed.
func (a *Agent) planLoop(ctx context.Context) error {
	var last string
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.store.Changed():
			if !sleep(ctx, gather) {
				return nil
			}
		case <-again:
		}
		again = nil
		text := ""
		if err := a.plan(ctx); err != nil {
			text, again = err.Error(), time.After(replan)
		}
		if text != last && ctx.Err() == nil {
			if text != "" {
				a.log.Error("plan is not complete; it is tried again", "err", text)
			} else {
				a.log.Info("plan is complete again")
			}
			last = text
		}
	}
}

// plan computes the wanted state and hands it to the data plane. Without a tunnel address the rest is planned all the
// same, and the error says what is missing.
func (a *Agent) plan(ctx context.Context) error {
	params := a.store.Params(a.config.Node)
	a.applyParams(params)
	pools := a.store.Pools()
	err := errors.Join(a.ensureTunnel(ctx, pools, false), a.ensureTunnel(ctx, pools, true))
	if err != nil && a.health.ready() != nil {
		return err // a start that lacks a tunnel address must not take the tunnel away that an earlier agent made
	}
	a.setMTU(pools, params)
	err = errors.Join(err, a.annotate(ctx))
	a.mu.Lock()
	self := a.self
	a.mu.Unlock()
	forward := link.Families{V4: self.node.Addr4.IsValid(), V6: self.node.Addr6.IsValid()}
	if a.config.Backend == "none" {
		a.plane.set(topology.Wanted{}, forward) // pods' own interfaces and routes alone
		return err
	}
	nodes := a.store.NodeMap()
	if seen, ok := nodes[a.config.Node]; ok {
		self.node.UID = seen.UID
	}
	nodes[a.config.Node] = self.node
	wanted := topology.Build(topology.Input{
		Self: a.config.Node, Nodes: nodes, Pools: pools, Blocks: a.store.Blocks(),
		V4:  topology.Underlay{Parent: self.up4.Dev, MTU: a.deviceMTU(self.up4, params, vxlanHeader4)},
		V6:  topology.Underlay{Parent: self.up6.Dev, MTU: a.deviceMTU(self.up6, params, vxlanHeader6)},
		VNI: cmp.Or(a.config.VNI, params.VXLANVNI, defaultVNI), Port: cmp.Or(a.config.Port, params.VXLANPort, defaultPort),
	})
	a.plane.set(wanted, forward)
	a.metrics.planned(len(nodes), pools, append(wanted.Conflicts, a.store.Overlaps()...), a.log)
	return err
}

// applyParams takes over the parameters that count at once.
func (a *Agent) applyParams(p model.Parameters) {
	level, err := ParseLevel(cmp.Or(a.config.LogLevel, p.LogLevel, "Info"))
	if err != nil {
		level = slog.LevelInfo
	}
	a.level.Set(level)
}

// deviceMTU is the MTU of a VXLAN device: set, or the underlay's less the header.
func (a *Agent) deviceMTU(up uplink, p model.Parameters, header int) int {
	return cmp.Or(a.config.MTU, p.VXLANMTU, max(up.MTU-header, 0))
}

// podMTU is the MTU of pods' interfaces.
func (a *Agent) podMTU() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.self.podMTU
}

// setMTU finds the pods' MTU: set, or the least that any mode in use allows.
func (a *Agent) setMTU(pools []model.Pool, p model.Parameters) {
	a.mu.Lock()
	defer a.mu.Unlock()
	least := 0
	for _, pool := range pools {
		up, header := a.self.up4, vxlanHeader4
		if pool.CIDR.Addr().Is6() {
			up, header = a.self.up6, vxlanHeader6
		}
		mtu := up.MTU
		if pool.VXLAN != model.EncapNever {
			mtu = cmp.Or(p.VXLANMTU, mtu-header)
		}
		if mtu > 0 && (least == 0 || mtu < least) {
			least = mtu
		}
	}
	a.self.podMTU = cmp.Or(a.config.MTU, least, a.self.up4.MTU, a.self.up6.MTU, 1500)
}

// ensureTunnel sees to the node's tunnel address of a family when a pool needs it: asked of IPAM each time, from memory
// but for the first.
func (a *Agent) ensureTunnel(ctx context.Context, pools []model.Pool, family6 bool) error {
	needed := a.config.Backend == "vxlan" && slices.ContainsFunc(pools, func(p model.Pool) bool {
		return p.CIDR.Addr().Is6() == family6 && p.VXLAN != model.EncapNever
	})
	a.mu.Lock()
	n, handle, kind := a.self.node.Addr4, "vxlan-tunnel-addr-", ipam.TypeVXLAN4
	if family6 {
		n, handle, kind = a.self.node.Addr6, "vxlan-v6-tunnel-addr-", ipam.TypeVXLAN6
	}
	a.mu.Unlock()
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
	a.mu.Lock()
	want, wrote := a.self.node, a.self.wrote
	a.mu.Unlock()
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
func (a *Agent) findSelf(ctx context.Context) error {
	internal, err := a.client.NodeIPs(ctx, a.config.Node)
	if err != nil {
		return err
	}
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

// defaultPools makes the default pools when the cluster has no pool of their family, and the cluster's description.
func (a *Agent) defaultPools(ctx context.Context) error {
	ready, guid := true, make([]byte, 16)
	if _, err := rand.Read(guid); err != nil {
		return err
	}
	if err := a.client.EnsureClusterInformation(ctx, v3.ClusterInformationSpec{
		ClusterGUID: hex.EncodeToString(guid), ClusterType: a.config.ClusterType, DatastoreReady: &ready, CalicoVersion: Version,
	}); err != nil {
		return fmt.Errorf("make ClusterInformation: %w", err)
	}
	for _, p := range []*model.Pool{a.config.Pool4, a.config.Pool6} {
		seen := func() bool {
			return slices.ContainsFunc(a.store.Pools(), func(o model.Pool) bool { return o.CIDR.Addr().Is6() == p.CIDR.Addr().Is6() })
		}
		if p == nil || seen() {
			continue
		}
		err := a.client.CreatePool(ctx, &v3.IPPool{
			ObjectMeta: metav1.ObjectMeta{Name: p.Name},
			Spec: v3.IPPoolSpec{
				CIDR: p.CIDR.String(), BlockSize: int32(p.BlockBits), VXLANMode: v3.EncapMode(p.VXLAN), IPIPMode: v3.EncapMode(p.IPIP),
				NATOutgoing: p.NATOutgoing, NodeSelector: "all()", AllowedUses: []v3.PoolUse{v3.UseWorkload, v3.UseTunnel}, AssignmentMode: v3.AssignAutomatic,
			},
		})
		if err != nil {
			return err
		}
		a.log.Info("made default IP pool", "pool", p.Name, "cidr", p.CIDR.String())
		if !waitFor(ctx, seen) {
			return fmt.Errorf("IP pool %s was made but the watch does not tell of it", p.Name)
		}
	}
	return nil
}

// waitFor waits a few seconds for a condition.
func waitFor(ctx context.Context, ok func() bool) bool {
	for range 100 {
		if ok() {
			return true
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return false
		}
	}
	return false
}
