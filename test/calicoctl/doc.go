// Package calicoctl has tests that run Calico's own calicoctl against a datastore that our agents' allocators have
// filled: what it prints, what it writes, and that both sides see what the other wrote.
//
// The program is the one that "test/kube/build calicoctl" makes, v3.28.5: it knows crd.projectcalico.org/v1 alone, and
// asks for no version where ClusterInformation says none. MARGAY_CALICOCTL names another one; its outputs are not
// compared with the files in testdata, and when it knows projectcalico.org/v3 (from v3.32 on), that group is tested, too.
package calicoctl
