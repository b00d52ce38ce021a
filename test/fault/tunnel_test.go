package fault

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// tunnels returns what each node's annotations say of its tunnels, addresses and MACs.
func tunnels(l *lab.Lab) map[string]string {
	out := map[string]string{}
	for _, n := range l.Nodes {
		for key, v := range n.Object().Annotations {
			if strings.Contains(key, "Tunnel") {
				out[n.Name+" "+key] = v
			}
		}
	}
	return out
}

// TestTunnelAddressForLife: a node has the same tunnel addresses as long as it is a node, whatever becomes of its agent,
// its journal, its machine, or the pools' modes.
func TestTunnelAddressForLife(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true})
	a, x := l.Nodes[0].Pod("a"), l.Nodes[1]
	l.WaitRoutes(30 * time.Second)
	want := tunnels(l)
	if len(want) != 8 {
		t.Fatalf("nodes have %v, want an address and a MAC for each family", want)
	}
	modes := func(mode v3.EncapMode) {
		t.Helper()
		for i := range 2 {
			if err := l.SetVXLANMode(fmt.Sprintf("pool%d", i+1), mode); err != nil {
				t.Fatal(err)
			}
		}
		l.Within(30*time.Second, "routes fit mode "+string(mode), func() error { return fits(l, mode) })
	}
	restart := func() {
		x.Kill()
		x.Start()
		x.WaitReady(30 * time.Second)
	}
	crowd := func() { // takes each address that a node should have kept
		for i := range 80 {
			if err := x.Pod(fmt.Sprintf("crowd%d", i)).Remove(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"agent killed", restart},
		{"reboot", func() { x.Reboot(); x.Start(); x.WaitReady(30 * time.Second) }},
		{"Never and Always", func() { modes(v3.EncapNever); modes(v3.EncapAlways) }},
		{"restart under Never", func() { modes(v3.EncapNever); restart(); l.Agrees(30 * time.Second); crowd(); modes(v3.EncapAlways) }},
		{"reboot under Never", func() {
			modes(v3.EncapNever)
			x.Reboot()
			x.Start()
			x.WaitReady(30 * time.Second)
			crowd()
			modes(v3.EncapAlways)
		}},
		{"CrossSubnet", func() { modes(v3.EncapCrossSubnet); restart(); modes(v3.EncapAlways) }},
	} {
		step.do()
		l.Within(30*time.Second, step.what+": the tunnels are the same", func() error {
			if now := tunnels(l); !maps.Equal(now, want) {
				return fmt.Errorf("they are %v, were %v", now, want)
			}
			return l.ComparePeers()
		})
		p := x.Pod("after")
		warm(t, a, p)
		if err := p.Remove(); err != nil {
			t.Error(err)
		}
		l.Agrees(30 * time.Second)
		t.Logf("%s: same tunnels", step.what)
	}
}

// TestPoolReplaced has a new pool take an old one's place, with another block size, as guides have people do it: the tunnels
// move with it, and what they had is free.
func TestPoolReplaced(t *testing.T) {
	l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true})
	for _, n := range l.Nodes {
		if err := n.Pod(n.Name + "-old").Remove(); err != nil {
			t.Fatal(err)
		}
	}
	young := lab.Pool4
	young.CIDR, young.BlockSize = "172.30.0.0/16", 27
	if err := errors.Join(l.CreatePool("young", young), l.DisablePool("pool1")); err != nil {
		t.Fatal(err)
	}
	in := func(a netip.Addr) bool { return netip.MustParsePrefix(young.CIDR).Contains(a) }
	var pods []*lab.Pod
	for _, n := range l.Nodes {
		l.Within(30*time.Second, "new pods have addresses of the new pool", func() error {
			p := n.Pod(n.Name + "-new")
			if in(p.V4()) {
				pods = append(pods, p)
				return nil
			}
			return errors.Join(fmt.Errorf("it has %s", p.V4()), p.Remove())
		})
	}
	if err := l.DeletePool("pool1"); err != nil {
		t.Fatal(err)
	}
	l.Within(30*time.Second, "the tunnels are in the new pool", func() error {
		for key, v := range tunnels(l) {
			if strings.HasSuffix(key, "/IPv4VXLANTunnelAddr") && !in(netip.MustParseAddr(v)) {
				return fmt.Errorf("%s is %s", key, v)
			}
		}
		return l.ComparePeers()
	})
	took := l.Within(30*time.Second, "the old pool's blocks are given back", func() error { // by the audit once a minute, if nothing tells it
		blocks, err := l.Blocks()
		for cidr := range blocks {
			if cidr.Addr().Is4() && !in(cidr.Addr()) {
				err = fmt.Errorf("there is %s", cidr)
			}
		}
		return err
	})
	t.Logf("the old pool's blocks are given back %s after the tunnels have moved", took)
	warm(t, pods...)
	l.Agrees(30 * time.Second)
	for _, n := range l.Nodes {
		n.Kill()
		n.Start()
		n.WaitReady(30 * time.Second)
	}
	warm(t, pods...)
	l.Agrees(30 * time.Second)
}
