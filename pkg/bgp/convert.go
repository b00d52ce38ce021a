package bgp

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"google.golang.org/protobuf/types/known/anypb"
)

// Seconds that GoBGP waits before it tries again. Each try is delayed by up to twice as much.
const (
	connectRetry   = 1
	idleAfterReset = 1
)

// settings are what a session is made of: when they differ, it starts anew. Filters and next hop are not among them.
func settings(c *Config, p *Peer) string {
	q := *p
	q.Filters, q.NextHop, q.Kind = nil, "", ""
	b, err := json.Marshal([]any{q, c.Hold, c.Keepalive, c.RestartTime, c.LongLived})
	if err != nil {
		panic(err) // plain data
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// apiPeer is a peer as GoBGP takes it. GoBGP compares descriptions, too, so the settings go there: an update starts the
// session anew exactly when they differ, also in what GoBGP would otherwise not apply (RouteReflector) or only later.
func apiPeer(c *Config, p *Peer, restarting bool) *api.Peer {
	restart := seconds(max(p.RestartTime, 0), c.RestartTime)
	out := &api.Peer{
		Conf: &api.PeerConf{NeighborAddress: p.Address.String(), PeerAsn: p.AS, LocalAsn: p.localAS(c), AuthPassword: p.Password,
			AllowOwnAsn: uint32(p.AllowOwnAS), Description: settings(c, p)},
		Timers: &api.Timers{Config: &api.TimersConfig{HoldTime: uint64(c.Hold / time.Second), KeepaliveInterval: uint64(seconds(p.Keepalive, c.Keepalive)),
			ConnectRetry: connectRetry, IdleHoldTimeAfterReset: idleAfterReset}},
		Transport: &api.Transport{RemotePort: uint32(p.Port), PassiveMode: p.Passive},
		GracefulRestart: &api.GracefulRestart{Enabled: true, RestartTime: restart, NotificationEnabled: true, LonglivedEnabled: c.LongLived > 0,
			DeferralTime: uint32(c.SyncWait/time.Second) + 5, LocalRestarting: restarting},
	}
	if p.LocalAddress.IsValid() {
		out.Transport.LocalAddress = p.LocalAddress.String()
	}
	if p.Client {
		out.RouteReflector = &api.RouteReflector{RouteReflectorClient: true, RouteReflectorClusterId: p.ClusterID.String()}
	}
	if p.TTLSecurity > 0 {
		out.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: 256 - uint32(p.TTLSecurity)}
	} else if p.external(c) {
		out.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: 255}
	}
	v4, v6 := p.families()
	if v4 {
		out.AfiSafis = append(out.AfiSafis, family(api.Family_AFI_IP, c.LongLived, p.AddPaths))
	}
	if v6 {
		out.AfiSafis = append(out.AfiSafis, family(api.Family_AFI_IP6, c.LongLived, p.AddPaths))
	}
	return out
}

func family(afi api.Family_Afi, longLived time.Duration, addPaths bool) *api.AfiSafi {
	f := &api.AfiSafi{
		Config:            &api.AfiSafiConfig{Family: &api.Family{Afi: afi, Safi: api.Family_SAFI_UNICAST}, Enabled: true},
		MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: true}},
	}
	if longLived > 0 {
		f.LongLivedGracefulRestart = &api.LongLivedGracefulRestart{Config: &api.LongLivedGracefulRestartConfig{Enabled: true, RestartTime: uint32(longLived / time.Second)}}
	}
	if addPaths {
		f.AddPaths = &api.AddPaths{Config: &api.AddPathsConfig{Receive: true, SendMax: 16}}
	}
	return f
}

// seconds is d, or when that is 0 another, in whole seconds, rounded up.
func seconds(d, other time.Duration) uint32 {
	if d == 0 {
		d = other
	}
	return uint32((min(d, maxRestartTime) + time.Second - 1) / time.Second)
}

// apiPath is an announcement as GoBGP takes it. extra communities are added.
func apiPath(a *Announcement, extra ...Community) (*api.Path, error) {
	prefix := a.Prefix.Masked()
	nlri, err := anypb.New(&api.IPAddressPrefix{Prefix: prefix.Addr().String(), PrefixLen: uint32(prefix.Bits())})
	if err != nil {
		return nil, fmt.Errorf("announce %s: %w", prefix, err)
	}
	hop, afi := a.NextHop, api.Family_AFI_IP
	if prefix.Addr().Is6() {
		afi = api.Family_AFI_IP6
	}
	if !hop.IsValid() {
		hop = netip.IPv4Unspecified()
		if prefix.Addr().Is6() {
			hop = netip.IPv6Unspecified()
		}
	}
	// GoBGP makes an MP_REACH_NLRI of the next hop itself where the family needs it.
	attrs := []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP), bgp.NewPathAttributeNextHop(hop.String())}
	if a.Preference != 0 {
		attrs = append(attrs, bgp.NewPathAttributeLocalPref(a.Preference))
	}
	var standard []uint32
	var large []*bgp.LargeCommunity
	for _, c := range append(extra, a.Communities...) {
		n, err := c.parse()
		if err != nil {
			return nil, fmt.Errorf("announce %s: %w", prefix, err)
		}
		if len(n) == 2 {
			standard = append(standard, n[0]<<16|n[1])
		} else {
			large = append(large, &bgp.LargeCommunity{ASN: n[0], LocalData1: n[1], LocalData2: n[2]})
		}
	}
	if len(standard) > 0 {
		attrs = append(attrs, bgp.NewPathAttributeCommunities(standard))
	}
	if len(large) > 0 {
		attrs = append(attrs, bgp.NewPathAttributeLargeCommunities(large))
	}
	pattrs, err := apiutil.MarshalPathAttributes(attrs)
	if err != nil {
		return nil, fmt.Errorf("announce %s: %w", prefix, err)
	}
	return &api.Path{Family: &api.Family{Afi: afi, Safi: api.Family_SAFI_UNICAST}, Nlri: nlri, Pattrs: pattrs}, nil
}
