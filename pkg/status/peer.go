package status

import (
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// PeerType says why there is a session.
type PeerType string

// Values of PeerType.
const (
	PeerMesh   PeerType = "mesh"   // node-to-node mesh
	PeerNode   PeerType = "node"   // a BGPPeer that selects nodes
	PeerGlobal PeerType = "global" // a BGPPeer of all nodes
)

// Words are calicoctl's for a type.
func (t PeerType) Words() string {
	switch t {
	case PeerMesh:
		return "node-to-node mesh"
	case PeerNode:
		return "node specific"
	}
	return string(t)
}

// Peer is a BGP session.
type Peer struct {
	Addr  netip.Addr `json:"addr"`
	Type  PeerType   `json:"type"`
	AS    uint32     `json:"as,omitempty"`
	Up    bool       `json:"up"`
	Since time.Time  `json:"since"` // of being up, or not
	// State is that of BGP's machine: Idle, Active, OpenSent, OpenConfirm, Established; or Passive: only the other side
	// connects; or Refused: what is configured cannot be.
	State string `json:"state"`
	// Info says why the session is not up, as BIRD does: "Socket: Connection refused".
	Info string `json:"info,omitempty"`
	// Reason is what went wrong last, At when. It stays when the session is up again.
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at,omitzero"`
	// Restarting: the peer is gone without a word, and its routes are kept for now.
	Restarting bool `json:"restarting,omitempty"`

	Received   int    `json:"received"` // paths, also those that are not used
	Sessions   uint64 `json:"sessions"` // that there have been since the agent started
	UpdatesIn  uint64 `json:"updatesIn"`
	UpdatesOut uint64 `json:"updatesOut"`
}

// Refused is the State of a peer that cannot be as it is configured.
const Refused = "Refused"

// Proto is the state in BIRD's words: up, start or down.
func (p Peer) Proto() string {
	switch {
	case p.Up:
		return "up"
	case p.State == Refused:
		return "down"
	}
	return "start"
}

// classes are how reasons begin, and how BIRD says it (proto/bgp/bgp.c, bgp_err_classes).
var classes = []struct{ reason, bird string }{
	{"connect: ", "Socket: "}, {"peer closed: ", "Received: "}, {"closed: ", "BGP Error: "}, {"hold timer expired", "BGP Error: Hold timer expired"},
}

// InfoOf is Peer.Info for a reason.
func InfoOf(reason string) string {
	if reason == "" {
		return ""
	}
	reason = strings.Replace(reason, "connect: timeout", "connect: connection timed out", 1)
	for _, c := range classes {
		if rest, ok := strings.CutPrefix(reason, c.reason); ok {
			return c.bird + capital(rest)
		}
	}
	return "Error: " + capital(reason)
}

func capital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return ""
	}
	return string(unicode.ToUpper(r)) + s[n:]
}

// Path is what a BGP peer has told of a prefix.
type Path struct {
	Prefix      netip.Prefix `json:"prefix"`
	NextHop     netip.Addr   `json:"nextHop"`
	Peer        netip.Addr   `json:"peer"`
	Type        PeerType     `json:"type"` // the peer's
	AS          uint32       `json:"as"`   // the peer's
	ASPath      []uint32     `json:"asPath,omitempty"`
	Preference  uint32       `json:"preference,omitempty"` // LOCAL_PREF; 0: it came with none
	MED         uint32       `json:"med,omitempty"`
	Communities []string     `json:"communities,omitempty"`
	Stale       bool         `json:"stale,omitempty"`   // its peer is gone, and is waited for
	Used        bool         `json:"used,omitempty"`    // it is the best, or as good
	Refused     bool         `json:"refused,omitempty"` // a filter turned it down, or it has been in our AS before
}

// Announced is a prefix that BGP peers are told of.
type Announced struct {
	Prefix netip.Prefix `json:"prefix"`
	Own    bool         `json:"own,omitempty"` // this node is its origin; else it passes on what it has learned
	To     []netip.Addr `json:"to,omitempty"`  // peers that are up
}

// Found is what an agent knows of the way to a network or an address. All lists have the most specific first.
type Found struct {
	Routes    []Route     `json:"routes,omitempty"`    // that the agent wants, around the network or the same
	Inside    int         `json:"inside,omitempty"`    // how many it wants to parts of the network
	BGP       bool        `json:"bgp,omitempty"`       // the agent speaks BGP; without, the following are empty
	Peers     int         `json:"peers,omitempty"`     // that are up
	Paths     []Path      `json:"paths,omitempty"`     // that peers have told, of one prefix the used ones first
	Announced []Announced `json:"announced,omitempty"` // … and what is announced
}
