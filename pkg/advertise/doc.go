// Package advertise says which addresses of Services this node announces by BGP, and keeps the little that it has to know
// of Services and their endpoints for that.
//
// Three lists of networks in the BGPConfiguration default (Calico's fields) say what may be announced, and of what:
//
//	serviceClusterIPs        spec.clusterIPs; CALICO_ADVERTISE_CLUSTER_IPS replaces the list
//	serviceExternalIPs       spec.externalIPs
//	serviceLoadBalancerIPs   status.loadBalancer.ingress[].ip
//
// No address outside of its list is ever announced. Inside, who announces what follows from the traffic policy, which is
// externalTrafficPolicy; for cluster addresses internalTrafficPolicy Local counts as well, since kube-proxy then drops what
// comes to a node without an endpoint:
//
//	                             policy Cluster                         policy Local
//	network                      the network, by every node             the network, and the address by those who have it
//	single address (/32, /128)   by every node, while a Service has it  by those who have it
//	network, not aggregated      the address by every node, while       the address by those who have it
//	                             an endpoint is ready anywhere
//
// Not aggregated is a network of serviceLoadBalancerIPs with serviceLoadBalancerAggregation Disabled. An address is a
// route of its own, /32 or /128. Those who have it are the nodes with a ready endpoint of the address's family. A pod that
// is marked for deletion is not ready, although it still serves: the route is gone before the pod is.
//
// Nothing is announced of headless and ExternalName Services, of a load balancer's address that does not lead to the node
// (ipMode Proxy), and by a node with the label node.kubernetes.io/exclude-from-external-load-balancers=true.
//
// # Where this is not Calico
//
// Calico announces each address of a Service as soon as one of them may be, and cluster addresses outside of the networks,
// too; it takes both families for ready when one is, does not look at internalTrafficPolicy, and announces a single address
// of serviceClusterIPs whether or not a Service has it. All of this made routes that led nowhere, or that others covered.
//
// # What is known
//
// Directory is filled by watches (kube.FollowServices), which run only while a network is configured: see SetRanges. Of
// each EndpointSlice that has a ready endpoint it keeps the Service, the family, and whether one is here: two megabytes for
// 5,000 Services with ten endpoints each. A restarted agent reads all anew.
package advertise
