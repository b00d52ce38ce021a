package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam/block"
	"github.com/margay-net/margay/pkg/status"
	"github.com/margay-net/margay/test/lab"
)

// patience is how long anything may take on a busy machine. A session that broke is tried again after five seconds.
const patience = 40 * time.Second

// Pools without encapsulation.
var (
	plain4 = v3.IPPoolSpec{CIDR: "172.20.0.0/16", BlockSize: 26, IPIPMode: v3.EncapNever, VXLANMode: v3.EncapNever}
	plain6 = v3.IPPoolSpec{CIDR: "fd00:172:20::/112", BlockSize: 122, IPIPMode: v3.EncapNever, VXLANMode: v3.EncapNever}
)

// bird is lab.New with the backend bird.
func bird(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	o.Env = map[string]string{"CALICO_NETWORKING_BACKEND": "bird"}
	return cluster.New(t, o)
}

// label is "kubectl label node", key=value, or key- to remove it.
func label(t *testing.T, l *lab.Lab, n *lab.Node, labels ...string) {
	t.Helper()
	var set []string
	for _, x := range labels {
		if key, removed := strings.CutSuffix(x, "-"); removed {
			set = append(set, fmt.Sprintf("%q:null", key))
			continue
		}
		key, value, _ := strings.Cut(x, "=")
		set = append(set, fmt.Sprintf("%q:%q", key, value))
	}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%s}}}`, strings.Join(set, ","))
	if _, err := l.Core.CoreV1().Nodes().Patch(t.Context(), n.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// socket is where a node's agent tells of itself.
func socket(n *lab.Node) string { return filepath.Join(filepath.Dir(n.Socket), status.Socket) }

// nodeStatus is "margayctl node status" on a node.
func nodeStatus(n *lab.Node) (string, error) { return ctl("", "node", "status", "--socket", socket(n)) }

// sessions says since when which of a node's sessions are up.
func sessions(n *lab.Node) (map[string]time.Time, error) {
	st, err := status.Ask(context.Background(), socket(n))
	up := map[string]time.Time{}
	for _, p := range st.Peers {
		if p.Up {
			up[p.Addr.String()] = p.Since
		}
	}
	return up, err
}

// table is what "margayctl node status" says of one family: the rows' columns, those of SINCE left out.
func table(n *lab.Node, family int) (rows []string, err error) {
	out, err := nodeStatus(n)
	if err != nil {
		return nil, err
	}
	_, out, ok := strings.Cut(out, fmt.Sprintf("IPv%d BGP status\n", family))
	if !ok {
		return nil, fmt.Errorf("no section of IPv%d", family)
	}
	out, _, _ = strings.Cut(out, "BGP status")
	for line := range strings.Lines(out) {
		if f := strings.Split(line, "|"); len(f) == 7 && !strings.Contains(line, "PEER ADDRESS") {
			rows = append(rows, fmt.Sprintf("%s, %s, %s, %s", strings.TrimSpace(f[1]), strings.TrimSpace(f[2]), strings.TrimSpace(f[3]), strings.TrimSpace(f[5])))
		}
	}
	return rows, nil
}

// up is a row of a session that is established.
func up(peer netip.Addr, kind string) string {
	return fmt.Sprintf("%s, %s, up, Established", peer, kind)
}

// waitTable waits until a node's table of IPv4 has just these rows.
func waitTable(l *lab.Lab, n *lab.Node, family int, want ...string) time.Duration {
	return l.Within(patience, n.Name+"'s sessions", func() error {
		have, err := table(n, family)
		if err == nil && !slices.Equal(have, want) {
			err = fmt.Errorf("IPv%d has\n%s\nwant\n%s", family, strings.Join(have, "\n"), strings.Join(want, "\n"))
		}
		return err
	})
}

// blocks are a node's blocks.
func blocks(l *lab.Lab, n *lab.Node) (out []string, err error) {
	all, err := l.Blocks()
	for cidr, b := range all {
		if block.Owner(b) == n.Name {
			out = append(out, cidr.String())
		}
	}
	slices.Sort(out)
	return out, err
}

// id is what "ip route" prints first of a route that has a next hop object, as FRR's do.
var id = regexp.MustCompile(`^nhid \d+ `)

// hop is where a kernel sends a block's packets: what "ip route" prints after the destination.
func hop(ns *lab.NS, cidr string) (string, error) {
	family := "-4"
	if strings.Contains(cidr, ":") {
		family = "-6"
	}
	out, err := ns.Run("ip " + family + " route show " + cidr)
	return id.ReplaceAllString(strings.TrimSpace(strings.TrimPrefix(out, cidr)), ""), err
}

// routesTo checks that a kernel sends the packets to all blocks of a node the same way, such as "via 192.168.10.12 dev eth0
// proto bird"; words of "ip route" that come after that do not count.
func routesTo(l *lab.Lab, ns *lab.NS, to *lab.Node, want4, want6 string) error {
	list, err := blocks(l, to)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("%s has no block", to.Name)
	}
	for _, cidr := range list {
		want := want4
		if strings.Contains(cidr, ":") {
			want = want6
		}
		have, err := hop(ns, cidr)
		if err == nil && have != want && !strings.HasPrefix(have, want+" ") {
			err = fmt.Errorf("the way to %s's block %s is %q, want %q", to.Name, cidr, have, want)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// onePodEach adds a pod to each node.
func onePodEach(l *lab.Lab) (pods []*lab.Pod) {
	for _, n := range l.Nodes {
		pods = append(pods, n.Pod("pod-"+n.Name))
	}
	return pods
}

// inMesh are the rows of a node whose sessions with all others of the mesh are established, and more rows.
func inMesh(l *lab.Lab, n *lab.Node, family int, more ...string) []string {
	rows := slices.Clone(more)
	for _, to := range l.Nodes {
		switch {
		case to == n:
		case family == 4:
			rows = append(rows, up(to.Addr4.Addr(), "node-to-node mesh"))
		default:
			rows = append(rows, up(to.Addr6.Addr(), "node-to-node mesh"))
		}
	}
	return byAddress(rows)
}

// byAddress sorts rows as the table does.
func byAddress(rows []string) []string {
	slices.SortFunc(rows, func(a, b string) int {
		x, _, _ := strings.Cut(a, ",")
		y, _, _ := strings.Cut(b, ",")
		return netip.MustParseAddr(x).Compare(netip.MustParseAddr(y))
	})
	return rows
}

// addresses are the nodes' IPv4 addresses, sorted.
func addresses(nodes ...*lab.Node) (out []string) {
	for _, n := range nodes {
		out = append(out, n.Addr4.Addr().String())
	}
	slices.Sort(out)
	return out
}
