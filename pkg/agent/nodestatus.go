package agent

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/bird"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/status"
)

const (
	timeForm     = "2006-01-02 15:04:05" // BIRD's
	reportAgain  = 10 * time.Second      // after a report that the API server did not take
	reportRoutes = 4000                  // of a family at most: an object has a megabyte and a half
)

// reporter answers the CalicoNodeStatus resources that ask about this node: at once when one is new or asks for other
// things, and again after each of its periods when something has changed. As in Calico a period of 0 ends that; a
// restarted agent leaves what has been answered before.
type reporter struct {
	node   string
	client *kube.Client
	look   looker
	log    *slog.Logger
	wake   chan struct{}

	mu    sync.Mutex
	asked map[string]*inquiry // by name
}

// sight is what there is to report.
type sight struct {
	daemon v3.BGPDaemonStatus
	peers  []status.Peer
	routes []status.Route
	paths  []status.Path
}

// looker looks at the node, at routes only if asked to: there may be thousands.
type looker func(ctx context.Context, routes bool) sight

// inquiry is a resource that asks.
type inquiry struct {
	kube.NodeStatusRequest
	due  time.Time                  // zero: never
	last *v3.CalicoNodeStatusStatus // nil: not reported yet
}

func newReporter(node string, client *kube.Client, look looker, log *slog.Logger) *reporter {
	return &reporter{node: node, client: client, look: look, log: log, wake: make(chan struct{}, 1), asked: map[string]*inquiry{}}
}

// run answers until ctx ends.
func (r *reporter) run(ctx context.Context) error {
	var watch sync.WaitGroup
	watch.Go(func() { r.client.FollowNodeStatuses(ctx, r.node, r.put, r.drop) })
	defer watch.Wait()
	for {
		timer := time.NewTimer(time.Until(r.next()))
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-timer.C:
		}
		timer.Stop()
		for _, q := range r.due() {
			r.report(ctx, q)
		}
	}
}

func (r *reporter) put(q kube.NodeStatusRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.asked[q.Name]
	if old != nil && old.UID == q.UID && old.Classes == q.Classes && old.Period == q.Period {
		return // our own report, or somebody's label
	}
	n := &inquiry{NodeStatusRequest: q, due: time.Now()}
	if old == nil && q.Written && q.Period == 0 {
		n.due = time.Time{}
	}
	r.asked[q.Name] = n
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *reporter) drop(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.asked, name)
}

// next is when a report is due, in an hour at the latest.
func (r *reporter) next() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := time.Now().Add(time.Hour)
	for _, q := range r.asked {
		if !q.due.IsZero() && q.due.Before(next) {
			next = q.due
		}
	}
	return next
}

// due returns copies of those that are.
func (r *reporter) due() (out []inquiry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.asked {
		if !q.due.IsZero() && !q.due.After(time.Now()) {
			out = append(out, *q)
		}
	}
	return out
}

// report answers one, unless it would read as before, and sees to its next time.
func (r *reporter) report(ctx context.Context, q inquiry) {
	now := time.Now()
	text, due := reportOf(q.NodeStatusRequest, r.look(ctx, q.Asks(v3.StatusRoutes)), now), now.Add(q.Period)
	if q.Period == 0 {
		due = time.Time{}
	}
	var err error
	if q.last == nil || !reflect.DeepEqual(*q.last, text) {
		written := text
		written.LastUpdated = metav1.NewTime(now)
		err = r.client.ReportNodeStatus(ctx, r.node, q.NodeStatusRequest, written)
	}
	switch {
	case errors.Is(err, kube.ErrNotAsked):
		due = time.Time{} // the watch tells of it
	case apierrors.IsConflict(err):
		due = now.Add(100 * time.Millisecond)
	case err != nil:
		if ctx.Err() == nil {
			r.log.Warn("CalicoNodeStatus is not written; it is tried again", "name", q.Name, "err", err)
		}
		due = now.Add(reportAgain)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.asked[q.Name]; x != nil && x.NodeStatusRequest == q.NodeStatusRequest && x.due.Equal(q.due) {
		if x.due = due; err == nil {
			x.last = &text
		}
	}
}

// reportOf puts the parts together that are asked for.
func reportOf(q kube.NodeStatusRequest, s sight, now time.Time) (out v3.CalicoNodeStatusStatus) {
	if q.Asks(v3.StatusAgent) {
		out.Agent = v3.CalicoNodeAgentStatus{BIRDV4: s.daemon, BIRDV6: s.daemon}
	}
	if q.Asks(v3.StatusBGP) {
		out.BGP = bgpReport(s.peers, now)
	}
	if q.Asks(v3.StatusRoutes) {
		out.Routes = v3.CalicoNodeBGPRouteStatus{RoutesV4: routeReport(s, false), RoutesV6: routeReport(s, true)}
	}
	return out
}

var reportTypes = map[status.PeerType]v3.BGPPeerType{status.PeerMesh: v3.PeerNodeMesh, status.PeerNode: v3.PeerNode, status.PeerGlobal: v3.PeerGlobal}

func bgpReport(peers []status.Peer, now time.Time) (out v3.CalicoNodeBGPStatus) {
	for _, p := range peers {
		x := v3.CalicoNodePeer{PeerIP: p.Addr.String(), Type: reportTypes[p.Type], State: v3.BGPSessionState(p.State)}
		switch p.State { // what are no states of the protocol
		case passive:
			x.State = v3.SessionActive
		case status.Refused:
			x.State = v3.SessionIdle
		}
		if !p.Since.IsZero() {
			x.Since = bird.Since(p.Since, now)
		}
		up, down, list := &out.NumberEstablishedV4, &out.NumberNotEstablishedV4, &out.PeersV4
		if p.Addr.Is6() {
			up, down, list = &out.NumberEstablishedV6, &out.NumberNotEstablishedV6, &out.PeersV6
		}
		if *list = append(*list, x); p.Up {
			*up++
		} else {
			*down++
		}
	}
	return out
}

// routeReport lists the routes of a family: what the agent has in the kernel, and what else peers have told.
func routeReport(s sight, six bool) (out []v3.CalicoNodeRoute) {
	for _, r := range s.routes {
		if r.Dst.Addr().Is6() != six || r.Proto == model.ProtoBIRD {
			continue
		}
		x := v3.CalicoNodeRoute{Type: v3.RouteFIB, Destination: r.Dst.String(), Gateway: "N/A", Interface: r.Dev}
		x.LearnedFrom.SourceType = v3.FromKernel
		if r.Via.IsValid() {
			x.Gateway = r.Via.String()
		}
		if r.Blackhole {
			x.Interface, x.LearnedFrom.SourceType = "blackhole", v3.FromStatic
		}
		out = append(out, x)
	}
	kernel := map[string]string{} // device by destination and next hop
	for _, r := range s.routes {
		if r.Proto == model.ProtoBIRD {
			for _, h := range append([]model.Hop{{Dev: r.Dev, Via: r.Via}}, r.Others.List()...) {
				kernel[r.Dst.String()+" "+h.Via.String()], kernel[r.Dst.String()] = h.Dev, r.Dev
			}
		}
	}
	for _, p := range s.paths {
		if p.Prefix.Addr().Is6() != six {
			continue
		}
		x := v3.CalicoNodeRoute{Type: v3.RouteRIB, Destination: p.Prefix.String(), Gateway: p.NextHop.String()}
		x.LearnedFrom = v3.CalicoNodeRouteLearnedFrom{SourceType: v3.FromBGPPeer, PeerIP: p.Peer.String()}
		if p.Type == status.PeerMesh {
			x.LearnedFrom.SourceType = v3.FromNodeMesh
		}
		dev, direct := kernel[x.Destination+" "+x.Gateway]
		if behind, there := kernel[x.Destination]; p.Used && there {
			x.Type = v3.RouteFIB
			if x.Interface = behind; direct { // else the next hop is behind a router
				x.Interface = dev
			}
		}
		out = append(out, x)
	}
	if len(out) > reportRoutes {
		out = out[:reportRoutes]
	}
	return out
}

// daemon describes the speaker as one of BIRD's daemons.
func (s *sessions) daemon() v3.BGPDaemonStatus {
	c, since, ok := s.config()
	if !ok {
		return v3.BGPDaemonStatus{State: v3.BGPDaemonNotReady}
	}
	return v3.BGPDaemonStatus{State: v3.BGPDaemonReady, Version: Version, RouterID: c.RouterID.String(), LastReconfigurationTime: since.Format(timeForm)}
}

// sight is what a CalicoNodeStatus is told of this node.
func (a *Agent) sight(ctx context.Context, routes bool) sight {
	out := sight{daemon: v3.BGPDaemonStatus{State: v3.BGPDaemonNotReady}}
	if routes {
		out.routes = a.routes()
	}
	if a.bgp == nil {
		return out
	}
	out.daemon, out.peers = a.bgp.daemon(), a.bgp.Peers(ctx)
	if out.daemon.State == v3.BGPDaemonReady {
		out.daemon.LastBootTime = a.born.Format(timeForm)
	}
	if routes {
		out.paths = a.bgp.all(ctx)
	}
	return out
}
