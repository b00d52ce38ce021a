package bgp

import (
	"crypto/sha256"
	"net/netip"
)

// HashID is the router ID of a node that has no IPv4 address, or where CALICO_ROUTER_ID is hash: the first four bytes of
// sha256(name), the first less 32 when it is above 223, as in Calico.
func HashID(node string) netip.Addr {
	sum := sha256.Sum256([]byte(node))
	id := [4]byte(sum[:4])
	if id[0] > 223 {
		id[0] -= 32
	}
	return netip.AddrFrom4(id)
}
