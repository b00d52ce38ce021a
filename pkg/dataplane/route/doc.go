// Package route owns the main routing table's routes of protocol 80 (tunnel, same-subnet and blackhole routes, on any
// device), those of protocol 12 (learned by BGP) where BGP is spoken, and the routes to this node's pods: /32 or /128,
// directly on the pod's cali* device, protocol 3. Where several want one destination the pod has it, then the cluster, then BGP.
//
// It promises that what is wanted is in the kernel: at once after PutEndpoint has returned, soon after SetCluster and
// SetLearned, and again within a second when somebody deletes or changes it. A changed route is replaced in one step, so
// that no packet falls in between; a right route is never written again. Before SetCluster was called nothing is written
// but what PutEndpoint asks for, and before SetEndpoints was called too nothing is removed. With Follow a route by tunnel
// waits for its next hop's neighbour and forwarding entry, and the one before stays as long.
//
// It never touches other tables, nor routes of other protocols for other destinations. A destination that pods or the cluster
// want is ours whatever the protocol that somebody else put there with the same metric. Not so one that was learned: our
// route is written where none with the same metric is, and waits for as long as somebody else's is there (the log says so
// once). So what a fabric announces never replaces a node's own default route. Our metric is none, which is 0 for IPv4 and
// 1024 for IPv6, as with Calico's BIRD: the kernel prefers a learned default route to one that has a higher metric.
//
// A restarted agent knows its own routes by protocols 80 and 12, and removes those that are not wanted; learned ones only
// when the speaker has heard all its peers. Pods' routes have a protocol that others use as well, so they are only looked up
// by wanted destination; they vanish with their device.
//
// Protocol 12 is that of every BIRD. One that runs on the node for other ends must keep to other tables, or to BIRD 2's
// default metric 32, which is left alone; what it writes with any other metric is taken for something that Calico
// has left, and removed.
//
// The kernel's own ways that this package has to know:
//   - Of a route with several next hops it drops, or marks as dead, those whose device goes down. Here it is
//     written anew with the next hops that are left, and again when the device is back. A lost carrier alone is left to
//     the kernel.
//   - A device that goes down, or loses its last IPv4 address, takes its IPv4 routes with it, and no event says so. Link
//     events make the package forget what it believed of that device, lost addresses make it list everything anew.
//   - NLM_F_REPLACE replaces the first IPv4 route with the same destination, TOS and metric, whatever its type. When a
//     right route stands behind another one (ip route prepend) it says EEXIST: the right one is removed first then.
//   - IPv6 refuses an on-link route (EINVAL) when it finds the next hop on another device, be it by the route to be
//     replaced: a passing route to the next hop helps.
//   - IPv6 gives a route without a metric the metric 1024, and hangs blackholes on the loopback device.
//   - A route can't be written while its device is down or not there: it stays dirty until a link event.
package route
