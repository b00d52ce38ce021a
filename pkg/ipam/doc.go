// Package ipam gives addresses to the pods and tunnels of one node, in Calico's storage format, without an API round
// trip on the way.
//
// # What is shared and what is the node's
//
// An IPAMBlock is the compare-and-swap unit. A node owns the blocks whose affinity is host:<node>. Of a block's FIFO of
// free ordinals the first half of the block's size (see block.Kept) belongs to the owner alone: whoever else may take an
// address of the block takes it from behind that head, and only while the FIFO is longer; releases go to the tail. So in
// every later revision that somebody else may write, the head that the owner last saw is still free. That is why the
// owner may hand out addresses of it from memory, and write them down afterwards.
//
// # Assign, activate, release
//
// Assign takes the head of the first own block with room, notes it in the journal (a file on tmpfs, which a crash of the
// agent survives and a reboot, which ends the pods too, does not) and returns: no API request. Activate says that the
// pod's routes stand; an assignment that is not activated when its connection or the agent ends is taken back. Release
// notes the end in the journal. The settle loop writes what has gathered, one update per block and one handle per
// container; the handle after its block when taking, before it when giving back.
//
// When no own head has room, Assign settles at once (which moves the head on), claims a block, or says that the pools
// are full, in that order.
//
// # After a crash
//
// The journal has every assignment that was handed out, so nothing is given twice; what of it is not in the datastore
// yet is settled. Should the journal be damaged or gone, the kernel's routes to pods' interfaces name the addresses in
// use, and the datastore's allocations of this node whose interface does not exist are released by the audit after two
// looks a grace period apart. (A pod of which only a damaged line knew keeps its address, which nobody else gets while the
// route is there, but the datastore does not show it.) A lock on the journal keeps a second agent of the same node waiting.
//
// The package never touches the kernel and knows no client-go: see Datastore.
package ipam
