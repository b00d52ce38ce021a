// Package install owns what the agent puts on the node beside the kernel: the CNI plugins, the CNI configuration (the
// conflist), and the files that keep the node's network managers away from our devices. Its Cleaner takes all of it away
// again, and the kernel's objects too.
//
// # Plugins and conflist
//
// Files are put in place by rename, so that nobody ever sees half a file, and only when they differ. The plugin margay is
// always the image's. The others (portmap, bandwidth, loopback) may have been there before: a foreign one is kept beside
// as NAME.margay-backup when ours takes its place. Which files are ours a restarted agent knows by the record, a list of
// SHA-256 sums in the format of sha256sum(1): it tells an older plugin of ours, which is replaced, from a foreign one.
//
// The conflist comes last, once the agent can serve pods: from then on the runtime calls the plugin. A runtime loads the
// first file of its folder in the order of bytes in the names, of those that end in .conf, .conflist or .json; containerd
// loads nothing at all while that first file is not valid, CRI-O passes it over. So another CNI's file that sorts before
// ours wins, as 10-calico.conflist and 10-flannel.conflist do. Files whose first plugin is in Config.TakeOver are renamed
// to NAME.margay-backup, which no runtime reads; other ones are left alone and said in a Notice, but for Multus, which is
// meant to be first and calls us. The name of a backup is all the record there is. The order is ours first, then theirs
// away, so that there is always a configuration. containerd reads its folder anew on rename, write and removal, not on
// creation: the temporary file must be in the same folder, whose rename it notices.
//
// # Network managers
//
// NetworkManager 1.42 takes each new Ethernet-like device with a default connection of its own: it removed a pod's route
// and host-side IPv6 address within two seconds, and asked pods for DHCP. systemd-networkd 252 takes the devices that a
// [Match] of the administrator's covers, which may be Name=*; when it configures any link of its own anew (netplan apply)
// it removes "foreign" routes and rules of the whole node: those through that link, and those without a link, which are
// our blackholes. The data plane puts all of it back, but pods lose packets meanwhile. So, where they run, their folders
// below /run get files that say which devices to leave: nothing stays on disk, and a reboot takes them away.
//
//	NetworkManager/conf.d/margay.conf        unmanaged twice: keyfile.unmanaged-devices counts at once for devices that
//	                                         are there, but an administrator's = replaces it; a [device] section is
//	                                         replaced by nobody, and counts for new devices
//	systemd/network/00-margay.network        Unmanaged=yes; the first file that matches a device counts, by name
//	systemd/networkd.conf.d/margay.conf      foreign routes and rules stay; read when networkd starts
//
// A manager is asked over the system's D-Bus to read its files again. That fails where AppArmor keeps containers off the
// bus, as on Ubuntu; it matters only when a manager has our devices in hand, which its files below /run tell. Then, and
// only then, there is a Notice with what to type.
//
// udev is no danger: its MACAddressPolicy=persistent (99-default.link) changes only addresses that the kernel made up
// (addr_assign_type 1). Our VXLAN devices and host sides are made with their address, so theirs is "set" (3), and
// systemd-udevd 252 says "MAC address on the device already set by userspace". A device made without an address and given
// one later could lose the race. The pods' sides are born in the pods' namespaces, where no udevd is.
//
// # Clean-up
//
// Cleaner leaves the node as it was found, but for what lives: while pods have cali* devices, these stay with the plugins
// that DEL needs, the journal and the spool, and the managers' files. It stays out of the way of an agent that runs (by
// the journal's lock), and of Calico, should that have been installed meanwhile: Calico uses the same device names and
// route protocol. Left as they are: net.ipv4.ip_forward and net.ipv6.conf.all.forwarding, since nobody can tell who else
// needs them by now; empty folders that are mounted.
//
// The package never deletes a foreign file, and starts nothing in the background.
package install
