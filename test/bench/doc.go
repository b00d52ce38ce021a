// Package bench measures Margay against peers on the same machine in the same run: the reference plugins ptp and
// host-local, flannel, BIRD, and pods on the host's network. "make bench" (hack/bench) builds what it needs and runs it; go
// test alone skips it. Nothing here asserts a time: the table says for each aim whether it is met.
//
// Each comparison is interleaved (ours, peer, ours, peer, …), so that what else the machine does hits both; only meshes
// run whole, one after the other. Percentiles
// are nearest-rank. The columns "load" are the machine's load average before and after the section: figures of a
// loaded machine are good for their ratio only.
//
// All parts are real: kernel, agent, plugin, API server (packages lab and apiserver), kubelets (test/kube). Namespaces
// have no names and end with the program; clusters are named bench-*, and are taken down by whoever brought them up.
package bench
