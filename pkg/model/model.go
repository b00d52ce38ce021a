// Package model holds the small values that the agent's parts pass to each other: nodes, pools, blocks, endpoints, and
// the kernel objects that should exist. They are plain data: comparable where that is possible, without Kubernetes or
// netlink types, without I/O.
package model

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MAC is an Ethernet address; the zero value means none.
type MAC [6]byte

// ParseMAC reads the colon form, such as 66:aa:bb:cc:dd:ee.
func ParseMAC(s string) (MAC, error) {
	var m MAC
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) != len(m) || len(s) != 17 {
		return MAC{}, fmt.Errorf("parse MAC %q: want six bytes in colon form", s)
	}
	copy(m[:], b)
	return m, nil
}

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// EndpointMAC is the fixed address of the host side of each pod's veth pair (Calico's value).
var EndpointMAC = MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}

// GatewayV4 is the pods' IPv4 gateway: link-local, answered by proxy ARP on the host side (Calico's value).
var GatewayV4 = netip.AddrFrom4([4]byte{169, 254, 1, 1})

// TunnelMAC is the fixed address of a node's VXLAN device: 0x66 and the first five bytes of sha1(node name), as in Calico,
// so that the device keeps its address when it is made anew. family6 tells the IPv6 device's address apart.
func TunnelMAC(node string, family6 bool) MAC {
	if family6 {
		node += "-v6"
	}
	sum := sha1.Sum([]byte(node))
	m := MAC{0x66}
	copy(m[1:], sum[:5])
	return m
}

// HostVeth is the name of the host side of a pod's veth pair: "cali" and the first 11 hexadecimal digits of
// sha1("<namespace>.<pod>"), as in Calico.
func HostVeth(namespace, pod string) string {
	sum := sha1.Sum([]byte(namespace + "." + pod))
	return "cali" + hex.EncodeToString(sum[:])[:11]
}

// InterfaceVeth is the name of the host side of one of a pod's interfaces: HostVeth for eth0, and for any other the same
// form over "<namespace>.<pod>/<interface>", which is no pod's.
func InterfaceVeth(namespace, pod, ifName string) string {
	if ifName == "eth0" {
		return HostVeth(namespace, pod)
	}
	return HostVeth(namespace, pod+"/"+ifName)
}

// Node is what other nodes must know of a node.
type Node struct {
	Name string
	UID  string
	// Addr4 and Addr6 are the node's own addresses with the length of its subnet's prefix; not valid when it has none.
	Addr4, Addr6 netip.Prefix
	// Internal4 and Internal6 are the first addresses of type InternalIP that the Node object names.
	Internal4, Internal6 netip.Addr
	// VXLANAddr4 and VXLANAddr6 are the addresses of its VXLAN devices, VXLANMAC4 and VXLANMAC6 their Ethernet addresses.
	VXLANAddr4, VXLANAddr6 netip.Addr
	VXLANMAC4, VXLANMAC6   MAC
	// IPIPAddr4 is the address of its tunl0.
	IPIPAddr4 netip.Addr
	// AS is its own number in BGP; 0: that of all.
	AS uint32
}

// Encap says when traffic between nodes is encapsulated.
type Encap string

// Values of Encap, as in an IPPool.
const (
	EncapNever       Encap = "Never"
	EncapAlways      Encap = "Always"
	EncapCrossSubnet Encap = "CrossSubnet"
)

// Pool is an IPPool with its defaults filled in.
type Pool struct {
	Name        string
	CIDR        netip.Prefix
	BlockBits   int // prefix length of its blocks
	VXLAN       Encap
	IPIP        Encap
	NATOutgoing bool
	Disabled    bool // gives out no new addresses
	Manual      bool // gives addresses only to who asks for it by name
	Workload    bool // pods may use it
	Tunnel      bool // tunnel devices may use it
	Created     time.Time

	NodeSelector      string
	NamespaceSelector string // "" or all(): every namespace's
	Elsewhere         bool   // its node selector does not select this node: only who asks for it by name gets addresses here
	DisableBGPExport  bool
}

// Block is a block's CIDR and its owner, as routes need it, and which of its addresses live elsewhere.
type Block struct {
	CIDR  netip.Prefix
	Node  string // "" when no host owns it
	Loans Loans
}

// Loan is an address that lives on another node than its block's owner.
type Loan struct {
	Addr netip.Addr
	Node string
	Seq  uint64 // the sequence number of the allocation: the next loan to the same node is another one
}

// Loans is a list of loans in a form that == compares: "ADDRESS NODE SEQUENCE" each, with a space after it. Most blocks have
// none.
type Loans string

// MakeLoans puts a list together, which it sorts.
func MakeLoans(list []Loan) Loans {
	slices.SortFunc(list, func(x, y Loan) int { return x.Addr.Compare(y.Addr) })
	var out strings.Builder
	for _, l := range list {
		out.WriteString(l.Addr.String() + " " + l.Node + " " + strconv.FormatUint(l.Seq, 10) + " ")
	}
	return Loans(out.String())
}

// List takes the list apart.
func (l Loans) List() (out []Loan) {
	words := strings.Fields(string(l))
	for ; len(words) > 2; words = words[3:] {
		addr, err := netip.ParseAddr(words[0])
		seq, serr := strconv.ParseUint(words[2], 10, 64)
		if err == nil && serr == nil {
			out = append(out, Loan{Addr: addr, Node: words[1], Seq: seq})
		}
	}
	return out
}

// Endpoint is a pod's interface on this node.
type Endpoint struct {
	Network     string       `json:"network"` // name in the CNI configuration
	ContainerID string       `json:"containerID"`
	IfName      string       `json:"ifName"`
	Namespace   string       `json:"namespace"`
	Pod         string       `json:"pod"`
	HostVeth    string       `json:"hostVeth"`
	Addrs       []netip.Addr `json:"addrs"`
}

// Key tells endpoints apart: a container has one endpoint per interface name.
func (e Endpoint) Key() string { return e.ContainerID + "/" + e.IfName }

// IPAMConfig is the cluster's IPAM configuration with its defaults filled in.
type IPAMConfig struct {
	StrictAffinity     bool
	AutoAllocateBlocks bool
	MaxBlocksPerHost   int
	Cooldown           time.Duration
}

// DefaultIPAMConfig is what counts while the cluster has no IPAMConfiguration.
var DefaultIPAMConfig = IPAMConfig{AutoAllocateBlocks: true, MaxBlocksPerHost: 20}

// Parameters are what FelixConfiguration resources and FELIX_ variables set, resolved for one node. Package config has
// their names, defaults and units.
type Parameters struct {
	LogLevel string // Trace, Debug, Info, Warning, Error or Fatal

	Health     bool
	HealthHost string
	HealthPort int

	Metrics                   bool
	MetricsHost               string // "": all addresses
	MetricsPort               int
	GoMetrics, ProcessMetrics bool

	IPv6         bool
	IPForwarding string // Enabled or Disabled

	VXLANVNI, VXLANPort  int
	VXLANMTU4, VXLANMTU6 int    // bytes; 0: found from the underlay
	IPIPMTU              int    // bytes; 0: found from the underlay
	ClusterRoutes        bool   // routes to blocks of pools without VXLAN come from the API
	ChecksumBroken       string // true, false, or "": found from the kernel's version

	NATExclusions   string // IPPoolsOnly or IPPoolsAndHostIPs
	NATAddress      netip.Addr
	NATPorts        PortRange
	NATInterface    string
	NFTables        string // Auto, Enabled or Disabled
	FloatingIPs     bool   // pods may have floating addresses
	IptablesBackend string // Auto, Legacy or NFT

	// Pauses between full comparisons with the kernel; 0: never.
	RouteRefresh, LinkRefresh, NFTRefresh, IptablesRefresh time.Duration
}
