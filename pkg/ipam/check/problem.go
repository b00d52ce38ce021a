package check

import "slices"

// Fault is a kind of problem.
type Fault int

// Values of Fault, in the order in which they are looked for.
const (
	Leaked      Fault = iota // allocated, and nobody uses it
	Shared                   // several have one address
	Outside                  // used, allocated nowhere, in no active pool
	Unallocated              // used, allocated nowhere, in an active pool
	OtherOwner               // the allocation names somebody else than who has the address
	BadTunnel                // a node's tunnel address is not allocated to that tunnel
	IdleHandle               // a handle without an address
	NoHandle                 // an address whose handle does not exist
	BadCount                 // a handle counts other addresses than the blocks hold
	Damaged                  // a block that contradicts itself
	Overlap                  // two blocks share addresses
	DoubleClaim              // two nodes claim a block, or claim and block name different owners
	Unclaimed                // a block's owner lacks the claim, or the node does not exist
	faults
)

// Problem is one thing that is wrong. Line says what it is about and what is wrong.
type Problem struct {
	Fault Fault
	About string // the address, handle, block or claim
	Line  string
}

// wayOut says what a person does about each fault.
var wayOut = [faults]string{
	Leaked: "addresses that nobody uses: the controller releases them after its leakGracePeriod; by hand, each: margayctl ipam release --ip=ADDRESS; " +
		"all: margayctl datastore migrate lock, margayctl ipam check -o FILE, margayctl ipam release --from-report=FILE, margayctl datastore migrate unlock",
	Shared:      "one address, several owners: delete the younger pod; its controller makes it anew with an address of its own",
	Outside:     "addresses outside of the active pools: enable or make the pool that holds them, or delete the pods, which get addresses of the active pools",
	Unallocated: "addresses that are used but not allocated: the agent of the pod's node allocates them again within a minute; if not, delete the pod, and look at that agent's log",
	OtherOwner:  "allocations of somebody else: delete the pod that has the address without being named; the controller releases what is left",
	BadTunnel:   "tunnel addresses: restart the agent of the node that is named: it takes an address of its own and writes it to the Node",
	IdleHandle:  "handles without an address: kubectl delete ipamhandle NAME; or with a report, see margayctl ipam release --from-report",
	NoHandle:    "addresses without a handle: restart the agent of their node, which makes it anew; if no pod has the address: margayctl ipam release --ip=ADDRESS",
	BadCount:    "handles that count wrong: restart the agent of their node; if no pod has the addresses: kubectl delete ipamhandle NAME",
	Damaged:     "damaged blocks: drain the node that owns the block, kubectl delete ipamblock NAME, restart the node's agent: it claims the block again with what lives in it",
	Overlap:     "overlapping blocks come of a pool that was made anew with another block size: delete the pods of the older blocks; empty blocks go by themselves",
	DoubleClaim: "claims: the block's spec.affinity is the truth: kubectl delete blockaffinity NAME of whoever is not named there",
	Unclaimed:   "blocks without a claim: restart the agent of the owner, which writes it again; if the node is gone the controller releases its blocks",
}

// WaysOut returns what to do about the faults among the problems, each once.
func WaysOut(list []Problem) []string {
	var out []string
	for f := range faults {
		if slices.ContainsFunc(list, func(p Problem) bool { return p.Fault == f }) {
			out = append(out, wayOut[f])
		}
	}
	return out
}

// Of returns the problems of some faults.
func Of(list []Problem, of ...Fault) []Problem {
	var out []Problem
	for _, p := range list {
		if slices.Contains(of, p.Fault) {
			out = append(out, p)
		}
	}
	return out
}

// Both returns the problems of later that earlier has, too: what was on its way meanwhile has arrived.
func Both(earlier, later []Problem) []Problem {
	return slices.DeleteFunc(slices.Clone(later), func(p Problem) bool { return !slices.Contains(earlier, p) })
}
