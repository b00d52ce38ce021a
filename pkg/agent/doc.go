// Package agent puts the node's agent together: it owns the goroutines, the order of a start, and nothing else.
//
// A start goes: configuration → what the node allows → journal (waits for an agent that still runs) → CNI socket (answers
// "not ready") → API in sync → default pools → node's addresses → IPAM → network managers kept away → tunnel addresses and
// wanted state to the data plane → plugins and conflist, last → node's condition. Nothing is written to the kernel before the API is in sync, so that a restart
// changes nothing that is right.
//
// From then on one loop computes the wanted state anew whenever the store says that something changed, and the data
// plane's loops mend the difference.
package agent
