package agent

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/margay-net/margay/pkg/model"
)

func lookup(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

func TestReadConfig(t *testing.T) {
	c, err := ReadConfig(lookup(map[string]string{
		"NODENAME": "node1", "CALICO_IPV4POOL_CIDR": "172.20.0.0/16", "CALICO_IPV4POOL_VXLAN": "crosssubnet",
		"CALICO_IPV4POOL_BLOCK_SIZE": "25", "FELIX_PROMETHEUSMETRICSENABLED": "true", "CNI_MTU": "1400", "SKIP_CNI_BINARIES": "portmap,bandwidth",
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := model.Pool{Name: "default-ipv4-ippool", CIDR: netip.MustParsePrefix("172.20.0.0/16"), BlockBits: 25,
		VXLAN: model.EncapCrossSubnet, IPIP: model.EncapNever, NATOutgoing: true}
	if *c.Pool4 != want || c.Pool6 != nil || c.MTU != 1400 || c.Metrics == nil || !*c.Metrics || len(c.Install.Skip) != 2 {
		t.Errorf("read %+v, pool %+v", c, *c.Pool4)
	}
	c, err = ReadConfig(lookup(map[string]string{"NODENAME": "n", "NO_DEFAULT_POOLS": "true"}))
	if err != nil || c.Pool4 != nil || c.Metrics != nil {
		t.Errorf("without pools: %+v, %v", c, err)
	}
}

// TestBadEnvironment: each bad value is named with its variable, and all of them at once.
func TestBadEnvironment(t *testing.T) {
	bad := map[string]string{
		"CALICO_NETWORKING_BACKEND": "bird", "CNI_MTU": "-1", "FELIX_VXLANPORT": "70000", "FELIX_VXLANVNI": "0",
		"FELIX_IPV6SUPPORT": "maybe", "FELIX_LOGSEVERITYSCREEN": "loud", "CALICO_IPV4POOL_CIDR": "172.20.0.1/16",
		"CNI_NETWORK_CONFIG_FILE": "/does/not/exist", "FELIX_HEALTHPORT": "x", "UPDATE_CNI_BINARIES": "perhaps",
	}
	for name, value := range bad {
		_, err := ReadConfig(lookup(map[string]string{"NODENAME": "n", name: value}))
		if err == nil || !strings.Contains(err.Error(), name) || strings.Count(err.Error(), "environment variable") != 1 {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
	_, err := ReadConfig(lookup(bad))
	for name := range bad {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("all at once: %s is not named in %v", name, err)
		}
	}
	for _, vars := range []map[string]string{
		{"CALICO_IPV4POOL_VXLAN": "Always", "CALICO_IPV4POOL_IPIP": "Always"},
		{"CALICO_IPV4POOL_VXLAN": "none"},
		{"CALICO_IPV4POOL_BLOCK_SIZE": "19"},
		{"CALICO_IPV4POOL_CIDR": "10.0.0.0/28", "CALICO_IPV4POOL_BLOCK_SIZE": "26"},
		{"CALICO_IPV4POOL_CIDR": "fd00::/64"},
		{"FELIX_IPV6SUPPORT": "true", "CALICO_IPV6POOL_CIDR": "10.0.0.0/16"},
	} {
		vars["NODENAME"] = "n"
		if _, err := ReadConfig(lookup(vars)); err == nil || !strings.Contains(err.Error(), "CALICO_IPV") {
			t.Errorf("%v: %v", vars, err)
		}
	}
}

func TestFindUplinkErrors(t *testing.T) {
	for setting, method := range map[string]string{"192.0.2.77": "", "999.1.1.1": "", "autodetect": "can-reach=8.8.8.8"} {
		if _, err := findUplink(setting, method, nil, false); err == nil {
			t.Errorf("IP=%s method %q: no error", setting, method)
		}
	}
	if up, err := findUplink("none", "", nil, false); err != nil || up != (uplink{}) {
		t.Errorf("none: %v, %v", up, err)
	}
}

func TestInstall(t *testing.T) {
	src, bin, net := t.TempDir(), t.TempDir(), t.TempDir()
	for _, name := range []string{"margay", "portmap", "bandwidth"} {
		if err := os.WriteFile(filepath.Join(src, name), []byte("new "+name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"margay", "portmap"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	i := Install{BinDir: bin, NetDir: net, ConfName: "10-margay.conflist", Source: src, Skip: []string{"bandwidth"}, KeepPresent: true}
	if err := i.Binaries(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"margay": "new margay", "portmap": "old", "bandwidth": ""} {
		if got, _ := os.ReadFile(filepath.Join(bin, name)); string(got) != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if st, _ := os.Stat(filepath.Join(bin, "margay")); st.Mode().Perm() != 0o755 {
		t.Errorf("mode of margay: %v", st.Mode())
	}
	if err := i.Conflist("node1", 1450); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(net, "10-margay.conflist")); !strings.Contains(string(got), `"type": "margay"`) {
		t.Errorf("conflist: %s", got)
	}
	for _, conf := range []string{"{", `{"name":"x"}`, `{"name":"x","plugins":[{"type":"portmap"}]}`} {
		i.Conf = conf
		if err := i.Conflist("node1", 1450); err == nil || !strings.Contains(err.Error(), "CNI_NETWORK_CONFIG") {
			t.Errorf("conflist %s: %v", conf, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(bin, ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
