// Package datastore holds margayctl's commands that lock the datastore, write all of it to a file, and fill an empty one
// from such a file: datastore migrate lock, export, import, unlock.
//
// A locked datastore (ClusterInformation default, spec.datastoreReady false) is one in which addresses stand still: agents
// let what runs go on, add no pods, and write nothing of IPAM. "lock" returns when what they gave out before is written.
//
// The file is the one that calicoctl writes and reads: lists of resources in YAML with "---" after each; "===";
// ClusterInformation in JSON; "==="; blocks, affinities, handles and IPAM's configuration in JSON, by their keys in etcd. So
// what Calico exported from etcd can be imported here.
//
// "import" looks at everything first, and refuses a datastore that has resources, and a file of which the API server
// refuses any, before it writes anything. It is not one transaction: when it fails half-way it says what to delete.
package datastore
