// Package peering turns BGP's resources into what the node's BGP speaker should do: BGPConfiguration, BGPPeer, BGPFilter,
// the Secrets that hold passwords, and of each Node its labels, AS and cluster ID, into a bgp.Config.
//
// Directory holds them as the watches report them; Build is a function of them and of Input: the order in which things came
// to be known does not matter, and equal resources make equal results, which pkg/bgp compares. The one thing it remembers is
// the last good filter and password of what is gone or broken now, see Faults.
//
// # With whom
//
// A node's session with another one comes from, in this order:
//
//	a BGPPeer of all nodes           has the node on its near side (node, nodeSelector, neither), and the other one on its
//	a BGPPeer of some                far side (peerSelector, peerIP); of several that whose name comes first
//	a BGPPeer seen from its far side unless its reversePeering is Manual: so both ends have the session
//	the mesh                         unless one of the two is a route reflector (has a routeReflectorClusterID)
//
// as in Calico, but that there is one session per address, so that a BGPPeer takes the place of a mesh session. Where both
// ends have a session, the one whose address comes later as text connects, and the other waits; Calico's nodes follow the same
// rule in the mesh. Routers outside have the session of the first BGPPeer on whose near side the node is.
//
// # What is told
//
// The node's own blocks, of pools of any mode, and single addresses that it has borrowed from others' blocks; what package
// advertise says of Services. Pools with disableBGPExport are withheld. LOCAL_PREF stands for the route priority of
// BGPConfiguration, as Calico's nodes have it.
//
// # Faults
//
// What is wrong with a resource is a line that names kind, name and field, and the way out; only nodes that the resource is
// about have it. Nothing else is held up by it. A session whose password is missing does not come up without one, and one whose
// filter is missing or can't be carried out does not come up without it; one that has had them keeps them as they were, so
// that what is deleted and made anew, or mistyped, ends no session. A restarted agent does not know how they were.
//
// Not there: rules of BGPFilters that look at a route's priority.
package peering
