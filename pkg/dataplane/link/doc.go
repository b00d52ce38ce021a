// Package link owns the VXLAN devices vxlan.calico and vxlan-v6.calico and the kernel's tunl0 with their addresses, the
// host side of the pods' veth pairs (their being up and their sysctls, not their making and not their MTU), and the node's
// two forwarding switches net/ipv4/ip_forward and net/ipv6/conf/all/forwarding.
//
// It promises that these are as wanted: a pod's side when PutEndpoint has returned, the rest soon after it was set, and
// again within a second when somebody deletes a VXLAN device, takes a tunnel's address, changes its attributes, sets a device
// down or changes a sysctl. Link, address and netconf events tell; for the few sysctls for which the kernel sends no
// event it looks each second. A VXLAN device is made with all its attributes in one message, corrected in place, and made
// anew only where the kernel can't correct it: VNI, port, or something else under our name. What is right is not written.
//
// Whether a VXLAN device leaves checksums to the device below is switched as wanted: kernels up to 5.7 send wrong ones
// for packets whose source was rewritten (connections to Services hang for a minute), and some network cards do, too.
//
// tunl0 is there as soon as the kernel knows IPIP, in each namespace, and can't be removed. Asking for it loads the module
// where the host has it. A kernel without IPIP is an error that says what to do, tried again with the loop's pauses, and
// keeps nothing else from being right. We set tunl0 up where a pool needs it, and mark it with the alias "margay"; only one
// that is so marked is ever taken down again. Others use it, too: servers behind a virtual server have its address there.
//
// The IPv4 one and tunl0 have loose reverse path filtering (rp_filter 2), whatever the node's default is. Pods' devices
// keep the node's default, strict or not: their routes are symmetric.
//
// It never touches another device, nor anything before it was told what is wanted. A restarted agent knows its devices
// by their names. A VXLAN device that is made anew comes without routes, neighbours and forwarding entries: their
// owners see the events and put them back.
//
// Beware of net/ipv6/conf/all/forwarding: the kernel copies it to every device and ignores router advertisements on a
// forwarding device unless its accept_ra is 2. An uplink that has its default route from advertisements needs accept_ra
// 2 before IPv6 is switched on; this package leaves the uplink alone.
package link
