// Package neigh owns the neighbour and forwarding entries of our VXLAN devices: for each other node that is reached by
// tunnel, tunnel address to tunnel MAC, and tunnel MAC to the node's address, both permanent.
//
// It promises that the wanted entries are there, soon after SetNeighs and SetFDB and again within a second when somebody
// removes or changes them or the device is made anew, and that no others are: every entry on these devices is ours, by
// which a restarted agent knows them. Excepted are what the kernel keeps for itself (multicast and NOARP neighbours, the
// all-zero forwarding entry) and unanswered questions (incomplete and failed neighbours). A right entry is never written
// again, a changed one is replaced in one step. Nothing is written or removed on a device before both SetNeighs and
// SetFDB were called, and never anything on another device. With Follow entries come before the routes that need them, and
// go after them.
//
// The kernel's own ways that this package has to know: a device that goes down or changes its MAC loses its neighbours,
// permanent ones too, but keeps its forwarding entries; a forwarding entry can have several destinations, a replace
// replaces the first of them, and no event says which.
package neigh
