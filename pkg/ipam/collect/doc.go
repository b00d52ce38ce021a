// Package collect finds what is left over in a cluster's address management: addresses and handles of pods that are gone,
// tunnel addresses, blocks and affinities of nodes that are gone, counts that do not fit. It is the pure part of garbage
// collection: State is what somebody has heard of the cluster, a Collector remembers what looked left over and since when,
// and a Pass says what to do. It does no I/O and has no clock: times are passed in.
//
// # When an address is left over
//
// An address of a pod: the pod does not exist; or it is bound to another node, or to none yet, since a pod is never moved:
// it is a later pod of the same name; or kubelet evicted it; or it reports addresses and this is none of them. A pod that
// reports no address yet keeps its own. An address without a pod's name, or of a kind that is not known, is never left
// over: nobody here can say whose it is.
//
// A tunnel's address: the node is gone and nothing of its pods lives; or the node says that its tunnel has another one.
//
// # When it is collected
//
// At once when its node was made anew under the same name (another UID) after the address was taken. When its node is gone,
// after it has been left over for two minutes (Hold): the node may run on, since deleting its object stops nothing there.
// Otherwise when it has been left over for a grace period, as the same allocation: same handle, same sequence number. An address
// that came back after it was collected from a node that is gone waits for a grace period, too: the node's agent lives.
// While kubelet of a node has stopped reporting nothing of it is collected: its pods may be gone from the API and run on.
// A handle is collected whole or not at all.
//
// Whoever acts on a Plan must look again first, at the API server and not at what a watch told: see Judge.
//
// # Blocks
//
// A block goes when it is empty and its node has been gone for the time of Hold. A node that exists gives its own blocks back by itself: its agent
// hands addresses out from memory, so nobody else can know that a block is empty. Blocks without an owner, and those of load
// balancers, go when they were empty at two looks a grace period apart.
//
// # Size
//
// 250,000 addresses of 5,000 nodes are held in about 150 MB, and a full pass over them takes a fraction of a second (see
// BenchmarkPass); between full passes only nodes about which something was heard are looked at.
package collect
