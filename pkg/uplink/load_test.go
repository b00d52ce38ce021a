package uplink

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/netlink/nstest"
)

func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// A thousand changes cost a few looks, and the last one counts.
func TestFlood(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		n.add(t, "eth0 @A/S")
		w := n.watch(t, n.options(t, n.setting(t, "", "first-found"), netip.Addr{}))
		w.want(t, "eth0 @A/S 1500")
		before, start := cpu(), time.Now()
		for range 50 {
			var lines []string
			for i := range 10 {
				addr := n.say(fmt.Sprintf("@A%d/H", i)) // 10.0.0.50 …, fd00:a::50 …
				lines = append(lines, "addr add "+addr+" dev eth0", "addr del "+addr+" dev eth0")
			}
			n.Batch(t, lines...)
		}
		n.add(t, "eth0 @B/S")
		n.Exec(t, n.say("ip addr del @A/S dev eth0"))
		w.want(t, "eth0 @B/S 1500")
		w.still(t)
		took, used := time.Since(start), cpu()-before
		w.stop()
		if most := int(took/gather) + 3; w.looks > most {
			t.Errorf("%d looks in %s", w.looks, took)
		}
		t.Logf("1000 changes in %s: %d looks, %s of CPU with the test's own", took, w.looks, used)
	})
}

// What comes and goes with pods is not looked at.
func TestPodsCostNothing(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		n.add(t, "eth0 @A/S")
		w := n.watch(t, n.options(t, n.setting(t, "", ""), netip.Addr{}))
		w.want(t, "eth0 @A/S 1500")
		n.Write(t, "/proc/sys/net/ipv6/conf/default/accept_dad", "0") // link-local addresses come at once
		pod := nstest.New(t)
		time.Sleep(2 * soon)
		before := w.count()
		for i := range 10 {
			n.Exec(t, fmt.Sprintf("ip link add cali%d type veth peer name p%d netns /proc/%d/fd/%d", i, i, os.Getpid(), int(pod.Handle)))
			pod.Exec(t, fmt.Sprintf("ip link set p%d up", i))
			n.Exec(t, fmt.Sprintf("ip link set cali%d up", i))
			n.ip(t, fmt.Sprintf("route add @C%d/H dev cali%d", i, i))
		}
		time.Sleep(4 * soon)
		if after := w.count(); after != before {
			t.Errorf("%d looks", after-before)
		}
	})
}

// count returns how many looks there were.
func (w *watched) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.looks
}

// Whatever somebody does to a node's devices and addresses, soon after the watcher has what a fresh look finds, given
// the address in use before, or says that there is none.
func TestKernelWalk(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		t.Parallel()
		seed := rand.Uint64()
		t.Log("seed", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		for _, dev := range []string{"eth0", "eth1", "eth2"} {
			n.dev(t, dev)
		}
		s := n.setting(t, "", "interface=eth[12],eth0")
		w := n.watch(t, n.options(t, s, netip.Addr{}))
		conn := n.Conn(t)
		for range 30 {
			old := w.state()
			n.disturb(t, r)
			right := func() bool {
				fresh := newFinder(conn, s, netip.Addr{}, nil)
				fresh.state, fresh.grade = old, 1<<30 // nothing is worse, and has to wait
				if _, err := fresh.look(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				return w.state() == fresh.state
			}
			time.Sleep(gather)
			nstest.Within(t, 4*soon, "agreement", right)
		}
	})
}

// disturb does something to the node, which may fail.
func (n *node) disturb(t testing.TB, r *rand.Rand) {
	dev := fmt.Sprint("eth", r.IntN(3))
	addr := n.say([]string{"@A/S", "@B/S", "@C/S"}[r.IntN(3)])
	line := []string{
		"ip addr add " + addr + " dev " + dev + map[bool]string{true: " nodad"}[n.six],
		"ip addr del " + addr + " dev " + dev,
		"ip addr flush scope global dev " + dev,
		"ip link set " + dev + " down",
		"ip link set " + dev + " up",
		"ip link set " + dev + " mtu " + fmt.Sprint(1300+r.IntN(200)),
	}[r.IntN(6)]
	out, err := n.Try(line)
	t.Log(line, out, err)
}

// A look at a node with 100 pods and as many addresses of services.
func BenchmarkLook(b *testing.B) {
	n := &node{NS: nstest.New(b)}
	n.add(b, "eth0 @A/S")
	n.add(b, "eth1 @B/S")
	n.dev(b, "kube-ipvs0")
	var lines []string
	for i := range 100 {
		lines = append(lines, fmt.Sprintf("link add cali%d type veth peer name p%d", i, i), fmt.Sprintf("link set cali%d up", i),
			fmt.Sprintf("link set p%d up", i), fmt.Sprintf("addr add 10.96.0.%d/32 dev kube-ipvs0", i))
	}
	n.Batch(b, lines...)
	w := NewWatcher(n.options(b, n.setting(b, "", "first-found"), netip.Addr{}))
	b.ReportAllocs()
	for b.Loop() {
		w.look(b.Context())
	}
	if have := w.Pair().V4.Uplink.String(); have != n.say("eth0 @A/S") {
		b.Fatal(have)
	}
}
