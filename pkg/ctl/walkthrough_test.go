package ctl_test

import (
	"fmt"
	"os"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/test/apiserver"
)

// server is shared by the walkthrough's tests, for it costs seconds to start; nil until it is needed.
var server *apiserver.Server

func TestMain(m *testing.M) {
	code := m.Run()
	if server != nil {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// walk plays one script on a cluster with the fixed nodes and what their agents write, and nothing else.
func walk(t *testing.T, script string) {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED under -short: needs a real kube-apiserver")
	}
	ctx := t.Context()
	if server == nil {
		var err error
		server, err = apiserver.New()
		must(t, err)
	}
	config := server.Config()
	must(t, apiserver.Install(ctx, config, apiserver.CRDs))
	environment(t, config)
	t.Setenv("CALICO_API_GROUP", kube.GroupV3)
	admin := dynamic.NewForConfigOrDie(config)
	for _, r := range []schema.GroupVersionResource{
		{Version: "v1", Resource: "nodes"}, ours("clusterinformations"), ours("ippools"), ours("ipamblocks"), ours("ipamhandles"), ours("blockaffinities"), ours("bgpconfigurations"), ours("bgppeers"),
	} {
		must(t, admin.Resource(r).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	}
	nodes(ctx, t, kubernetes.NewForConfigOrDie(config))
	agents(ctx, t, config, kube.GroupV3)
	play(t, script)
}

func ours(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "projectcalico.org", Version: "v3", Resource: resource}
}

// TestWalkthrough5Pool: get ippool -owide and -o yaml.
func TestWalkthrough5Pool(t *testing.T) { walk(t, "walkthrough5.txt") }

// TestWalkthrough10Tables: get bgpconfig, bgppeer and node while route reflectors are set up. For node status see package
// node.
func TestWalkthrough10Tables(t *testing.T) { walk(t, "walkthrough10.txt") }

// TestWalkthrough11BlockSize: what is typed to change it. test/e2e does it with running pods.
func TestWalkthrough11BlockSize(t *testing.T) { walk(t, "walkthrough11.txt") }
