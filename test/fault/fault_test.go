// Package fault tests what a cluster does when its parts fail: real agents and plugins on nodes of package lab.
package fault

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/margay-net/margay/test/lab"
)

// cluster is what the tests' labs share; nil under -short and without root, which lab.New then says.
var cluster *lab.Cluster

func TestMain(m *testing.M) {
	flag.Parse()
	code := 1
	if err := start(); err != nil {
		fmt.Fprintln(os.Stderr, "start cluster:", err)
	} else {
		code = m.Run()
	}
	if cluster != nil {
		if err := cluster.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop cluster:", err)
		}
	}
	os.Exit(code)
}

func start() (err error) {
	if !testing.Short() && os.Geteuid() == 0 {
		cluster, err = lab.Start()
	}
	return err
}
