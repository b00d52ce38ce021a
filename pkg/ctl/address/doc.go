// Package address holds margayctl's commands about addresses: ipam show, check, release, configure, split and map.
//
// Their flags, tables and sentences' places are calicoctl's, so that people and scripts that know it know these; what
// calicoctl lacks (the map, the faults that it does not look for, what to do about each) comes on top, and nothing of it
// shows while all is well.
//
// Reading is done by Load, which other commands use, too. What is written is compare-and-swap on one object, as agents
// write it; no command touches a kernel.
package address
