// Package iptables owns what must live in iptables' own tables: the chain MARGAY-FORWARD in table filter, and, where people
// chose iptables for natOutgoing, MARGAY-NAT and MARGAY-NAT-OUT in table nat, and for floating addresses MARGAY-FLOATING and
// MARGAY-FLOATING-OUT there; and for each the rule that leads to it, the
// first after kube-proxy's in FORWARD, POSTROUTING, PREROUTING and OUTPUT. It executes iptables, by github.com/coreos/go-iptables, and iptables-restore, which that
// does not know; never while a pod waits.
//
// # Forwarding
//
// Docker sets the policy of FORWARD to DROP, and firewalls end the chain with a rule that drops. No chain elsewhere can undo
// that, so pods' packets have to be accepted in that very chain:
//
//	-A FORWARD -j MARGAY-FORWARD
//	-A MARGAY-FORWARD -m conntrack --ctstate INVALID -j RETURN
//	-A MARGAY-FORWARD -i cali+ -j ACCEPT
//	-A MARGAY-FORWARD -o cali+ -j ACCEPT
//
// The jump comes after kube-proxy's own (KUBE-*), which reject connections to Services without endpoints and to load
// balancers from sources that are not allowed. Packets that conntrack can't place are left to the chain's other rules: kube-proxy drops them there, since they would
// leave with addresses that were never translated. What comes neither from a pod's device nor goes to one is left alone,
// too. As with Calico, rules of others in FORWARD do not see pods' packets any more; the node's nftables tables do.
//
// # Two iptables
//
// There are two kernels' worth of iptables: legacy, and the one on top of nftables. A packet goes through both, if both
// have tables. Auto takes the one that kubelet uses, which leaves a chain in table mangle as a hint; without a hint the one
// with more rules, and nft if neither has more (Calico takes legacy then). Wherever FORWARD of the other kind has rules or
// another policy than ACCEPT, pods are accepted there, too. Legacy tables are only looked at once the kernel lists them in
// /proc/net/ip_tables_names, since looking would load them.
//
// # natOutgoing
//
// MARGAY-NAT and MARGAY-NAT-OUT say what the table of package nft says, see there, without sets: one rule for each source
// and each spared network. Switch changes from one to the other; the new rules are in place before the old ones go, and
// running connections go on, since the kernel keeps in conntrack what it decided on their first packet. The same holds for
// floating addresses: one rule for each.
//
// # Promises
//
// What is wanted is there soon after it was set. When somebody deletes or changes it, moves it from its place, or
// adds to our chains, it is mended at once with nft, whose events tell, and within LookEvery with legacy, which has no
// events. A look executes four programs for each family and takes some 10 ms: with legacy a thousandth of a processor. A table is changed in one step. What is right is not written again; rules are told by a hash of their content
// in a comment, since iptables gives them back in a form that its versions vary. Before SetForward nothing is done in table
// filter, before SetNAT nothing in table nat, and rules of others are not touched, ever.
//
// A restarted agent knows its own by the chains' names, and removes what it does not want of them from both kinds.
//
// Where there is no iptables, one line in the log says what does not work, and nothing else happens: natOutgoing by nft
// does not need it, nor does a node whose FORWARD lets packets pass.
//
// # What it needs
//
// CAP_NET_ADMIN; for legacy also CAP_NET_RAW and the host's /run/xtables.lock, which it takes as everybody does.
package iptables
