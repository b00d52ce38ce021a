package install

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// daemonSet is what the two DaemonSets must have in common.
type daemonSet struct {
	Spec struct {
		Template struct {
			Spec struct {
				InitContainers, Containers []container
				Tolerations                any
				Volumes                    any
			}
		}
	}
}

type container struct {
	Name, Image     string
	Command         []string
	Env             []map[string]any
	SecurityContext any
	VolumeMounts    any
}

func readDaemonSet(t *testing.T, path string) daemonSet {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range bytes.Split(b, []byte("\n---\n")) {
		var d daemonSet
		if bytes.Contains(doc, []byte("\nkind: DaemonSet\n")) {
			if err := yaml.Unmarshal(doc, &d); err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	t.Fatalf("%s has no DaemonSet", path)
	return daemonSet{}
}

// TestCleanupManifest holds clean-up to the agent's image, rights and mounts: what one writes the other must reach.
func TestCleanupManifest(t *testing.T) {
	agent := readDaemonSet(t, "../../manifests/src/node.yaml").Spec.Template.Spec
	clean := readDaemonSet(t, "../../manifests/cleanup.yaml").Spec.Template.Spec
	if !reflect.DeepEqual(agent.Volumes, clean.Volumes) {
		t.Error("volumes differ")
	}
	env := map[string]any{}
	for _, e := range agent.Containers[0].Env {
		env[e["name"].(string)] = e
	}
	commands := ""
	for _, c := range append(clean.InitContainers, clean.Containers...) {
		a := agent.Containers[0]
		if c.Image != a.Image || !reflect.DeepEqual(c.SecurityContext, a.SecurityContext) || !reflect.DeepEqual(c.VolumeMounts, a.VolumeMounts) {
			t.Errorf("container %s: image, rights or mounts differ", c.Name)
		}
		for _, e := range c.Env {
			if !reflect.DeepEqual(env[e["name"].(string)], e) {
				t.Errorf("container %s: %v differs", c.Name, e)
			}
		}
		commands += strings.Join(c.Command, " ") + ";"
	}
	if commands != "/margay-agent cleanup;/margay-agent cleanup --stay;" {
		t.Errorf("commands: %s", commands)
	}
}
