package bench

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/margay-net/margay/test/lab"
)

// hold is BGP's hold time in these parts: the least there is (RFC 4271, 4.2). It is the routers' setting, and the lower one of
// two counts: an agent alone says 90 seconds.
const hold = "hold time 3; keepalive time 1;"

// unplug takes a machine's cable away, so that nothing that runs on it says goodbye; plug puts it back.
func unplug(t *testing.T, l *lab.Lab, number int) {
	t.Helper()
	if err := l.Fabric.Batch(fmt.Sprintf("link set n%d down", number)); err != nil {
		t.Fatal(err)
	}
}

func plug(t *testing.T, l *lab.Lab, number int) {
	t.Helper()
	if err := l.Fabric.Batch(fmt.Sprintf("link set n%d up", number)); err != nil {
		t.Fatal(err)
	}
}

// deadRouter measures how long a node goes on using a router that has died, one of two that announce the same network: machines
// 2 and 3, with our agent on 1 and a BIRD on 4.
func deadRouter(t *testing.T, b *bench, r *report) {
	for _, restart := range []string{"aware", "on; graceful restart time 10"} {
		t.Run(restart, func(t *testing.T) { deadRouterOnce(t, b, r, restart) })
	}
}

func deadRouterOnce(t *testing.T, b *bench, r *report, restart string) {
	l := b.bgpLab(t, 4, "172.20.0.0/16", 26)
	network := netip.MustParsePrefix("172.20.200.0/26")
	create(t, l, "BGPConfiguration", "default", map[string]any{"nodeToNodeMeshEnabled": false})
	sessions := ""
	var routers []*bird
	for _, n := range l.Nodes[1:3] {
		create(t, l, "BGPPeer", n.Name, map[string]any{"peerIP": n.Addr4.Addr().String(), "asNumber": int64(65000)})
		sessions += fmt.Sprintf("protocol bgp %s from session { neighbor %s as 65000; %s }\n", n.Name, n.Addr4.Addr(), channel)
		text := ""
		for _, to := range []*lab.Node{l.Nodes[0], l.Nodes[3]} {
			text += fmt.Sprintf("protocol bgp %s from session { neighbor %s as 64512; graceful restart %s; %s passive on; "+
				"ipv4 { import none; export where source = RTS_STATIC; }; }\n", to.Name, to.Addr4.Addr(), restart, hold)
		}
		d := newBird(t, n.NS, n.Addr4.Addr(), 65000, text)
		d.blocks("blackhole", network)
		d.start()
		routers = append(routers, d)
	}
	kernels := [2]*kernel{follow(t, l.Nodes[0].NS), follow(t, l.Nodes[3].NS)}
	l.Nodes[0].Start()
	newBird(t, l.Nodes[3].NS, l.Nodes[3].Addr4.Addr(), 64512, sessions).start()
	both := func(what string, hops int) {
		for _, k := range kernels {
			eventually(t, bgpPatience, what, func() bool { return k.get(network).hops == hops })
		}
	}
	var took [2]sample
	for range count("ROUNDS", 5) {
		both("two next hops", 2)
		begin := time.Now()
		unplug(t, l, 2)
		both("one next hop", 1)
		for i, k := range kernels {
			took[i] = append(took[i], k.get(network).last.Sub(begin).Seconds())
		}
		routers[0].stop()
		plug(t, l, 2)
		routers[0].start()
	}
	r.add(row{what: "router dead to its next hop gone, hold time 3 s, graceful restart " + restart, unit: "s", ours: took[0], peer: "BIRD", theirs: took[1]})
}

// deadNode counts the packets that the fabric loses when one of two nodes dies that announce the same network: our agents on
// machines 1 and 2, BIRDs on 3 and 4, and the fabric's BIRD with several next hops for each of both networks.
func deadNode(t *testing.T, b *bench, r *report) {
	l := b.bgpLab(t, 4, "172.20.0.0/16", 26)
	router := netip.MustParseAddr("192.168.10.1")
	networks := [2]netip.Prefix{netip.MustParsePrefix("172.30.0.0/24"), netip.MustParsePrefix("172.30.1.0/24")}
	create(t, l, "BGPConfiguration", "default", map[string]any{"nodeToNodeMeshEnabled": false,
		"serviceClusterIPs": []any{map[string]any{"cidr": networks[0].String()}}})
	create(t, l, "BGPPeer", "fabric", map[string]any{"peerIP": router.String(), "asNumber": int64(65000)})
	text := ""
	for i, n := range l.Nodes {
		text += fmt.Sprintf("protocol bgp n%d from session { neighbor %s as 64512; %s passive on; ipv4 { import all; export none; gateway recursive; }; }\n",
			i+1, n.Addr4.Addr(), hold)
	}
	// Flows, which differ in their port alone, take different ways.
	if err := l.Fabric.SetSysctl("net/ipv4/fib_multipath_hash_policy", "1"); err != nil {
		t.Fatal(err)
	}
	kernel := follow(t, l.Fabric)
	newBird(t, l.Fabric, router, 65000, text).start()
	var start, stop [4]func()
	for i, n := range l.Nodes {
		to := networks[i/2]
		echo(t, n.NS, to.Addr().Next())
		start[i], stop[i] = n.Start, n.Kill
		if i >= 2 {
			d := newBird(t, n.NS, n.Addr4.Addr(), 64512, fmt.Sprintf("protocol bgp fabric from session { neighbor %s as 65000; %s }\n", router, channel))
			d.blocks("blackhole", to)
			start[i], stop[i] = d.start, func() { d.stop() }
		}
		start[i]()
	}
	var took, lost [2]sample
	for range count("ROUNDS", 5) {
		for _, p := range networks {
			eventually(t, bgpPatience, "the fabric has two ways", func() bool { return kernel.get(p).hops == 2 })
		}
		var packets [2]func() float64
		for i, p := range networks {
			packets[i] = flows(t, l.Fabric, p.Addr().Next())
		}
		time.Sleep(time.Second)
		begin := time.Now()
		for _, number := range []int{1, 3} {
			unplug(t, l, number)
		}
		for i, p := range networks {
			eventually(t, bgpPatience, "the fabric has one way", func() bool { return kernel.get(p).hops == 1 })
			took[i] = append(took[i], kernel.get(p).last.Sub(begin).Seconds())
		}
		for i := range packets {
			lost[i] = append(lost[i], packets[i]())
		}
		for _, number := range []int{1, 3} {
			stop[number-1]()
			plug(t, l, number)
			start[number-1]()
		}
	}
	r.add(
		row{what: "one of two nodes dead to its next hop gone from the fabric, hold time 3 s", unit: "s", ours: took[0], peer: "BIRD", theirs: took[1]},
		row{what: "of 100 packets a second to both, each a flow: lost", unit: "packets", ours: lost[0], peer: "BIRD", theirs: lost[1]})
}

// echo answers UDP packets to port 7 of an address that it gives to the namespace.
func echo(t *testing.T, ns *lab.NS, addr netip.Addr) {
	t.Helper()
	if err := ns.Batch(fmt.Sprintf("addr add %s/32 dev lo", addr)); err != nil {
		t.Fatal(err)
	}
	var c *net.UDPConn
	err := ns.Do(func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 7)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 16)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(b[:n], from) // the machine may be unplugged
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
}

// flows sends a packet each 10 ms, from a new port, and waits a second for its answer. The returned function ends that, and
// says how many had none.
func flows(t *testing.T, ns *lab.NS, to netip.Addr) (end func() float64) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var lost float64
	go func() {
		defer close(done)
		var g sync.WaitGroup
		defer g.Wait()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			g.Go(func() {
				if err := ask(ns, to); err != nil {
					mu.Lock()
					lost++
					mu.Unlock()
				}
			})
		}
	}()
	end = sync.OnceValue(func() float64 { close(stop); <-done; return lost })
	t.Cleanup(func() { end() })
	return end
}

// ask sends one packet, and waits for it to come back.
func ask(ns *lab.NS, to netip.Addr) error {
	var c *net.UDPConn
	err := ns.Do(func() (err error) {
		c, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 7)))
		return err
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 16))
	return err
}
