// Package pods knows what pods ask for: it reads the annotations cni.projectcalico.org/* of a pod and of its namespace
// (Calico's names and forms), chooses the pools that the pod may have addresses of, and keeps the little that the agent has
// to know of each pod of its node, so that an ADD need not ask the API server.
//
//	annotation              where            value
//	ipv4pools, ipv6pools    pod, namespace   JSON list of names or CIDRs of pools, in order of preference
//	ipFamilies              pod, namespace   JSON list of IPv4 and IPv6
//	ipAddrs                 pod              JSON list of one address a family, which IPAM assigns
//	ipAddrsNoIpam           pod              the same, and IPAM has no part in it
//	hwAddr                  pod              Ethernet address of the pod's side
//	floatingIPs             pod              JSON list of addresses that lead to the pod, too
//	allowedSourcePrefixes   pod              JSON list of CIDRs
//
// A pod's annotation beats that of its namespace; an empty one counts as none. ipAddrs and ipAddrsNoIpam beat all that is
// about pools and families, and exclude each other.
//
// # Which pools
//
// Pools that are asked for must exist and be enabled for pods; neither their selectors nor their assignmentMode matter
// then, as in Calico. Who asks for none gets addresses of the pools with assignmentMode Automatic whose nodeSelector and
// namespaceSelector select node and namespace: one of each family that has such a pool, or of each that ipFamilies names.
//
// # What is known
//
// Directory is filled by watches: of all namespaces, and of the pods of this node. kubelet hears of a pod by the same kind
// of watch and starts it later, so an ADD nearly always finds it; otherwise it waits a moment and then asks the API server
// once. An API server that does not answer holds no pod up: it starts as if it had no annotations. A restarted agent reads
// all of it anew.
package pods
