package nft

import "golang.org/x/sys/unix"

// chain is what a chain must be right in beside its rules.
type chain struct {
	there                  bool
	kind                   string
	hook, priority, policy uint32
}

// Our chains, by their index in ours.
const (
	postrouting = iota
	prerouting
	output
	chains // how many they are
)

const accept = 1 // linux/netfilter.h, NF_ACCEPT

// ours are our chains. postrouting comes right after srcnat (100), where kube-proxy is: what it has marked for masquerading
// must lose the mark there. VXLAN copies a mark to the outer packet, which would be masqueraded, too. The other two come
// right before dstnat (-100), as Calico's rules come before kube-proxy's.
var ours = [chains]struct {
	name  string
	chain chain
}{
	postrouting: {"postrouting", chain{true, "nat", unix.NF_INET_POST_ROUTING, 101, accept}},
	prerouting:  {"prerouting", chain{true, "nat", unix.NF_INET_PRE_ROUTING, beforeDstNAT, accept}},
	output:      {"output", chain{true, "nat", unix.NF_INET_LOCAL_OUT, beforeDstNAT, accept}},
}

const beforeDstNAT = 1<<32 - 101 // -101, as the kernel's message has it
