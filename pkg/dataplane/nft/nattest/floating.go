package nattest

import (
	"net/netip"
	"testing"

	"github.com/margay-net/margay/pkg/model"
)

// floats are addresses that nobody has; the hosts send to them by the node.
var floats = [2][2]string{{"203.0.114.7", "203.0.114.8"}, {"2001:db8:77::7", "2001:db8:77::8"}}

// Floats are two floating addresses of the lab's pod in one of Families.
func Floats(family int) (out []model.Floating) {
	for _, external := range floats[family] {
		out = append(out, model.Floating{External: netip.MustParseAddr(external), Internal: netip.MustParseAddr(PodAddr[family])})
	}
	return out
}

// Floating tests that the pod is reached by its floating addresses from outside, from its node and from itself, and
// that nothing else is translated. Nothing is before or after.
func Floating(t *testing.T, l *Lab, set Set) {
	l.KubeProxy(t) // has the kernel translate what it has begun to translate
	l.Pod.serve(t)
	node := hostOf(t, l.Node)
	for i := range Families {
		for _, a := range floats[i] {
			l.Node.Exec(t, "ip route add "+a+" dev cali1")
		}
	}
	nobody := func(t *testing.T, a string) {
		t.Helper()
		if seen, err := l.Outside.Ask("udp", a); err == nil {
			t.Errorf("%s answers, and sees %s", a, seen)
		}
	}
	EachFamily(t, func(t *testing.T, i int) { nobody(t, floats[i][0]) })
	only := func(n *model.NAT) { n.Sources, n.Spared = nil, nil }
	first := func(n *model.NAT) { n.Floating = Floats(FamilyOf(n))[:1] }
	both := func(n *model.NAT) { n.Floating = Floats(FamilyOf(n)) }
	var streams []*Stream
	for _, c := range []struct {
		name    string
		change  []func(*model.NAT)
		count   int                // of floating addresses
		outside func(i int) string // who sees the pod as whom
	}{
		{"one", []func(*model.NAT){first, only}, 1, func(i int) string { return PodAddr[i] }},
		{"two", []func(*model.NAT){both, only}, 2, func(i int) string { return PodAddr[i] }},
		{"with natOutgoing", []func(*model.NAT){both}, 2, func(i int) string { return NodeAddr[i] }},
	} {
		t.Run(c.name, func(t *testing.T) {
			v4, v6 := Pools(c.change...)
			set(t, v4, v6)
			EachFamily(t, func(t *testing.T, i int) {
				for _, network := range []string{"tcp", "udp"} {
					for _, a := range floats[i][:c.count] {
						l.Outside.Sees(t, network, a, OutsideAddr[i])
						l.Pod.Sees(t, network, a, floats[i][0])
						node.SeesFrom(t, network, NodeAddr[i], a, NodeAddr[i])
					}
					l.Outside.Sees(t, network, PodAddr[i], OutsideAddr[i])
					l.Pod.Sees(t, network, OutsideAddr[i], c.outside(i))
				}
				if c.count == 1 {
					nobody(t, floats[i][1])
					streams = append(streams, l.Outside.Stream(t, floats[i][0]))
				}
			})
		})
	}
	set(t, nil, nil)
	EachFamily(t, func(t *testing.T, i int) { nobody(t, floats[i][0]) })
	for _, s := range streams { // what runs goes on
		s.Stop(t)
	}
	for _, family := range []string{"ip", "ip6"} {
		l.Node.Exec(t, "nft delete table "+family+" kube-proxy")
	}
}
