package address

import (
	"github.com/margay-net/margay/pkg/ipam/check"
)

// topNodes is how many nodes are listed with their number of allocations.
const topNodes = 20

// report prints a comparison with calicoctl's lines, in its order.
type report struct {
	printer
	*Snapshot
	result        *check.Result
	all, problems bool
}

func (p *report) print() {
	p.line("Checking IPAM for inconsistencies...\n")
	p.blocks()
	p.line("Loading all IPAM pools...")
	for _, cidr := range p.Active {
		p.line("  %s", cidr)
	}
	p.line("Found %d active IP pools.\n", len(p.Active))
	p.line("Loading all nodes.")
	p.line("Found %d node tunnel IPs.\n", p.owners(check.Node))
	p.line("Loading all service load balancer IPs.")
	p.owners(check.Service)
	p.line("Found %d service load balancer(s).\n", p.LoadBalancers)
	p.line("Loading all workload endpoints.")
	p.line("Found %d workload IPs.", p.owners(check.Pod))
	p.line("Workloads and nodes are using %d IPs.\n", len(p.result.InUse))
	p.line("Loading all handles")
	p.nodes()
	p.faults()
	if ways := check.WaysOut(p.result.Problems); len(ways) > 0 {
		p.line("\nWhat to do:")
		for _, w := range ways {
			p.line("- %s", w)
		}
		p.line("")
	}
	p.line("Check complete; found %d problems.", len(p.result.Problems))
}

func (p *report) blocks() {
	p.line("Loading all IPAM blocks...\nFound %d IPAM blocks.", len(p.result.Blocks))
	rest := p.result.Allocations
	for i := range p.result.Blocks {
		b := &p.result.Blocks[i]
		affinity := "<none>"
		if b.Spec.Affinity != nil {
			affinity = *b.Spec.Affinity
		}
		p.line(" IPAM block %s affinity=%s:", b.Spec.CIDR, affinity)
		for ; len(rest) > 0 && rest[0].Block.String() == b.Spec.CIDR; rest = rest[1:] {
			if p.all {
				p.line("  %s allocated; attrs %s", rest[0].IP, rest[0].Attrs())
			}
		}
	}
	p.line("IPAM blocks record %d allocations.\n", len(p.result.Allocations))
}

// owners counts the addresses of a kind, and prints them when all are asked for.
func (p *report) owners(kind check.Kind) (n int) {
	for _, u := range p.Uses {
		if u.Kind != kind || u.Own || !u.Addr.IsValid() {
			continue
		}
		n++
		if p.all {
			p.line("  %s belongs to %s", u.Addr, u.Label)
		}
	}
	return n
}

func (p *report) nodes() {
	list := p.result.ByNode()
	p.line("Looking for top (up to %d) nodes by allocations...", topNodes)
	for i, n := range list {
		if i < topNodes {
			p.line("  %s has %d allocations", n.Node, n.Count)
		}
	}
	if len(list) > 0 {
		p.line("Node with most allocations has %d; median is %d", list[0].Count, list[len(list)/2].Count)
	}
	p.line("")
}

// count prints the problems of some faults, when asked to, and counts them.
func (p *report) count(of ...check.Fault) int {
	list := check.Of(p.result.Problems, of...)
	for _, f := range list {
		if p.problems {
			p.line("  %s", f.Line)
		}
	}
	return len(list)
}

func (p *report) faults() {
	p.line("Scanning for IPs that are allocated but not actually in use...")
	p.line("Found %d IPs that are allocated in IPAM but not actually in use.", p.count(check.Leaked))
	p.line("Scanning for IPs that are in use by a workload or node but not allocated in IPAM...")
	outside := p.count(check.Outside)
	unallocated := p.count(check.Unallocated)
	p.line("Found %d in-use IPs that are not in active IP pools.", outside)
	p.line("Found %d in-use IPs that are in active IP pools but have no corresponding IPAM allocation.\n", unallocated)
	p.line("Scanning for IPAM handles with no matching IPs...")
	p.line("Found %d handles with no matching IPs (and %d handles with matches).", p.count(check.IdleHandle), p.result.GoodHandles)
	p.line("Scanning for IPs with missing handle...")
	p.line("Found %d handles mentioned in blocks with no matching handle resource.", p.count(check.NoHandle))
	p.line("Validating IPAMBlock structures...")
	for _, f := range check.Of(p.result.Problems, check.Damaged) {
		p.line("  IPAMBlock %s", f.Line)
	}
	p.line("Found %d invalid IPAMBlocks.", len(check.Of(p.result.Problems, check.Damaged)))
	// What calicoctl does not look for shows only when there is any.
	for _, more := range []struct {
		fault check.Fault
		line  string
	}{
		{check.Shared, "Found %d IPs with several owners."},
		{check.OtherOwner, "Found %d IPs that are allocated to another than their owner."},
		{check.BadTunnel, "Found %d tunnel IPs that are not allocated to their tunnel."},
		{check.BadCount, "Found %d handles that count other IPs than the blocks hold."},
		{check.Overlap, "Found %d blocks that share IPs with another."},
		{check.DoubleClaim, "Found %d block affinities that contradict the block's owner."},
		{check.Unclaimed, "Found %d blocks whose owner does not claim them."},
	} {
		if n := p.count(more.fault); n > 0 {
			p.line(more.line, n)
		}
	}
}
