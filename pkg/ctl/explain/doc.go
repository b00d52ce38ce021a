// Package explain answers why: "explain ip" says who has an address, since when and by what right, "explain pod" which
// addresses, interface and routes a pod has, and should have, "explain route" how a node reaches a network, by what its
// agent, its BGP peers and its kernel say, and whom it tells of it.
//
// It tells what the datastore and Kubernetes say, and on the pod's own node what the kernel has; it changes nothing. Where
// they contradict each other it says so and what to do.
package explain
