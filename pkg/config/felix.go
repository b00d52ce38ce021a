package config

import (
	"net/netip"
	"strings"
	"time"

	"github.com/margay-net/margay/pkg/model"
)

type param = entry[model.Parameters]

// Levels are the log levels, in Calico's words.
var levels = []string{"Trace", "Debug", "Info", "Warning", "Error", "Fatal"}

// felix returns the parameters of FelixConfiguration. All are applied live.
func felix() []param {
	type p = model.Parameters
	const host = `^[a-zA-Z0-9:._+-]{0,64}$`
	return []param{
		{"logSeverityScreen", "Info", "", "Least level that is logged.",
			choice(func(p *p) *string { return &p.LogLevel }, levels...)},
		{"healthEnabled", "true", "", "Serve /liveness and /readiness.", toggle(func(p *p) *bool { return &p.Health })},
		{"healthHost", "localhost", "", "Address that health is served on.",
			matching(func(p *p) *string { return &p.HealthHost }, host, "a host name or address")},
		{"healthPort", "9099", "TCP port", "Port that health is served on.", number(func(p *p) *int { return &p.HealthPort }, 1, 65535)},
		{"prometheusMetricsEnabled", "false", "", "Serve Prometheus metrics.", toggle(func(p *p) *bool { return &p.Metrics })},
		{"prometheusMetricsHost", "", "", "Address that metrics are served on; all of the node's when not set.",
			matching(func(p *p) *string { return &p.MetricsHost }, host, "a host name or address")},
		{"prometheusMetricsPort", "9091", "TCP port", "Port that metrics are served on.",
			number(func(p *p) *int { return &p.MetricsPort }, 1, 65535)},
		{"prometheusGoMetricsEnabled", "true", "", "Metrics of the Go runtime, too.", toggle(func(p *p) *bool { return &p.GoMetrics })},
		{"prometheusProcessMetricsEnabled", "true", "", "Metrics of the process (CPU, memory, files), too.",
			toggle(func(p *p) *bool { return &p.ProcessMetrics })},
		{"ipv6Support", "true", "", "IPv6 where the node has an address (IP6) and a pool has the family.",
			toggle(func(p *p) *bool { return &p.IPv6 })},
		{"ipForwarding", "Enabled", "", "Switch the node's forwarding of packets on. Disabled leaves it as it is.",
			choice(func(p *p) *string { return &p.IPForwarding }, "Enabled", "Disabled")},
		{"vxlanVNI", "4096", "", "VXLAN network identifier; the same on all nodes.", number(func(p *p) *int { return &p.VXLANVNI }, 1, 1<<24-1)},
		{"vxlanPort", "4789", "UDP port", "Port of the VXLAN devices; the same on all nodes.",
			number(func(p *p) *int { return &p.VXLANPort }, 1, 65535)},
		{"vxlanMTU", "0", "bytes", "MTU of vxlan.calico; 0: the underlay's less 50.", number(func(p *p) *int { return &p.VXLANMTU4 }, 0, 65535)},
		{"vxlanMTUV6", "0", "bytes", "MTU of vxlan-v6.calico; 0: the underlay's less 70.",
			number(func(p *p) *int { return &p.VXLANMTU6 }, 0, 65535)},
		{"ipipMTU", "0", "bytes", "MTU of tunl0; 0: the underlay's less 20.", number(func(p *p) *int { return &p.IPIPMTU }, 0, 65535)},
		{"programClusterRoutes", "Disabled", "", "Take the routes to other nodes' blocks in pools without VXLAN from the API, not from BGP.",
			choosing(func(p *p) *bool { return &p.ClusterRoutes }, "Enabled", "Disabled")},
		{"natOutgoingExclusions", "IPPoolsOnly", "", "What pods of a pool with natOutgoing reach with their own addresses: pools, or pools and the nodes' addresses. Other networks: make a disabled pool of them.",
			choice(func(p *p) *string { return &p.NATExclusions }, "IPPoolsOnly", "IPPoolsAndHostIPs")},
		{"natOutgoingAddress", "", "", "Source address of masqueraded IPv4 packets; that of the device they leave by when not set.",
			address(func(p *p) *netip.Addr { return &p.NATAddress })},
		{"natPortRange", "", "ports", "Source ports of masqueraded packets; the kernel's choice when not set.",
			ports(func(p *p) *model.PortRange { return &p.NATPorts })},
		{"iptablesNATOutgoingInterfaceFilter", "", "", "Masquerade only what leaves by this device (eth+ stands for all that begin so); all when not set.",
			matching(func(p *p) *string { return &p.NATInterface }, `^[a-zA-Z0-9:._+-]{0,15}$`, "a device's name of at most 15 characters")},
		{"floatingIPs", "Disabled", "", "Addresses of the annotation cni.projectcalico.org/floatingIPs lead to the pod, too, on its own node.",
			choosing(func(p *p) *bool { return &p.FloatingIPs }, "Enabled", "Disabled")},
		{"nftablesMode", "Auto", "", "Masquerade by nftables (Enabled, Auto) or by iptables (Disabled).",
			choice(func(p *p) *string { return &p.NFTables }, "Auto", "Enabled", "Disabled")},
		{"iptablesBackend", "Auto", "", "Which iptables of the node is used for what has to be in iptables.",
			choice(func(p *p) *string { return &p.IptablesBackend }, "Auto", "Legacy", "NFT")},
		{"routeRefreshInterval", "90s", "duration", "Pause between full comparisons of routes and neighbours with the kernel, beside the kernel's events.",
			duration(func(p *p) *time.Duration { return &p.RouteRefresh }, time.Second)},
		{"interfaceRefreshInterval", "90s", "duration", "The same for devices and sysctls.",
			duration(func(p *p) *time.Duration { return &p.LinkRefresh }, time.Second)},
		{"nftablesRefreshInterval", "180s", "duration", "The same for nftables.",
			duration(func(p *p) *time.Duration { return &p.NFTRefresh }, time.Second)},
		{"iptablesRefreshInterval", "180s", "duration", "The same for iptables.",
			duration(func(p *p) *time.Duration { return &p.IptablesRefresh }, time.Second)},
		{"featureDetectOverride", "", "", "ChecksumOffloadBroken=true or =false: whether the VXLAN devices compute checksums in software; found from the kernel's version when not set (broken up to 5.7). Calico's other features have no effect.",
			value[p]{"a list such as ChecksumOffloadBroken=true", setFeatures}},
	}
}

// setFeatures reads featureDetectOverride.
func setFeatures(p *model.Parameters, s string) bool {
	p.ChecksumBroken = ""
	for item := range strings.SplitSeq(s, ",") {
		if strings.TrimSpace(item) == "" {
			continue
		}
		key, val, ok := strings.Cut(strings.TrimSpace(item), "=")
		if _, isFlag := readFlag(val); !ok || val != "" && !isFlag {
			return false
		}
		if strings.EqualFold(key, "ChecksumOffloadBroken") && val != "" {
			on, _ := readFlag(val)
			p.ChecksumBroken = map[bool]string{true: "true", false: "false"}[on]
		}
	}
	return true
}
