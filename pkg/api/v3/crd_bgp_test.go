package v3_test

import "strings"

var bgpGood = []good{
	{"reference", "bgpconfigurations", `
spec:
  logSeverityScreen: Info
  nodeToNodeMeshEnabled: true
  nodeMeshMaxRestartTime: 120s
  asNumber: 63400
  serviceClusterIPs: [{cidr: 10.96.0.0/12}]
  serviceExternalIPs: [{cidr: 104.244.42.129/32}, {cidr: 172.217.3.0/24}]
  serviceLoadBalancerIPs: [{cidr: 'fd00:1::/64'}]
  listenPort: 178
  bindMode: NodeIP
  communities: [{name: bgp-large-community, value: '63400:300:100'}]
  prefixAdvertisements:
  - cidr: 172.218.4.0/26
    communities: [bgp-large-community, '63400:120']`},
	{"walkthrough 9", "bgpconfigurations", "spec: {logSeverityScreen: Debug, serviceExternalIPs: [{cidr: 192.168.50.0/24}]}"},
	{"walkthrough 10", "bgpconfigurations", "spec: {logSeverityScreen: Info, nodeToNodeMeshEnabled: false, asNumber: 64512}"},
	{"of a node", "bgpconfigurations", "metadata: {name: node.node-a}\nspec: {asNumber: '1.10', listenPort: 1790, ignoredInterfaces: [eth0, 'docker*']}"},
	{"password", "bgpconfigurations", "spec: {nodeMeshPassword: {secretKeyRef: {name: bgp-secrets, key: mesh}}}"},
	{"pods as peers", "bgpconfigurations", "spec: {localWorkloadPeeringIPV4: 169.254.1.2, localWorkloadPeeringIPV6: 'fe80::1:2', programClusterRoutes: Disabled, serviceLoadBalancerAggregation: Disabled, ipv4NormalRoutePriority: 512}"},

	{"reference", "bgppeers", "metadata: {name: some.name}\nspec: {node: rack1-host1, peerIP: 192.168.1.1, asNumber: 63400}"},
	{"walkthrough 9", "bgppeers", "spec: {peerIP: 192.168.42.1, asNumber: 64512, sourceAddress: None}"},
	{"walkthrough 10", "bgppeers", "metadata: {name: rr-to-node}\nspec: {nodeSelector: '!has(calico-rr)', peerSelector: has(calico-rr)}"},
	{"walkthrough 10, two ASes", "bgppeers", `spec: {nodeSelector: "calico-rr == 'rr1'", peerSelector: "calico-group == 'rr1'"}`},
	{"port", "bgppeers", "spec: {peerIP: '192.168.1.1:1790', asNumber: 63400}"},
	{"IPv6", "bgppeers", "spec: {peerIP: 'aa:bb::ff', asNumber: 64514}"},
	{"IPv6 and port", "bgppeers", "spec: {peerIP: '[fd00::1]:1790', asNumber: 4294967295, reachableBy: 'fd00::fe'}"},
	{"dotted numbers", "bgppeers", "spec: {peerIP: 192.168.1.1, asNumber: '64512.1', localASNumber: '65001'}"},
	{"all fields", "bgppeers", `
spec:
  nodeSelector: rack == 'rack-1'
  peerIP: 192.168.1.1
  asNumber: 63400
  localASNumber: 65001
  nextHopMode: Keep
  password: {secretKeyRef: {name: bgp-secrets, key: rr-password}}
  sourceAddress: UseNodeIP
  maxRestartTime: 1m30s
  keepaliveTime: 10s
  numAllowedLocalASNumbers: 1
  ttlSecurity: 1
  reachableBy: 192.168.10.254
  filters: [first-bgp-filter, second-bgp-filter]`},
	{"pods", "bgppeers", "spec: {localWorkloadSelector: color == 'red', asNumber: 64514}"},
	{"reverse", "bgppeers", "spec: {nodeSelector: all(), peerSelector: has(rr), reversePeering: Manual, keepOriginalNextHop: true}"},

	{"reference", "bgpfilters", `
metadata: {name: my-filter}
spec:
  exportV4:
  - {action: Accept, matchOperator: In, cidr: 77.0.0.0/16, source: RemotePeers, prefixLength: {min: 16, max: 24}}
  - {action: Reject, interface: '*.calico'}
  importV4:
  - {action: Reject, matchOperator: NotIn, cidr: 44.0.0.0/16}
  exportV6:
  - {action: Reject, source: RemotePeers}
  - {action: Accept, matchOperator: Equal, cidr: '9000::0/64', prefixLength: {max: 128}}
  importV6:
  - {action: Accept, matchOperator: NotEqual, cidr: 'fd00::/8', peerType: eBGP}
  - {action: Reject}`},
	{"changes", "bgpfilters", `
spec:
  importV4:
  - action: Accept
    communities: {values: ['65000:100']}
    asPathPrefix: [65001, '1.10']
    priority: 1024
    operations:
    - addCommunity: {value: '65000:1:2'}
    - prependASPath: {prefix: [65000, 65000]}
    - setPriority: {value: 512}`},
}

var bgpRefusals = []refusal{
	{"wrong name", "bgpconfigurations", "metadata: {name: node-1}\nspec: {}", []string{"metadata", "default (all nodes) or node.NAME"}},
	{"log level in lower case", "bgpconfigurations", "spec: {logSeverityScreen: debug}", []string{"spec.logSeverityScreen", `"Debug", "Info"`}},
	{"log level", "bgpconfigurations", "spec: {logSeverityScreen: invalidLvl}", []string{"spec.logSeverityScreen", `"Debug", "Info"`}},
	{"AS 0", "bgpconfigurations", "spec: {asNumber: 0}", []string{"spec.asNumber", "from 1 to 4294967295"}},
	{"AS too large", "bgpconfigurations", "spec: {asNumber: 4294967296}", []string{"spec.asNumber", "from 1 to 4294967295"}},
	{"cluster addresses", "bgpconfigurations", "spec: {serviceClusterIPs: [{cidr: x.x.x.x}]}", []string{"spec.serviceClusterIPs[0].cidr", "CIDR form"}},
	{"external addresses", "bgpconfigurations", "spec: {serviceExternalIPs: [{cidr: 10.0.0.0/24}, {cidr: 10.0.0.1/24}]}", []string{"spec.serviceExternalIPs[1].cidr", "without host bits"}},
	{"external addresses as strings", "bgpconfigurations", "spec: {serviceExternalIPs: [10.0.0.0/24]}", []string{"spec.serviceExternalIPs[0]", "must be of type object"}},
	{"load balancer addresses", "bgpconfigurations", "spec: {serviceLoadBalancerIPs: [{}]}", []string{"spec.serviceLoadBalancerIPs[0].cidr", "Required value"}},
	{"aggregation", "bgpconfigurations", "spec: {serviceLoadBalancerAggregation: enabled}", []string{"spec.serviceLoadBalancerAggregation", `"Enabled", "Disabled"`}},
	{"community without a use", "bgpconfigurations", "spec: {communities: [{name: a, value: '1:2'}]}", []string{"spec.communities", "prefixAdvertisements"}},
	{"community of 17 bits", "bgpconfigurations", "spec: {communities: [{name: a, value: '65536:2'}], prefixAdvertisements: [{cidr: 10.0.0.0/24, communities: [a]}]}", []string{"spec.communities[0].value", "up to 65535"}},
	{"community of 33 bits", "bgpconfigurations", "spec: {communities: [{name: a, value: '1:2:4294967296'}], prefixAdvertisements: [{cidr: 10.0.0.0/24, communities: [a]}]}", []string{"spec.communities[0].value", "up to 4294967295"}},
	{"community's form", "bgpconfigurations", "spec: {communities: [{name: a, value: none}], prefixAdvertisements: [{cidr: 10.0.0.0/24, communities: [a]}]}", []string{"spec.communities[0].value", "must be aa:nn"}},
	{"community's name", "bgpconfigurations", "spec: {communities: [{name: A_b, value: '1:2'}], prefixAdvertisements: [{cidr: 10.0.0.0/24, communities: ['1:2']}]}", []string{"spec.communities[0].name", "lower-case"}},
	{"community without a value", "bgpconfigurations", "spec: {communities: [{name: a}], prefixAdvertisements: [{cidr: 10.0.0.0/24, communities: [a]}]}", []string{"spec.communities[0].value", "Required value"}},
	{"unknown community", "bgpconfigurations", "spec: {prefixAdvertisements: [{cidr: 10.0.0.0/24, communities: [b]}]}", []string{"spec.prefixAdvertisements", "nor a name of spec.communities"}},
	{"prefix's community", "bgpconfigurations", "spec: {prefixAdvertisements: [{cidr: 10.0.0.0/24, communities: ['1:2:3:4']}]}", []string{"spec.prefixAdvertisements[0].communities[0]", "aa:nn"}},
	{"no prefix", "bgpconfigurations", "spec: {prefixAdvertisements: [{communities: ['1:2']}]}", []string{"spec.prefixAdvertisements[0].cidr", "Required value"}},
	{"prefix's host bits", "bgpconfigurations", "spec: {prefixAdvertisements: [{cidr: 10.0.0.1/24, communities: ['1:2']}]}", []string{"spec.prefixAdvertisements[0].cidr", "without host bits"}},
	{"listen port", "bgpconfigurations", "spec: {listenPort: 65536}", []string{"spec.listenPort", "less than or equal to 65535"}},
	{"listen port 0", "bgpconfigurations", "spec: {listenPort: 0}", []string{"spec.listenPort", "greater than or equal to 1"}},
	{"password without a mesh", "bgpconfigurations", "spec: {nodeToNodeMeshEnabled: false, nodeMeshPassword: {secretKeyRef: {name: a, key: b}}}", []string{"spec.nodeMeshPassword", "needs the mesh"}},
	{"password of one node", "bgpconfigurations", "metadata: {name: node.a}\nspec: {nodeMeshPassword: {secretKeyRef: {name: a, key: b}}}", []string{"spec.nodeMeshPassword", "in the BGPConfiguration default"}},
	{"password in clear", "bgpconfigurations", "spec: {nodeMeshPassword: secret}", []string{"spec.nodeMeshPassword", "must be of type object"}},
	{"password without a Secret", "bgpconfigurations", "spec: {nodeMeshPassword: {}}", []string{"spec.nodeMeshPassword.secretKeyRef", "set secretKeyRef.name and secretKeyRef.key"}},
	{"restart without a mesh", "bgpconfigurations", "spec: {nodeToNodeMeshEnabled: false, nodeMeshMaxRestartTime: 10s}", []string{"spec.nodeMeshMaxRestartTime", "needs the mesh"}},
	{"restart of one node", "bgpconfigurations", "metadata: {name: node.a}\nspec: {nodeMeshMaxRestartTime: 10s}", []string{"spec.nodeMeshMaxRestartTime", "in the BGPConfiguration default"}},
	{"restart time", "bgpconfigurations", "spec: {nodeMeshMaxRestartTime: '120'}", []string{"spec.nodeMeshMaxRestartTime", "must be a duration such as"}},
	{"bind mode", "bgpconfigurations", "spec: {bindMode: none}", []string{"spec.bindMode", `"None", "NodeIP"`}},
	{"all interfaces", "bgpconfigurations", "spec: {ignoredInterfaces: ['*']}", []string{"spec.ignoredInterfaces[0]", "not '*' alone"}},
	{"interface", "bgpconfigurations", "spec: {ignoredInterfaces: ['eth 0']}", []string{"spec.ignoredInterfaces[0]", "must be an interface name"}},
	{"IPv6 for pods' IPv4", "bgpconfigurations", "spec: {localWorkloadPeeringIPV4: 'fe80::1'}", []string{"spec.localWorkloadPeeringIPV4", "must be an IPv4 address"}},
	{"IPv4 for pods' IPv6", "bgpconfigurations", "spec: {localWorkloadPeeringIPV6: 169.254.1.2}", []string{"spec.localWorkloadPeeringIPV6", "must be an IPv6 address"}},
	{"cluster routes", "bgpconfigurations", "spec: {programClusterRoutes: 'true'}", []string{"spec.programClusterRoutes", `"Enabled", "Disabled"`}},
	{"metric", "bgpconfigurations", "spec: {ipv6NormalRoutePriority: 0}", []string{"spec.ipv6NormalRoutePriority", "greater than or equal to 1"}},
	{"unknown field", "bgpconfigurations", "spec: {serviceExternalIP: []}", []string{`unknown field "spec.serviceExternalIP"`}},

	{"no peer", "bgppeers", "spec: {asNumber: 64512}", []string{"spec.peerIP", "needs one of peerIP"}},
	{"source address in lower case", "bgppeers", "spec: {peerIP: 192.168.42.1, asNumber: 1, sourceAddress: none}", []string{"spec.sourceAddress", `"none"`, `"UseNodeIP", "None"`}},
	{"node and nodeSelector", "bgppeers", "spec: {node: node-1, nodeSelector: all(), peerIP: 10.0.0.1, asNumber: 1}", []string{"spec.nodeSelector", "cannot both be set"}},
	{"bad node", "bgppeers", "spec: {node: my_node, peerIP: 10.0.0.1, asNumber: 1}", []string{"spec.node", "must be the name of a node"}},
	{"peerIP and peerSelector", "bgppeers", "spec: {peerIP: 10.0.0.1, peerSelector: all()}", []string{"spec.peerSelector", "cannot both be set"}},
	{"peerSelector and asNumber", "bgppeers", "spec: {peerSelector: all(), asNumber: 64512}", []string{"spec.asNumber", "must be left out with peerSelector"}},
	{"peerSelector and pods", "bgppeers", "spec: {peerSelector: all(), localWorkloadSelector: all()}", []string{"spec.peerSelector", "cannot both be set"}},
	{"peerIP and pods", "bgppeers", "spec: {peerIP: 10.0.0.1, localWorkloadSelector: all(), asNumber: 1}", []string{"spec.peerIP", "cannot both be set"}},
	{"pods without an AS", "bgppeers", "spec: {localWorkloadSelector: all()}", []string{"spec.asNumber", "needed with localWorkloadSelector"}},
	{"long selector", "bgppeers", "spec: {peerSelector: '" + strings.Repeat("x", 1025) + "'}", []string{"spec.peerSelector", "Too long"}},
	{"peerIP is a name", "bgppeers", "spec: {peerIP: router.example.org, asNumber: 1}", []string{"spec.peerIP", "must be an address"}},
	{"peerIP is a network", "bgppeers", "spec: {peerIP: 10.0.0.0/24, asNumber: 1}", []string{"spec.peerIP", "must be an address"}},
	{"address out of range", "bgppeers", "spec: {peerIP: '300.0.0.1', asNumber: 1}", []string{"spec.peerIP", "must be an address"}},
	{"address out of range with port", "bgppeers", "spec: {peerIP: '300.0.0.1:179', asNumber: 1}", []string{"spec.peerIP", "must be an address"}},
	{"port 0", "bgppeers", "spec: {peerIP: '10.0.0.1:0', asNumber: 1}", []string{"spec.peerIP", "from 1 to 65535"}},
	{"port too large", "bgppeers", "spec: {peerIP: '10.0.0.1:65536', asNumber: 1}", []string{"spec.peerIP", "from 1 to 65535"}},
	{"port is a name", "bgppeers", "spec: {peerIP: '10.0.0.1:bgp', asNumber: 1}", []string{"spec.peerIP", "must be an address"}},
	{"no port", "bgppeers", "spec: {peerIP: '10.0.0.1:', asNumber: 1}", []string{"spec.peerIP", "must be an address"}},
	{"port alone", "bgppeers", "spec: {peerIP: ':179', asNumber: 1}", []string{"spec.peerIP", "must be an address"}},
	{"IPv6 port too large", "bgppeers", "spec: {peerIP: '[fd00::1]:65536', asNumber: 1}", []string{"spec.peerIP", "from 1 to 65535"}},
	{"IPv6 without a port", "bgppeers", "spec: {peerIP: '[fd00::1]:', asNumber: 1}", []string{"spec.peerIP", "must be an address"}},
	{"IPv6 port alone", "bgppeers", "spec: {peerIP: '[]:179', asNumber: 1}", []string{"spec.peerIP", "must be an address"}},
	{"IPv6 address", "bgppeers", "spec: {peerIP: 'fd00::xyz', asNumber: 1}", []string{"spec.peerIP", "must be an address"}},
	{"AS 0", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: 0}", []string{"spec.asNumber", "from 1 to 4294967295"}},
	{"negative AS", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: -1}", []string{"spec.asNumber", "from 1 to 4294967295"}},
	{"AS too large", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: 4294967296}", []string{"spec.asNumber", "from 1 to 4294967295"}},
	{"AS with large part", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: '1.65536'}", []string{"spec.asNumber", `such as "1.10"`}},
	{"AS of three parts", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: '1.2.3'}", []string{"spec.asNumber", `such as "1.10"`}},
	{"AS 0.0", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: '0.0'}", []string{"spec.asNumber", `such as "1.10"`}},
	{"AS is a word", "bgppeers", "spec: {peerIP: 10.0.0.1, localASNumber: AS64512}", []string{"spec.localASNumber", `such as "1.10"`}},
	{"next hop twice", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: 1, keepOriginalNextHop: true, nextHopMode: Self}", []string{"spec.keepOriginalNextHop", "use nextHopMode"}},
	{"next hop", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: 1, nextHopMode: self}", []string{"spec.nextHopMode", `"Auto", "Self", "Keep"`}},
	{"password without a key", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: 1, password: {secretKeyRef: {name: a}}}", []string{"spec.password.secretKeyRef.key", "Required value"}},
	{"password without a name", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: 1, password: {secretKeyRef: {key: a}}}", []string{"spec.password.secretKeyRef", "set secretKeyRef.name and secretKeyRef.key"}},
	{"restart time", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: 1, maxRestartTime: soon}", []string{"spec.maxRestartTime", "must be a duration"}},
	{"keepalive time", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: 1, keepaliveTime: 10}", []string{"spec.keepaliveTime", "must be of type string"}},
	{"own AS numbers", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: 1, numAllowedLocalASNumbers: -1}", []string{"spec.numAllowedLocalASNumbers", "greater than or equal to 0"}},
	{"hops", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: 1, ttlSecurity: 256}", []string{"spec.ttlSecurity", "less than or equal to 255"}},
	{"gateway of another family", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: 1, reachableBy: 'fd00::1'}", []string{"spec.reachableBy", "of one family"}},
	{"gateway of another family, port", "bgppeers", "spec: {peerIP: '[fd00::1]:179', asNumber: 1, reachableBy: 10.0.0.1}", []string{"spec.reachableBy", "of one family"}},
	{"gateway to nobody", "bgppeers", "spec: {peerSelector: all(), reachableBy: 10.0.0.1}", []string{"spec.reachableBy", "set peerIP"}},
	{"bad gateway", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: 1, reachableBy: gw}", []string{"spec.reachableBy", "must be the address of a gateway"}},
	{"filter's name", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: 1, filters: [ok, Not_ok]}", []string{"spec.filters[1]", "must be the name of a BGPFilter"}},
	{"filters are a string", "bgppeers", "spec: {peerIP: 10.0.0.1, asNumber: 1, filters: one}", []string{"spec.filters", "must be of type array"}},
	{"reverse", "bgppeers", "spec: {peerSelector: all(), reversePeering: Never}", []string{"spec.reversePeering", `"Auto", "Manual"`}},

	{"no action", "bgpfilters", "spec: {exportV4: [{matchOperator: In, cidr: 10.0.0.0/8}]}", []string{"spec.exportV4[0].action", "Required value"}},
	{"action", "bgpfilters", "spec: {exportV4: [{action: accept}]}", []string{"spec.exportV4[0].action", `"Accept", "Reject"`}},
	{"operator", "bgpfilters", "spec: {importV6: [{action: Accept, cidr: 'fd00::/8', matchOperator: in}]}", []string{"spec.importV6[0].matchOperator", `"Equal", "NotEqual", "In", "NotIn"`}},
	{"operator without network", "bgpfilters", "spec: {importV4: [{action: Accept, matchOperator: In}]}", []string{"spec.importV4[0].matchOperator", "go together"}},
	{"network without operator", "bgpfilters", "spec: {importV4: [{action: Accept, cidr: 10.0.0.0/8}]}", []string{"spec.importV4[0].matchOperator", "go together"}},
	{"no network", "bgpfilters", "spec: {importV4: [{action: Accept, matchOperator: In, cidr: lan}]}", []string{"spec.importV4[0].cidr", "must be an IPv4 network"}},
	{"host bits", "bgpfilters", "spec: {importV4: [{action: Accept, matchOperator: In, cidr: 10.0.0.1/8}]}", []string{"spec.importV4[0].cidr", "without host bits"}},
	{"IPv6 in IPv4", "bgpfilters", "spec: {exportV4: [{action: Accept, matchOperator: In, cidr: 'fd00::/8'}]}", []string{"spec.exportV4[0].cidr", "must be an IPv4 network"}},
	{"IPv4 in IPv6", "bgpfilters", "spec: {exportV6: [{action: Accept, matchOperator: In, cidr: 10.0.0.0/8}]}", []string{"spec.exportV6[0].cidr", "must be an IPv6 network"}},
	{"length without network", "bgpfilters", "spec: {exportV4: [{action: Accept, prefixLength: {min: 8}}]}", []string{"spec.exportV4[0].prefixLength", "needs cidr"}},
	{"length too large", "bgpfilters", "spec: {exportV4: [{action: Accept, matchOperator: In, cidr: 10.0.0.0/8, prefixLength: {max: 33}}]}", []string{"spec.exportV4[0].prefixLength.max", "less than or equal to 32"}},
	{"negative length", "bgpfilters", "spec: {exportV6: [{action: Accept, matchOperator: In, cidr: 'fd00::/8', prefixLength: {min: -1}}]}", []string{"spec.exportV6[0].prefixLength.min", "greater than or equal to 0"}},
	{"lengths in wrong order", "bgpfilters", "spec: {exportV4: [{action: Accept, matchOperator: In, cidr: 10.0.0.0/8, prefixLength: {min: 24, max: 16}}]}", []string{"spec.exportV4[0].prefixLength.min", "must not be above max"}},
	{"interface", "bgpfilters", "spec: {exportV4: [{action: Accept, interface: 'eth 0'}]}", []string{"spec.exportV4[0].interface", "must be an interface name"}},
	{"long interface", "bgpfilters", "spec: {exportV6: [{action: Accept, interface: interfaceTooLong}]}", []string{"spec.exportV6[0].interface", "Too long"}},
	{"source", "bgpfilters", "spec: {exportV4: [{action: Accept, source: Everyone}]}", []string{"spec.exportV4[0].source", `"RemotePeers"`}},
	{"peer type", "bgpfilters", "spec: {exportV4: [{action: Accept, peerType: EBGP}]}", []string{"spec.exportV4[0].peerType", `"eBGP", "iBGP"`}},
	{"two communities", "bgpfilters", "spec: {exportV4: [{action: Accept, communities: {values: ['1:2', '1:3']}}]}", []string{"spec.exportV4[0].communities.values", "at most 1 item"}},
	{"no community", "bgpfilters", "spec: {exportV4: [{action: Accept, communities: {values: []}}]}", []string{"spec.exportV4[0].communities.values", "at least 1 items"}},
	{"community", "bgpfilters", "spec: {exportV4: [{action: Accept, communities: {values: ['65536:1']}}]}", []string{"spec.exportV4[0].communities.values[0]", "up to 65535"}},
	{"priority", "bgpfilters", "spec: {exportV4: [{action: Accept, priority: 0}]}", []string{"spec.exportV4[0].priority", "greater than or equal to 1"}},
	{"path", "bgpfilters", "spec: {exportV4: [{action: Accept, asPathPrefix: [0]}]}", []string{"spec.exportV4[0].asPathPrefix[0]", "from 1 to 4294967295"}},
	{"changes to what is rejected", "bgpfilters", "spec: {importV4: [{action: Reject, operations: [{setPriority: {value: 1}}]}]}", []string{"spec.importV4[0].operations", "set action to Accept"}},
	{"no change", "bgpfilters", "spec: {importV4: [{action: Accept, operations: [{}]}]}", []string{"spec.importV4[0].operations[0]", "one of addCommunity, prependASPath, setPriority"}},
	{"two changes in one", "bgpfilters", "spec: {importV4: [{action: Accept, operations: [{setPriority: {value: 1}, addCommunity: {value: '1:2'}}]}]}", []string{"spec.importV4[0].operations[0]", "several operations"}},
	{"no changes", "bgpfilters", "spec: {importV4: [{action: Accept, operations: []}]}", []string{"spec.importV4[0].operations", "at least 1 items"}},
	{"empty path", "bgpfilters", "spec: {importV4: [{action: Accept, operations: [{prependASPath: {prefix: []}}]}]}", []string{"operations[0].prependASPath.prefix", "at least 1 items"}},
	{"community without a value", "bgpfilters", "spec: {importV4: [{action: Accept, operations: [{addCommunity: {}}]}]}", []string{"operations[0].addCommunity.value", "Required value"}},
}
