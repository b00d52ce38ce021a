package ipam

import "github.com/margay-net/margay/pkg/model"

// Keep marks addresses that an interface of this node brought along, in which IPAM has no part otherwise: while the
// interface is there this node gives them to nobody else. Other nodes are not kept from it. The mark is in memory alone;
// after a restart Sync finds it by the interface's routes.
func (a *Allocator) Keep(ep model.Endpoint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, addr := range ep.Addrs {
		if a.inUse[addr] == "" {
			a.inUse[addr] = ep.HostVeth
		}
	}
	a.reread(ep)
}

// Unkeep ends what Keep began.
func (a *Allocator) Unkeep(ep model.Endpoint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, addr := range ep.Addrs {
		if a.inUse[addr] == ep.HostVeth {
			delete(a.inUse, addr)
		}
	}
	a.reread(ep)
}

// reread finds out anew what own blocks with an endpoint's addresses can give. The caller holds mu.
func (a *Allocator) reread(ep model.Endpoint) {
	for _, b := range a.ownBlocks() {
		if len(within(b.cidr, ep.Addrs)) > 0 {
			a.install(b.cidr, b.obj)
		}
	}
}
