package bgp

import (
	"context"
	"net/netip"
	"slices"

	api "github.com/osrg/gobgp/v3/api"
)

// Known is a path that a peer has told, whether it is used or not.
type Known struct {
	Path
	Used bool // it is one of Paths
	// Refused: it was not taken in, since a filter turned it down, or since our AS is in its AS path.
	Refused bool
}

// Config returns what Set was told last; not ok before that. The caller must not change what is in it.
func (s *Speaker) Config() (c Config, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.want == nil {
		return c, false
	}
	return *s.want, true
}

// Known returns all that peers have told of the prefixes around a network and of itself, those of a prefix next to each
// other and the used ones first. It is for people: GoBGP is asked once for each peer.
func (s *Speaker) Known(ctx context.Context, around netip.Prefix) []Known {
	inst, peers := s.running()
	return s.known(inst, around.Masked(), func(take func(p *api.Path, refused bool)) {
		inst.list(ctx, api.TableType_GLOBAL, "", around, func(p *api.Path) { take(p, false) })
		for _, p := range peers {
			if p.carries(around) {
				inst.list(ctx, api.TableType_ADJ_IN, p.Address.String(), around, func(p *api.Path) { take(p, true) })
			}
		}
	})
}

// Table returns all paths that peers have told and that were taken in, used or not, in the order of Known.
func (s *Speaker) Table(ctx context.Context) []Known {
	inst, _ := s.running()
	return s.known(inst, netip.Prefix{}, func(take func(p *api.Path, refused bool)) {
		for _, all := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			inst.list(ctx, api.TableType_GLOBAL, "", netip.PrefixFrom(all, -1), func(p *api.Path) { take(p, false) })
		}
	})
}

// known gathers what GoBGP lists, the first listing of a path counts, and what is kept of sessions that start anew. around
// limits the latter; not valid: not at all.
func (s *Speaker) known(inst *instance, around netip.Prefix, from func(take func(p *api.Path, refused bool))) []Known {
	seen, at := map[pathKey]bool{}, map[hopKey]int{}
	var list []Known
	if inst != nil {
		from(func(p *api.Path, refused bool) {
			path, learned, err := fromAPI(p)
			key := pathKey{path.Peer, path.Prefix, p.Identifier}
			if err != nil || !learned || seen[key] {
				return
			}
			seen[key] = true
			path.External, path.Stale = inst.isExternal(path.Peer), p.Stale
			if !refused {
				at[keyOf(path)] = len(list)
			}
			list = append(list, Known{Path: path, Refused: refused})
		})
	}
	for _, p := range s.rib.list() {
		if around.IsValid() && (p.Prefix.Bits() > around.Bits() || !p.Prefix.Contains(around.Addr())) {
			continue
		}
		i, there := at[keyOf(p)]
		if !there {
			i, list = len(list), append(list, Known{Path: p})
		}
		list[i].Used, list[i].Stale = true, p.Stale
	}
	slices.SortFunc(list, compareKnown)
	return list
}

// Prefixes counts those that Paths leads to.
func (s *Speaker) Prefixes() (v4, v6 int) {
	s.rib.mu.Lock()
	defer s.rib.mu.Unlock()
	all := map[netip.Prefix]bool{}
	for _, h := range s.rib.held {
		for p := range h.paths {
			all[p] = true
		}
	}
	for p := range s.rib.live {
		all[p] = true
	}
	for p := range all {
		if p.Addr().Is6() {
			v6++
		} else {
			v4++
		}
	}
	return v4, v6
}

// Told returns which peers that are up are told of the prefixes around a network and of itself. It is for people: GoBGP
// goes through all routes for each peer.
func (s *Speaker) Told(ctx context.Context, around netip.Prefix) map[netip.Prefix][]netip.Addr {
	inst, peers := s.running()
	out := map[netip.Prefix][]netip.Addr{}
	if inst == nil {
		return out
	}
	up := map[netip.Addr]bool{}
	for _, p := range s.Peers(ctx) {
		up[p.Address] = p.State == Established
	}
	for _, p := range peers {
		if !up[p.Address] || !p.carries(around) {
			continue
		}
		inst.list(ctx, api.TableType_ADJ_OUT, p.Address.String(), around, func(x *api.Path) {
			path, _, err := fromAPI(x)
			if path.Prefix.IsValid() && err == nil && !slices.Contains(out[path.Prefix], p.Address) {
				out[path.Prefix] = append(out[path.Prefix], p.Address)
			}
		})
	}
	for _, list := range out {
		slices.SortFunc(list, netip.Addr.Compare)
	}
	return out
}

// pathKey tells what GoBGP knows apart. id is that of RFC 7911.
type pathKey struct {
	peer   netip.Addr
	prefix netip.Prefix
	id     uint32
}

// hopKey tells paths apart that differ for the kernel.
type hopKey struct {
	peer, hop netip.Addr
	prefix    netip.Prefix
}

func keyOf(p Path) hopKey { return hopKey{p.Peer, p.NextHop, p.Prefix} }

func compareKnown(a, b Known) int {
	rank := func(k Known) int {
		switch {
		case k.Used:
			return 0
		case k.Refused:
			return 2
		}
		return 1
	}
	if d := comparePrefixes(a.Prefix, b.Prefix); d != 0 {
		return d
	}
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	return comparePaths(a.Path, b.Path)
}

// running returns the server and its peers; nil when there is none.
func (s *Speaker) running() (*instance, []Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inst == nil || s.want == nil {
		return nil, nil
	}
	return s.inst, s.want.Peers
}

// list lists what is in one of GoBGP's tables of the prefixes around a network; of a family whole when around has no
// length. A peer that GoBGP does not have yet, or has no longer, has nothing.
func (i *instance) list(ctx context.Context, table api.TableType, peer string, around netip.Prefix, f func(*api.Path)) {
	family := &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	if around.Addr().Is6() {
		family.Afi = api.Family_AFI_IP6
	}
	// EnableFiltered would have GoBGP write into the table that it lists.
	r := &api.ListPathRequest{TableType: table, Name: peer, Family: family}
	if around.IsValid() {
		r.Prefixes = []*api.TableLookupPrefix{{Prefix: around.Masked().String(), Type: api.TableLookupPrefix_SHORTER}}
	}
	_ = i.srv.ListPath(ctx, r, func(d *api.Destination) {
		for _, p := range d.Paths {
			f(p)
		}
	})
}
