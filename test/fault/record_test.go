package fault

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/margay-net/margay/test/lab"
)

// recorded is what a version left behind, as files of testdata/<version>:
//
//	journal        the agent's, of a killed agent: two pods, one that is not settled, one whose DEL came too late
//	spool/         that DEL
//	objects.json   the Nodes' annotations, and all resources of our group
//	node.ip        lines of ip(8) that make the node's devices, routes and neighbours; $POD_<name> is a pod's namespace
//	node.bridge    lines of bridge(8)
//	pods.json      the pods: see recordedPod
//	wire           what plugin (>) and agent (<) said to each other, connections apart by an empty line
//	state          the node's state as lab.State shows it
const recorded = "testdata/v0.1.0"

// recordedPod is one pod that the version has added.
type recordedPod struct {
	Name, ID string
	Addrs    []netip.Addr
	Result   json.RawMessage
	IP       []string // lines of ip(8) for the pod's namespace
}

// TestRecord records the previous version anew, when MARGAY_RECORD is set. It needs the history of the checkout.
func TestRecord(t *testing.T) {
	if os.Getenv("MARGAY_RECORD") == "" {
		t.Skip("SKIPPED: records only when MARGAY_RECORD is set")
	}
	old := oldPrograms(t)
	l := cluster.New(t, lab.Options{Nodes: 2, IPv6: true, Stopped: true})
	n := l.Nodes[0]
	tap := newTap(t, n.Socket, n.Socket+".agent")
	n.Env = map[string]string{"MARGAY_CNI_SOCKET": n.Socket + ".agent"}
	for _, n := range l.Nodes {
		n.Programs = old
		n.Start()
	}
	for _, n := range l.Nodes {
		n.WaitReady(30 * time.Second)
	}
	pods := []*lab.Pod{n.Pod("web"), n.Pod("db")}
	gone, brief := n.Pod("gone"), n.Pod("brief")
	for _, err := range []error{pods[0].Check(), n.Status(), brief.Remove(), n.GC(pods[0], pods[1], gone)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l.WaitRoutes(30 * time.Second)
	l.Agrees(30 * time.Second)
	pods = append(pods, n.Pod("unsettled"))
	n.Kill()
	objects, err := l.Dump()
	if err != nil {
		t.Fatal(err)
	}
	tap.close()
	if err := gone.Remove(); err != nil {
		t.Fatal(err)
	}
	recordNode(t, n, pods)
	writeFile(t, "state", strings.Join(n.State(), "\n")+"\n")
	journal, err := os.ReadFile(filepath.Join(n.Journal, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, "journal", string(journal))
	for _, name := range n.Spooled() {
		b, err := os.ReadFile(filepath.Join(n.Spool, name))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, "spool/"+name, string(b))
	}
	writeJSON(t, "objects.json", objects)
	writeFile(t, "wire", tap.said())
}

// recordNode records what makes the node's kernel what it is, and its pods.
func recordNode(t *testing.T, n *lab.Node, pods []*lab.Pod) {
	t.Helper()
	var ip, bridge []string
	var kept []recordedPod
	run := func(ns *lab.NS, line string) []string {
		out, err := ns.Run(line)
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(strings.Split(out, "\n"), func(s string) bool { return strings.TrimSpace(s) == "" })
	}
	for _, p := range pods {
		mac := strings.Fields(run(p.NS, "ip -br link show dev eth0")[0])[2]
		mtu := mtu(t, p)
		ip = append(ip, fmt.Sprintf("link add %s address ee:ee:ee:ee:ee:ee mtu %s type veth peer name eth0 address %s mtu %s netns $POD_%s", p.HostVeth(), mtu, mac, mtu, p.Name),
			"link set "+p.HostVeth()+" up")
		result, err := p.Result()
		if err != nil {
			t.Fatal(err)
		}
		result = bytes.ReplaceAll(result, []byte(p.NS.Path()), []byte("/var/run/netns/"+p.Name))
		r := recordedPod{Name: p.Name, ID: p.ID, Addrs: p.Addrs, Result: result, IP: []string{"link set eth0 up"}}
		for _, a := range p.Addrs {
			r.IP = append(r.IP, fmt.Sprintf("addr add %s dev eth0 nodad", netip.PrefixFrom(a, a.BitLen())))
		}
		r.IP = append(r.IP, routes(run(p.NS, "ip -d route show"), "boot")...)
		r.IP = append(r.IP, routes(run(p.NS, "ip -6 -d route show"), "boot")...)
		for _, line := range slices.Concat(run(p.NS, "ip -4 neigh show nud permanent dev eth0"), run(p.NS, "ip -6 neigh show nud permanent dev eth0")) {
			f := strings.Fields(line)
			r.IP = append(r.IP, "neigh add "+f[0]+" lladdr "+f[2]+" nud permanent dev eth0")
		}
		kept = append(kept, r)
	}
	for _, line := range n.State() {
		f := strings.Fields(line)
		switch f[0] {
		case "link": // link D up true mtu M mac X vni V port P parent D local L learning false
			ip = append(ip, fmt.Sprintf("link add %s address %s mtu %s type vxlan id %s dev %s local %s dstport %s nolearning noudpcsum udp6zerocsumtx udp6zerocsumrx",
				f[1], colons(f[7]), f[5], f[9], f[13], f[15], f[11]), "link set "+f[1]+" up")
		case "fdb":
			bridge = append(bridge, fmt.Sprintf("fdb add %s dst %s dev %s self permanent", colons(f[1]), f[3], f[5]))
		}
	}
	for _, line := range n.State() {
		f := strings.Fields(line)
		switch f[0] {
		case "addr":
			ip = append(ip, "addr add "+f[1]+" dev "+f[3])
		case "neigh":
			ip = append(ip, "neigh add "+f[1]+" lladdr "+colons(f[3])+" nud permanent dev "+f[5])
		}
	}
	ip = append(ip, routes(slices.Concat(run(n.NS, "ip -d route show"), run(n.NS, "ip -6 -d route show")), "80", "dev cali")...)
	writeFile(t, "node.ip", strings.Join(ip, "\n")+"\n")
	writeFile(t, "node.bridge", strings.Join(bridge, "\n")+"\n")
	writeJSON(t, "pods.json", kept)
}

// routes makes lines for ip(8) of those routes of its detailed listing that have one of these words, those by way of a
// gateway last.
func routes(lines []string, words ...string) (out []string) {
	for _, line := range lines {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) }) && !strings.Contains(line, "proto kernel") {
			out = append(out, "route add "+strings.TrimSpace(line))
		}
	}
	slices.SortStableFunc(out, func(a, b string) int {
		return cmp.Compare(strings.Count(a, " via "), strings.Count(b, " via "))
	})
	return out
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(recorded, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func writeJSON(t *testing.T, name string, v any) {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, name, string(b)+"\n")
}

// tap sits between plugin and agent and writes down what they say.
type tap struct {
	l  net.Listener
	mu sync.Mutex
	b  strings.Builder
}

func newTap(t *testing.T, listen, agent string) *tap {
	t.Helper()
	l, err := net.Listen("unix", listen)
	if err != nil {
		t.Fatal(err)
	}
	tp := &tap{l: l}
	t.Cleanup(tp.close)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", agent)
			if err != nil {
				in.Close()
				continue
			}
			go tp.pass("< ", out, in)
			tp.pass("> ", in, out) // connections one after the other
			tp.mu.Lock()
			tp.b.WriteByte('\n')
			tp.mu.Unlock()
		}
	}()
	return tp
}

func (tp *tap) close() { tp.l.Close() }

func (tp *tap) said() string {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return tp.b.String()
}

// pass passes lines on. When one side hangs up so does the other.
func (tp *tap) pass(mark string, from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	for r := bufio.NewReader(from); ; {
		line, err := r.ReadString('\n')
		if line != "" {
			tp.mu.Lock()
			tp.b.WriteString(mark + line)
			tp.mu.Unlock()
			_, _ = io.WriteString(to, line)
		}
		if err != nil {
			return
		}
	}
}
