// Package status is what the agent tells of itself on its node: who it is and since when, whether pods can be added, what
// it counts, which routes it wants and why, its BGP peers, and what these have told it of a network and hear of it.
//
// It is served on a Unix socket beside that of the CNI plugin, SocketPath, mode 0600: root asks. A request is a line of
// JSON, {"get":"status"}, {"get":"routes"} or {"get":"way","to":"172.20.36.128/26"}, the answer a line of JSON; a connection may carry several. There is nothing
// that changes anything, and nothing secret: no keys, no tokens.
//
// The agent's answers are computed when they are asked for; the package keeps none.
package status
