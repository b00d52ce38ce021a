package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/pkg/model"
)

// Config is what counts for one run of the agent.
type Config struct {
	Node        string
	Kubeconfig  string // "" in a pod
	APIGroup    string // projectcalico.org/v3, crd.projectcalico.org/v1; "": found
	Backend     string // bird, vxlan or none
	ClusterType string

	IP4, IP6         string // an address, autodetect or none
	Detect4, Detect6 string // method of autodetect

	AS         int    // of the node in BGP; 0: BGPConfiguration's, or that of the Node object
	Hold       int    // seconds without a message after which a BGP peer is dead
	LongLived  int    // seconds that BGP peers keep our routes as a last resort after the restart time
	RouterID   string // an IPv4 address, hash (of the node's name), or "": the node's IPv4 address
	ClusterIPs string // networks of Services' cluster addresses to announce, instead of BGPConfiguration's; comma-separated

	Pool4, Pool6 *model.Pool // default pools; nil: none is made
	PodMTU       int         // bytes; 0: found

	Socket     string
	Spool      string
	JournalDir string
	ProcSys    string // where the node's /proc/sys is mounted
	HostRun    string // where the node's /run is mounted; "": it is not

	BinDir      string // the node's /opt/cni/bin as the agent sees it; "": nothing is installed
	NetDir      string // the node's /etc/cni/net.d as the agent sees it
	ConfName    string // of the conflist
	Conf        string // the conflist; "": the built-in one
	PluginDir   string // folder of the plugins to install
	Record      string // file that tells which plugins on the node are ours
	TakeOver    string // comma-separated types of plugins whose CNI configurations make room for ours
	SkipPlugins string // comma-separated names
	KeepPlugins bool   // those that are there already, but margay itself, are not replaced

	Felix   map[string]string // FELIX_ variables by parameter name, for Resolve
	Notices []string          // variables that have no effect, a line each
}

// draft is a Config while it is read: the default pools' parts, and switches that end up in other fields.
type draft struct {
	Config
	pool4, pool6  pool
	noPools       bool
	updatePlugins bool
	confFile      string
	ignored       string
}

type pool struct {
	cidr, vxlan, ipip, selector string
	bits                        int
	nat, noExport               bool
}

// Read reads the environment, as os.Environ gives it. The error names every variable that is wrong.
func Read(environ []string) (Config, error) {
	env := map[string]string{}
	for _, kv := range environ {
		if k, v, _ := strings.Cut(kv, "="); v != "" {
			env[k] = v
		}
	}
	host, _ := os.Hostname()
	var d draft
	var errs []error
	for _, v := range variables(strings.ToLower(host)) {
		s := v.def
		if have, ok := env[v.name]; ok {
			s = have
		}
		if s != "" && !v.value.set(&d, s) {
			errs = append(errs, bad(v.name, s, v.value.allowed))
		}
		delete(env, v.name)
	}
	d.Felix = map[string]string{}
	errs = append(errs, d.readFelix(env)...)
	d.Notices = append(d.Notices, strangers(env)...)
	errs = append(errs, d.finish()...)
	return d.Config, errors.Join(errs...)
}

func bad(name, value, allowed string) error {
	return fmt.Errorf("environment variable %s: %q: want %s", name, value, allowed)
}

// finish makes of the draft what depends on several variables.
func (d *draft) finish() (errs []error) {
	d.Node = strings.TrimSpace(d.Node)
	if d.Node == "" {
		errs = append(errs, errors.New("environment variable NODENAME: not set, and the host has no name"))
	}
	d.KeepPlugins = !d.updatePlugins
	if d.confFile != "" && d.Conf == "" {
		b, err := os.ReadFile(d.confFile)
		if err != nil {
			errs = append(errs, fmt.Errorf("environment variable CNI_NETWORK_CONFIG_FILE: %w", err))
		}
		d.Conf = string(b)
	}
	if d.noPools {
		return errs
	}
	var err4, err6 []error
	d.Pool4, err4 = d.pool4.read("CALICO_IPV4POOL_", "default-ipv4-ippool", false)
	d.Pool6, err6 = d.pool6.read("CALICO_IPV6POOL_", "default-ipv6-ippool", true)
	if six, ok := d.Felix["ipv6Support"]; ok {
		if on, _ := readFlag(six); !on {
			d.Pool6 = nil
		}
	}
	return append(append(errs, err4...), err6...)
}

// read makes the default pool of a family; nil without a CIDR, or with the CIDR none.
func (p pool) read(prefix, name string, family6 bool) (*model.Pool, []error) {
	if p.cidr == "" || strings.EqualFold(p.cidr, "none") {
		return nil, nil
	}
	cidr, err := netip.ParsePrefix(p.cidr)
	if err != nil || cidr != cidr.Masked() || cidr.Addr().Is6() != family6 {
		return nil, []error{bad(prefix+"CIDR", p.cidr, "a network of the variable's family, such as 172.20.0.0/16 or fd00:172:20::/48")}
	}
	mode := func(s string) model.Encap {
		if s == "Off" {
			return model.EncapNever
		}
		return model.Encap(s)
	}
	out := &model.Pool{
		Name: name, CIDR: cidr, VXLAN: mode(p.vxlan), IPIP: mode(p.ipip), NATOutgoing: p.nat, BlockBits: p.bits,
		NodeSelector: p.selector, DisableBGPExport: p.noExport,
	}
	var errs []error
	if out.VXLAN != model.EncapNever && out.IPIP != model.EncapNever {
		errs = append(errs, bad(prefix+"IPIP", string(out.IPIP), "Never while "+prefix+"VXLAN is "+string(out.VXLAN)))
	}
	if out.BlockBits < cidr.Bits() {
		errs = append(errs, bad(prefix+"BLOCK_SIZE", strconv.Itoa(out.BlockBits), "at least the prefix length of "+p.cidr))
	}
	return out, errs
}

// variables returns the environment beside FELIX_ that the agent reads. host is the machine's name.
func variables(host string) []entry[draft] {
	type d = draft
	modes := []string{"Always", "CrossSubnet", "Never", "Off"}
	address := "an address of the family, autodetect or none"
	list := []entry[d]{
		{"NODENAME", host, "", "Name of the Node object; the host's when not set.", text(func(d *d) *string { return &d.Node })},
		{"KUBECONFIG", "", "", "File that says where the API server is; the pod's service account when not set.", text(func(d *d) *string { return &d.Kubeconfig })},
		{"CALICO_API_GROUP", "", "", "API group that keeps the resources; when not set, the one whose definitions are there, the first when both are.",
			choice(func(d *d) *string { return &d.APIGroup }, "projectcalico.org/v3", "crd.projectcalico.org/v1")},
		{"DATASTORE_TYPE", "kubernetes", "", "Where resources are kept.", choice(func(d *d) *string { return &d.ignored }, "kubernetes")},
		{"CALICO_NETWORKING_BACKEND", "vxlan", "", "Where routes between nodes come from: bird: from BGP, but those of pools in VXLAN mode; vxlan: from the API, without any BGP; none: somebody else sees to them. ConfigMap key calico_backend.",
			choice(func(d *d) *string { return &d.Backend }, "bird", "vxlan", "none")},
		{"CLUSTER_TYPE", "k8s", "", "Kept in ClusterInformation.", text(func(d *d) *string { return &d.ClusterType })},
		{"IP", "autodetect", "", "The node's IPv4 address, with or without its prefix length.",
			matching(func(d *d) *string { return &d.IP4 }, `^(autodetect|none|[0-9.]+(/[0-9]+)?)$`, address)},
		{"IP6", "none", "", "The node's IPv6 address.", matching(func(d *d) *string { return &d.IP6 }, `^(autodetect|none|[0-9a-fA-F:.]+(/[0-9]+)?)$`, address)},
		{"IP_AUTODETECTION_METHOD", "", "", methods, text(func(d *d) *string { return &d.Detect4 })},
		{"IP6_AUTODETECTION_METHOD", "", "", "The same for IPv6.", text(func(d *d) *string { return &d.Detect6 })},
		{"AS", "0", "AS number", "The node's AS in BGP; 0: that of the Node object (projectcalico.org/ASNumber), else of BGPConfiguration.", number(func(d *d) *int { return &d.AS }, 0, 1<<32-1)},
		{"CALICO_ROUTER_ID", "", "", "The node's BGP identifier; the node's IPv4 address when not set, and hash, made of its name, where it has none.",
			matching(func(d *d) *string { return &d.RouterID }, `^(hash|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+)$`, "an IPv4 address or hash")},
		{"CALICO_BGP_HOLD_TIME", "90", "s", "After how long without a message a BGP peer is dead; the less of what its two ends have counts. Keepalives are sent after a third of it, or keepaliveTime of the BGPPeer.",
			number(func(d *d) *int { return &d.Hold }, 3, 65535)},
		{"CALICO_BGP_LONG_LIVED_TIME", "0", "s", "How much longer than the restart time BGP peers shall keep this node's routes, as a last resort where no other is (long-lived graceful restart, RFC 9494); 0: not at all.",
			number(func(d *d) *int { return &d.LongLived }, 0, 1<<24-1)},
		{"CALICO_ADVERTISE_CLUSTER_IPS", "", "", "Networks of Services' cluster addresses that BGP announces, instead of serviceClusterIPs of BGPConfiguration; separated by commas.", text(func(d *d) *string { return &d.ClusterIPs })},
		{"NO_DEFAULT_POOLS", "false", "", "Make no default pools.", toggle(func(d *d) *bool { return &d.noPools })},
	}
	list = append(list, poolVariables("CALICO_IPV4POOL_", pool{cidr: "192.168.0.0/16", bits: 26, nat: true}, 20, 32, modes, func(d *d) *pool { return &d.pool4 })...)
	list = append(list, poolVariables("CALICO_IPV6POOL_", pool{bits: 122}, 116, 128, modes, func(d *d) *pool { return &d.pool6 })...)
	return append(list, []entry[d]{
		{"CNI_MTU", "0", "bytes", "MTU of pods' interfaces; 0: the least that the underlay and the pools' modes allow. ConfigMap key veth_mtu.", number(func(d *d) *int { return &d.PodMTU }, 0, 65535)},
		{"CNI_CONF_NAME", "10-margay.conflist", "", "Name of the CNI configuration's file.", text(func(d *d) *string { return &d.ConfName })},
		{"CNI_NETWORK_CONFIG", "", "", "The CNI configuration; __CNI_MTU__ and __KUBERNETES_NODE_NAME__ in it are replaced. ConfigMap key cni_network_config.", text(func(d *d) *string { return &d.Conf })},
		{"CNI_NETWORK_CONFIG_FILE", "", "", "File with the CNI configuration, when CNI_NETWORK_CONFIG is not set.", text(func(d *d) *string { return &d.confFile })},
		{"SKIP_CNI_BINARIES", "", "", "Plugins that are not installed, separated by commas.", text(func(d *d) *string { return &d.SkipPlugins })},
		{"UPDATE_CNI_BINARIES", "true", "", "Replace plugins that are there already; margay itself is always replaced.", toggle(func(d *d) *bool { return &d.updatePlugins })},
		{"MARGAY_CNI_SOCKET", wire.SocketPath, "", "The agent's socket.", text(func(d *d) *string { return &d.Socket })},
		{"MARGAY_SPOOL_DIR", wire.SpoolDir, "", "Folder of releases that the plugin left while the agent was down.", text(func(d *d) *string { return &d.Spool })},
		{"MARGAY_JOURNAL_DIR", "/var/run/margay/ipam", "", "Folder of the journal of addresses, on tmpfs.", text(func(d *d) *string { return &d.JournalDir })},
		{"MARGAY_PROC_SYS", "/proc/sys", "", "Where the node's /proc/sys is mounted.", text(func(d *d) *string { return &d.ProcSys })},
		{"MARGAY_HOST_RUN", "", "", "Where the node's /run is mounted; nothing is written there when not set.", text(func(d *d) *string { return &d.HostRun })},
		{"MARGAY_HOST_BIN_DIR", "/host/opt/cni/bin", "", "Where the node's folder of plugins is mounted.", text(func(d *d) *string { return &d.BinDir })},
		{"MARGAY_HOST_NET_DIR", "/host/etc/cni/net.d", "", "Where the node's folder of CNI configurations is mounted.", text(func(d *d) *string { return &d.NetDir })},
		{"MARGAY_TAKE_OVER_CNI", "calico,flannel", "", "CNI configurations of these plugins make room for ours: they are renamed to NAME.margay-backup when they sort before it.", text(func(d *d) *string { return &d.TakeOver })},
		{"MARGAY_PLUGIN_RECORD", "/var/lib/margay/plugins.sha256", "", "File that tells which plugins on the node are ours.", text(func(d *d) *string { return &d.Record })},
		{"MARGAY_PLUGIN_DIR", "/opt/margay/bin", "", "Folder of the plugins to install.", text(func(d *d) *string { return &d.PluginDir })},
	}...)
}

const methods = "How autodetect finds the node's address: kubernetes-internal-ip, first-found, can-reach=ADDRESS, interface=REGEX,..., skip-interface=REGEX,... or cidr=CIDR,...; when not set, kubernetes-internal-ip and then first-found."

func poolVariables(prefix string, def pool, least, most int, modes []string, of func(*draft) *pool) []entry[draft] {
	type d = draft
	return []entry[d]{
		{prefix + "CIDR", def.cidr, "", "Network of the default pool, which the first node makes; none: no such pool. Afterwards change the IPPool.", text(func(d *d) *string { return &of(d).cidr })},
		{prefix + "VXLAN", "Never", "", "Its vxlanMode.", choice(func(d *d) *string { return &of(d).vxlan }, modes...)},
		{prefix + "IPIP", "Never", "", "Its ipipMode.", choice(func(d *d) *string { return &of(d).ipip }, modes...)},
		{prefix + "NAT_OUTGOING", strconv.FormatBool(def.nat), "", "Its natOutgoing.", toggle(func(d *d) *bool { return &of(d).nat })},
		{prefix + "BLOCK_SIZE", strconv.Itoa(def.bits), "prefix length", "Its blockSize.", number(func(d *d) *int { return &of(d).bits }, least, most)},
		{prefix + "NODE_SELECTOR", "all()", "", "Its nodeSelector.", text(func(d *d) *string { return &of(d).selector })},
		{prefix + "DISABLE_BGP_EXPORT", "false", "", "Its disableBGPExport.", toggle(func(d *d) *bool { return &of(d).noExport })},
	}
}
