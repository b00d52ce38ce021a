package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/dataplane/link"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/topology"
	"github.com/margay-net/margay/pkg/uplink"
)

const (
	gather       = 20 * time.Millisecond // how long changes of the store gather before the plan is made anew
	replan       = 5 * time.Second       // after a failed plan
	vxlanHeader4 = 50                    // bytes that VXLAN takes of the underlay's MTU
	vxlanHeader6 = 70
	ipipHeader   = 20
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
	params, faults := a.resolve()
	pools := a.store.Pools()
	starting := a.health.ready() != nil
	tunnels, err := a.ensureTunnels(ctx, pools, params, starting)
	if err != nil && starting {
		return err // a start that lacks a tunnel address must not take the tunnel away that an earlier agent made
	}
	a.setMTU(pools, params)
	self, start := a.selfNow(), time.Now()
	nodes := a.store.NodeMap()
	if seen, ok := nodes[a.config.Node]; ok {
		self.node.UID = seen.UID
	}
	nodes[a.config.Node] = self.node
	var floating []model.Floating
	var floatingRoutes []model.Route
	if params.FloatingIPs {
		var bad []string
		floating, floatingRoutes, bad = a.floating()
		faults = append(faults, bad...)
	}
	// Before what was learned is read: what comes in between is not missed then.
	complete := a.speech != nil && a.speech.speaker.Synced()
	in := a.topologyInput(nodes, pools, self, params)
	in.NAT.Floating = floating
	wanted := topology.Build(in)
	a.metrics.Computed(time.Since(start))
	if a.config.Backend == "none" { // somebody else connects the nodes
		wanted.VXLAN, wanted.IPIP, wanted.Routes, wanted.Neighs, wanted.FDB = nil, nil, nil, nil, nil
	}
	wanted.Routes = append(wanted.Routes, floatingRoutes...)
	var told *learned
	if a.speech != nil {
		var wrong []string
		told, wrong = a.talk(wanted, in, complete)
		faults = append(faults, wrong...)
	}
	a.plane.set(wanted, told, link.Families{V4: self.node.Addr4.IsValid(), V6: self.node.Addr6.IsValid()}, params)
	if a.config.Backend == "vxlan" {
		err = errors.Join(err, a.plane.dropLearned(pools))
	}
	a.confirmLent(ctx, in.Blocks, wanted.Routes)
	err = errors.Join(err, a.annotate(ctx)) // the kernel first: the API server may take its time
	if self.conflistMTU != 0 && self.conflistMTU != self.podMTU {
		err = errors.Join(err, a.conflist())
	}
	own := a.ownFaults(slices.Concat(faults, self.odd), pools)
	all := slices.Concat(wanted.Conflicts, a.store.Overlaps(), a.selectorFaults(pools), own)
	// What is wrong for all nodes alike is for the log and the metric: an event on each of them would say it a thousand times.
	a.keepPlan(wanted, len(nodes), len(pools), all)
	a.told.set(slices.DeleteFunc(slices.Clone(own), ofAll), wanted.Shared)
	a.metrics.planned(len(nodes), pools, all, len(wanted.Shared)+len(self.odd), a.log)
	if !tunnels { // the rest did not wait for it
		if _, terr := a.ensureTunnels(ctx, pools, params, true); terr != nil {
			return errors.Join(err, terr)
		}
		a.store.Touch()
	}
	return err
}

// topologyInput is what the plan follows from, but for floating addresses.
func (a *Agent) topologyInput(nodes map[string]model.Node, pools []model.Pool, self self, params model.Parameters) topology.Input {
	in := topology.Input{
		Self: a.config.Node, Nodes: nodes, Pools: pools, Blocks: a.store.Blocks(),
		V4:  topology.Underlay{Parent: self.up4.Dev, MTU: vxlanMTU(self.up4, params.VXLANMTU4, vxlanHeader4)},
		V6:  topology.Underlay{Parent: self.up6.Dev, MTU: vxlanMTU(self.up6, params.VXLANMTU6, vxlanHeader6)},
		VNI: params.VXLANVNI, Port: params.VXLANPort, Checksum: checksum(params),
		NAT: topology.NATOptions{
			SpareNodes: params.NATExclusions == "IPPoolsAndHostIPs",
			Address:    params.NATAddress, Ports: params.NATPorts, Interface: params.NATInterface,
		},
		BGP: a.speech != nil, ClusterRoutes: params.ClusterRoutes, Resolve: a.resolver(), IPIPMTU: ipipMTU(self.up4, params),
	}
	if a.speech != nil {
		in.ClusterRoutes = in.ClusterRoutes || a.speech.known.ClusterRoutes(in.Self)
		in.Learned, in.PodPeers = a.speech.learned(a.serviceInput()), a.speech.pods
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	in.Former = a.wanted
	return in
}

// ownFaults adds to faults what else is wrong with this node.
func (a *Agent) ownFaults(faults []string, pools []model.Pool) []string {
	faults = append(faults, a.book.InPools(pools)...)
	if failing := a.metrics.watch.Refused("nftables", "iptables"); failing != nil {
		faults = append(faults, failing.Error())
	}
	for _, n := range a.install.Notices() {
		faults = append(faults, n.Text)
	}
	return faults
}

// vxlanMTU is the MTU of a VXLAN device: set, or the underlay's less the header.
func vxlanMTU(up uplink.Uplink, set, header int) int {
	return cmp.Or(set, max(up.MTU-header, 0))
}

func ipipMTU(up uplink.Uplink, p model.Parameters) int {
	return cmp.Or(p.IPIPMTU, max(up.MTU-ipipHeader, 0))
}

// podMTU is the MTU of pods' interfaces.
func (a *Agent) podMTU() int { return a.selfNow().podMTU }

// setMTU finds the pods' MTU: set, or the least that any mode in use allows.
func (a *Agent) setMTU(pools []model.Pool, p model.Parameters) {
	self, least := a.selfNow(), 0
	for _, pool := range pools {
		up, set, header := self.up4, p.VXLANMTU4, vxlanHeader4
		if pool.CIDR.Addr().Is6() {
			up, set, header = self.up6, p.VXLANMTU6, vxlanHeader6
		}
		mtu := up.MTU
		switch {
		case mtu == 0:
		case pool.VXLAN != model.EncapNever:
			mtu = vxlanMTU(up, set, header)
		case pool.IPIP != model.EncapNever:
			mtu = ipipMTU(up, p)
		}
		if mtu > 0 && (least == 0 || mtu < least) {
			least = mtu
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.self.podMTU = cmp.Or(a.config.PodMTU, least, self.up4.MTU, self.up6.MTU, 1500)
}

// defaultPools makes the default pools when the cluster has no pool of their family, and the cluster's description.
func (a *Agent) defaultPools(ctx context.Context) error {
	ready, guid := true, make([]byte, 16)
	if _, err := rand.Read(guid); err != nil {
		return err
	}
	// No CalicoVersion: Calico's own calicoctl refuses a cluster of another version than its own, unless none is said.
	if err := a.client.EnsureClusterInformation(ctx, v3.ClusterInformationSpec{
		ClusterGUID: hex.EncodeToString(guid), ClusterType: a.config.ClusterType, DatastoreReady: &ready,
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
		if !a.store.Locked().IsZero() {
			return errDatastoreLocked // who imports a datastore wants its pools alone
		}
		err := a.client.CreatePool(ctx, &v3.IPPool{
			ObjectMeta: metav1.ObjectMeta{Name: p.Name},
			Spec: v3.IPPoolSpec{
				CIDR: p.CIDR.String(), BlockSize: int32(p.BlockBits), VXLANMode: v3.EncapMode(p.VXLAN), IPIPMode: v3.EncapMode(p.IPIP),
				NATOutgoing: p.NATOutgoing, NodeSelector: p.NodeSelector, DisableBGPExport: p.DisableBGPExport,
				AllowedUses: []v3.PoolUse{v3.UseWorkload, v3.UseTunnel}, AssignmentMode: v3.AssignAutomatic,
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
