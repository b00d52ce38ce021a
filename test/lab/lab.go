package lab

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// Options of New.
type Options struct {
	Nodes     int               // default 1
	Subnets   int               // 1 or 2; default 1
	IPv6      bool              // the agents handle IPv6 too
	NoGateway bool              // nodes have no default route
	Pools     []v3.IPPoolSpec   // named pool1, pool2, …; nil: one of each family, VXLAN Always; empty: none
	Env       map[string]string // of all agents, above the lab's own
	Stopped   bool              // the agents are not started
}

// Pools of a lab that was not given others.
var (
	Pool4 = v3.IPPoolSpec{CIDR: "172.20.0.0/16", BlockSize: 26, VXLANMode: v3.EncapAlways}
	Pool6 = v3.IPPoolSpec{CIDR: "fd00:172:20::/112", BlockSize: 122, VXLANMode: v3.EncapAlways}
)

// Lab is a cluster of nodes, for one test.
type Lab struct {
	*Cluster
	Fabric *NS
	Nodes  []*Node
	t      testing.TB
	opts   Options
	dir    string

	mu   sync.Mutex
	pods map[*Pod]struct{} // that an ADD was called for, and no DEL has succeeded
	next int
}

// New builds the nodes and starts their agents; it returns when all are ready and know each other's blocks. Everything
// ends with the test.
func (c *Cluster) New(t testing.TB, o Options) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		nstest.Need(t, "root")
	}
	if c == nil {
		t.Skip("SKIPPED under -short: needs a real kube-apiserver")
	}
	o.Nodes, o.Subnets = max(o.Nodes, 1), max(o.Subnets, 1)
	l := &Lab{Cluster: c, t: t, opts: o, pods: map[*Pod]struct{}{}}
	if err := l.build(); err != nil {
		t.Fatal(err)
	}
	if o.Stopped {
		return l
	}
	for _, n := range l.Nodes {
		n.Start()
	}
	for _, n := range l.Nodes {
		n.WaitReady(30 * time.Second)
	}
	l.WaitRoutes(30 * time.Second) // BGP's sessions take some seconds
	return l
}

func (l *Lab) build() error {
	parent := "/dev/shm" // tmpfs, as the journal's folder should be
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	var err error
	if l.dir, err = os.MkdirTemp(parent, "margay-lab-"); err != nil {
		return err
	}
	l.t.Cleanup(func() { os.RemoveAll(l.dir) })
	if err := l.clean(l.t.Context()); err != nil {
		return err
	}
	if l.Fabric, err = NewNS(); err != nil {
		return err
	}
	l.t.Cleanup(l.Fabric.Close)
	if err := l.makeFabric(); err != nil {
		return err
	}
	pools := l.opts.Pools
	if pools == nil {
		pools = []v3.IPPoolSpec{Pool4}
		if l.opts.IPv6 {
			pools = append(pools, Pool6)
		}
	}
	for i, spec := range pools {
		if err := l.API.CreatePool(l.t.Context(), &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pool%d", i+1)}, Spec: spec}); err != nil {
			return err
		}
	}
	for i := range l.opts.Nodes {
		n, err := l.newNode(fmt.Sprintf("node%d", i+1), i+1)
		if err != nil {
			return fmt.Errorf("make node %d: %w", i+1, err)
		}
		l.Nodes = append(l.Nodes, n)
	}
	return nil
}

func (l *Lab) makeFabric() error {
	for _, s := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if err := l.Fabric.SetSysctl(s, "1"); err != nil {
			return err
		}
	}
	var lines []string
	for s := range l.opts.Subnets {
		gw4, gw6 := nodeAddrs(s, 1)
		lines = append(lines,
			fmt.Sprintf("link add br%d type bridge mcast_snooping 0", s),
			fmt.Sprintf("addr add %s dev br%d", gw4, s),
			fmt.Sprintf("addr add %s dev br%d nodad", gw6, s),
			fmt.Sprintf("link set br%d up", s))
	}
	return l.Fabric.Batch(lines...)
}

// nodeAddrs are the addresses of a host in a subnet; host 1 is the router.
func nodeAddrs(subnet, host int) (v4, v6 netip.Prefix) {
	net := byte(10 * (subnet + 1))
	a6 := netip.MustParseAddr(fmt.Sprintf("fd00:%d::%d", net, host))
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, net, byte(host)}), 24), netip.PrefixFrom(a6, 64)
}

// env is an agent's environment.
func (l *Lab) env(n *Node) []string {
	vars := map[string]string{
		"PATH": os.Getenv("PATH"), "KUBECONFIG": filepath.Join(n.dir, "kubeconfig"), "NODENAME": n.Name,
		"MARGAY_CNI_SOCKET": n.Socket, "MARGAY_SPOOL_DIR": n.Spool, "MARGAY_JOURNAL_DIR": n.Journal,
		"MARGAY_HOST_BIN_DIR": n.binDir, "MARGAY_HOST_NET_DIR": n.netDir, "MARGAY_PLUGIN_DIR": filepath.Dir(n.Programs.Plugin()),
		"MARGAY_PLUGIN_RECORD": filepath.Join(n.dir, "plugins.sha256"), "CNI_NETWORK_CONFIG": n.conflist(), "NO_DEFAULT_POOLS": "true", "FELIX_LOGSEVERITYSCREEN": "Info",
		"FELIX_PROMETHEUSMETRICSENABLED": "true",
	}
	if l.opts.IPv6 {
		vars["IP6"], vars["FELIX_IPV6SUPPORT"] = "autodetect", "true"
	}
	maps.Copy(vars, l.opts.Env)
	maps.Copy(vars, n.Env)
	var out []string
	for k, v := range vars {
		out = append(out, k+"="+v)
	}
	return out
}

// Pods returns the pods that live: an ADD was begun and no DEL has succeeded yet.
func (l *Lab) Pods() (out []*Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.pods {
		out = append(out, p)
	}
	return out
}

// Within waits until f returns nil, and fails the test with its last error when that takes longer than d. It returns
// the time it took.
func (l *Lab) Within(d time.Duration, what string, f func() error) time.Duration {
	l.t.Helper()
	start := time.Now()
	for {
		err := f()
		took := time.Since(start)
		if err == nil {
			return took
		}
		if took > d {
			l.t.Fatalf("not within %s: %s: %v", d, what, err)
		}
		time.Sleep(min(took/20+time.Millisecond, 50*time.Millisecond))
	}
}

// ctx bounds one call that the test makes.
func (l *Lab) ctx(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}
