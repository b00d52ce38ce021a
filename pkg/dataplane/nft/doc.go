// Package nft owns the nftables tables "ip margay" and "ip6 margay", over netlink, with nothing executed: natOutgoing, the
// masquerading of what pods send to the outside, and floating addresses.
//
// A table has one chain and two sets, the same for every node and pool:
//
//	table ip margay {
//		set sources { type ipv4_addr; flags interval; elements = { 172.20.0.0/16 } }
//		set spared { type ipv4_addr; flags interval; elements = { 172.20.0.0/16 } }
//		chain postrouting {
//			type nat hook postrouting priority srcnat + 1; policy accept;
//			ip saddr @sources ip daddr != @spared masquerade fully-random comment "natOutgoing 5d6e…"
//			oifname "vxlan.calico" fib saddr . oif type != local fib saddr type local masquerade fully-random comment "tunnel 1f0a…"
//		}
//	}
//
// The first rule is natOutgoing; with a port range it is one rule each for TCP, UDP and SCTP and one without ports for the
// rest, since only these have ports. As in Calico it looks at the source alone: wherever the packet comes in, and whatever
// it is for but pools (link-local addresses such as a cloud's metadata server, multicast), it is masqueraded when it
// leaves this node. A pod of another node that is routed through this one is masqueraded here, too, if it was not there.
//
// The second rule is for the node's own processes that connect to a Service. The kernel chooses the source while the
// destination is still the Service's address, so it takes the uplink's; then the Service's address becomes that of a pod
// behind a tunnel, whose node would see a tunnelled packet from an address that it does not reach by the tunnel: the
// answer would go another way, and strict reverse path filtering drops the packet itself. So what leaves by a tunnel
// device from a local address of another device gets the tunnel's own.
//
// # Floating addresses
//
// Where pods have floating addresses, two more chains translate these to the pods' own, for what comes in and for what the
// node itself sends, and the first rule of postrouting is for a pod that sends to itself by that way:
//
//	chain prerouting {
//		type nat hook prerouting priority dstnat - 1; policy accept;
//		ip daddr 192.0.2.10 dnat to 172.20.0.5 comment "floating 93c0…"
//	}
//	chain output {
//		type nat hook output priority dstnat - 1; policy accept;
//		ip daddr 192.0.2.10 dnat to 172.20.0.5 comment "floating 93c0…"
//	}
//	postrouting: ip saddr 172.20.0.5 ip daddr 172.20.0.5 snat to 192.0.2.10 comment "floating to itself 0b77…"
//
// What such a pod sends to others keeps its own address, as with Calico.
//
// # Promises
//
// What is wanted is in the kernel soon after SetNAT, and again at once when somebody deletes or changes any of it, or adds
// rules to our chain or elements to our sets, since nftables sends events; who does so again and again is answered ten
// times a second. The audit is there for events that were lost. Each change is one transaction, and our chain keeps its
// place in it, so no packet meets less than the whole of what was or what is to be. A changed set costs the changed
// elements. What is right is not written again. Before the first SetNAT nothing is written. Tables that are not ours are
// never touched, nor are other chains and sets that somebody puts into ours, as long as ours is wanted.
//
// A restarted agent knows its tables by their name and looks whether they are right: the sets by their elements, the
// rules by the hash of their content that each has in its comment. The kernel gives rules back in a form that its
// versions vary, so comparing these would rewrite rules that are right.
//
// # Running connections
//
// The kernel decides on a connection's first packet and keeps that in conntrack. Switching natOutgoing on or off, adding
// pools, replacing rules: a connection that runs goes on as it began, with the same address to the outside, until it ends.
//
// That needs somebody who has the kernel track connections and translate them all the while, as kube-proxy and portmap do
// on every node of a cluster. Where ours are the only rules that do, switching natOutgoing on starts the tracking, and a
// TCP connection that runs already looks like a new one: it is masqueraded in the middle, and breaks. Switching it off ends
// the translating, and what was masqueraded breaks, too.
package nft
