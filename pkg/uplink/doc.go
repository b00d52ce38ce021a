// Package uplink finds the node's own address of each family, with the device that carries it, and goes on watching it.
//
// It reads the kernel and never writes to it. A restarted agent knows nothing of what was found before but what the
// caller hands it as Last: the address that the Node object's annotation has.
//
// # Which addresses count
//
// Global unicast ones of devices that are up, Margay's own devices left out. An address that somebody names (the setting
// itself, the Node object's InternalIP, what can-reach leads to) may be any of them. One that is guessed (first-found,
// skip-interface, interface, cidr) is never a tentative, deprecated or temporary (privacy) IPv6 address, and a guest only
// where nothing else is allowed.
//
// A guest is an address that looks as if keepalived or kube-vip had added it and could take it to another node: an IPv4
// address that the kernel calls secondary, since its device had another one of that subnet before; or one without a
// subnet (/32, /128), unless its device has no other and the node's default route leaves with it, as where clouds give
// nodes a /32. An IPv6 address with a subnet can't be told from the node's own but by its age.
//
// What is left is taken by the order of the list in interface= and cidr=, then by device index, then the oldest first. The methods are Calico's (see ParseSetting) with these differences:
//
//   - No method means kubernetes-internal-ip and then first-found; Calico's default is first-found.
//   - Calico takes interfaces from the highest index down, and prefers no entry of a list to another. Its documentation
//     leaves both to the system. Here devices that came later (VPNs, bridges) do not win over the node's first one. A
//     node that comes from Calico keeps its address by Last.
//   - A device that is down does not count.
//   - An address that is set but on no device is an error until it appears: Calico warns and tells the cluster of it,
//     and a typing mistake sends everybody's packets astray.
//   - An empty expression, which on Calico matches all devices, is refused.
//
// An address on a loopback or dummy device (nodes that announce their address by BGP) comes with the device and MTU by
// which packets leave the node.
//
// # When the address in use changes
//
// It stays as long as the kernel has it and the method allows it, whatever else appears: order decides only the first
// choice, also over restarts. (Who wants another one of equal standing says so by the method, or removes the annotation
// before the agent starts.) It is left at once for one that is better by what the operator or the address itself says: the InternalIP over
// a fallback, an earlier entry of a list over a later one, any address over a guest.
//
// When it vanishes (device down, address removed) another one that is as good is taken at once. One that is worse has
// to wait for 30 seconds, since an address that is being renewed comes back sooner, and a virtual one that happens to be
// left alone must not become the node's. Until then, and when there is none, the last one is kept and reported as Lost:
// pods on the node go on talking, and the other nodes' routes stay.
package uplink
