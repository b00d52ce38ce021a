package bgp

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// ctl runs margayctl, with text as its standard input, and returns what it prints.
func ctl(text string, args ...string) (string, error) {
	cmd := exec.Command(margayctl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "DATASTORE_TYPE=kubernetes")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("margayctl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// must is ctl for what cannot fail.
func must(t *testing.T, text string, args ...string) string {
	t.Helper()
	out, err := ctl(text, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// resource is a resource of ours in YAML: its kind and name, and its spec as lines.
func resource(kind, name string, spec ...string) string {
	return fmt.Sprintf("apiVersion: projectcalico.org/v3\nkind: %s\nmetadata:\n  name: %s\nspec:\n  %s\n---\n", kind, name, strings.Join(spec, "\n  "))
}

// apply is "margayctl apply".
func apply(t *testing.T, resources ...string) {
	t.Helper()
	must(t, strings.Join(resources, ""), "apply", "-f", "-")
}

// create is "kubectl create": the API server alone says what it thinks of a resource.
func create(t *testing.T, l *lab.Lab, text string) error {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(strings.TrimSuffix(text, "---\n")), &o.Object); err != nil {
		t.Fatal(err)
	}
	_, err := l.API.Dynamic().Resource(v3.GroupVersion.WithResource(strings.ToLower(o.GetKind())+"s")).Create(t.Context(), o, metav1.CreateOptions{})
	return err
}
