package install

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

// Configurations of others, as far as it matters here.
var foreign = map[string]string{
	"10-calico.conflist":         `{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"calico"},{"type":"portmap"}]}`,
	"10-flannel.conflist":        `{"name":"cbr0","cniVersion":"0.3.1","plugins":[{"type":"flannel"},{"type":"portmap"}]}`,
	"10-canal.conflist":          `{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"calico"},{"type":"bandwidth"}]}`,
	"05-cilium.conflist":         `{"name":"cilium","cniVersion":"0.3.1","plugins":[{"type":"cilium-cni"}]}`,
	"00-multus.conf":             `{"name":"multus-cni-network","cniVersion":"0.3.1","type":"multus"}`,
	"01-torn.conflist":           `{"name":"x","plugins":[`,
	"02-list.conf":               `{"name":"x","plugins":[{"type":"bridge"}]}`,
	"10-kindnet.json":            `{"name":"kindnet","cniVersion":"0.3.1","type":"ptp"}`,
	"100-crio-bridge.conflist":   `{"name":"crio","cniVersion":"0.3.1","plugins":[{"type":"bridge"}]}`,
	"87-podman-bridge.conflist":  `{"name":"podman","cniVersion":"0.3.1","plugins":[{"type":"bridge"}]}`,
	"10-weave.conflist":          `{"name":"weave","cniVersion":"0.3.1","plugins":[{"type":"weave-net"}]}`,
	"calico-kubeconfig":          `kind: Config`,
	"10-old.conflist.cilium_bak": `{"name":"x","plugins":[{"type":"calico"}]}`,
}

// reasons returns the notices' reasons and, after a colon, the file that each names.
func reasons(i *Installer) (out []string) {
	for _, n := range i.Notices() {
		file := ""
		for _, word := range strings.Fields(n.Text) {
			if word = strings.Trim(word, ",:"); file == "" && filepath.Ext(word) != "" {
				file = word
			}
		}
		out = append(out, n.Reason+":"+file)
	}
	slices.Sort(out)
	return out
}

// winner is what containerd takes: the first file, if it is valid.
func winner(t *testing.T, dir string) string {
	t.Helper()
	files, err := libcni.ConfFiles(dir, []string{".conf", ".conflist", ".json"})
	if err != nil || len(files) == 0 {
		return ""
	}
	slices.Sort(files)
	first := files[0]
	if strings.HasSuffix(first, ".conflist") {
		list, err := libcni.ConfListFromFile(first)
		if err != nil || len(list.Plugins) == 0 {
			return ""
		}
	} else if b, err := os.ReadFile(first); err != nil {
		return ""
	} else if _, err := libcni.NetworkPluginConfFromBytes(b); err != nil {
		return ""
	}
	return filepath.Base(first)
}

func TestConflist(t *testing.T) {
	l := newLab(t)
	i := l.start()
	l.must(i.Conflist("node1", 1450))
	path := filepath.Join(l.NetDir, DefaultConfName)
	list, err := libcni.ConfListFromFile(path)
	l.must(err)
	if list.Name != "k8s-pod-network" || list.Plugins[0].Network.Type != plugin {
		t.Errorf("%s: %s", list.Name, list.Bytes)
	}
	if st, _ := os.Stat(path); st.Mode() != 0o600 {
		t.Errorf("mode: %v", st.Mode())
	}
	before := l.stamps(l.NetDir)
	l.must(i.Conflist("node1", 1400)) // the MTU is not in the text
	l.must(l.start().Conflist("node1", 1450))
	l.unchanged(before, l.NetDir)

	l.Conf = `{"name":"k8s-pod-network","plugins":[{"type":"margay","mtu":__CNI_MTU__,"node":"__KUBERNETES_NODE_NAME__","log_level":"__LOG_LEVEL__"}]}`
	i = l.start()
	for _, mtu := range []string{"1450", "1430"} {
		n := 1450
		if mtu == "1430" {
			n = 1430
		}
		l.must(i.Conflist("node1", n))
		l.must(i.Conflist("node1", n))
		l.has(l.NetDir, map[string]string{DefaultConfName: `{"name":"k8s-pod-network","plugins":[{"type":"margay","mtu":` + mtu + `,"node":"node1","log_level":"info"}]}`})
	}
	if got := reasons(i); len(got) > 0 {
		t.Errorf("notices: %v", got)
	}
	for _, conf := range []string{"{", `{"name":"x"}`, `{"name":"x","plugins":[{"type":"portmap"}]}`, `{"plugins":[{"type":"margay"}]}`} {
		l.Conf = conf
		if err := l.start().Conflist("node1", 1450); err == nil || !strings.Contains(err.Error(), "CNI_NETWORK_CONFIG") {
			t.Errorf("conflist %s: %v", conf, err)
		}
	}
	for _, name := range []string{"", "10-margay", "10-margay.conf", "../10-margay.conflist"} {
		l.ConfName = name
		if err := l.start().Conflist("node1", 1450); err == nil || !strings.Contains(err.Error(), "CNI_CONF_NAME") {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

func TestTakeOver(t *testing.T) {
	l := newLab(t)
	for name, text := range foreign {
		l.write(filepath.Join(l.NetDir, name), text)
	}
	i := l.start()
	l.must(i.Conflist("node1", 1450))
	want := map[string]string{}
	for name, text := range foreign {
		want[name] = text
	}
	for _, name := range []string{"10-calico.conflist", "10-flannel.conflist", "10-canal.conflist"} {
		want[name+backupSuffix], want[name] = want[name], ""
	}
	l.has(l.NetDir, want)
	left := []string{"ForeignCNI:01-torn.conflist", "ForeignCNI:02-list.conf", "ForeignCNI:05-cilium.conflist", "ForeignCNI:10-kindnet.json"}
	if got := reasons(i); !slices.Equal(got, left) {
		t.Errorf("notices\n got %v\nwant %v", got, left)
	}

	// What is left is the administrator's to remove, but for Multus.
	for _, n := range left {
		l.must(os.Remove(filepath.Join(l.NetDir, strings.TrimPrefix(n, "ForeignCNI:"))))
	}
	before := l.stamps(l.NetDir)
	l.must(i.Conflist("node1", 1450))
	l.unchanged(before, l.NetDir)
	if got := reasons(i); len(got) > 0 {
		t.Errorf("notices: %v", got)
	}
	if got := winner(t, l.NetDir); got != "00-multus.conf" {
		t.Errorf("%s wins", got)
	}

	// Calico's installer runs once more.
	l.write(filepath.Join(l.NetDir, "10-calico.conflist"), foreign["10-canal.conflist"])
	l.must(i.Conflist("node1", 1450))
	l.has(l.NetDir, map[string]string{"10-calico.conflist": "", "10-calico.conflist" + backupSuffix: foreign["10-canal.conflist"]})
	if got, want := reasons(i), []string{"CNIRewritten:10-calico.conflist"}; !slices.Equal(got, want) {
		t.Errorf("notices %v, want %v", got, want)
	}
	l.must(i.Conflist("node1", 1450))
	if got := reasons(i); len(got) > 0 {
		t.Errorf("notices: %v", got)
	}

	// Cilium's sets ours aside.
	l.must(os.Rename(filepath.Join(l.NetDir, DefaultConfName), filepath.Join(l.NetDir, DefaultConfName+".cilium_bak")))
	l.must(i.Conflist("node1", 1450))
	if got, want := reasons(i), []string{"CNIRewritten:" + DefaultConfName}; !slices.Equal(got, want) {
		t.Errorf("notices %v, want %v", got, want)
	}
	l.has(l.NetDir, map[string]string{DefaultConfName: conflist})
}

// TestTakeOverSameName has ours take Calico's very name, as CNI_CONF_NAME from a Calico manifest asks for.
func TestTakeOverSameName(t *testing.T) {
	l := newLab(t)
	l.ConfName = "10-calico.conflist"
	for _, takeOver := range [][]string{{"calico"}, {"none"}} {
		l.TakeOver = takeOver
		l.write(filepath.Join(l.NetDir, l.ConfName), foreign[l.ConfName])
		i := l.start()
		l.must(i.Conflist("node1", 1450))
		l.has(l.NetDir, map[string]string{l.ConfName: conflist, l.ConfName + backupSuffix: foreign["10-calico.conflist"]})
		if st, err := os.Stat(filepath.Join(l.NetDir, l.ConfName)); err != nil || st.Mode() != 0o600 {
			t.Errorf("mode: %v, %v", st.Mode(), err)
		}
		if got := reasons(i); len(got) > 0 {
			t.Errorf("notices: %v", got)
		}
	}
}

func TestTakeOverOff(t *testing.T) {
	l := newLab(t)
	l.TakeOver = []string{"none"}
	l.write(filepath.Join(l.NetDir, "10-flannel.conflist"), foreign["10-flannel.conflist"])
	i := l.start()
	l.must(i.Conflist("node1", 1450))
	l.has(l.NetDir, map[string]string{"10-flannel.conflist": foreign["10-flannel.conflist"], "10-flannel.conflist" + backupSuffix: ""})
	if got, want := reasons(i), []string{"ForeignCNI:10-flannel.conflist"}; !slices.Equal(got, want) {
		t.Errorf("notices %v, want %v", got, want)
	}
}

// TestWinner throws random foreign files into the folder: whatever there is, ours wins or a notice says why not, and
// nothing is lost.
func TestWinner(t *testing.T) {
	names := make([]string, 0, len(foreign))
	for name := range foreign {
		names = append(names, name)
	}
	slices.Sort(names)
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		l := newLab(t)
		var put []string
		for _, name := range names {
			if r.IntN(3) == 0 {
				put = append(put, name)
				l.write(filepath.Join(l.NetDir, name), foreign[name])
			}
		}
		i := l.start()
		l.must(i.Conflist("node1", 1450))
		got, notices := winner(t, l.NetDir), reasons(i)
		if ours := got == DefaultConfName || got == "00-multus.conf"; !ours && len(notices) == 0 || got == DefaultConfName && len(notices) > 0 {
			t.Errorf("seed %d, %v: %q wins, notices %v", seed, put, got, notices)
		}
		for _, name := range put {
			b, err := os.ReadFile(filepath.Join(l.NetDir, name))
			if err != nil {
				b, err = os.ReadFile(filepath.Join(l.NetDir, name+backupSuffix))
			}
			if err != nil || string(b) != foreign[name] {
				t.Errorf("seed %d: %s is lost: %v", seed, name, err)
			}
		}
	}
}
