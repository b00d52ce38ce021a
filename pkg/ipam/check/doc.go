// Package check compares what IPAM has written down with what has addresses: nodes' tunnels, pods, Services. It is behind
// "margayctl ipam check", reads what it is handed, and changes nothing.
//
// The questions and their order are those of calicoctl, so that its users read the answers at a glance: allocations
// nobody uses, addresses in use that nobody has allocated, handles and addresses without each other, damaged blocks.
// Beyond these it compares who has an address with whom the allocation names, claims with blocks, and handles' counts with
// blocks.
//
// Its input is read one list after the other while the cluster lives on, and an agent writes blocks about a second after
// it gave an address. So what one comparison finds may be on its way: whoever calls looks twice, and keeps what Both
// comparisons say.
package check
