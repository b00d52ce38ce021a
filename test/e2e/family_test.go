package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// family is an address family.
type family int

const (
	v4 family = 4
	v6 family = 6
)

func (f family) String() string { return fmt.Sprintf("IPv%d", int(f)) }

func familyOf(a netip.Addr) family {
	if a.Is6() {
		return v6
	}
	return v4
}

// pick returns the family's one of two.
func pick[T any](f family, four, six T) T {
	if f == v6 {
		return six
	}
	return four
}

// What a family's things are called, and how long they are.

// pool is the name of the default pool.
func (f family) pool() string { return pick(f, "default-ipv4-ippool", "default-ipv6-ippool") }

// vxlan is the name of the VXLAN device.
func (f family) vxlan() string { return pick(f, "vxlan.calico", "vxlan-v6.calico") }

// overhead is how many bytes VXLAN takes of the underlay's MTU.
func (f family) overhead() int { return pick(f, 50, 70) }

// pingHeaders is how many bytes of a ping's packet are not its payload.
func (f family) pingHeaders() int { return pick(f, 28, 48) }

// bits is the length of an address.
func (f family) bits() int { return pick(f, 32, 128) }

// url is how an address and a port are written for curl.
func url(a netip.Addr, port uint16) string { return "http://" + netip.AddrPortFrom(a, port).String() }

// each runs a test for each family that the cluster has.
func (c *cluster) each(t *testing.T, test func(*testing.T, family)) {
	t.Helper()
	for _, f := range c.families {
		t.Run(f.String(), func(t *testing.T) { test(t, f) })
	}
}

// uplink is the device that has the node's address.
type uplink struct {
	dev string
	mtu int
}

func (c *cluster) uplink(t *testing.T, n node, f family) (up uplink) {
	t.Helper()
	out := c.mustSh(t, n.shell, fmt.Sprintf(`set -- $(ip -%d -o addr show to %s); echo $2 $(cat /sys/class/net/$2/mtu)`, f, n.addr[f].Addr()))
	if _, err := fmt.Sscan(out, &up.dev, &up.mtu); err != nil {
		t.Fatalf("uplink of %s: %v: %q", n.name, err, out)
	}
	return up
}

// podMTU is what pods' interfaces have: room for the longest header that one of the pools' modes puts before a packet.
func (c *cluster) podMTU(t *testing.T, n node) (mtu int) {
	t.Helper()
	pools, err := list[v3.IPPoolList](t.Context(), c, "ippools")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pools.Items {
		cidr, err := netip.ParsePrefix(p.Spec.CIDR)
		if err != nil {
			t.Fatal(err)
		}
		f := familyOf(cidr.Addr())
		if !slices.Contains(c.families, f) {
			continue // the nodes have no address to send from
		}
		room := c.uplink(t, n, f).mtu
		switch {
		case encapsulates(p.Spec.VXLANMode):
			room -= f.overhead()
		case encapsulates(p.Spec.IPIPMode):
			room -= 20
		}
		if mtu == 0 || room < mtu {
			mtu = room
		}
	}
	return mtu
}

// encapsulates says whether a mode puts a header before packets to some nodes.
func encapsulates(m v3.EncapMode) bool { return m == v3.EncapAlways || m == v3.EncapCrossSubnet }
