package guest

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/margay-net/margay/test/lab"
)

// TestPackages runs the data plane's own tests of IPIP, which elsewhere lack the kernel for it.
func TestPackages(t *testing.T) {
	for p, tests := range packages {
		out, err := exec.Command(folder+"/"+p+".test", "-test.v", "-test.run", tests).CombinedOutput()
		passed := strings.Count(string(out), "\n--- PASS: ") // a test each, without parts
		if err != nil || passed == 0 || strings.Contains(string(out), "--- SKIP: ") {
			t.Errorf("pkg/dataplane/%s: %v, %d tests passed, want all that there are:\n%s", p, err, passed, out)
			continue
		}
		t.Logf("pkg/dataplane/%s: %d tests passed", p, passed)
	}
}

// TestBed makes by hand what agents are to make, on two namespaces: if this fails, it is the guest's kernel.
func TestBed(t *testing.T) {
	var ns [2]*lab.NS
	for i := range ns {
		var err error
		if ns[i], err = lab.NewNS(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(ns[i].Close)
	}
	if err := ns[0].Batch("link add eth0 type veth peer name eth0 netns " + ns[1].Path()); err != nil {
		t.Fatal(err)
	}
	for i, n := range ns {
		if err := n.Batch(
			fmt.Sprintf("addr add 192.168.10.%d/24 dev eth0", 11+i), "link set eth0 up",
			fmt.Sprintf("addr add 172.20.%d.0/32 dev tunl0", i), "link set tunl0 up",
			fmt.Sprintf("route add 172.20.%d.0/26 via 192.168.10.%d dev tunl0 onlink proto bird", 1-i, 12-i)); err != nil {
			t.Fatal(err)
		}
	}
	ping := exec.CommandContext(t.Context(), "ping", "-i", "0.2", "172.20.1.0")
	if err := ns[0].Do(ping.Start); err != nil {
		t.Fatal(err)
	}
	shows(t, ns[1], "eth0", "proto 4",
		"IP 192.168.10.11 > 192.168.10.12: IP 172.20.0.0 > 172.20.1.0: ICMP echo request",
		"IP 192.168.10.12 > 192.168.10.11: IP 172.20.1.0 > 172.20.0.0: ICMP echo reply")
}

// shows checks that tcpdump shows some texts on a device, among the next packets that a filter lets through.
func shows(t *testing.T, ns *lab.NS, dev, filter string, want ...string) {
	t.Helper()
	out, err := ns.Run(fmt.Sprintf("timeout 60 tcpdump -Z root --immediate-mode -nn -i %s -c 8 %s", dev, filter))
	if err != nil {
		t.Errorf("tcpdump on %s: %v", dev, err)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("tcpdump on %s does not show %q but:\n%s", dev, w, out)
		}
	}
}
