// Package node holds margayctl's commands for the node that they run on: node status, routes, checksystem and diags.
//
// status and routes ask the node's agent over its socket (package status), and need neither a kubeconfig nor the API
// server; checksystem tries the kernel's features in a network namespace of its own that ends with it; diags writes one
// archive, without secrets. Nothing on the node is changed. All of them want to be root.
package node
