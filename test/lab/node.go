package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/version"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Node is one node. Its fields may be changed before Start.
type Node struct {
	Name    string
	NS      *NS
	Addr4   netip.Prefix
	Addr6   netip.Prefix
	Socket  string
	Spool   string
	Journal string            // folder
	Env     map[string]string // of this node's agent alone

	// Programs are what Start runs and the agent installs; the ones under test unless it was changed.
	Programs *Programs

	lab            *Lab
	number         int // of the machine: its port of the fabric and its addresses
	subnet         int
	dir            string
	binDir, netDir string
	api            *forwarder
	agent          *Process
	http           *http.Client
	cni            *libcni.CNIConfig
}

// newNode makes a machine with the addresses of a number, registers it under a name, and starts nothing on it.
func (l *Lab) newNode(name string, number int) (*Node, error) {
	n := &Node{Name: name, Programs: l.Programs, lab: l, number: number, subnet: (number - 1) % l.opts.Subnets}
	l.mu.Lock()
	l.next++
	n.dir = filepath.Join(l.dir, fmt.Sprintf("%s-%d", name, l.next)) // the next machine of that name has its own
	l.mu.Unlock()
	n.Socket, n.Spool, n.Journal = filepath.Join(n.dir, "cni.sock"), filepath.Join(n.dir, "spool"), filepath.Join(n.dir, "journal")
	n.binDir, n.netDir = filepath.Join(n.dir, "bin"), filepath.Join(n.dir, "net.d")
	for _, d := range []string{n.binDir, n.netDir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	n.Addr4, n.Addr6 = nodeAddrs(n.subnet, 10+number)
	n.http = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, addr string) (c net.Conn, err error) {
			err = n.NS.Do(func() error { c, err = net.DialTimeout(network, addr, 5*time.Second); return err })
			return c, err
		}}}
	l.t.Cleanup(n.end)
	if err := n.boot(); err != nil {
		return nil, err
	}
	return n, n.Register()
}

// boot switches the machine on: its kernel knows nothing, and of its files those on disk are there.
func (n *Node) boot() error {
	ns, err := NewNS()
	if err != nil {
		return err
	}
	n.lab.t.Cleanup(ns.Close)
	n.NS = ns
	n.cni = libcni.NewCNIConfigWithCacheDir([]string{n.binDir}, filepath.Join(n.dir, "cache"), nsExec{ns, &version.PluginDecoder{}})
	if err := n.connect(); err != nil {
		return err
	}
	return n.reachAPI()
}

// connect plugs the node into the fabric. Forwarding is off, as on a fresh machine; the Ethernet address stays the machine's
// over reboots.
func (n *Node) connect() error {
	for _, s := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if err := n.NS.SetSysctl(s, "0"); err != nil {
			return err
		}
	}
	if err := n.lab.Fabric.Batch(
		fmt.Sprintf("link add n%d type veth peer name eth0 address 02:00:00:00:01:%02x netns %s", n.number, n.number, n.NS.Path()),
		fmt.Sprintf("link set n%d master br%d up", n.number, n.subnet)); err != nil {
		return err
	}
	lines := []string{"addr add " + n.Addr4.String() + " dev eth0", "addr add " + n.Addr6.String() + " dev eth0 nodad", "link set eth0 up"}
	if !n.lab.opts.NoGateway {
		gw4, gw6 := nodeAddrs(n.subnet, 1)
		lines = append(lines, "route add default via "+gw4.Addr().String(), "route add default via "+gw6.Addr().String())
	}
	return n.NS.Batch(lines...)
}

// reachAPI makes the node's way to the API server, with the rights of the install manifest's account.
func (n *Node) reachAPI() error {
	c := n.lab.Server.ConfigAs("kube-system", "margay-node")
	file := clientcmdapi.NewConfig()
	file.Clusters["lab"] = &clientcmdapi.Cluster{Server: c.Host, CertificateAuthorityData: c.CAData}
	file.AuthInfos["lab"] = &clientcmdapi.AuthInfo{Token: c.BearerToken, Impersonate: c.Impersonate.UserName, ImpersonateGroups: c.Impersonate.Groups}
	file.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "lab"}
	file.CurrentContext = "lab"
	if err := clientcmd.WriteToFile(*file, filepath.Join(n.dir, "kubeconfig")); err != nil {
		return err
	}
	u, err := url.Parse(c.Host)
	if err != nil {
		return err
	}
	n.api = &forwarder{ns: n.NS, addr: u.Host}
	return n.api.open()
}

// end stops what runs for the node and, after a failure, shows the agent's last words.
func (n *Node) end() {
	n.Kill()
	if n.api != nil {
		n.api.cut()
	}
	if log := n.Log(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic: ") {
		n.lab.t.Errorf("%s: an agent raced or panicked:\n%s", n.Name, log)
	}
	if n.lab.t.Failed() && slices.Contains(n.lab.Nodes, n) {
		n.lab.t.Logf("%s's agent said last:\n%s", n.Name, n.LastLog(40))
	}
}

// CutAPI takes the API server away from this node: connections end, new ones are refused.
func (n *Node) CutAPI() { n.api.cut() }

// HealAPI ends CutAPI.
func (n *Node) HealAPI() {
	if err := n.api.open(); err != nil {
		n.lab.t.Errorf("%s: forward to the API server: %v", n.Name, err)
	}
}

// StallAPI makes the API server silent for this node: connections stay, new ones are accepted, nothing passes. The
// returned function ends it.
func (n *Node) StallAPI() (resume func()) {
	n.api.gate.Lock()
	resume = sync.OnceFunc(n.api.gate.Unlock)
	n.lab.t.Cleanup(resume)
	return resume
}

// conflist is the node's CNI configuration.
func (n *Node) conflist() string {
	b, err := json.Marshal(map[string]any{
		"cniVersion": "1.1.0", "name": "k8s-pod-network",
		"plugins": []any{map[string]any{"type": "margay", "socket": n.Socket, "spool": n.Spool}},
	})
	if err != nil {
		n.lab.t.Error(err)
	}
	return string(b)
}

// Spooled returns the names of the files in the node's spool.
func (n *Node) Spooled() (names []string) {
	files, err := os.ReadDir(n.Spool)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		n.lab.t.Error(err)
	}
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}
