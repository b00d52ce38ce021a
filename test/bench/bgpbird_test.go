package bench

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/margay-net/margay/test/lab"
)

// bird is a BIRD in a namespace.
type bird struct {
	t    *testing.T
	ns   *lab.NS
	dir  string
	pid  int
	stop func()
}

// birdHead begins each configuration: own blocks are static, what is learned goes to the kernel. The session's timers are those
// of Calico's templates.
const birdHead = `log "%D/log" { warning, error, fatal, bug };
router id %A;
protocol device { }
protocol direct { ipv4; interface "eth0", "br*"; }
protocol kernel { merge paths on; ipv4 { import none; export where source ~ [ RTS_BGP, RTS_STATIC ]; }; }
protocol static blocks { ipv4;
include "%D/blocks";
}
template bgp session { local %A as %N; multihop; graceful restart on; connect delay time 2; connect retry time 5; error wait time 5,30; }
`

// channel is a session's that takes all and tells of the own blocks.
const channel = "ipv4 { import all; export where source = RTS_STATIC; gateway recursive; add paths on; };"

// newBird writes the configuration of a BIRD with an address in an AS; it does not run yet.
func newBird(t *testing.T, ns *lab.NS, addr netip.Addr, as int, sessions string) *bird {
	t.Helper()
	dir, err := os.MkdirTemp("", "margay-bird-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &bird{t: t, ns: ns, dir: dir}
	d.write("conf", strings.NewReplacer("%D", dir, "%A", addr.String(), "%N", fmt.Sprint(as)).Replace(birdHead+sessions))
	d.blocks("")
	return d
}

func (d *bird) write(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// blocks sets what follows each of some prefixes in the list of static routes: "blackhole", mostly.
func (d *bird) blocks(to string, prefixes ...netip.Prefix) {
	d.t.Helper()
	var text strings.Builder
	for _, p := range prefixes {
		fmt.Fprintf(&text, "route %s %s;\n", p, to)
	}
	d.write("blocks", text.String())
}

func (d *bird) start() {
	d.t.Helper()
	d.pid, d.stop = daemon(d.t, d.ns, nil, "/usr/sbin/bird", "-f", "-c", d.dir+"/conf", "-s", d.dir+"/ctl")
}

// configure has it read its files again.
func (d *bird) configure() {
	d.t.Helper()
	out, err := exec.Command("/usr/sbin/birdc", "-s", d.dir+"/ctl", "configure").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Reconfigur") {
		d.t.Fatalf("birdc configure: %v: %s", err, out)
	}
}

// birdMesh makes a BIRD on each node, in a mesh in which the later of two waits for the earlier one.
func birdMesh(t *testing.T, l *lab.Lab, of func(i int) []netip.Prefix) (all []*bird) {
	t.Helper()
	for i, n := range l.Nodes {
		var text strings.Builder
		for j, to := range l.Nodes {
			passive := ""
			if j < i {
				passive = "passive on;"
			}
			if j != i {
				fmt.Fprintf(&text, "protocol bgp n%d from session { neighbor %s as 64512; %s %s }\n", j, to.Addr4.Addr(), passive, channel)
			}
		}
		d := newBird(t, n.NS, n.Addr4.Addr(), 64512, text.String())
		d.blocks("blackhole", of(i)...)
		all = append(all, d)
	}
	return all
}
