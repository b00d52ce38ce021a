package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/version"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

	lab            *Lab
	subnet         int
	dir            string
	binDir, netDir string
	api            *forwarder
	agent          *Process
	http           *http.Client
	cni            *libcni.CNIConfig
}

// Process is an agent that runs, or ran.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how; to be read after done
}

func (l *Lab) newNode(number int) (*Node, error) {
	n := &Node{Name: fmt.Sprintf("node%d", number), lab: l, subnet: (number - 1) % l.opts.Subnets}
	n.dir = filepath.Join(l.dir, n.Name)
	n.Socket, n.Spool, n.Journal = filepath.Join(n.dir, "cni.sock"), filepath.Join(n.dir, "spool"), filepath.Join(n.dir, "journal")
	n.binDir, n.netDir = filepath.Join(n.dir, "bin"), filepath.Join(n.dir, "net.d")
	for _, d := range []string{n.binDir, n.netDir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	n.Addr4, n.Addr6 = nodeAddrs(n.subnet, 10+number)
	var err error
	if n.NS, err = NewNS(); err != nil {
		return nil, err
	}
	l.t.Cleanup(n.NS.Close)
	if err := n.connect(number); err != nil {
		return nil, err
	}
	if err := n.register(); err != nil {
		return nil, err
	}
	n.cni = libcni.NewCNIConfigWithCacheDir([]string{n.binDir}, filepath.Join(n.dir, "cache"), nsExec{n.NS, &version.PluginDecoder{}})
	n.http = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, addr string) (c net.Conn, err error) {
			err = n.NS.Do(func() error { c, err = net.DialTimeout(network, addr, time.Second); return err })
			return c, err
		}}}
	l.t.Cleanup(n.end)
	return n, nil
}

// connect plugs the node into the fabric. Forwarding is off, as on a fresh machine.
func (n *Node) connect(number int) error {
	for _, s := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if err := n.NS.SetSysctl(s, "0"); err != nil {
			return err
		}
	}
	if err := n.lab.Fabric.Batch(
		fmt.Sprintf("link add n%d type veth peer name eth0 netns %s", number, n.NS.Path()),
		fmt.Sprintf("link set n%d master br%d up", number, n.subnet)); err != nil {
		return err
	}
	lines := []string{"addr add " + n.Addr4.String() + " dev eth0", "addr add " + n.Addr6.String() + " dev eth0 nodad", "link set eth0 up"}
	if !n.lab.opts.NoGateway {
		gw4, gw6 := nodeAddrs(n.subnet, 1)
		lines = append(lines, "route add default via "+gw4.Addr().String(), "route add default via "+gw6.Addr().String())
	}
	return n.NS.Batch(lines...)
}

// register makes the Node object and the node's way to the API server, with the rights of the install manifest's account.
func (n *Node) register() error {
	ctx, cancel := n.lab.ctx(10 * time.Second)
	defer cancel()
	node, err := n.lab.Core.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	for _, a := range []netip.Prefix{n.Addr4, n.Addr6} {
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.Addr().String()})
	}
	if _, err := n.lab.Core.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return err
	}
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
	n.api.cut()
	if log := n.Log(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic: ") {
		n.lab.t.Errorf("%s: an agent raced or panicked:\n%s", n.Name, log)
	}
	if n.lab.t.Failed() {
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

// Start starts the node's agent. It does not wait for anything.
func (n *Node) Start() { n.agent = n.Spawn(nil) }

// Spawn starts an agent beside the one that Start started, with these variables above the node's own. It ends with the
// test.
func (n *Node) Spawn(env map[string]string) *Process {
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		n.lab.t.Error(err)
		return nil
	}
	p := &Process{cmd: exec.Command(filepath.Join(n.lab.bin, "margay-agent")), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = n.lab.env(n), log, log, n.dir
	for k, v := range env {
		p.cmd.Env = append(p.cmd.Env, k+"="+v)
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The signal comes when the thread ends that started the child, so that thread stays until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		defer log.Close()
		err := n.NS.Do(p.cmd.Start)
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		n.lab.t.Errorf("%s: start agent: %v", n.Name, err)
	}
	n.lab.t.Cleanup(p.Kill)
	return p
}

// Kill kills the process and waits for its end.
func (p *Process) Kill() { p.signal(syscall.SIGKILL) }

// Stop asks the process to end, as kubelet does, and waits.
func (p *Process) Stop() { p.signal(syscall.SIGTERM) }

func (p *Process) signal(s os.Signal) {
	if p != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Signal(s)
		<-p.done
	}
}

// Files is how many files and sockets the process has open.
func (p *Process) Files() int {
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	return len(files)
}

// Ended reports whether the process has ended by itself or otherwise.
func (p *Process) Ended() (bool, error) {
	select {
	case <-p.done:
		return true, p.err
	default:
		return false, nil
	}
}

// Kill kills the node's agent, as a crash or the kernel's OOM killer would.
func (n *Node) Kill() { n.agent.Kill() }

// Stop ends the node's agent by SIGTERM.
func (n *Node) Stop() { n.agent.Stop() }

// Agent is the node's agent.
func (n *Node) Agent() *Process { return n.agent }

func (n *Node) log() string { return filepath.Join(n.dir, "agent.log") }

// Log is what the node's agents have written.
func (n *Node) Log() string {
	b, err := os.ReadFile(n.log())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// LastLog is the end of Log.
func (n *Node) LastLog(lines int) string {
	all := strings.Split(strings.TrimSpace(n.Log()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Probe asks the agent as kubelet does: path is readiness or liveness. The error has the agent's words.
func (n *Node) Probe(path string) error {
	_, err := n.get("http://localhost:9099/"+path, 204)
	return err
}

// Metrics returns the agent's metrics in text form.
func (n *Node) Metrics() (string, error) { return n.get("http://localhost:9091/metrics", 200) }

func (n *Node) get(url string, want int) (string, error) {
	resp, err := n.http.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if resp.StatusCode != want {
		return "", fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(b)))
	}
	return string(b), err
}

// WaitReady waits until the agent says that pods can be added. It returns the time it took.
func (n *Node) WaitReady(d time.Duration) time.Duration {
	n.lab.t.Helper()
	return n.lab.Within(d, n.Name+" is ready", func() error {
		if ended, err := n.agent.Ended(); ended {
			n.lab.t.Fatalf("%s: agent ended: %v", n.Name, err)
		}
		return n.Probe("readiness")
	})
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
