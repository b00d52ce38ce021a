// Package topology says what the kernel of one node should hold so that its pods reach those of other nodes: VXLAN
// devices, tunl0, routes, neighbours and forwarding entries. It is pure: the same input, in whatever order, gives the same
// output; it does no I/O and knows neither clock, goroutines, netlink nor Kubernetes.
//
// A packet for a pod in another node's block, pool in VXLAN mode: the route
//
//	172.20.253.64/26 via 172.20.253.64 dev vxlan.calico onlink proto 80
//
// names that node's tunnel address as next hop; the permanent neighbour entry gives its Ethernet address, the tunnel MAC;
// the forwarding entry for that MAC gives the node's own address, to which the VXLAN device sends the outer packet.
// Without encapsulation the next hop is the node's own address on the underlay's device, and with IPIP on tunl0, where the
// kernel puts it into the outer header. A block of this node itself
// is a blackhole, under the more specific routes of its live pods, so that packets for a dead pod end here and do not
// circle.
//
// An address that another node than the block's owner has (a loan) gets a route of its own to that node, a /32 or /128, on
// the owner under the blackhole and on all others under the block's route; the borrower needs none, since the pod's route is
// there. Packets of nodes that have not heard of the loan yet go to the owner, which sends them on.
//
// What a pool's mode means for a block of another node, and where the route to it comes from: the datastore (D), BGP (B), or
// nowhere (-). ClusterRoutes is programClusterRoutes.
//
//	                                                                   ClusterRoutes:  no   no BGP   yes
//	VXLAN Always                     vxlan.calico                                      D    D        D
//	VXLAN CrossSubnet                plain in the same subnet, vxlan.calico elsewhere  D    D        D
//	IPIP Always                      tunl0                                             B    -        D
//	IPIP CrossSubnet                 plain in the same subnet, tunl0 elsewhere         B    -        D
//	VXLAN Never and IPIP Never       plain in the same subnet                          B    D        D
//	                                 by the fabric's router elsewhere                  B    -        -
//
// IPIP carries IPv4 alone: an IPv6 pool with an ipipMode is one without encapsulation to BGP.
//
// # Learned routes
//
// What BGP has told of inside pools that the datastore has is left out, and so is a prefix that is one of this node's own
// blocks: its blackhole stays. All else is routed as Calico's BIRD does it, more specific addresses in own blocks, default
// routes and whatever else a fabric announces included. Equally good next hops make one route with several. A next hop in
// the node's own subnet is on the link; any other is reached as Resolve says, or not at all, and then left out.
//
// Fabrics like to announce the nodes' own subnet, or single addresses in it. BIRD leaves it to metrics and luck that
// this does no harm: next to the kernel's route for the subnet one of ours would win where that has a metric (as
// NetworkManager gives it), and the kernel then refuses all routes whose next hop it no longer finds on the link. So a learned
// prefix within the own subnet is left out when it has this node's address, another node's, or a next hop in it. Loopback,
// link-local and multicast prefixes are left out, too.
//
// Two nodes are in the same subnet when each one's address lies in the other one's prefix. Taking both lengths makes the
// answer the same on both nodes, so that a wrong length costs encapsulation at most, and never lets one side
// encapsulate what the other sends plain.
//
// A node whose tunnel address or MAC isn't known yet gets no VXLAN route for now; a route that the last plan had straight to
// the node's own address, plain or by tunl0, stays until then, so that a live pool that is switched to VXLAN for the first time
// is not without routes meanwhile. Blocks without an owner (but
// for what of them is in use), of unknown nodes, or not wholly inside a pool get no route either; own blocks always get
// their blackhole.
package topology
