// Package lab builds a small cluster for tests on one machine: nodes and pods are network namespaces, and all else is real:
// the kernel, the agent (cmd/margay-agent, a process per node in the node's namespace), the plugin (cmd/margay, called
// through libcni as a container runtime does), and the kube-apiserver of package apiserver.
//
//	        fabric: br0 192.168.10.1/24, fd00:10::1/64    [br1 192.168.20.1/24, fd00:20::1/64]
//	                │ eth0                 │ eth0
//	node1: 192.168.10.11/24        node2: 192.168.10.12/24     (two subnets: even nodes are in the second)
//	 cali… │ │ cali…                │ cali…
//	     pod pod                   pod
//
// Nodes are machines that can be rebooted, switched off for ever, renamed, and given other addresses; more can be added, under
// the name of one that went, too. They run the programs under test, or those of an earlier commit.
//
// The API server listens on the machine's loopback. Each node has a forwarder on its own loopback, at the same port, that
// can be cut, so that one node alone loses the API.
//
// It owns the namespaces, which have no names and so end with the test program however that ends; the agents, which the
// kernel kills when the program ends; one folder on tmpfs; and all Nodes and resources of our group in the API server it
// was given, which New deletes before it begins. It kills nothing else.
package lab
