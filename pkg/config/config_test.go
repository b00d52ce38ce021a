package config

import (
	"flag"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/model"
)

var update = flag.Bool("update", false, "write manifests/parameters.md anew")

func read(t *testing.T, environ ...string) Config {
	t.Helper()
	c, err := Read(append(environ, "NODENAME=node1"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRead(t *testing.T) {
	c := read(t, "CALICO_IPV4POOL_CIDR=172.20.0.0/16", "CALICO_IPV4POOL_VXLAN=crosssubnet", "CALICO_IPV4POOL_BLOCK_SIZE=25",
		"FELIX_PROMETHEUSMETRICSENABLED=true", "FELIX_VxlanMtu=1400", "CNI_MTU=1300", "SKIP_CNI_BINARIES=portmap,bandwidth", "UPDATE_CNI_BINARIES=no")
	want := model.Pool{Name: "default-ipv4-ippool", CIDR: netip.MustParsePrefix("172.20.0.0/16"), BlockBits: 25,
		VXLAN: model.EncapCrossSubnet, IPIP: model.EncapNever, NATOutgoing: true, NodeSelector: "all()"}
	if *c.Pool4 != want || c.Pool6 != nil || c.PodMTU != 1300 || c.Felix["prometheusMetricsEnabled"] != "true" ||
		c.Felix["vxlanMTU"] != "1400" || !c.KeepPlugins || c.Node != "node1" || c.IP4 != "autodetect" || c.IP6 != "none" {
		t.Errorf("read %+v, pool %+v", c, *c.Pool4)
	}
	if set := read(t, "CALICO_BGP_HOLD_TIME=3"); c.Hold != 90 || set.Hold != 3 {
		t.Errorf("hold time is %d, when set to 3 it is %d", c.Hold, set.Hold)
	}
	if set := read(t, "CALICO_BGP_LONG_LIVED_TIME=86400"); c.LongLived != 0 || set.LongLived != 86400 {
		t.Errorf("long-lived time is %d, when set to a day it is %d", c.LongLived, set.LongLived)
	}
	if c := read(t, "NO_DEFAULT_POOLS=true", "CALICO_IPV6POOL_CIDR=fd00::/48"); c.Pool4 != nil || c.Pool6 != nil {
		t.Errorf("without pools: %+v", c)
	}
	if c := read(t, "CALICO_IPV4POOL_CIDR=none", "CALICO_IPV6POOL_CIDR=fd00::/48"); c.Pool4 != nil || c.Pool6 == nil || c.Pool6.NATOutgoing {
		t.Errorf("IPv6 alone: %+v", c)
	}
	if c := read(t, "CALICO_IPV6POOL_CIDR=fd00::/48", "FELIX_IPV6SUPPORT=false"); c.Pool6 != nil {
		t.Errorf("IPv6 off: %+v", c.Pool6)
	}
}

// TestBadEnvironment: each bad value is named with its variable, and all of them at once.
func TestBadEnvironment(t *testing.T) {
	bad := map[string]string{
		"CALICO_NETWORKING_BACKEND": "gobgp", "AS": "64512.1", "CALICO_BGP_HOLD_TIME": "2", "CALICO_BGP_LONG_LIVED_TIME": "1d", "CALICO_ROUTER_ID": "fd00::1", "FELIX_IPINIPMTU": "big", "CNI_MTU": "-1", "FELIX_VXLANPORT": "70000", "FELIX_VXLANVNI": "0",
		"FELIX_IPV6SUPPORT": "maybe", "FELIX_LOGSEVERITYSCREEN": "loud", "CALICO_IPV4POOL_CIDR": "172.20.0.1/16",
		"CNI_NETWORK_CONFIG_FILE": "/does/not/exist", "FELIX_HEALTHPORT": "x", "UPDATE_CNI_BINARIES": "perhaps",
		"FELIX_NATPORTRANGE": "9:1", "FELIX_NATOUTGOINGADDRESS": "fd00::1", "FELIX_ROUTEREFRESHINTERVAL": "soon",
		"FELIX_FEATUREDETECTOVERRIDE": "ChecksumOffloadBroken=perhaps", "IP": "fd00::1", "IP6": "10.0.0.x", "DATASTORE_TYPE": "etcdv3",
		"FELIX_IPTABLESNATOUTGOINGINTERFACEFILTER": "a name with spaces", "CALICO_IPV6POOL_CIDR": "10.0.0.0/16",
		"CALICO_IPV4POOL_BLOCK_SIZE": "19", "CALICO_IPV4POOL_NAT_OUTGOING": "sometimes",
	}
	var all []string
	for name, value := range bad {
		_, err := Read([]string{"NODENAME=n", name + "=" + value})
		if err == nil || !strings.Contains(err.Error(), name) || strings.Count(err.Error(), "environment variable") != 1 {
			t.Errorf("%s=%s: %v", name, value, err)
		}
		all = append(all, name+"="+value)
	}
	_, err := Read(all)
	for name := range bad {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("all at once: %s is not named in %v", name, err)
		}
	}
	for _, vars := range [][]string{
		{"CALICO_IPV4POOL_VXLAN=Always", "CALICO_IPV4POOL_IPIP=Always"},
		{"CALICO_IPV4POOL_VXLAN=none"},
		{"CALICO_IPV4POOL_CIDR=10.0.0.0/28", "CALICO_IPV4POOL_BLOCK_SIZE=26"},
		{"CALICO_IPV4POOL_CIDR=fd00::/64"},
	} {
		if _, err := Read(append(vars, "NODENAME=n")); err == nil || !strings.Contains(err.Error(), "CALICO_IPV") {
			t.Errorf("%v: %v", vars, err)
		}
	}
}

// TestNotices: what has no effect is said, and what Kubernetes adds by itself is not.
func TestNotices(t *testing.T) {
	c := read(t, "FELIX_VXLANMUT=1", "FELIX_BPFENABLED=true", "FELIX_NOTHINGLIKEIT=1", "CALICO_IPV4POOL_CDIR=10.0.0.0/8",
		"FELIX_SERVICE_HOST=10.96.0.3", "FELIX_PORT=tcp://10.96.0.3:80", "CALICO_TYPHA_SERVICE_PORT=5473", "PATH=/bin")
	text := strings.Join(c.Notices, "\n")
	for _, want := range []string{"FELIX_VXLANMUT: no such parameter, and no effect; vxlanMTU is one", "FELIX_BPFENABLED: a parameter of Calico that has no effect",
		"FELIX_NOTHINGLIKEIT: no such parameter, and no effect", "CALICO_IPV4POOL_CDIR: not known, and no effect; CALICO_IPV4POOL_CIDR is one"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if len(c.Notices) != 4 {
		t.Errorf("%d notices:\n%s", len(c.Notices), text)
	}
}

func TestResolve(t *testing.T) {
	env := Source{"environment: ", map[string]string{"vxlanMTU": "1400"}}
	own := Source{"FelixConfiguration node.n, spec.", map[string]string{"vxlanMTU": "1300", "vxlanVNI": "7", "natPortRange": "1000:2000", "logSeverityScreen": "loud"}}
	def := Source{"FelixConfiguration default, spec.", map[string]string{"vxlanVNI": "8", "vxlanPort": "4790", "logSeverityScreen": "warning",
		"routeRefreshInterval": "10s", "linkRefreshInterval": "5s", "bpfEnabled": "false", "featureDetectOverride": "ChecksumOffloadBroken=true,SNATFullyRandom="}}
	p, faults, notices := Resolve(env, own, def)
	if p.VXLANMTU4 != 1400 || p.VXLANVNI != 7 || p.VXLANPort != 4790 || p.LogLevel != "Warning" || p.HealthPort != 9099 || !p.IPv6 ||
		p.NATPorts != (model.PortRange{Min: 1000, Max: 2000}) || p.RouteRefresh != 10*time.Second || p.LinkRefresh != 90*time.Second || p.ChecksumBroken != "true" {
		t.Errorf("resolved %+v", p)
	}
	if p, faults, _ := Resolve(Source{"environment: ", map[string]string{"natPortRange": "none", "logSeverityScreen": "None"}}, own, def); p.NATPorts != (model.PortRange{}) || p.LogLevel != "Info" || len(faults) != 1 {
		t.Errorf("none in the environment: %+v, %q", p, faults)
	}
	if len(faults) != 2 || !strings.Contains(faults[0], `node.n, spec.logSeverityScreen: "loud" is not used`) || !strings.Contains(faults[1], "spec.linkRefreshInterval: no such parameter") {
		t.Errorf("faults: %q", faults)
	}
	if len(notices) != 1 || !strings.Contains(notices[0], "spec.bpfEnabled: a parameter of Calico") {
		t.Errorf("notices: %q", notices)
	}
}

// TestDefaults: each default and each name is one that the parameter's own reader and Calico know, and the resource's
// schema has just these fields.
func TestDefaults(t *testing.T) {
	fields := map[string]bool{}
	spec := reflect.TypeFor[v3.FelixConfigurationSpec]()
	for i := range spec.NumField() {
		name, _, _ := strings.Cut(spec.Field(i).Tag.Get("json"), ",")
		if name != "-" {
			fields[name] = true
		}
	}
	for _, p := range felix() {
		if p.def != "" && !p.value.set(new(model.Parameters), p.def) {
			t.Errorf("%s: default %q is refused", p.name, p.def)
		}
		if !fields[p.name] {
			t.Errorf("%s: FelixConfiguration has no such field", p.name)
		}
		if knownToCalico(p.name) {
			t.Errorf("%s: listed as without effect", p.name)
		}
		delete(fields, p.name)
	}
	for name := range fields {
		t.Errorf("FelixConfiguration has %s, which nothing reads", name)
	}
	for _, v := range variables("host") {
		if v.def != "" && !v.value.set(new(draft), v.def) {
			t.Errorf("%s: default %q is refused", v.name, v.def)
		}
	}
}

// TestPage: the reference is the generated one.
func TestPage(t *testing.T) {
	const file = "../../manifests/parameters.md"
	if *update {
		if err := os.WriteFile(file, []byte(Page()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil || string(have) != Page() {
		t.Errorf("%s is not what pkg/config says (%v): run hack/generate", file, err)
	}
}
