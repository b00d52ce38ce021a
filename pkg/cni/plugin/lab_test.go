package plugin

import (
	"github.com/margay-net/margay/pkg/netlink/nstest"

	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/cni/wire"
)

// The lab: a node and its pods are fresh network namespaces, the plugin is the real binary, executed in the node's
// namespace, and the agent is a small server on a real Unix socket.

var (
	pod4 = netip.MustParseAddr("172.20.239.130")
	pod6 = netip.MustParseAddr("fd00:20::239:130")
)

// binDir is where built plugins are kept for the length of a test run.
var binDir string

func TestMain(m *testing.M) {
	var err error
	if binDir, err = os.MkdirTemp("", "margay-cni-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(binDir)
	os.Exit(code)
}

var buildMargay = sync.OnceValue(func() error { return build("../../..", "margay", "github.com/margay-net/margay/cmd/margay") })

func build(module, name, pkg string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(binDir, name), pkg)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, out)
	}
	return nil
}

// ns is a network namespace with a path that other processes can open.
type ns struct {
	fd   netns.NsHandle
	path string
	nl   *netlink.Handle
	gone sync.Once
}

// newNS makes a namespace that has nothing but lo, which is up.
func newNS(t testing.TB) *ns {
	t.Helper()
	nstest.Root(t)
	made := make(chan netns.NsHandle, 1)
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		if h, err := netns.New(); err != nil {
			failed <- err
		} else {
			made <- h
		}
	}()
	n := &ns{}
	select {
	case n.fd = <-made:
	case err := <-failed:
		t.Fatalf("make network namespace: %v", err)
	}
	n.path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.fd)
	var err error
	if n.nl, err = netlink.NewHandleAt(n.fd, unix.NETLINK_ROUTE); err != nil {
		t.Fatal(err)
	}
	lo, err := n.nl.LinkByName("lo")
	if err == nil {
		err = n.nl.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.remove)
	return n
}

// remove lets the namespace go, as a runtime does that has stopped the sandbox.
func (n *ns) remove() {
	n.gone.Do(func() {
		n.nl.Close()
		n.fd.Close()
	})
}

// do runs f on a thread in the namespace.
func (n *ns) do(f func() error) error { return (&podNS{fd: n.fd}).do(f) }

func (n *ns) link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := n.nl.LinkByName(name)
	if err != nil {
		t.Fatalf("find %s: %v", name, err)
	}
	return l
}

func (n *ns) has(name string) bool {
	_, err := n.nl.LinkByName(name)
	return err == nil
}

func (n *ns) sysctl(t testing.TB, path, value string) {
	t.Helper()
	if err := n.do(func() error { return os.WriteFile("/proc/sys/"+path, []byte(value), 0) }); err != nil {
		t.Fatal(err)
	}
}

// lab is a node with its agent.
type lab struct {
	t      testing.TB
	node   *ns
	agent  *testAgent
	socket string
	spool  string
}

func newLab(t testing.TB) *lab {
	t.Helper()
	nstest.Root(t)
	if err := buildMargay(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l := &lab{t: t, node: newNS(t), socket: filepath.Join(dir, "cni.sock"), spool: filepath.Join(dir, "spool")}
	l.agent = startAgent(t, l.socket, l.node)
	return l
}

// call is one execution of the plugin.
type call struct {
	verb, id, pod, netns string
	ifName               string // default eth0
	version              string // default 1.1.0
	args                 string // default: pod in namespace default
	conf                 map[string]any
}

func (l *lab) conf(c call) []byte {
	conf := map[string]any{"cniVersion": c.version, "name": "k8s-pod-network", "type": "margay", "socket": l.socket, "spool": l.spool}
	for k, v := range c.conf {
		conf[k] = v
	}
	data, err := json.Marshal(conf)
	if err != nil {
		l.t.Fatal(err)
	}
	return data
}

func (l *lab) command(c call) *exec.Cmd {
	if c.version == "" {
		c.version = "1.1.0"
	}
	if c.ifName == "" {
		c.ifName = "eth0"
	}
	if c.args == "" && c.pod != "" {
		c.args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + c.pod + ";K8S_POD_INFRA_CONTAINER_ID=" + c.id + ";K8S_POD_UID=uid-" + c.pod
	}
	cmd := exec.Command(filepath.Join(binDir, "margay"))
	cmd.Stdin = bytes.NewReader(l.conf(c))
	cmd.Env = []string{"CNI_COMMAND=" + c.verb, "CNI_CONTAINERID=" + c.id, "CNI_NETNS=" + c.netns, "CNI_IFNAME=" + c.ifName, "CNI_ARGS=" + c.args, "CNI_PATH=" + binDir}
	if dir := os.Getenv("GOCOVERDIR"); dir != "" { // with GOFLAGS=-cover: the binary's own coverage
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+dir)
	}
	return cmd
}

// run executes the plugin in the node's namespace: its output, or the CNI error that it printed.
func (l *lab) run(c call) ([]byte, *types.Error) {
	l.t.Helper()
	cmd := l.command(c)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	var out []byte
	err := l.node.do(func() (err error) {
		out, err = cmd.Output()
		return err
	})
	if stderr.Len() > 0 {
		l.t.Errorf("%s wrote to the standard error: %s", c.verb, stderr.String())
	}
	if err == nil {
		return out, nil
	}
	var e types.Error
	if json.Unmarshal(out, &e) != nil || e.Msg == "" {
		l.t.Fatalf("%s: %v: no CNI error in %q", c.verb, err, out)
	}
	return nil, &e
}

func (l *lab) mustRun(c call) []byte {
	l.t.Helper()
	out, err := l.run(c)
	if err != nil {
		l.t.Fatalf("%s %s: code %d: %v", c.verb, c.id, err.Code, err)
	}
	return out
}

// wantErr runs the plugin and expects an error of that code with those words in message or details.
func (l *lab) wantErr(c call, code uint, words ...string) {
	l.t.Helper()
	out, err := l.run(c)
	if err == nil {
		l.t.Fatalf("%s %s succeeded: %s", c.verb, c.id, out)
	}
	if err.Code != code {
		l.t.Errorf("%s: code %d, want %d: %v", c.verb, err.Code, code, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			l.t.Errorf("%s: %q does not say %q", c.verb, err, w)
		}
	}
}

// add runs ADD and returns its result.
func (l *lab) add(c call) *current.Result {
	l.t.Helper()
	c.verb = "ADD"
	var r current.Result
	if err := json.Unmarshal(l.mustRun(c), &r); err != nil {
		l.t.Fatal(err)
	}
	return &r
}

// empty fails the test if the node has any device but lo, or the agent an address that was not released.
func (l *lab) empty() {
	l.t.Helper()
	links, err := l.node.nl.LinkList()
	if err != nil {
		l.t.Fatal(err)
	}
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Name, "cali") {
			l.t.Errorf("%s is left on the node", link.Attrs().Name)
		}
	}
	if held := l.agent.held(); len(held) > 0 {
		l.t.Errorf("the agent still holds %v", held)
	}
}

// spooled are the names of the files in the spool.
func (l *lab) spooled() []string {
	files, _ := filepath.Glob(filepath.Join(l.spool, "*"))
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	return files
}

// testAgent speaks the wire protocol as the agent does. A hook takes an operation over; a nil answer closes the connection.
type testAgent struct {
	t        testing.TB
	node     *ns
	listener net.Listener

	mu    sync.Mutex
	addrs []netip.Addr // what assign gives
	mtu   int
	mac   string
	hooks map[wire.Op]func(*wire.Request) *wire.Response
	raw   map[wire.Op]string // written instead of an answer
	seen  []wire.Request
	holds map[string]*wire.Request // by container and interface
}

func startAgent(t testing.TB, socket string, node *ns) *testAgent {
	t.Helper()
	a := &testAgent{t: t, node: node, addrs: []netip.Addr{pod4}, mtu: 1450,
		hooks: map[wire.Op]func(*wire.Request) *wire.Response{}, raw: map[wire.Op]string{}, holds: map[string]*wire.Request{}}
	a.listen(socket)
	return a
}

func (a *testAgent) listen(socket string) {
	a.t.Helper()
	os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		a.t.Fatal(err)
	}
	a.listener = l
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go a.serve(conn)
		}
	}()
	a.t.Cleanup(func() { l.Close(); <-done })
}

// stop is an agent that has ended: nothing listens, and no socket is left.
func (a *testAgent) stop() { a.listener.Close() }

func (a *testAgent) serve(conn net.Conn) {
	defer conn.Close()
	r := wire.Reader(conn)
	for {
		var req wire.Request
		if err := wire.Read(r, &req); err != nil {
			return
		}
		a.mu.Lock()
		a.seen = append(a.seen, req)
		hook, raw := a.hooks[req.Op], a.raw[req.Op]
		a.mu.Unlock()
		if raw != "" {
			conn.Write([]byte(raw))
			return
		}
		if hook == nil {
			hook = a.answer
		}
		resp := hook(&req)
		if resp == nil || wire.Write(conn, resp) != nil {
			return
		}
	}
}

func (a *testAgent) on(op wire.Op, hook func(*wire.Request) *wire.Response) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hooks[op] = hook
}

func (a *testAgent) held() (keys []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range a.holds {
		keys = append(keys, k)
	}
	return keys
}

func (a *testAgent) requests(op wire.Op) (got []wire.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.seen {
		if r.Op == op {
			got = append(got, r)
		}
	}
	return got
}

// answer is what an agent in good health says.
func (a *testAgent) answer(req *wire.Request) *wire.Response {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := req.ContainerID + "/" + req.IfName
	switch req.Op {
	case wire.OpAssign:
		a.holds[key] = req
		return &wire.Response{Assigned: &wire.Assigned{Addrs: a.addrs, HostVeth: req.HostVeth, MTU: a.mtu, MAC: a.mac}}
	case wire.OpActivate:
		if err := a.node.do(func() error { return a.activate(a.holds[key].HostVeth) }); err != nil {
			return &wire.Response{Code: wire.Internal, Msg: err.Error()}
		}
	case wire.OpRelease:
		if a.holds[key] == nil {
			return &wire.Response{Code: wire.Unknown, Msg: "no such container"}
		}
		delete(a.holds, key)
	case wire.OpCheck:
		if a.holds[key] == nil {
			return &wire.Response{Code: wire.Unknown, Msg: "container " + req.ContainerID + " has no address here", Hint: "delete the pod"}
		}
	}
	return &wire.Response{}
}

// activate does the agent's half of the host side: sysctls and routes.
func (a *testAgent) activate(veth string) error {
	for _, s := range []string{"ipv4/conf/" + veth + "/proxy_arp", "ipv4/conf/" + veth + "/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/"+s, []byte("1"), 0); err != nil {
			return err
		}
	}
	link, err := a.node.nl.LinkByName(veth)
	if err != nil {
		return err
	}
	for _, addr := range a.addrs {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(hostPrefix(addr)), Scope: netlink.SCOPE_LINK}
		if err := a.node.nl.RouteReplace(route); err != nil {
			return err
		}
	}
	return nil
}

// within fails the test if f takes longer.
func within(t testing.TB, limit time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > limit {
		t.Errorf("took %s, want at most %s", took, limit)
	}
}
