package connect

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const kubeconfig = `apiVersion: v1
kind: Config
current-context: one
contexts:
- {name: one, context: {cluster: one}}
- {name: two, context: {cluster: two}}
clusters:
- {name: one, cluster: {server: "https://one:6443"}}
- {name: two, cluster: {server: "https://two:6443"}}
`

// TestFound tells where the API server's address comes from: file, environment, home directory; and what is refused.
func TestFound(t *testing.T) {
	dir := t.TempDir()
	path := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	kc := path("kubeconfig", kubeconfig)
	path("home/.kube/config", strings.ReplaceAll(kubeconfig, "one:", "home:"))
	head := "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata:\nspec:\n"
	for _, test := range []struct {
		name, file, context string
		env                 map[string]string
		want                string // the server, or what the error holds
	}{
		{name: "KUBECONFIG", env: map[string]string{"KUBECONFIG": kc}, want: "https://one:6443"},
		{name: "CALICO_ goes first", env: map[string]string{"CALICO_KUBECONFIG": kc, "KUBECONFIG": "/nowhere"}, want: "https://one:6443"},
		{name: "--context", context: "two", env: map[string]string{"KUBECONFIG": kc}, want: "https://two:6443"},
		{name: "K8S_CURRENT_CONTEXT", env: map[string]string{"KUBECONFIG": kc, "K8S_CURRENT_CONTEXT": "two"}, want: "https://two:6443"},
		{name: "no such context", context: "three", env: map[string]string{"KUBECONFIG": kc}, want: `"three" does not exist`},
		{name: "several files", env: map[string]string{"KUBECONFIG": "/nowhere:" + kc}, want: "https://one:6443"},
		{name: "missing file", env: map[string]string{"KUBECONFIG": "/nowhere"}, want: "/nowhere"},
		{name: "K8S_API_ENDPOINT", env: map[string]string{"K8S_API_ENDPOINT": "http://api:8080"}, want: "http://api:8080"},
		{name: "home", env: map[string]string{"HOME": filepath.Join(dir, "home")}, want: "https://home:6443"},
		{name: "nothing", want: "set KUBECONFIG"},
		{name: "etcd", env: map[string]string{"DATASTORE_TYPE": "etcdv3", "KUBECONFIG": kc}, want: "only the Kubernetes datastore is served"},
		{name: "etcd by endpoints", env: map[string]string{"ETCD_ENDPOINTS": "https://etcd:2379"}, want: "only the Kubernetes datastore is served"},
		{name: "unknown datastore", env: map[string]string{"CALICO_DATASTORE_TYPE": "consul", "KUBECONFIG": kc}, want: `"consul" is unknown`},
		{name: "not a switch", env: map[string]string{"K8S_INSECURE_SKIP_TLS_VERIFY": "maybe"}, want: "use true or false"},
		{name: "file", file: head + "  datastoreType: kubernetes\n  kubeconfig: " + kc + "\n", want: "https://one:6443"},
		{name: "file alone counts", file: head + "  kubeconfig: " + kc + "\n", env: map[string]string{"KUBECONFIG": "/nowhere"}, want: "https://one:6443"},
		{name: "inline", file: head + "  kubeconfigInline: |\n    " + strings.ReplaceAll(kubeconfig, "\n", "\n    ") + "\n", want: "https://one:6443"},
		{name: "JSON", file: `{"apiVersion": "projectcalico.org/v3", "kind": "CalicoAPIConfig", "metadata": {}, "spec": {"k8sAPIEndpoint": "http://api:8080"}}`, want: "http://api:8080"},
		{name: "etcd file", file: head + "  etcdEndpoints: https://etcd:2379\n  etcdKeyFile: x\n", want: "etcdv3"},
		{name: "unknown field", file: head + "  kubeconfg: x\n", want: `unknown field "kubeconfg"`},
		{name: "other kind", file: "apiVersion: v1\nkind: Config\n", want: "want projectcalico.org/v3, CalicoAPIConfig"},
		{name: "missing configuration file", file: "-", want: "read configuration file: open"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, name := range []string{"KUBECONFIG", "HOME", "DATASTORE_TYPE", "ETCD_ENDPOINTS", "K8S_CURRENT_CONTEXT", "KUBERNETES_SERVICE_HOST"} {
				t.Setenv(name, "")
			}
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			o := Options{ConfigFile: DefaultConfigFile, Context: test.context}
			if test.file == "-" {
				o.ConfigFile = filepath.Join(dir, "nowhere")
			} else if test.file != "" {
				o.ConfigFile = path("calicoctl.cfg", test.file)
			}
			s, err := o.load()
			have := ""
			if err == nil {
				config, e := s.restConfig(o.Context)
				if err = e; err == nil {
					have = config.Host
				}
			}
			if err != nil {
				have = err.Error()
			}
			if !strings.Contains(have, test.want) {
				t.Errorf("%s, want %s", have, test.want)
			}
		})
	}
}

func TestRelease(t *testing.T) {
	for _, test := range []struct {
		version  string
		release  string
		released bool
	}{
		{"v0.1.0", "0.1.0", true}, {"v3.34.0-0.dev-67-g87c15906f2", "3.34.0", true}, {"0.1.0-dirty", "0.1.0", true},
		{"unknown", "unknown", false}, {"95896ef", "95896ef", false}, {"", "", false},
	} {
		if release(test.version) != test.release || released(test.version) != test.released {
			t.Errorf("%s: %s, %t", test.version, release(test.version), released(test.version))
		}
	}
}

func TestLogLevel(t *testing.T) {
	out := strings.Builder{}
	for _, level := range []string{"", "panic", "fatal", "error", "warn", "INFO", "debug"} {
		log, err := (&Options{LogLevel: level}).Log(&out)
		if err != nil {
			t.Fatal(level, err)
		}
		log.Info(level)
	}
	if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "INFO") || !strings.Contains(got, "debug") {
		t.Error(got)
	}
	if _, err := (&Options{LogLevel: "loud"}).Log(&out); err == nil || !strings.Contains(err.Error(), "use panic, fatal") {
		t.Error(err)
	}
}
