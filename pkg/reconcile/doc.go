// Package reconcile has the two pieces that every subsystem of the data plane is made of.
//
// Tracker keeps what is wanted, what the kernel is believed to have, and the difference of both ready. Loop decides when to compare with the kernel and when to
// mend the difference: when the wanted state or the kernel changed, again with growing pauses after a failure, and
// everything now and then. Watch looks on, and tells which loops hang or are refused by the kernel.
//
// It owns nothing, knows no kernel and imports nothing of ours. A restarted subsystem starts with an empty Tracker, fills
// it from the kernel by its first Resync, and so finds nothing to do where everything is right.
package reconcile
