package apiserver

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// TestDownUp stops the API server and starts it again: same address, same data.
func TestDownUp(t *testing.T) {
	s := StartServer(t)
	client := kubernetes.NewForConfigOrDie(s.Config())
	before, err := client.CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Down(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{}); err == nil {
		t.Fatal("an API server that is down answers")
	}
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	after, err := client.CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if before.UID != after.UID {
		t.Fatalf("namespace kube-system was made anew: UID %s, then %s", before.UID, after.UID)
	}
}
