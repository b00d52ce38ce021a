// Package explain answers why: "explain ip" says who has an address, since when and by what right, "explain pod" which
// addresses, interface and routes a pod has, and should have.
//
// It tells what the datastore and Kubernetes say, and on the pod's own node what the kernel has; it changes nothing. Where
// they contradict each other it says so and what to do.
package explain
