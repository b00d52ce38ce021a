// Package resource knows each kind that margayctl's commands work on: the names that people type, the columns of its
// tables, and where its objects are kept.
//
// Most kinds are resources of projectcalico.org/v3; package kube reads and writes them. Node is the Kubernetes Node,
// whose annotations hold what Calico's Node has beyond it. Profile and WorkloadEndpoint are computed, of namespaces and
// service accounts, and of pods, and can only be read. Names, columns and annotations are Calico's.
//
// All objects have the form of projectcalico.org/v3. Errors name the object as KIND(NAME) and the way out.
package resource
