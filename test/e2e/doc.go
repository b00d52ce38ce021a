// Package e2e tests Margay on a running cluster, as a person would: with kubectl, and with ip, ping, curl and tcpdump in
// pods and on nodes. Any cluster will do that has Margay as its only CNI.
//
//	MARGAY_E2E=1 KUBECONFIG=... go test -v ./test/e2e    (make test-e2e: on a cluster of test/kube)
//
// The tests break things on purpose: agents, routes and, where they may, nodes. No production cluster. The environment
// says where and with what:
//
//	MARGAY_E2E            1; else all tests are skipped, whatever KUBECONFIG happens to name
//	KUBECONFIG            the cluster
//	KUBECTL               the program, "kubectl" when not set
//	MARGAYCTL             the program, "margayctl" when not set
//	MARGAY_E2E_TOOLS      an image with bash, ip, bridge, ping, curl, dig, iperf3, tcpdump; that of test/kube when not set
//	MARGAY_E2E_AGNHOST    the agnhost image; that of test/kube when not set
//	MARGAY_E2E_HACK       the folder hack, where it governs this cluster: switches on the tests that stop the API
//	                      server or a node, and those with a host outside the cluster
//
// Which address families the cluster has is what its Services have; then all nodes and pods must have them, too. Tests of
// the data plane run for each family.
//
// TestMain makes the namespace margay-e2e with pods on all nodes (testdata/pods.yaml): web, a server; tools, a client;
// shell, a privileged pod in the node's own namespaces, by which tests get onto nodes. It removes it at the end.
// Tests run one after the other. After each of them every block, handle and address must agree with the pods that live.
package e2e
