package peering

import (
	"slices"
	"strings"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/bgp"
)

// remembers builds for n2 and checks its sessions, what begins its faults and what ends them.
func remembers(t *testing.T, d *Directory, in Input, what string, want []string, fault, end string) bgp.Config {
	t.Helper()
	conf, faults := d.Build(in)
	var have []string
	for _, p := range conf.Peers {
		have = append(have, show(p, in.Nodes["n2"].Addr4.Addr()))
	}
	if !slices.Equal(have, want) {
		t.Errorf("%s: sessions are %q, want %q", what, have, want)
	}
	if fault == "" && faults != nil || fault != "" && (len(faults) != 1 || !strings.HasPrefix(faults[0], fault) || !strings.HasSuffix(faults[0], end)) {
		t.Errorf("%s: faults are %q, want %q ... %q", what, faults, fault, end)
	}
	return conf
}

// TestLastPassword: a session keeps its password while the Secret is away or lacks the key; one that never had it does not
// come up.
func TestLastPassword(t *testing.T) {
	const stays, none = "its last password stays in use until the agent restarts", "there is no session until then"
	c := three().only4().with(t, off, "peer p: {peerIP: 192.168.42.1, asNumber: 64512, password: {secretKeyRef: {name: s, key: k}}}")
	d, in := c.directory(), c.input("n2")
	session := func(password string) []string { return []string{"Global 192.168.42.1 password " + password} }
	remembers(t, d, in, "never there", nil, "BGPPeer p: spec.password: there is no Secret s", none)
	d.SetSecret("s", map[string][]byte{"k": []byte("one")})
	remembers(t, d, in, "there", session("one"), "", "")
	d.SetSecret("s", nil)
	remembers(t, d, in, "gone", session("one"), "BGPPeer p: spec.password: there is no Secret s", stays)
	d.SetSecret("s", map[string][]byte{"other": []byte("x")})
	remembers(t, d, in, "without its key", session("one"), "BGPPeer p: spec.password: the Secret s has no key k", stays)
	d.SetSecret("s", map[string][]byte{"k": []byte("two")})
	remembers(t, d, in, "made anew", session("two"), "", "")
	d.SetSecret("s", nil)
	d.SetPeer("q", &v3.BGPPeerSpec{PeerIP: "192.168.42.2", Password: c.peers["p"].Password})
	if conf, _ := d.Build(in); len(conf.Peers) != 2 || conf.Peers[1].Password != "two" {
		t.Errorf("a second session has the same password: %+v", conf.Peers)
	}
	d.SetPeer("q", nil)
	d.SetPeer("p", nil)
	remembers(t, d, in, "not referred to", nil, "", "")
	d.SetPeer("p", c.peers["p"])
	remembers(t, d, in, "forgotten", nil, "BGPPeer p: spec.password: there is no Secret s", none)

	// The mesh's, too.
	c = three().only4().with(t, "node n1: {only: -1}", "config default: {nodeMeshPassword: {secretKeyRef: {name: m, key: k}}}", "secret m: {k: hush}")
	d, in = c.directory(), c.input("n2")
	mesh := []string{"Mesh 192.168.10.3 passive password hush"}
	remembers(t, d, in, "mesh", mesh, "", "")
	d.SetSecret("m", nil)
	remembers(t, d, in, "mesh, gone", mesh, "BGPConfiguration default: spec.nodeMeshPassword: there is no Secret m", stays)
}

// TestLastFilter: a session keeps the rules of a filter that is gone, or that has turned into one which can't be carried out.
func TestLastFilter(t *testing.T) {
	c := three().only4().with(t, off, "peer p: {peerIP: 192.168.42.1, asNumber: 64512, filters: [f]}")
	d, in := c.directory(), c.input("n2")
	session := []string{"Global 192.168.42.1 filters [f]"}
	rule := func(what string, conf bgp.Config, want bgp.Action) {
		t.Helper()
		rules := conf.Filters["f"].Export4
		if want == "" && conf.Filters != nil || want != "" && (len(rules) != 1 || rules[0].Action != want) {
			t.Errorf("%s: filters are %+v, want %s", what, conf.Filters, want)
		}
	}
	set := func(action v3.FilterAction, priority *int) {
		r := v3.BGPFilterRuleV4{BGPFilterRule: v3.BGPFilterRule{Action: action, Priority: priority}}
		d.SetFilter("f", &v3.BGPFilterSpec{ExportV4: []v3.BGPFilterRuleV4{r}})
	}
	some := 512
	rule("never there", remembers(t, d, in, "never there", session, "BGPPeer p: spec.filters[0]: there is no BGPFilter f", "no session until then"), "")
	set(v3.FilterReject, &some)
	rule("never good", remembers(t, d, in, "never good", session, "BGPFilter f: spec.exportV4[0].priority is not supported", "no session until then"), "")
	set(v3.FilterReject, nil)
	rule("there", remembers(t, d, in, "there", session, "", ""), bgp.Reject)
	d.SetFilter("f", nil)
	rule("gone", remembers(t, d, in, "gone", session, "BGPPeer p: spec.filters[0]: there is no BGPFilter f", lastRules), bgp.Reject)
	set(v3.FilterAccept, &some)
	rule("broken", remembers(t, d, in, "broken", session, "BGPFilter f: spec.exportV4[0].priority is not supported", lastRules), bgp.Reject)
	set(v3.FilterAccept, nil)
	rule("made anew", remembers(t, d, in, "made anew", session, "", ""), bgp.Accept)
	d.SetFilter("f", nil)
	d.SetPeer("p", nil)
	remembers(t, d, in, "not named", nil, "", "")
	d.SetPeer("p", c.peers["p"])
	rule("forgotten", remembers(t, d, in, "forgotten", session, "BGPPeer p: spec.filters[0]: there is no BGPFilter f", "no session until then"), "")
}

// TestHold: what the environment sets counts for all, and bounds keepaliveTime.
func TestHold(t *testing.T) {
	c := three().only4().with(t, off, "peer p: {peerIP: 192.168.42.1, asNumber: 64512, keepaliveTime: 10s}")
	in := c.input("n2")
	in.Hold = 30 * time.Second
	if conf := remembers(t, c.directory(), in, "30 s", []string{"Global 192.168.42.1 keepalive 10s"}, "", ""); conf.Hold != in.Hold {
		t.Errorf("hold time is %s", conf.Hold)
	}
	in.Hold = 10 * time.Second
	remembers(t, c.directory(), in, "10 s", []string{"Global 192.168.42.1"}, "BGPPeer p: spec.keepaliveTime 10s is not used: set it to at least 1s, and less than the hold time of 10s", "")
}
