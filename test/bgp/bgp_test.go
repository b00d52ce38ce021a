// Package bgp tests what a person sees of BGP: real agents and plugins on nodes of package lab, real margayctl, BIRD and FRR
// as the fabric's routers. TestWalkthrough7 to 10 go through the acceptance story line by line.
package bgp

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/margay-net/margay/test/apiserver"
	"github.com/margay-net/margay/test/lab"
)

var (
	// cluster is what the tests' labs share; nil under -short and without root, which lab.New then says.
	cluster *lab.Cluster
	// margayctl is a person's; kubeconfig is of somebody who may do everything.
	margayctl, kubeconfig string
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := 1
	dir, err := os.MkdirTemp("", "margay-bgp-")
	if err == nil && !testing.Short() && os.Geteuid() == 0 {
		err = start(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "start cluster:", err)
	} else {
		code = m.Run()
	}
	if cluster != nil {
		if err := cluster.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop cluster:", err)
		}
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func start(dir string) (err error) {
	if cluster, err = lab.Start(); err != nil {
		return err
	}
	root, err := apiserver.Root()
	if err != nil {
		return err
	}
	margayctl, kubeconfig = filepath.Join(dir, "margayctl"), filepath.Join(dir, "kubeconfig")
	build := exec.Command("go", "build", "-o", margayctl, "./cmd/margayctl")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build margayctl: %w: %s", err, out)
	}
	c := cluster.Server.Config()
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: c.Host, CertificateAuthorityData: c.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {Token: c.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{"c": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "c",
	}, kubeconfig)
}
