package v3_test

var configGood = []good{
	{"reference", "felixconfigurations", "spec: {ipv6Support: false, ipipMTU: 1400, chainInsertMode: Append}"},
	{"of a node", "felixconfigurations", "metadata: {name: node.node-a.example.org}\nspec: {logSeverityScreen: debug}"},
	{"reference", "clusterinformations", "spec: {clusterGUID: 0123456789abcdef0123456789abcdef, clusterType: 'k8s,bgp', calicoVersion: v3.31.0, datastoreReady: true, variant: Calico}"},
	{"reference", "kubecontrollersconfigurations", `
metadata: {name: default}
spec:
  logSeverityScreen: Info
  healthChecks: Enabled
  etcdV3CompactionPeriod: 10m
  prometheusMetricsPort: 9094
  controllers:
    node:
      reconcilerPeriod: 5m
      leakGracePeriod: 15m
      syncLabels: Enabled
      hostEndpoint: {autoCreate: Disabled}
    policy: {reconcilerPeriod: 5m}
    workloadEndpoint: {reconcilerPeriod: 5m}
    serviceAccount: {reconcilerPeriod: 5m}
    namespace: {reconcilerPeriod: 5m}
    loadBalancer: {assignIPs: AllServices}`},
	{"templates", "kubecontrollersconfigurations", `
spec:
  debugProfilePort: 6060
  controllers:
    node:
      leakGracePeriod: 0s
      hostEndpoint:
        autoCreate: Enabled
        createDefaultHostEndpoint: Disabled
        templates:
        - generateName: custom-host-endpoint
          interfaceCIDRs: [192.168.10.0/24]
          interfacePattern: "eth(0|1)"
          nodeSelector: has(my-label)
          labels: {key: value}
    loadBalancer: {assignIPs: RequestedServicesOnly}
    migration: {policyNameMigrator: Disabled}`},
	{"nothing runs", "kubecontrollersconfigurations", "spec: {controllers: {}, healthChecks: Disabled, prometheusMetricsPort: 0}"},
	{"reference", "caliconodestatuses", "metadata: {name: my-caliconodestatus-1}\nspec: {classes: [Agent, BGP, Routes], node: my-kadm-node-0, updatePeriodSeconds: 10}"},
	{"no more", "caliconodestatuses", "spec: {classes: [BGP], node: node1.example.org, updatePeriodSeconds: 0}"},
	{"reference", "hostendpoints", `
metadata: {name: some.name, labels: {type: production}}
spec:
  interfaceName: eth0
  node: myhost
  expectedIPs: [192.168.0.1, 192.168.0.2]
  profiles: [profile1, profile2]
  ports:
  - {name: some-port, port: 1234, protocol: TCP}
  - {name: another-port, port: 5432, protocol: UDP}`},
	{"all interfaces", "hostendpoints", "spec: {node: myhost, interfaceName: '*', expectedIPs: ['fd00::1']}"},
	{"by address", "hostendpoints", "spec: {node: myhost, expectedIPs: [192.168.0.1]}"},
}

var configRefusals = []refusal{
	{"wrong name", "felixconfigurations", "metadata: {name: node-1}\nspec: {}", []string{"metadata", "default (all nodes) or node.NAME"}},
	{"log level", "felixconfigurations", "spec: {logSeverityScreen: loud}", []string{"spec.logSeverityScreen", "should match"}},
	{"VNI 0", "felixconfigurations", "spec: {vxlanVNI: 0}", []string{"spec.vxlanVNI", "greater than or equal to 1"}},
	{"port too large", "felixconfigurations", "spec: {vxlanPort: 65536}", []string{"spec.vxlanPort", "less than or equal to 65535"}},
	{"MTU is a string", "felixconfigurations", "spec: {vxlanMTU: auto}", []string{"spec.vxlanMTU", "must be of type integer"}},
	{"metrics host", "felixconfigurations", "spec: {prometheusMetricsHost: 'localhost#'}", []string{"spec.prometheusMetricsHost", "should match"}},
	{"interface filter", "felixconfigurations", "spec: {iptablesNATOutgoingInterfaceFilter: cali@123}", []string{"spec.iptablesNATOutgoingInterfaceFilter", "should match"}},
	{"IPv6 as NAT address", "felixconfigurations", "spec: {natOutgoingAddress: 'fd00::1'}", []string{"spec.natOutgoingAddress", "must be an IPv4 address"}},
	{"iptables", "felixconfigurations", "spec: {iptablesBackend: badVal}", []string{"spec.iptablesBackend", "should match"}},

	{"wrong name", "clusterinformations", "metadata: {name: mine}\nspec: {}", []string{"metadata", "metadata.name must be default"}},
	{"ready is a string", "clusterinformations", "spec: {datastoreReady: 'yes'}", []string{"spec.datastoreReady", "must be of type boolean"}},

	{"wrong name", "kubecontrollersconfigurations", "metadata: {name: mine}\nspec: {controllers: {}}", []string{"metadata", "metadata.name must be default"}},
	{"no controllers", "kubecontrollersconfigurations", "spec: {}", []string{"spec.controllers", "Required value"}},
	{"log level", "kubecontrollersconfigurations", "spec: {controllers: {}, logSeverityScreen: debug}", []string{"spec.logSeverityScreen", `"Debug", "Info"`}},
	{"health", "kubecontrollersconfigurations", "spec: {controllers: {}, healthChecks: 'true'}", []string{"spec.healthChecks", `"Enabled", "Disabled"`}},
	{"metrics port", "kubecontrollersconfigurations", "spec: {controllers: {}, prometheusMetricsPort: 65536}", []string{"spec.prometheusMetricsPort", "less than or equal to 65535"}},
	{"profile port", "kubecontrollersconfigurations", "spec: {controllers: {}, debugProfilePort: -1}", []string{"spec.debugProfilePort", "greater than or equal to 0"}},
	{"compaction", "kubecontrollersconfigurations", "spec: {controllers: {}, etcdV3CompactionPeriod: 10}", []string{"spec.etcdV3CompactionPeriod", "must be of type string"}},
	{"compaction without a unit", "kubecontrollersconfigurations", "spec: {controllers: {}, etcdV3CompactionPeriod: '10'}", []string{"spec.etcdV3CompactionPeriod", "must be a duration such as"}},
	{"grace", "kubecontrollersconfigurations", "spec: {controllers: {node: {leakGracePeriod: 15min}}}", []string{"spec.controllers.node.leakGracePeriod", "must be a duration such as"}},
	{"negative grace", "kubecontrollersconfigurations", "spec: {controllers: {node: {leakGracePeriod: -15m}}}", []string{"spec.controllers.node.leakGracePeriod", "must be a duration such as"}},
	{"period", "kubecontrollersconfigurations", "spec: {controllers: {namespace: {reconcilerPeriod: often}}}", []string{"spec.controllers.namespace.reconcilerPeriod", "must be a duration such as"}},
	{"switch", "kubecontrollersconfigurations", "spec: {controllers: {node: {hostEndpoint: {autoCreate: true}}}}", []string{"spec.controllers.node.hostEndpoint.autoCreate", "must be of type string"}},
	{"labels", "kubecontrollersconfigurations", "spec: {controllers: {node: {syncLabels: enabled}}}", []string{"spec.controllers.node.syncLabels", `"Enabled", "Disabled"`}},
	{"empty template", "kubecontrollersconfigurations", "spec: {controllers: {node: {hostEndpoint: {templates: [{generateName: a}]}}}}", []string{"templates[0].interfaceCIDRs", "needs interfaceCIDRs or interfacePattern"}},
	{"template's pattern", "kubecontrollersconfigurations", "spec: {controllers: {node: {hostEndpoint: {templates: [{interfacePattern: 'eth('}]}}}}", []string{"templates[0].interfacePattern", "missing closing )"}},
	{"template's network", "kubecontrollersconfigurations", "spec: {controllers: {node: {hostEndpoint: {templates: [{interfaceCIDRs: [lan]}]}}}}", []string{"templates[0].interfaceCIDRs[0]", "must be a network or an address"}},
	{"template's name", "kubecontrollersconfigurations", "spec: {controllers: {node: {hostEndpoint: {templates: [{generateName: A_b, interfacePattern: eth0}]}}}}", []string{"templates[0].generateName", "lower-case"}},
	{"services", "kubecontrollersconfigurations", "spec: {controllers: {loadBalancer: {assignIPs: None}}}", []string{"spec.controllers.loadBalancer.assignIPs", `"AllServices", "RequestedServicesOnly"`}},
	{"unknown controller", "kubecontrollersconfigurations", "spec: {controllers: {nodes: {}}}", []string{`unknown field "spec.controllers.nodes"`}},

	{"no node", "caliconodestatuses", "spec: {classes: [BGP], updatePeriodSeconds: 10}", []string{"spec.node", "Required value"}},
	{"bad node", "caliconodestatuses", "spec: {classes: [BGP], updatePeriodSeconds: 10, node: Node_1}", []string{"spec.node", "must be the name of a node"}},
	{"no classes", "caliconodestatuses", "spec: {updatePeriodSeconds: 10, node: node-1}", []string{"spec.classes", "Required value"}},
	{"empty classes", "caliconodestatuses", "spec: {updatePeriodSeconds: 10, node: node-1, classes: []}", []string{"spec.classes", "at least 1 items"}},
	{"unknown class", "caliconodestatuses", "spec: {updatePeriodSeconds: 10, node: node-1, classes: [bgp]}", []string{"spec.classes[0]", `"Agent", "BGP", "Routes"`}},
	{"class twice", "caliconodestatuses", "spec: {updatePeriodSeconds: 10, node: node-1, classes: [BGP, BGP]}", []string{"spec.classes[1]", "Duplicate value"}},
	{"no period", "caliconodestatuses", "spec: {node: node-1, classes: [BGP]}", []string{"spec.updatePeriodSeconds", "Required value"}},
	{"long period", "caliconodestatuses", "spec: {node: node-1, classes: [BGP], updatePeriodSeconds: 86401}", []string{"spec.updatePeriodSeconds", "less than or equal to 86400"}},

	{"no node", "hostendpoints", "spec: {interfaceName: eth0}", []string{"spec.node", "Required value"}},
	{"no interface", "hostendpoints", "spec: {node: node-1, interfaceName: ''}", []string{"spec.interfaceName", "needs interfaceName or expectedIPs"}},
	{"long interface", "hostendpoints", "spec: {node: node-1, interfaceName: interfaceTooLong}", []string{"spec.interfaceName", "Too long"}},
	{"bad interface", "hostendpoints", "spec: {node: node-1, interfaceName: 'Bad&Face'}", []string{"spec.interfaceName", "must be * or an interface name"}},
	{"network as address", "hostendpoints", "spec: {node: node-1, expectedIPs: [10.0.0.0/24]}", []string{"spec.expectedIPs[0]", "must be an address"}},
	{"bad profile", "hostendpoints", "spec: {node: node-1, interfaceName: eth0, profiles: [a_b]}", []string{"spec.profiles[0]", "must be the name of a profile"}},
	{"port without a name", "hostendpoints", "spec: {node: node-1, interfaceName: eth0, ports: [{name: '', port: 1, protocol: TCP}]}", []string{"spec.ports[0].name", "must be up to 15"}},
	{"port's protocol", "hostendpoints", "spec: {node: node-1, interfaceName: eth0, ports: [{name: a, port: 1, protocol: ICMP}]}", []string{"spec.ports[0].protocol", "TCP, UDP or SCTP"}},
	{"port without a protocol", "hostendpoints", "spec: {node: node-1, interfaceName: eth0, ports: [{name: a, port: 1}]}", []string{"spec.ports[0].protocol", "Required value"}},
	{"port 0", "hostendpoints", "spec: {node: node-1, interfaceName: eth0, ports: [{name: a, port: 0, protocol: TCP}]}", []string{"spec.ports[0].port", "greater than or equal to 1"}},
}
