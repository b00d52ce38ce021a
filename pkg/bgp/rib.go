package bgp

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// Path is one of the best learned paths to a prefix. Equally good ones are several Paths, and two reflectors' of one
// route have the same NextHop. A stale one is there only where no fresh one is: its peer may be dead.
type Path struct {
	Prefix      netip.Prefix
	NextHop     netip.Addr
	Peer        netip.Addr // who told us
	ASPath      []uint32
	Preference  uint32 // LOCAL_PREF; 0 from another AS that was given none
	MED         uint32
	Communities []Community
	External    bool // learned from another AS
	Stale       bool // its peer is gone, and we wait for it to come back
}

// hold is what was learned from a peer before its session ended and is to start anew.
type hold struct {
	until time.Time
	down  bool // the old session is over
	paths map[netip.Prefix][]Path
}

// rib keeps the best paths that GoBGP reports.
type rib struct {
	mu   sync.Mutex
	live map[netip.Prefix][]Path
	held map[netip.Addr]*hold
	down map[netip.Addr]bool // peers whose session is over
}

func newRIB() *rib {
	return &rib{live: map[netip.Prefix][]Path{}, held: map[netip.Addr]*hold{}, down: map[netip.Addr]bool{}}
}

// update takes in all best paths of one prefix; none that is learned means that it is gone.
func (r *rib) update(paths []*api.Path, external func(netip.Addr) bool) error {
	var prefix netip.Prefix
	var list []Path
	for _, p := range paths {
		path, learned, err := fromAPI(p)
		if err != nil {
			return err
		}
		prefix = path.Prefix
		if path.External = external(path.Peer); learned {
			list = append(list, path)
		}
	}
	slices.SortFunc(list, comparePaths)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(list) == 0 {
		delete(r.live, prefix)
	} else {
		r.live[prefix] = list
	}
	return nil
}

func comparePaths(a, b Path) int {
	return cmp.Or(a.NextHop.Compare(b.NextHop), a.Peer.Compare(b.Peer))
}

// list returns all paths, those of a prefix next to each other.
func (r *rib) list() []Path {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[netip.Prefix][]Path{}
	for _, h := range r.held {
		for prefix, paths := range h.paths {
			all[prefix] = append(all[prefix], paths...)
		}
	}
	maps.Copy(all, r.live)
	out := make([]Path, 0, len(all))
	for _, prefix := range slices.SortedFunc(maps.Keys(all), comparePrefixes) {
		paths := all[prefix]
		if slices.ContainsFunc(paths, func(p Path) bool { return !p.Stale }) {
			paths = slices.DeleteFunc(slices.Clone(paths), func(p Path) bool { return p.Stale })
		}
		out = append(out, paths...)
	}
	return out
}

// hold keeps what a peer has told until its next session has told it again, or until a time, the latest that was said.
func (r *rib) hold(peer netip.Addr, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := &hold{until: until, paths: map[netip.Prefix][]Path{}}
	if old := r.held[peer]; old != nil {
		h.paths = old.paths
		if old.until.After(until) {
			h.until = old.until
		}
	}
	for prefix, paths := range r.live {
		var its []Path
		for _, p := range paths {
			if p.Peer == peer {
				p.Stale = true
				its = append(its, p)
			}
		}
		if len(its) > 0 {
			h.paths[prefix] = its
		}
	}
	r.held[peer] = h
}

// reset forgets what GoBGP has reported, of which another instance follows.
func (r *rib) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.live)
}

// state takes in that a peer's session is up or not.
func (r *rib) state(peer netip.Addr, up bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if up {
		delete(r.down, peer)
		return
	}
	if !r.down[peer] { // what comes later of it is said to be stale
		r.down[peer] = true
		r.mark(peer, true, func(netip.Prefix) bool { return true })
	}
	if h := r.held[peer]; h != nil {
		h.down = true
	}
}

// mark notes whether what GoBGP has of a peer is stale. It does not report what a peer tells again just as it was.
func (r *rib) mark(peer netip.Addr, stale bool, of func(netip.Prefix) bool) {
	for prefix, paths := range r.live {
		if of(prefix) {
			for i := range paths {
				if paths[i].Peer == peer {
					paths[i].Stale = stale
				}
			}
		}
	}
}

// told takes in that a peer has told everything of a family.
func (r *rib) told(peer netip.Addr, v6 bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	family := func(p netip.Prefix) bool { return p.Addr().Is6() == v6 }
	r.mark(peer, false, family)
	h := r.held[peer]
	if h == nil || !h.down {
		return
	}
	maps.DeleteFunc(h.paths, func(p netip.Prefix, _ []Path) bool { return family(p) })
	if len(h.paths) == 0 {
		delete(r.held, peer)
	}
}

// release forgets peers that are wanted no more, and held paths that are due; next is when others are, zero when none is.
func (r *rib) release(now time.Time, wanted func(netip.Addr) bool) (next time.Time, changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.down, func(peer netip.Addr, _ bool) bool { return !wanted(peer) })
	for peer, h := range r.held {
		if !wanted(peer) || !now.Before(h.until) {
			delete(r.held, peer)
			changed = true
		} else if next.IsZero() || h.until.Before(next) {
			next = h.until
		}
	}
	return next, changed
}

// fromAPI reads a path; learned is false for a withdrawal and for what we announce ourselves.
func fromAPI(p *api.Path) (out Path, learned bool, err error) {
	var nlri api.IPAddressPrefix
	if err := p.Nlri.UnmarshalTo(&nlri); err != nil {
		return out, false, fmt.Errorf("read path: %w", err)
	}
	addr, err := netip.ParseAddr(nlri.Prefix)
	if err != nil {
		return out, false, fmt.Errorf("read path: %w", err)
	}
	out.Prefix, out.Stale = netip.PrefixFrom(addr, int(nlri.PrefixLen)), p.Stale
	out.Peer, err = netip.ParseAddr(p.NeighborIp)
	if p.IsWithdraw || err != nil { // what we announce has no neighbour
		return out, false, nil
	}
	attrs, err := apiutil.GetNativePathAttributes(p)
	if err != nil {
		return out, false, fmt.Errorf("read path to %s: %w", out.Prefix, err)
	}
	for _, attr := range attrs {
		out.take(attr)
	}
	return out, out.NextHop.IsValid(), nil
}

func (p *Path) take(attr bgp.PathAttributeInterface) {
	switch a := attr.(type) {
	case *bgp.PathAttributeNextHop:
		p.NextHop = fromIP(a.Value)
	case *bgp.PathAttributeMpReachNLRI:
		p.NextHop = fromIP(a.Nexthop)
	case *bgp.PathAttributeAsPath:
		for _, segment := range a.Value {
			p.ASPath = append(p.ASPath, segment.GetAS()...)
		}
	case *bgp.PathAttributeLocalPref:
		p.Preference = a.Value
	case *bgp.PathAttributeMultiExitDisc:
		p.MED = a.Value
	case *bgp.PathAttributeCommunities:
		for _, c := range a.Value {
			p.Communities = append(p.Communities, Community(fmt.Sprintf("%d:%d", c>>16, c&0xffff)))
		}
	case *bgp.PathAttributeLargeCommunities:
		for _, c := range a.Values {
			if c.String() != leaving {
				p.Communities = append(p.Communities, Community(c.String()))
			}
		}
	}
}

func fromIP(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
