package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/test/lab"
)

// way is a path between two pods on two nodes.
type way struct {
	name     string
	from, to *lab.NS
	addr     netip.Addr // of to
}

// traffic measures our data plane and flannel's over VXLAN, in the same two nodes' namespaces, and the nodes' own.
func traffic(t *testing.T, b *bench, r *report) {
	l := b.lab(t).New(t, lab.Options{Nodes: 2})
	ways := []way{b.overMargay(t, l), b.overFlannel(t, l), {"nodes", l.Nodes[0].NS, l.Nodes[1].NS, l.Nodes[1].Addr4.Addr()}}
	for _, w := range ways {
		eventually(t, 20*time.Second, "pods reach each other over "+w.name, func() bool {
			_, err := w.from.Run("ping -c1 -W1 " + w.addr.String())
			return err == nil
		})
	}
	bps := make([]sample, len(ways))
	for i := range count("ROUNDS", 15) {
		for k := range ways {
			k = (i + k) % len(ways)
			bps[k] = append(bps[k], iperf(t, ways[k], count("SECONDS_EACH", 5))/1e9)
		}
	}
	trips, rates := make([]sample, len(ways)), make([]sample, len(ways))
	for i := range count("N", 60) {
		for k := range ways {
			k = (i + k) % len(ways)
			s := pingPong(t, ways[k], 1000)
			trips[k] = append(trips[k], s...)
			rates[k] = append(rates[k], s.p50())
		}
	}
	r.add(
		row{what: "TCP, one stream over VXLAN", unit: "Gb/s", ours: bps[0], peer: "flannel", theirs: bps[1], aim: ratioFrom(1)},
		row{what: "the same, beside the nodes' own", unit: "Gb/s", ours: bps[0], peer: "nodes", theirs: bps[2]},
		row{what: "TCP ping-pong, 1 byte", unit: "µs", ours: trips[0], peer: "flannel", theirs: trips[1], aim: ratioUpTo(1)},
		row{what: "the same, medians of the runs", unit: "µs", ours: rates[0], peer: "flannel", theirs: rates[1]},
		row{what: "the same, beside the nodes' own", unit: "µs", ours: trips[0], peer: "nodes", theirs: trips[2]})
	var own sample // of each round: what happened beside it hit both
	for i := range bps[0] {
		own = append(own, bps[0][i]/bps[1][i])
	}
	r.note("TCP: the rounds' own ratios to flannel: median %.2f, from %.2f to %.2f; best rounds %.1f and %.1f Gb/s",
		own.p50(), own.at(0), own.at(1), bps[0].at(1), bps[1].at(1))
	r.note("flannel's iptables rules are left out, since both live in the same namespaces; its pods are on its bridge (plugin bridge)")
}

func (b *bench) overMargay(t *testing.T, l *lab.Lab) way {
	w := way{name: "margay"}
	for i, n := range l.Nodes {
		rig := b.margay(t, n)
		p := rig.pods(1)[0]
		_, res := rig.call("ADD", p)
		if res == nil {
			t.FailNow()
		}
		addr, _ := netip.AddrFromSlice(res.IPs[0].Address.IP)
		w.set(i, p.ns, addr.Unmap())
	}
	return w
}

func (b *bench) overFlannel(t *testing.T, l *lab.Lab) way {
	w := way{name: "flannel"}
	for i, n := range l.Nodes {
		f := b.flannel(t, n, i+1, false)
		f.start()
		conf := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"cbr0","type":"bridge","bridge":"cni0","mtu":%s,"hairpinMode":true,"isGateway":true,
			"isDefaultGateway":true,"ipMasq":false,"ipam":{"type":"host-local","ranges":[[{"subnet":%q}]],"routes":[{"dst":"10.244.0.0/16"}],"dataDir":%q}}`,
			f.mtu(), f.subnet, t.TempDir())
		rig := &rig{t: t, name: "bridge", node: n.NS, path: b.bin("bridge"), conf: conf, dirs: b.bin("")}
		p := rig.pods(1)[0]
		_, res := rig.call("ADD", p)
		if res == nil {
			t.FailNow()
		}
		addr, _ := netip.AddrFromSlice(res.IPs[0].Address.IP)
		w.set(i, p.ns, addr.Unmap())
	}
	return w
}

// mtu is what the daemon has found for pods.
func (f *flannel) mtu() string {
	out, err := os.ReadFile(f.lease)
	if err != nil {
		f.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(out), "FLANNEL_MTU=")
	return strings.Fields(after)[0]
}

func (w *way) set(i int, ns *lab.NS, addr netip.Addr) {
	if i == 0 {
		w.from = ns
	} else {
		w.to, w.addr = ns, addr
	}
}

// iperf sends one stream and returns what was received, in bits per second. A client that comes before its server listens
// says so in its JSON alone, with status 0.
func iperf(t *testing.T, w way, seconds int) float64 {
	t.Helper()
	_, stop := daemon(t, w.to, nil, "iperf3", "-s", "-1")
	defer stop()
	var res struct {
		Error string `json:"error"`
		End   struct {
			Received struct {
				BPS float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	eventually(t, time.Minute, "iperf3 sends over "+w.name, func() bool {
		var out []byte
		err := w.from.Do(func() (err error) {
			out, err = exec.Command("iperf3", "-c", w.addr.String(), "-t", strconv.Itoa(seconds), "-J").Output()
			return err
		})
		res.Error = ""
		return err == nil && json.Unmarshal(out, &res) == nil && res.Error == "" && res.End.Received.BPS > 0
	})
	return res.End.Received.BPS
}

// pingPong measures round trips of one byte between two processes, in microseconds.
func pingPong(t *testing.T, w way, trips int) sample {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, stop := daemon(t, w.to, nil, self, helperPong, w.addr.String())
	defer stop()
	var out, errs bytes.Buffer
	err = w.from.Do(func() error {
		cmd := exec.Command(self, helperPing, w.addr.String(), strconv.Itoa(trips))
		cmd.Stdout, cmd.Stderr = &out, &errs
		return cmd.Run()
	})
	if err != nil {
		t.Fatalf("ping-pong over %s: %v: %s", w.name, err, errs.String())
	}
	var s sample
	for _, f := range strings.Fields(out.String()) {
		ns, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		s.us(time.Duration(ns))
	}
	return s
}

// The two ends of ping-pong are this program again, with one of these arguments. They use plain blocking system calls, so
// that no scheduler but the kernel's is measured.
const (
	helperPing = "ping-pong-client" // ADDRESS TRIPS: prints the nanoseconds of each
	helperPong = "ping-pong-server" // ADDRESS
	helperPort = 7777
)

// helper runs one of the ends; it reports false when the arguments are none.
func helper(args []string) bool {
	if len(args) < 2 || args[0] != helperPing && args[0] != helperPong {
		return false
	}
	runtime.LockOSThread()
	var err error
	if args[0] == helperPing {
		err = ping(args[1], args[2])
	} else {
		err = pong(args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

func socket(addr string) (fd int, sa *unix.SockaddrInet4, err error) {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return -1, nil, err
	}
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	return fd, &unix.SockaddrInet4{Port: helperPort, Addr: ip.As4()}, err
}

func pong(addr string) error {
	fd, sa, err := socket(addr)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return err
	}
	if err := unix.Listen(fd, 1); err != nil {
		return err
	}
	c, _, err := unix.Accept(fd)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(c, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	buf := make([]byte, 1)
	for {
		if n, err := unix.Read(c, buf); n == 0 || err != nil {
			return err
		}
		if _, err := unix.Write(c, buf); err != nil {
			return err
		}
	}
}

func ping(addr, trips string) error {
	n, err := strconv.Atoi(trips)
	if err != nil {
		return err
	}
	fd, err := connect(addr)
	if err != nil {
		return err
	}
	buf := make([]byte, 1)
	trip := func() error {
		if _, err := unix.Write(fd, buf); err != nil {
			return err
		}
		_, err := unix.Read(fd, buf)
		return err
	}
	for range 100 { // warm
		if err := trip(); err != nil {
			return err
		}
	}
	took := make([]time.Duration, n)
	for i := range took {
		begin := time.Now()
		if err := trip(); err != nil {
			return err
		}
		took[i] = time.Since(begin)
	}
	for _, d := range took {
		if _, err := fmt.Fprintln(os.Stdout, d.Nanoseconds()); err != nil {
			return err
		}
	}
	return nil
}

// connect tries until the other end listens.
func connect(addr string) (int, error) {
	for try := 0; ; try++ {
		fd, sa, err := socket(addr)
		if err != nil {
			return -1, err
		}
		if err = unix.Connect(fd, sa); err == nil {
			return fd, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		}
		unix.Close(fd)
		if try == 500 {
			return -1, fmt.Errorf("connect to %s: %w", addr, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
