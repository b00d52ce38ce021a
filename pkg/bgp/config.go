package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Defaults of Config's fields; those of BIRD in Calico.
const (
	DefaultPort        = 179
	DefaultHold        = 90 * time.Second
	DefaultRestartTime = 120 * time.Second
	DefaultSyncWait    = 10 * time.Second
)

// maxRestartTime is what twelve bits of seconds hold (RFC 4724, 3).
const maxRestartTime = 4095 * time.Second

// Config is all that a speaker should do. It is plain data: equal values mean equal behaviour. The zero value of a field
// means what its comment says.
type Config struct {
	AS       uint32     // of this node, four bytes
	RouterID netip.Addr // an IPv4 address, unique in the AS; see HashID
	// Listen are the addresses that peers may connect to; none: all of both families. Port is their TCP port; 0: 179.
	Listen []netip.Addr `json:",omitzero"`
	Port   uint16       `json:",omitempty"`

	Hold      time.Duration `json:",omitempty"` // without a message for so long a peer is dead; 0: 90 s
	Keepalive time.Duration `json:",omitempty"` // 0: a third of Hold
	// RestartTime is how long peers shall keep our routes while we are gone; 0: 120 s; at most 4095 s.
	RestartTime time.Duration `json:",omitempty"`
	// LongLived is how much longer they shall keep them as a last resort (RFC 9494); 0: not at all.
	LongLived time.Duration `json:",omitempty"`
	// SyncWait is how long after a start peers that have not come up hold back what we tell the others; 0: 10 s.
	SyncWait time.Duration `json:",omitempty"`

	Peers []Peer `json:",omitempty"`
	// Announce are the prefixes that this node is the origin of.
	Announce []Announcement `json:",omitempty"`
	// Transit are networks whose learned routes are passed on: IP pools, and on a route reflector the Services' ranges.
	// Nothing else that was learned is, whatever the peer.
	Transit []netip.Prefix `json:",omitzero"`
	// Withhold are networks of which no route leaves unless a filter accepts it: pools with disableBGPExport.
	Withhold []netip.Prefix `json:",omitzero"`
	// Tags are the communities of prefixAdvertisements.
	Tags []Tag `json:",omitempty"`
	// Filters are the BGPFilters that peers name.
	Filters map[string]Filter `json:",omitempty"`
}

// Kind says why a peer is there; node status shows it.
type Kind string

// Values of Kind, as Calico's names of BIRD protocols begin.
const (
	Mesh   Kind = "Mesh"
	Global Kind = "Global"
	Node   Kind = "Node"
)

// NextHopMode says which next hop a peer is told.
type NextHopMode string

// Values of NextHopMode, as in BGPPeer.
const (
	NextHopAuto NextHopMode = "" // our address for what we originate, and for all towards another AS; else as learned
	NextHopSelf NextHopMode = "Self"
	NextHopKeep NextHopMode = "Keep"
)

// Peer is a wanted session. Address is its key: there can be one per address.
type Peer struct {
	Kind    Kind
	Address netip.Addr
	Port    uint16 `json:",omitempty"` // 0: 179
	AS      uint32
	LocalAS uint32 `json:",omitempty"` // instead of Config.AS; 0: that
	// LocalAddress is the source of our connections and the only address that the peer may connect to; not valid: any.
	LocalAddress netip.Addr `json:",omitzero"`
	Password     string     `json:",omitempty"` // of TCP MD5 (RFC 2385), 80 bytes at most
	// Passive: only the other side connects. In a mesh one of the two must be passive, or the connections collide.
	Passive bool `json:",omitempty"`
	// Families that the session carries; both false: that of Address.
	IPv4, IPv6 bool `json:",omitempty"`

	Client    bool       `json:",omitempty"` // of us as its route reflector
	ClusterID netip.Addr `json:",omitzero"`  // ours, an IPv4 address, with Client

	NextHop     NextHopMode   `json:",omitempty"`
	TTLSecurity uint8         `json:",omitempty"` // hops between us and the peer at most (RFC 5082); 0: any, unchecked
	Keepalive   time.Duration `json:",omitempty"` // 0: Config.Keepalive
	RestartTime time.Duration `json:",omitempty"` // 0: Config.RestartTime
	AllowOwnAS  uint8         `json:",omitempty"` // how often our AS may be in a learned path
	AddPaths    bool          `json:",omitempty"` // several paths for one prefix (RFC 7911), both ways
	Filters     []string      `json:",omitempty"` // names in Config.Filters, in order
}

// Announcement is a prefix that we originate.
type Announcement struct {
	Prefix netip.Prefix
	// NextHop is told to peers; not valid: our address of the session. A session that runs over the other family needs one.
	NextHop     netip.Addr  `json:",omitzero"`
	Communities []Community `json:",omitempty"`
	Preference  uint32      `json:",omitempty"` // LOCAL_PREF for peers of our AS, see Preference; 0: 100
	Interface   string      `json:",omitempty"` // the kernel's outgoing device; for filters with an interface
}

// Tag adds communities to all that we tell of the routes within a network.
type Tag struct {
	Within      netip.Prefix
	Communities []Community
}

// Preference is the LOCAL_PREF that stands for a route priority, the metric of a kernel route: 2³¹−1 less it, as Calico's
// nodes do it. The normal priority is 1024.
func Preference(priority int) uint32 { return uint32(1<<31 - 1 - priority) }

func (p *Peer) external(c *Config) bool { return p.AS != p.localAS(c) }

func (p *Peer) localAS(c *Config) uint32 {
	if p.LocalAS != 0 {
		return p.LocalAS
	}
	return c.AS
}

// families returns which families the session carries.
func (p *Peer) families() (v4, v6 bool) {
	if p.IPv4 || p.IPv6 {
		return p.IPv4, p.IPv6
	}
	return p.Address.Is4(), p.Address.Is6()
}

func (p *Peer) carries(x netip.Prefix) bool {
	v4, v6 := p.families()
	return v4 && x.Addr().Is4() || v6 && x.Addr().Is6()
}

// check says what is wrong with a peer, so that it gets no session; others go on.
func (p *Peer) check(c *Config) error {
	switch {
	case !p.Address.IsValid() || p.Address.IsUnspecified():
		return fmt.Errorf("peer %q has no address", p.Address)
	case p.Address.Zone() != "":
		return fmt.Errorf("peer %s: link-local addresses are not supported: use the peer's global address", p.Address)
	case p.AS == 0:
		return fmt.Errorf("peer %s has no AS number: set asNumber", p.Address)
	case len(p.Password) > 80:
		return fmt.Errorf("peer %s: password has %d bytes, TCP MD5 takes 80", p.Address, len(p.Password))
	case p.LocalAddress.IsValid() && p.LocalAddress.Is4() != p.Address.Is4():
		return fmt.Errorf("peer %s: local address %s is of the other family", p.Address, p.LocalAddress)
	case p.Client && p.external(c):
		return fmt.Errorf("peer %s: a route reflector's client has its AS, not %d", p.Address, p.AS)
	case p.Client && !p.ClusterID.Is4():
		return fmt.Errorf("peer %s: a client needs our cluster ID, an IPv4 address: set routeReflectorClusterID", p.Address)
	case p.NextHop != NextHopAuto && p.NextHop != NextHopSelf && p.NextHop != NextHopKeep:
		return fmt.Errorf("peer %s: next hop mode %q: want Auto, Self or Keep", p.Address, p.NextHop)
	case p.RestartTime > maxRestartTime:
		return fmt.Errorf("peer %s: restart time %s: want %s at most", p.Address, p.RestartTime, maxRestartTime)
	}
	for _, name := range p.Filters {
		f, ok := c.Filters[name]
		if !ok {
			return fmt.Errorf("peer %s: there is no BGPFilter %q", p.Address, name)
		}
		if err := f.Check(); err != nil {
			return fmt.Errorf("peer %s: filter %s: %w", p.Address, name, err)
		}
	}
	return nil
}

// settle returns a copy with defaults filled in and everything in a fixed order, and what is wrong with the whole.
func (c Config) settle() (Config, error) {
	if c.AS == 0 {
		return c, fmt.Errorf("configure BGP: no AS number: set asNumber in BGPConfiguration")
	}
	if !c.RouterID.Is4() || c.RouterID.IsUnspecified() {
		return c, fmt.Errorf("configure BGP: router ID %q is no IPv4 address: set CALICO_ROUTER_ID, or to hash", c.RouterID)
	}
	if c.Hold != 0 && c.Hold < 3*time.Second {
		return c, fmt.Errorf("configure BGP: hold time %s: want 3s at least", c.Hold)
	}
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	if c.Hold == 0 {
		c.Hold = DefaultHold
	}
	if c.Keepalive == 0 {
		c.Keepalive = c.Hold / 3
	}
	if c.RestartTime == 0 {
		c.RestartTime = DefaultRestartTime
	}
	c.RestartTime = min(c.RestartTime, maxRestartTime)
	if c.SyncWait == 0 {
		c.SyncWait = DefaultSyncWait
	}
	c.Listen = slices.SortedFunc(slices.Values(c.Listen), netip.Addr.Compare)
	c.Peers = slices.SortedFunc(slices.Values(c.Peers), func(a, b Peer) int { return a.Address.Compare(b.Address) })
	c.Transit = sortedPrefixes(c.Transit)
	c.Withhold = sortedPrefixes(c.Withhold)
	return c, nil
}

func sortedPrefixes(in []netip.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(in))
	for _, p := range in {
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, comparePrefixes)
	return slices.Compact(out)
}

func comparePrefixes(a, b netip.Prefix) int {
	if d := a.Addr().Compare(b.Addr()); d != 0 {
		return d
	}
	return a.Bits() - b.Bits()
}
