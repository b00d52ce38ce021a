// Command certs makes a cluster's PKI and kubeconfigs in one directory. What
// is there already is kept, so it may run again when a node is added.
//
//	certs -dir DIR -server https://IP:6443 -admin-server https://127.0.0.1:PORT
//	      -san NAME,IP,... -node node1=IP[,IP6] -node node2=IP ...
package main

import (
	"flag"
	"log"
	"os"
	"strings"
)

// names that every API server answers to.
var apiserverNames = []string{
	"localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default",
	"kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
}

type nodes []string

func (n *nodes) String() string     { return strings.Join(*n, " ") }
func (n *nodes) Set(s string) error { *n = append(*n, s); return nil }

func main() {
	log.SetFlags(0)
	var all nodes
	dir := flag.String("dir", "", "directory to write to")
	server := flag.String("server", "", "API server's URL inside the cluster")
	admin := flag.String("admin-server", "", "API server's URL in admin.conf")
	san := flag.String("san", "", "more names and addresses of the API server, separated by commas")
	flag.Var(&all, "node", "NAME=IP[,IP6]; may repeat")
	flag.Parse()
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		log.Fatal(err)
	}
	if err := makeAll(pki{dir: *dir}, *server, *admin, strings.Split(*san, ","), all); err != nil {
		log.Fatal("certs: ", err)
	}
}

func makeAll(p pki, server, admin string, san []string, all nodes) error {
	steps := []func() error{
		func() error { return p.authority("ca") },
		func() error { return p.authority("front-proxy-ca") },
		func() error { return p.serviceAccountKey("sa") },
		func() error { return p.leaf("ca", "apiserver", "kube-apiserver", "", append(apiserverNames, san...)) },
		func() error {
			return p.leaf("ca", "apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters", nil)
		},
		func() error { return p.leaf("front-proxy-ca", "front-proxy-client", "front-proxy-client", "", nil) },
		func() error { return p.user("admin", "kubernetes-admin", "system:masters", admin) },
		func() error { return p.user("controller-manager", "system:kube-controller-manager", "", server) },
		func() error { return p.user("scheduler", "system:kube-scheduler", "", server) },
		func() error { return p.user("kube-proxy", "system:kube-proxy", "", server) },
	}
	for _, n := range all {
		name, ips, _ := strings.Cut(n, "=")
		steps = append(steps,
			func() error { return p.user("kubelet-"+name, "system:node:"+name, "system:nodes", server) },
			func() error {
				names := append([]string{name}, strings.Split(ips, ",")...)
				return p.leaf("ca", "kubelet-server-"+name, "system:node:"+name, "system:nodes", names)
			})
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
