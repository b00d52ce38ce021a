package bgp

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// TestBadResources writes what cannot be: it is refused by the API server, or reported by the nodes that it is about; other
// sessions do not notice.
func TestBadResources(t *testing.T) {
	l := bird(t, lab.Options{Nodes: 3, Pools: []v3.IPPoolSpec{plain4}})
	runFRR(t, l)
	pods := onePodEach(l)
	one := l.Nodes[0]
	rows := inMesh(l, one, 4)
	waitTable(l, one, 4, rows...)
	meet(t, pods)
	was, err := sessions(one)
	if err != nil {
		t.Fatal(err)
	}
	c := ring(pods...)

	for _, bad := range []struct{ resource, says string }{
		{resource("BGPPeer", "bad", "peerIP: 192.168.42.1", "asNumber: 65000", "sourceAddress: none"), `spec.sourceAddress: Unsupported value: "none": supported values: "UseNodeIP", "None"`},
		{resource("BGPPeer", "bad", "peerIP: 192.168.42.1", "asNumber: 65000", "nextHopMode: self"), `spec.nextHopMode: Unsupported value: "self"`},
		{resource("BGPPeer", "bad", "peerIP: 192.168.42.1", "asNumber: 0"), "an AS number is from 1 to 4294967295"},
		{resource("BGPPeer", "bad", "peerIP: 192.168.42.1", "asNumber: 4294967296"), "an AS number is from 1 to 4294967295"},
		{resource("BGPPeer", "bad", "peerIP: 192.168.42.1:0", "asNumber: 65000"), "spec.peerIP"},
		{resource("BGPPeer", "bad", "peerIP: 192.168.42.1", "asNumber: 65000", "peerSelector: all()"), "peerSelector"},
		{resource("BGPConfiguration", "default", "logSeverityScreen: debug"), `spec.logSeverityScreen: Unsupported value: "debug"`},
		{resource("BGPConfiguration", "default", "bindMode: nodeIP"), `spec.bindMode: Unsupported value: "nodeIP"`},
		{resource("BGPConfiguration", "other", "asNumber: 64512"), "metadata.name must be default"},
		{resource("BGPConfiguration", "default", "serviceExternalIPs: [{cidr: 192.168.50.1/24}]"), "without host bits"},
		{resource("BGPFilter", "bad", "exportV4: [{action: drop}]"), `spec.exportV4[0].action: Unsupported value: "drop"`},
	} {
		if err := create(t, l, bad.resource); err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("the API server says of\n%s%v, want %q", bad.resource, err, bad.says)
		}
	}

	fabric := "peerIP: " + fabricPeer
	for _, bad := range []struct {
		name, resource string
		says           []string // a fault of node 1
		row            string   // of the session in "node status", if there is one
	}{
		{"selector", resource("BGPPeer", "bad", fabric, "asNumber: 65000", `nodeSelector: "has(rack"`), []string{"BGPPeer bad: ", "nodeSelector"}, ""},
		{"missing Secret", resource("BGPPeer", "bad", fabric, "asNumber: 65000", "password: {secretKeyRef: {name: nowhere, key: password}}"), []string{"BGPPeer bad: ", "password", "nowhere"}, ""},
		{"missing filter", resource("BGPPeer", "bad", fabric, "asNumber: 65000", "filters: [nowhere]"), []string{"BGPPeer bad: ", "nowhere"}, `192.168.42.1, global, down, Refused Error: There is no BGPFilter "nowhere"`},
		{"no AS", resource("BGPPeer", "bad", fabric), []string{"BGPPeer bad: ", "asNumber"}, "192.168.42.1, global, down, Refused Error: "},
		{"wrong AS", resource("BGPPeer", "bad", fabric, "asNumber: 65001"), nil, "As number mismatch expected 65001, received 65000"},
	} {
		if err := create(t, l, bad.resource); err != nil {
			t.Fatalf("%s: %v", bad.name, err)
		}
		l.Within(patience, bad.name+" is reported", func() error { return reported(one, bad.says, bad.row) })
		must(t, "", "delete", "bgppeer", "bad")
		waitTable(l, one, 4, rows...)
		l.Within(patience, bad.name+" is over", func() error {
			if faults, err := one.Metric("margay_cluster_faults"); err != nil || faults > 0 {
				return fmt.Errorf("%v faults (%w)", faults, err)
			}
			return nil
		})
	}
	c.stop(t, l, "bad resources come and go", true)
	if now, err := sessions(one); err != nil || !maps.Equal(now, was) {
		t.Errorf("sessions were touched: they are %v, were %v (%v)", now, was, err)
	}
}

// reported checks that a node tells of a fault everywhere that a person looks: status, metric, log, event.
func reported(n *lab.Node, says []string, row string) error {
	var errs []error
	names := func(where string, lines ...string) {
		for _, line := range lines {
			all := true
			for _, word := range says {
				all = all && strings.Contains(line, word)
			}
			if all {
				return
			}
		}
		errs = append(errs, fmt.Errorf("%s has no %q:\n%s", where, says, strings.Join(lines, "\n")))
	}
	if row != "" {
		rows, err := table(n, 4)
		if !strings.Contains(strings.Join(rows, "\n"), row) {
			errs = append(errs, fmt.Errorf("node status has no %q (%w):\n%s", row, err, strings.Join(rows, "\n")))
		}
	}
	if len(says) > 0 {
		out, err := ctl("", "node", "status", "--details", "--socket", socket(n))
		names("node status --details", strings.Split(out, "\n")...)
		faults, merr := n.Metric("margay_cluster_faults")
		if faults == 0 {
			errs = append(errs, errors.New("no fault in the metrics"))
		}
		names("the log", strings.Split(n.Log(), "\n")...)
		names("the events", n.Events("NetworkFault")...)
		errs = append(errs, err, merr)
	}
	return errors.Join(errs...)
}
