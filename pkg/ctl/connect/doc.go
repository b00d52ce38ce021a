// Package connect finds the cluster that margayctl's commands work on, as calicoctl finds it.
//
// A configuration file counts alone where there is one: that of --config, or /etc/calico/calicoctl.cfg. Without it the
// environment counts, each variable with or without CALICO_ before its name. Where neither says how to reach the API
// server, it is ~/.kube/config, and in a pod its service account. --context beats what these say of the context.
//
// It serves the Kubernetes datastore alone, and says so to who asks for etcd. It writes nothing.
package connect
