package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/pkg/model"
)

// Config is what the agent reads from its environment, in Calico's names.
type Config struct {
	Node       string
	Kubeconfig string // "" in a pod
	Backend    string // vxlan or none

	IP4, IP6         string // an address, autodetect or none
	Detect4, Detect6 string // method of autodetect

	Pool4, Pool6 *model.Pool // default pools; nil: none is made
	MTU          int         // of pods' interfaces and of the VXLAN device; 0: found from the underlay
	VNI, Port    int         // of the VXLAN device; 0: see FelixConfiguration
	IPv6         bool
	ClusterType  string
	HealthHost   string
	HealthPort   int
	Metrics      *bool // nil: see FelixConfiguration
	MetricsPort  int   // 0: see FelixConfiguration
	LogLevel     string
	Socket       string
	Spool        string
	JournalDir   string
	ProcSys      string // where the node's /proc/sys is mounted
	Install      Install
}

// Install says what is put on the node, and where.
type Install struct {
	BinDir      string // the node's /opt/cni/bin as the agent sees it; "": nothing is installed
	NetDir      string // the node's /etc/cni/net.d as the agent sees it
	ConfName    string
	Conf        string // the conflist; "": the built-in one
	Source      string // folder of the plugins to install
	Skip        []string
	KeepPresent bool // plugins other than margay that are there already are not replaced
}

// Defaults of the node's folders.
const (
	defaultJournal = "/var/run/margay/ipam"
	defaultSource  = "/opt/margay/bin"
	hostBinDir     = "/host/opt/cni/bin"
	hostNetDir     = "/host/etc/cni/net.d"
)

// env reads variables and gathers what is wrong with them.
type env struct {
	lookup func(string) (string, bool)
	errs   []error
}

func (e *env) text(name, def string) string {
	if v, ok := e.lookup(name); ok && v != "" {
		return v
	}
	return def
}

func (e *env) bad(name, value, want string) {
	e.errs = append(e.errs, fmt.Errorf("environment variable %s: %q: want %s", name, value, want))
}

func (e *env) number(name string, def, low, high int) int {
	v := e.text(name, "")
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		e.bad(name, v, fmt.Sprintf("a number from %d to %d", low, high))
		return def
	}
	return n
}

func (e *env) flag(name string, def bool) bool {
	v := e.text(name, "")
	if v == "" {
		return def
	}
	switch strings.ToLower(v) {
	case "true", "1", "yes", "on", "enabled":
		return true
	case "false", "0", "no", "off", "disabled":
		return false
	}
	e.bad(name, v, "true or false")
	return def
}

func (e *env) choice(name, def string, allowed ...string) string {
	v := e.text(name, def)
	for _, a := range allowed {
		if strings.EqualFold(v, a) {
			return a
		}
	}
	e.bad(name, v, "one of "+strings.Join(allowed, ", "))
	return def
}

// ReadConfig reads the environment through lookup (os.LookupEnv). The error names every variable that is wrong.
func ReadConfig(lookup func(string) (string, bool)) (Config, error) {
	e := &env{lookup: lookup}
	host, _ := os.Hostname()
	c := Config{
		Node:       strings.TrimSpace(e.text("NODENAME", strings.ToLower(host))),
		Kubeconfig: e.text("KUBECONFIG", ""),
		Backend:    e.choice("CALICO_NETWORKING_BACKEND", "vxlan", "vxlan", "none"),
		IP4:        e.text("IP", "autodetect"), IP6: e.text("IP6", "none"),
		Detect4: e.text("IP_AUTODETECTION_METHOD", ""), Detect6: e.text("IP6_AUTODETECTION_METHOD", ""),
		MTU: e.number("CNI_MTU", 0, 0, 65535), VNI: e.number("FELIX_VXLANVNI", 0, 1, 1<<24-1), Port: e.number("FELIX_VXLANPORT", 0, 1, 65535),
		IPv6:        e.flag("FELIX_IPV6SUPPORT", false),
		ClusterType: e.text("CLUSTER_TYPE", "k8s"),
		HealthHost:  e.text("FELIX_HEALTHHOST", "localhost"), HealthPort: e.number("FELIX_HEALTHPORT", 9099, 1, 65535),
		MetricsPort: e.number("FELIX_PROMETHEUSMETRICSPORT", 0, 1, 65535),
		LogLevel:    e.text("FELIX_LOGSEVERITYSCREEN", ""),
		Socket:      e.text("MARGAY_CNI_SOCKET", wire.SocketPath), Spool: e.text("MARGAY_SPOOL_DIR", wire.SpoolDir),
		JournalDir: e.text("MARGAY_JOURNAL_DIR", defaultJournal), ProcSys: e.text("MARGAY_PROC_SYS", "/proc/sys"),
		Install: Install{
			BinDir: e.text("MARGAY_HOST_BIN_DIR", hostBinDir), NetDir: e.text("MARGAY_HOST_NET_DIR", hostNetDir),
			ConfName: e.text("CNI_CONF_NAME", "10-margay.conflist"), Conf: e.text("CNI_NETWORK_CONFIG", ""),
			Source:      e.text("MARGAY_PLUGIN_DIR", defaultSource),
			Skip:        strings.FieldsFunc(e.text("SKIP_CNI_BINARIES", ""), func(r rune) bool { return r == ',' }),
			KeepPresent: !e.flag("UPDATE_CNI_BINARIES", true),
		},
	}
	if v := e.number("FELIX_VXLANMTU", 0, 0, 65535); v != 0 {
		c.MTU = v
	}
	if _, ok := lookup("FELIX_PROMETHEUSMETRICSENABLED"); ok {
		on := e.flag("FELIX_PROMETHEUSMETRICSENABLED", false)
		c.Metrics = &on
	}
	if file := e.text("CNI_NETWORK_CONFIG_FILE", ""); file != "" && c.Install.Conf == "" {
		b, err := os.ReadFile(file)
		if err != nil {
			e.errs = append(e.errs, fmt.Errorf("environment variable CNI_NETWORK_CONFIG_FILE: %w", err))
		}
		c.Install.Conf = string(b)
	}
	if c.Node == "" {
		e.errs = append(e.errs, errors.New("environment variable NODENAME: not set, and the host has no name"))
	}
	if c.LogLevel != "" {
		if _, err := ParseLevel(c.LogLevel); err != nil {
			e.errs = append(e.errs, fmt.Errorf("environment variable FELIX_LOGSEVERITYSCREEN: %w", err))
		}
	}
	if !e.flag("NO_DEFAULT_POOLS", false) {
		c.Pool4 = e.pool("CALICO_IPV4POOL_", "default-ipv4-ippool", "192.168.0.0/16", 26, 20, true)
		if c.IPv6 {
			c.Pool6 = e.pool("CALICO_IPV6POOL_", "default-ipv6-ippool", "", 122, 116, false)
		}
	}
	return c, errors.Join(e.errs...)
}

// pool reads a default pool; nil when its CIDR is not set and has no default.
func (e *env) pool(prefix, name, cidr string, bits, least int, nat bool) *model.Pool {
	text := e.text(prefix+"CIDR", cidr)
	if text == "" {
		return nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p != p.Masked() {
		e.bad(prefix+"CIDR", text, "a network such as 172.20.0.0/16")
		return nil
	}
	modes := []string{"Always", "CrossSubnet", "Never", "Off"}
	mode := func(v string) model.Encap {
		if v == "Off" {
			return model.EncapNever
		}
		return model.Encap(v)
	}
	out := &model.Pool{
		Name: name, CIDR: p,
		VXLAN:       mode(e.choice(prefix+"VXLAN", "Never", modes...)),
		IPIP:        mode(e.choice(prefix+"IPIP", "Never", modes...)),
		NATOutgoing: e.flag(prefix+"NAT_OUTGOING", nat),
		BlockBits:   e.number(prefix+"BLOCK_SIZE", bits, least, p.Addr().BitLen()),
	}
	if p.Addr().Is6() != (bits > 32) {
		e.bad(prefix+"CIDR", text, "a network of the variable's family")
	}
	if out.VXLAN != model.EncapNever && out.IPIP != model.EncapNever {
		e.bad(prefix+"IPIP", string(out.IPIP), "Never while "+prefix+"VXLAN is "+string(out.VXLAN))
	}
	if out.BlockBits < p.Bits() {
		e.bad(prefix+"BLOCK_SIZE", strconv.Itoa(out.BlockBits), "at least the prefix length of "+text)
	}
	return out
}

// ParseLevel reads a log level in Calico's words.
func ParseLevel(s string) (slog.Level, error) {
	names := []string{"trace", "debug", "info", "warning", "error", "fatal"}
	levels := []slog.Level{slog.LevelDebug, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError, slog.LevelError}
	i := slices.Index(names, strings.ToLower(s))
	if i < 0 {
		return 0, fmt.Errorf("log level %q is none of Trace, Debug, Info, Warning, Error, Fatal", s)
	}
	return levels[i], nil
}
