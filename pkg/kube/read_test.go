package kube

import (
	"io"
	"log/slog"
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Labels that calicoctl sets on a Node count for selectors; where both have one, Kubernetes' counts.
func TestReadLabels(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	for annotation, want := range map[string]map[string]string{
		``:                           {"zone": "east"},
		`{"rack":"a","zone":"west"}`: {"zone": "east", "rack": "a"},
		`null`:                       {"zone": "east"},
		`{"rack":1}`:                 {"zone": "east"},
		`rack=a`:                     {"zone": "east"},
	} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"zone": "east"}, Annotations: map[string]string{annLabels: annotation}}}
		if got := readLabels(n, log); !maps.Equal(got, want) {
			t.Errorf("annotation %q: labels %v, want %v", annotation, got, want)
		}
	}
}
