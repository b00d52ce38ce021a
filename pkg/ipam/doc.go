// Package ipam gives addresses to the pods and tunnels of one node, in Calico's storage format, without an API round
// trip on the way.
//
// # What is shared and what is the node's
//
// An IPAMBlock is the compare-and-swap unit. A node owns the blocks whose affinity is host:<node>. Of a block's FIFO of
// free ordinals the first few, the kept head, belong to the owner alone: half of the block's size, or fewer when the owner
// has written so into the block (see block.KeptOf). Whoever else takes an address of the block takes it from behind that
// head; releases go to the tail. So in every later revision that somebody else may write, the head that the owner last saw
// is still free. That is why the owner may hand out addresses of it from memory, and write them down afterwards.
//
// # Assign, activate, release
//
// Assign takes the head of the first own block with room, notes it in the journal (a file on tmpfs, which a crash of the
// agent survives and a reboot, which ends the pods too, does not) and returns: no API request. Activate says that the
// pod's routes stand; an assignment that is not activated when its connection or the agent ends is taken back. Release
// notes the end in the journal. The settle loop writes what has gathered, one update per block and one handle per
// container; the handle after its block when taking, before it when giving back.
//
// When no own head has room, Assign settles at once (which moves the head on), claims a block, takes an address from behind
// the head of an own block, borrows one of somebody else's, or says that the pools are full, in that order. What is reserved
// (IPReservation) is passed over; only who asks for such an address by name gets it.
//
// # Borrowing
//
// With strictAffinity false a node that has no room and finds no block to claim takes an address by compare-and-swap of a
// block that nobody owns, or of another node's. When none has anything behind its kept head it asks a few owners to keep
// less, by a note in the block ("wanted"), and waits up to three seconds. An owner that sees the note keeps half of what it
// kept, and half of that the next time, down to nothing; then it allocates by compare-and-swap itself. When three quarters
// of the block are free it keeps half again. An owner that is silent keeps what it has.
//
// Keeping less is safe, because the owner, under the lock that handing out needs,
//
//   - puts all that it has handed out into the new revision,
//   - then bars from its memory whatever is not in the new revision's head (limit, ready),
//
// and sends the new revision after that. From then on all that it hands out is in the old head, should the write fail, and
// in the new one, should it succeed, also after an answer that was lost: nobody but the owner moves ordinals of a head, and
// those before them only leave. It hands out more again only when a later write of its own was confirmed, since then no
// earlier one can come to pass any more (each names the revision that it replaces). So it is when it keeps more. The note
// stays in the block until the new revision has replaced it; a restarted owner that finds one hands out nothing of that block
// before a write of its own was confirmed. What only a route in the kernel says is in use is not given away.
//
// A static address that its owner keeps is asked for in the same way: the owner bars that ordinal and moves it to the tail.
//
// Other nodes send to the owner until they have heard of the loan, and the owner's blackhole would drop that. So the owner
// notes in the block up to which sequence number its kernel routes what others have (Routed), and Assign returns when it
// has read that, or after two seconds: an owner that is gone forwards for nobody. An address of a block that nobody owns has
// no such helper; nodes reach it when they have heard of it.
//
// # After a crash
//
// The journal has every assignment that was handed out, so nothing is given twice; what of it is not in the datastore
// yet is settled. Should the journal be damaged or gone, the kernel's routes to pods' interfaces name the addresses in
// use, and the datastore's allocations of this node, in whatever block, whose interface does not exist are released by the
// audit after two looks a grace period apart. What a crash cuts off between taking a borrowed address and the journal is
// found in that way, too. (A pod of which only a damaged line knew keeps its address, which nobody else gets while the
// route is there, but the datastore does not show it.) A lock on the journal keeps a second agent of the same node waiting.
//
// The package never touches the kernel and knows no client-go: see Datastore.
package ipam
