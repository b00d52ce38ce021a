package bench

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// reflector measures how soon a node has learned many blocks from a route reflector, a BIRD at the fabric's address: our agent
// and a BIRD on the same machine, in turn, each with a kernel that has none of the routes.
func reflector(t *testing.T, b *bench, r *report) {
	routes := count("BGP_ROUTES", 5000)
	l := b.bgpLab(t, 1, "172.16.0.0/12", 26)
	node, rr := l.Nodes[0], netip.MustParseAddr("192.168.10.1")
	create(t, l, "BGPConfiguration", "default", map[string]any{"nodeToNodeMeshEnabled": false})
	create(t, l, "BGPPeer", "reflector", map[string]any{"peerIP": rr.String(), "asNumber": int64(64512)})
	d := newBird(t, l.Fabric, rr, 64512, fmt.Sprintf("protocol bgp n from session { neighbor %s as 64512; rr client; passive on; "+
		"ipv4 { import all; export where source = RTS_STATIC; next hop keep; }; }\n", node.Addr4.Addr()))
	var blocks []netip.Prefix
	for i := range routes {
		blocks = append(blocks, nth("172.16.0.0", 26, i))
	}
	d.blocks("via 192.168.10.99", blocks...)
	d.start()
	peer := newBird(t, node.NS, node.Addr4.Addr(), 64512, fmt.Sprintf("protocol bgp reflector from session { neighbor %s as 64512; %s }\n", rr, channel))
	var took, apart, cpu, rss [2]sample
	inTurn(count("ROUNDS", 5), func(_, k int) {
		kernel := follow(t, node.NS)
		start, stop, pid := node.Start, node.Kill, func() int { return agentPID(t, node) }
		if k == 1 {
			start, stop, pid = peer.start, func() { peer.stop() }, func() int { return peer.pid }
		}
		begin := time.Now()
		start()
		eventually(t, bgpPatience, "the kernel has all routes", func() bool { return kernel.heard() >= routes })
		kernel.check()
		first, last := kernel.span()
		took[k] = append(took[k], last.Sub(begin).Seconds())
		apart[k].ms(last.Sub(first))
		cpu[k].ms(cpuTime(t, pid()))
		time.Sleep(2 * time.Second) // what the start left behind
		a, _ := memory(t, pid())
		rss[k] = append(rss[k], a)
		stop()
		kernel.stop()
	})
	with := fmt.Sprintf("%d routes of a reflector: ", routes)
	r.add(
		row{what: with + "start to all in the kernel", unit: "s", ours: took[0], peer: "BIRD", theirs: took[1], aim: upTo(2)},
		row{what: with + "first to last in the kernel", unit: "ms", ours: apart[0], peer: "BIRD", theirs: apart[1]},
		row{what: with + "CPU that took", unit: "ms", ours: cpu[0], peer: "BIRD", theirs: cpu[1]},
		row{what: with + "resident memory", unit: "MB", ours: rss[0], peer: "BIRD", theirs: rss[1]})
}
