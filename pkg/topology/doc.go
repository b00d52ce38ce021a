// Package topology says what the kernel of one node should hold so that its pods reach those of other nodes: VXLAN
// devices, routes, neighbours and forwarding entries. It is pure: the same input, in whatever order, gives the same
// output; it does no I/O and knows neither clock, goroutines, netlink nor Kubernetes.
//
// A packet for a pod in another node's block, pool in VXLAN mode: the route
//
//	172.20.253.64/26 via 172.20.253.64 dev vxlan.calico onlink proto 80
//
// names that node's tunnel address as next hop; the permanent neighbour entry gives its Ethernet address, the tunnel MAC;
// the forwarding entry for that MAC gives the node's own address, to which the VXLAN device sends the outer packet.
// Without encapsulation the next hop is the node's own address on the underlay's device. A block of this node itself
// is a blackhole, under the more specific routes of its live pods, so that packets for a dead pod end here and do not
// circle.
//
// An address that another node than the block's owner has (a loan) gets a route of its own to that node, a /32 or /128, on
// the owner under the blackhole and on all others under the block's route; the borrower needs none, since the pod's route is
// there. Packets of nodes that have not heard of the loan yet go to the owner, which sends them on.
//
// What a pool's mode means for a block of another node:
//
//	VXLAN Always                     tunnel
//	VXLAN CrossSubnet                plain in the same subnet, tunnel elsewhere
//	VXLAN Never and IPIP Never       plain in the same subnet, nothing elsewhere
//	IPIP Always or CrossSubnet       nothing
//
// "Nothing" is where BGP is to distribute the routes, which a later version does.
//
// Two nodes are in the same subnet when each one's address lies in the other one's prefix. Taking both lengths makes the
// answer the same on both nodes, so that a wrong length costs encapsulation at most, and never lets one side
// encapsulate what the other sends plain.
//
// A node whose tunnel address or MAC isn't known yet gets no tunnel route for now. Blocks without an owner (but
// for what of them is in use), of unknown nodes, or not wholly inside a pool get no route either; own blocks always get
// their blackhole.
package topology
