package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/margay-net/margay/pkg/status"
)

// peerStates are the values of bgp_peers' label status.
var peerStates = []string{"Idle", "Passive", "Active", "OpenSent", "OpenConfirm", "Established", status.Refused}

// bgpDescs are the metrics of BGP's peers. They are there while the agent speaks BGP.
type bgpDescs struct{ peers, imported, updates, up, since, received, told, sessions *prometheus.Desc }

func newBGPDescs(desc func(name, help string, labels ...string) *prometheus.Desc) bgpDescs {
	per := []string{"peer", "type"}
	return bgpDescs{
		peers:    desc("bgp_peers", "BGP peers, by the state of the session.", "ip_version", "status"),
		imported: desc("bgp_routes_imported", "Prefixes learned by BGP that are in use.", "ip_version"),
		updates:  desc("bgp_route_updates_received", "UPDATE messages that BGP peers have sent.", "ip_version"),
		up:       desc("margay_bgp_peer_up", "1 while the session with this peer is up.", per...),
		since:    desc("margay_bgp_peer_since_seconds", "When the session with this peer came up or went down last, as Unix time; 0: never.", per...),
		received: desc("margay_bgp_peer_paths", "Paths that this peer has told, also those that are not used.", per...),
		told:     desc("margay_bgp_peer_updates_total", "UPDATE messages from and to this peer.", append(per, "direction")...),
		sessions: desc("margay_bgp_peer_sessions_total", "Sessions that there have been with this peer: what grows here flaps.", per...),
	}
}

// version is the label of a family.
func version(six bool) string {
	if six {
		return "IPv6"
	}
	return "IPv4"
}

// collectBGP looks BGP's state up.
func (c *scraped) collectBGP(to chan<- prometheus.Metric) {
	if c.Peers == nil {
		return
	}
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	states, updates := map[[2]string]int{}, map[string]uint64{}
	for _, p := range c.Peers() {
		family, peer, kind := version(p.Addr.Is6()), p.Addr.String(), string(p.Type)
		states[[2]string{family, p.State}]++
		updates[family] += p.UpdatesIn
		up, since := 0.0, 0.0
		if p.Up {
			up = 1
		}
		if !p.Since.IsZero() {
			since = float64(p.Since.Unix())
		}
		send(c.bgp.up, prometheus.GaugeValue, up, peer, kind)
		send(c.bgp.since, prometheus.GaugeValue, since, peer, kind)
		send(c.bgp.received, prometheus.GaugeValue, float64(p.Received), peer, kind)
		send(c.bgp.told, prometheus.CounterValue, float64(p.UpdatesIn), peer, kind, "in")
		send(c.bgp.told, prometheus.CounterValue, float64(p.UpdatesOut), peer, kind, "out")
		send(c.bgp.sessions, prometheus.CounterValue, float64(p.Sessions), peer, kind)
	}
	learned4, learned6 := c.Learned()
	for _, six := range []bool{false, true} {
		family, learned := version(six), learned4
		if six {
			learned = learned6
		}
		for _, state := range peerStates {
			send(c.bgp.peers, prometheus.GaugeValue, float64(states[[2]string{family, state}]), family, state)
		}
		send(c.bgp.imported, prometheus.GaugeValue, float64(learned), family)
		send(c.bgp.updates, prometheus.CounterValue, float64(updates[family]), family)
	}
}
