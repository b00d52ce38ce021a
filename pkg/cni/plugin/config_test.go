package plugin

import (
	"errors"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/margay-net/margay/pkg/cni/wire"
)

func TestParseConfigDefaults(t *testing.T) {
	c, err := parseConfig([]byte(`{"cniVersion":"1.1.0","name":"k8s-pod-network","type":"margay"}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "k8s-pod-network" || c.Socket != wire.SocketPath || c.Spool != wire.SpoolDir || c.Valid != nil {
		t.Errorf("%+v", c)
	}
}

// A configuration written for Calico works when its type is changed.
func TestParseConfigOfCalico(t *testing.T) {
	_, err := parseConfig([]byte(`{
		"name": "k8s-pod-network", "cniVersion": "0.3.1", "type": "margay",
		"log_level": "info", "log_file_path": "/var/log/calico/cni/cni.log", "log_file_max_size": 100,
		"datastore_type": "kubernetes", "nodename": "node-1", "nodename_file_optional": false, "mtu": 1440,
		"ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"},
		"container_settings": {"allow_ip_forwarding": false},
		"policy": {"type": "k8s"}, "policy_setup_timeout_seconds": 0, "endpoint_status_dir": "/var/run/calico/endpoint-status",
		"kubernetes": {"kubeconfig": "/etc/cni/net.d/calico-kubeconfig"},
		"windows_use_single_network": true, "runtimeConfig": {}, "args": {"cni": {}}, "capabilities": {"portMappings": true}
	}`))
	if err != nil {
		t.Error(err)
	}
}

func TestParseConfigErrors(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		code     uint
		says     []string // the field, and the way out
	}{
		{"no JSON", `{`, 6, []string{"unexpected end", "give one JSON object"}},
		{"array", `[]`, 6, []string{"array", "give one JSON object"}},
		{"misspelt key", `{"sokcet":"/x"}`, 7, []string{`"sokcet"`, "socket and spool"}},
		{"key in capitals", `{"Socket":"/x"}`, 7, []string{`"Socket"`, "correct or remove it"}},
		{"socket is a number", `{"socket":5}`, 7, []string{`"socket"`, "is a number, want a string", "right type"}},
		{"spool is an object", `{"spool":{}}`, 7, []string{`"spool"`, "is a object, want a string"}},
		{"name is a list", `{"name":["a"]}`, 7, []string{`"name"`, "array"}},
		{"relative socket", `{"socket":"cni.sock"}`, 7, []string{`"socket"`, "absolute", wire.SocketPath}},
		{"empty socket", `{"socket":""}`, 7, []string{`"socket"`, wire.SocketPath}},
		{"long socket", `{"socket":"/` + strings.Repeat("x", 107) + `"}`, 7, []string{`"socket"`, "107 bytes"}},
		{"relative spool", `{"spool":"spool"}`, 7, []string{`"spool"`, wire.SpoolDir}},
		{"foreign ipam", `{"ipam":{"type":"host-local"}}`, 7, []string{"ipam.type", "host-local", "IPPool"}},
		{"ipam is a string", `{"ipam":"calico-ipam"}`, 7, []string{`"ipam"`, "is a string, want an object"}},
		{"feature is a string", `{"feature_control":{"ip_addrs_no_ipam":"true"}}`, 7, []string{"feature_control.ip_addrs_no_ipam", "is a string, want a bool"}},
		{"features are a list", `{"feature_control":[]}`, 7, []string{`"feature_control"`, "want an object"}},
		{"ipam type is a number", `{"ipam":{"type":1}}`, 7, []string{"ipam.type", "number"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := parseConfig([]byte(tc.in))
			var e *types.Error
			if !errors.As(err, &e) || e.Code != tc.code {
				t.Fatalf("error %v, want code %d", err, tc.code)
			}
			for _, w := range tc.says {
				if !strings.Contains(e.Error(), w) {
					t.Errorf("%q does not say %q", e, w)
				}
			}
		})
	}
}

func TestNewSandbox(t *testing.T) {
	const conf = `{"cniVersion":"1.1.0","name":"n","type":"margay"}`
	for _, tc := range []struct {
		name, args, want string // want is namespace/pod or a part of the error
		code             uint
	}{
		{"kubelet", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u;X=y", "default/web", 0},
		{"none", "", "cni/c1", 0},
		{"others only", "IgnoreUnknown=true;IP=10.0.0.1", "cni/c1", 0},
		{"unknown", "X=y", `unknown args ["X=y"]`, 4},
		{"no pair", "IgnoreUnknown=1;K8S_POD_NAME", "invalid pair", 4},
		{"name alone", "K8S_POD_NAME=web", "K8S_POD_NAMESPACE", 4},
		{"namespace alone", "K8S_POD_NAMESPACE=default", "K8S_POD_NAME", 4},
		{"no bool", "IgnoreUnknown=maybe", "maybe", 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := newSandbox(&skel.CmdArgs{ContainerID: "c1", IfName: "eth0", Args: tc.args, StdinData: []byte(conf)})
			if tc.code == 0 {
				if err != nil || s.namespace+"/"+s.pod != tc.want {
					t.Errorf("%+v, %v", s, err)
				}
				return
			}
			var e *types.Error
			if !errors.As(err, &e) || e.Code != tc.code || !strings.Contains(e.Error(), tc.want) {
				t.Errorf("error %v, want code %d and %q", err, tc.code, tc.want)
			}
		})
	}
}

func TestPodName(t *testing.T) {
	ids := []string{"c1", "C1", "c-1", "c_1", "C_1", strings.Repeat("a", 253), strings.Repeat("a", 254), strings.Repeat("a", 255)}
	seen := map[string]string{}
	for _, id := range ids {
		name := podName(id)
		if len(name) > maxPodName || name != strings.ToLower(name) || strings.Contains(name, "_") {
			t.Errorf("%s: %s can't be a pod's name", id, name)
		}
		if other, taken := seen[name]; taken {
			t.Errorf("%s and %s both are %s", id, other, name)
		}
		seen[name] = id
	}
	if podName("0a1b") != "0a1b" {
		t.Error("a container ID that is a name is changed")
	}
}

func TestCode(t *testing.T) {
	want := map[wire.Code]uint{wire.Invalid: 7, wire.NotReady: 11, wire.Exhausted: 100, wire.Unknown: 3, wire.Mismatch: 101, wire.Internal: 11, 99: 11}
	for c, code := range want {
		var e *types.Error
		err := cniError("add x", (&wire.Response{Code: c, Msg: "no", Hint: "try"}).Err())
		if !errors.As(err, &e) || e.Code != code || e.Msg != "add x: no" || e.Details != "try" {
			t.Errorf("%d: %v", c, err)
		}
	}
	if err := cniError("add x", nil); err != nil {
		t.Errorf("nothing is %v", err)
	}
	var e *types.Error
	err := also(cniError("add x", errors.New("a")), "roll back", errors.New("b"))
	if !errors.As(err, &e) || e.Code != 999 || e.Error() != "add x: a; roll back: b" {
		t.Errorf("%v", err)
	}
	if err := also(nil, "roll back", nil); err != nil {
		t.Errorf("twice nothing is %v", err)
	}
}
