// Package plugin is the CNI plugin: what the runtime executes for each pod, once per verb.
//
// It owns the pair of devices between a pod and its node, and the addresses, routes and neighbour entry inside the pod.
// Everything that needs knowledge of the cluster it asks of the node's agent over a Unix socket (package wire); it has no
// credential, no configuration but its standard input, and no state but the kernel's and the spool (see spool.go).
//
// It promises: ADD leaves either an interface that packets pass (settle.go) or nothing; DEL succeeds however often and
// whenever it is called, and never waits for an agent that is not there; nothing but this sandbox's own pair is ever
// deleted, so a late DEL of an old sandbox leaves the new sandbox of the same pod alone. It never touches other interfaces
// of a pod, never writes routes on the host side (that is the agent's) and never leaves a thread in another network
// namespace.
//
// How it knows its own objects: the host side by its name, cali and eleven hexadecimal digits; the pair by the kernel's
// word: the pod side's peer index names the host side, and the host side's peer lies in the sandbox's namespace. Nothing
// is marked at ADD, and so nothing costs anything there.
//
// The verbs' errors are CNI errors; errors.go has the table of codes.
package plugin

import (
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
)

// Funcs are the verbs, for skel.PluginMainFuncs. Each reads its CmdArgs, prints its result (ADD only) to the standard
// output, and returns nil or an error that holds a *types.Error.
func Funcs() skel.CNIFuncs {
	return skel.CNIFuncs{Add: add, Del: del, Check: check, GC: gc, Status: status}
}

// Versions are the versions of the CNI specification that the plugin speaks.
func Versions() version.PluginInfo {
	return version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
}
