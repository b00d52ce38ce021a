package v3_test

import "strings"

var policyGood = []good{
	{"reference", "networkpolicies", `
metadata: {name: allow-tcp-6379}
spec:
  selector: role == 'database'
  types: [Ingress, Egress]
  ingress:
  - action: Allow
    metadata: {annotations: {from: frontend, to: database}}
    protocol: TCP
    source: {selector: role == 'frontend'}
    destination: {ports: [6379]}
  egress:
  - action: Allow`},
	{"names of older versions", "networkpolicies", "metadata: {name: knp.default.a.b.c}\nspec: {tier: default, order: 12.5}"},
	{"with its tier", "networkpolicies", "metadata: {name: internal-access.allow-tcp}\nspec: {tier: internal-access}"},
	{"many matches", "networkpolicies", `
spec:
  order: 100
  performanceHints: [AssumeNeededOnEveryNode]
  serviceAccountSelector: role == 'x'
  ingress:
  - {action: Log, protocol: ICMP, icmp: {type: 8, code: 0}, ipVersion: 4}
  - {action: Deny, protocol: 58, notICMP: {type: 1}}
  - {action: Pass, protocol: 132, source: {nets: [10.0.0.0/8, 10.1.2.3/32], notNets: [10.1.0.0/16]}, destination: {nets: [192.168.0.0/16], ports: [80, '8000:8080', '443', http]}}
  - {action: Allow, destination: {ports: [http], notPorts: [metrics-1]}}
  - {action: Allow, notProtocol: UDPLite, source: {namespaceSelector: global(), notSelector: has(x), serviceAccounts: {names: [a], selector: has(y)}}}
  - {action: Allow, source: {services: {name: s}}}
  - {action: Allow, protocol: TCP, http: {methods: [GET, PUT], paths: [{exact: /foo}, {prefix: /bar}]}, source: {namespaceSelector: all()}}
  egress:
  - {action: Allow, ipVersion: 6, source: {nets: ['fd00::/8']}, destination: {services: {name: dns, namespace: kube-system}}}
  - {action: Allow, protocol: '17', destination: {ports: [53], nets: ['::/0']}}`},
	{"reference", "globalnetworkpolicies", `
metadata: {name: allow-cluster-internal-ingress}
spec:
  order: 10
  preDNAT: true
  applyOnForward: true
  ingress:
  - {action: Allow, source: {nets: [10.240.0.0/16, 192.168.0.0/16]}}
  selector: has(host-endpoint)`},
	{"default deny", "globalnetworkpolicies", `
spec:
  selector: projectcalico.org/namespace != "kube-system"
  namespaceSelector: has(projectcalico.org/name) && projectcalico.org/name not in {"kube-system", "calico-system"}
  types: [Ingress, Egress]
  egress:
  - {action: Allow, protocol: UDP, destination: {selector: k8s-app == "kube-dns", ports: [53]}}
  - {action: Allow, destination: {services: {name: kubernetes, namespace: default}}}`},
	{"untracked", "globalnetworkpolicies", "spec: {doNotTrack: true, applyOnForward: true, order: 0, ingress: [{action: Allow}], egress: [{action: Allow}]}"},
	{"reference", "networksets", "metadata: {name: external-database, labels: {role: db}}\nspec: {nets: [198.51.100.0/28, 203.0.113.0/24, 192.0.2.7, 'fd00::7']}"},
	{"reference", "globalnetworksets", "metadata: {name: a-name-for-the-set, labels: {role: external-database}}\nspec: {nets: [198.51.100.0/28, 203.0.113.0/24]}"},
	{"reference", "tiers", "metadata: {name: internal-access}\nspec: {order: 100}"},
	{"default", "tiers", "metadata: {name: default}\nspec: {order: 1000000, defaultAction: Deny}"},
	{"kube-admin", "tiers", "metadata: {name: kube-admin}\nspec: {order: 1000, defaultAction: Pass}"},
	{"kube-baseline", "tiers", "metadata: {name: kube-baseline}\nspec: {order: 10000000, defaultAction: Pass}"},
	{"reference", "stagednetworkpolicies", "metadata: {name: internal-access.allow-tcp-6379}\nspec: {tier: internal-access, selector: role == 'database', types: [Ingress], ingress: [{action: Allow, protocol: TCP, source: {selector: role == 'frontend'}, destination: {ports: [6379]}}]}"},
	{"delete", "stagednetworkpolicies", "spec: {stagedAction: Delete, tier: internal-access}"},
	{"reference", "stagedglobalnetworkpolicies", "metadata: {name: internal-access.allow-tcp-6379}\nspec: {stagedAction: Set, tier: internal-access, selector: role == 'database', namespaceSelector: all(), types: [Ingress, Egress], egress: [{action: Allow}]}"},
	{"reference", "stagedkubernetesnetworkpolicies", `
spec:
  podSelector: {matchLabels: {role: db}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}}, {namespaceSelector: {matchLabels: {project: myproject}}}]
    ports: [{protocol: TCP, port: 6379}]
  egress:
  - to: [{ipBlock: {cidr: 10.0.0.0/24}}]
    ports: [{protocol: TCP, port: 5978}]`},
}

var policyRefusals = append([]refusal{
	{"name", "globalnetworkpolicies", "metadata: {name: knp.default.thing}\nspec: {}", []string{"metadata", "one '.' at most"}},
	{"name with dots", "globalnetworkpolicies", "metadata: {name: t.h.i.ng}\nspec: {}", []string{"metadata", "one '.' at most"}},
	{"untracked and before DNAT", "globalnetworkpolicies", "spec: {doNotTrack: true, preDNAT: true, applyOnForward: true}", []string{"spec.preDNAT", "cannot both be true"}},
	{"egress before DNAT", "globalnetworkpolicies", "spec: {preDNAT: true, applyOnForward: true, egress: [{action: Allow}]}", []string{"spec.egress", "cannot have egress rules"}},
	{"type Egress before DNAT", "globalnetworkpolicies", "spec: {preDNAT: true, applyOnForward: true, types: [Ingress, Egress]}", []string{"spec.types", "cannot have type Egress"}},
	{"before DNAT, not on forward", "globalnetworkpolicies", "spec: {preDNAT: true}", []string{"spec.applyOnForward", "must be true"}},
	{"untracked, not on forward", "globalnetworkpolicies", "spec: {doNotTrack: true, applyOnForward: false}", []string{"spec.applyOnForward", "must be true"}},
	{"global namespaces", "globalnetworkpolicies", "spec: {namespaceSelector: global()}", []string{"spec.namespaceSelector", "global() belongs"}},
	{"service without a namespace", "globalnetworkpolicies", "spec: {egress: [{action: Allow, destination: {services: {name: a}}}]}", []string{"spec.egress", "set services.namespace"}},
	{"service without a namespace, ingress", "globalnetworkpolicies", "spec: {ingress: [{action: Allow, source: {services: {name: a}}}]}", []string{"spec.ingress", "set services.namespace"}},

	{"name with dots", "networkpolicies", "metadata: {name: t.h.i.ng}\nspec: {}", []string{"metadata", "one '.' at most"}},
	{"name with dots", "stagednetworkpolicies", "metadata: {name: t.h.i.ng}\nspec: {}", []string{"metadata", "one '.' at most"}},
	{"name with dots", "stagedglobalnetworkpolicies", "metadata: {name: t.h.i.ng}\nspec: {}", []string{"metadata", "one '.' at most"}},
	{"action", "stagednetworkpolicies", "spec: {stagedAction: Warning}", []string{"spec.stagedAction", `"Set", "Delete"`}},
	{"more than a deletion", "stagednetworkpolicies", "spec: {stagedAction: Delete, selector: all()}", []string{"spec.stagedAction", "only tier may be set"}},
	{"more than a deletion", "stagedglobalnetworkpolicies", "spec: {stagedAction: Delete, namespaceSelector: all()}", []string{"spec.stagedAction", "only tier may be set"}},
	{"before DNAT, not on forward", "stagedglobalnetworkpolicies", "spec: {preDNAT: true}", []string{"spec.applyOnForward", "must be true"}},
	{"more than a deletion", "stagedkubernetesnetworkpolicies", "spec: {stagedAction: Delete, policyTypes: [Ingress]}", []string{"spec.stagedAction", "nothing else may be set"}},
	{"type", "stagedkubernetesnetworkpolicies", "spec: {policyTypes: [ingress]}", []string{"spec.policyTypes[0]", `"Ingress", "Egress"`}},

	{"network", "networksets", "spec: {nets: [10.0.0.0/8, office]}", []string{"spec.nets[1]", "must be a network or an address"}},
	{"length too large", "globalnetworksets", "spec: {nets: [10.0.0.0/33]}", []string{"spec.nets[0]", "must be a network or an address"}},
	{"twice", "globalnetworksets", "spec: {nets: [10.0.0.0/8, 10.0.0.0/8]}", []string{"spec.nets[1]", "Duplicate value"}},
	{"bad name", "globalnetworksets", "metadata: {name: Set_1}\nspec: {}", []string{"metadata.name", "RFC 1123"}},

	{"name with a dot", "tiers", "metadata: {name: a.b}\nspec: {}", []string{"metadata", "up to 63 lower-case"}},
	{"long name", "tiers", "metadata: {name: " + strings.Repeat("a", 64) + "}\nspec: {}", []string{"metadata", "up to 63 lower-case"}},
	{"action", "tiers", "spec: {defaultAction: Allow}", []string{"spec.defaultAction", `"Pass", "Deny"`}},
	{"order of default", "tiers", "metadata: {name: default}\nspec: {order: 1}", []string{"spec.order", "must have order 1000000"}},
	{"action of default", "tiers", "metadata: {name: default}\nspec: {order: 1000000, defaultAction: Pass}", []string{"spec.defaultAction", "must have defaultAction Deny"}},
	{"order of kube-admin", "tiers", "metadata: {name: kube-admin}\nspec: {order: 1, defaultAction: Pass}", []string{"spec.order", "must have order 1000"}},
	{"action of kube-admin", "tiers", "metadata: {name: kube-admin}\nspec: {order: 1000}", []string{"spec.defaultAction", "must have defaultAction Pass"}},
	{"order of kube-baseline", "tiers", "metadata: {name: kube-baseline}\nspec: {defaultAction: Pass}", []string{"spec.order", "must have order 10000000"}},
	{"action of kube-baseline", "tiers", "metadata: {name: kube-baseline}\nspec: {order: 10000000, defaultAction: Deny}", []string{"spec.defaultAction", "must have defaultAction Pass"}},
}, ruleRefusals()...)

// ruleRefusals are those of what all policies have.
func ruleRefusals() []refusal {
	var all []refusal
	for _, c := range []refusal{
		{"tier", "", "tier: My_tier", []string{"spec.tier", "must be the name of a Tier"}},
		{"order", "", "order: first", []string{"spec.order", "must be of type number"}},
		{"type", "", "types: [ingress]", []string{"spec.types[0]", `"Ingress", "Egress"`}},
		{"type twice", "", "types: [Egress, Egress]", []string{"spec.types[1]", "Duplicate value"}},
		{"no types", "", "types: []", []string{"spec.types", "at least 1 items"}},
		{"hint", "", "performanceHints: [Fast]", []string{"spec.performanceHints[0]", `"AssumeNeededOnEveryNode"`}},
		{"hint twice", "", "performanceHints: [AssumeNeededOnEveryNode, AssumeNeededOnEveryNode]", []string{"spec.performanceHints[1]", "Duplicate value"}},
		{"global selector", "", "selector: global()", []string{"spec.selector", "global() belongs"}},
		{"global service accounts", "", "serviceAccountSelector: global()", []string{"spec.serviceAccountSelector", "global() belongs"}},
		{"long selector", "", "selector: '" + strings.Repeat("x", 1025) + "'", []string{"spec.selector", "Too long"}},
		{"egress rule for HTTP", "", "egress: [{action: Allow, http: {methods: [GET]}}]", []string{"spec.egress", "http is for ingress"}},
		{"service as egress source", "", "egress: [{action: Allow, source: {services: {name: a, namespace: b}}}]", []string{"spec.egress", "belong into its destination"}},
		{"service as ingress destination", "", "ingress: [{action: Allow, destination: {services: {name: a, namespace: b}}}]", []string{"spec.ingress", "belong into its source"}},
		{"many rules", "", "ingress: [" + strings.Repeat("{action: Allow},", 385) + "]", []string{"spec.ingress", "at most 384 items"}},
	} {
		all = append(all, refusal{c.name, "networkpolicies", "spec: {" + c.yaml + "}", c.want})
	}
	for _, c := range []refusal{
		{"no action", "", "{protocol: TCP}", []string{".action", "Required value"}},
		{"action", "", "{action: allow}", []string{".action", `"Allow", "Deny", "Log", "Pass"`}},
		{"IP version", "", "{action: Allow, ipVersion: 0}", []string{".ipVersion", `"4", "6"`}},
		{"protocol in lower case", "", "{action: Allow, protocol: tcp}", []string{".protocol", "must be TCP, UDP"}},
		{"protocol 0", "", "{action: Allow, protocol: 0}", []string{".protocol", "from 1 to 255"}},
		{"protocol 256", "", "{action: Allow, notProtocol: '256'}", []string{".notProtocol", "from 1 to 255"}},
		{"port 0", "", "{action: Allow, protocol: TCP, destination: {ports: [0]}}", []string{".destination.ports[0]", "from 1 to 65535"}},
		{"port too large", "", "{action: Allow, protocol: TCP, source: {notPorts: [65536]}}", []string{".source.notPorts[0]", "from 1 to 65535"}},
		{"range in wrong order", "", "{action: Allow, protocol: TCP, destination: {ports: ['20:10']}}", []string{".destination.ports[0]", "a range such as"}},
		{"range from 0", "", "{action: Allow, protocol: TCP, destination: {ports: ['0:10']}}", []string{".destination.ports[0]", "a range such as"}},
		{"range with a dash", "", "{action: Allow, protocol: TCP, destination: {ports: ['80-90,100']}}", []string{".destination.ports[0]", "a range such as"}},
		{"port's name", "", "{action: Allow, destination: {ports: ['my port']}}", []string{".destination.ports[0]", "the name of a port"}},
		{"ports without a protocol", "", "{action: Allow, destination: {ports: [http, 80]}}", []string{".protocol", "need protocol TCP, UDP or SCTP"}},
		{"source ports without a protocol", "", "{action: Allow, source: {notPorts: ['80:81']}}", []string{".protocol", "need protocol TCP, UDP or SCTP"}},
		{"ports with a protocol without ports", "", "{action: Allow, protocol: ICMP, destination: {notPorts: [http]}}", []string{".protocol", "need protocol TCP, UDP or SCTP"}},
		{"ports with protocol 7", "", "{action: Allow, protocol: 7, source: {ports: [80]}}", []string{".protocol", "need protocol TCP, UDP or SCTP"}},
		{"many ports", "", "{action: Allow, protocol: TCP, source: {ports: [" + strings.Repeat("1,", 51) + "]}}", []string{".source.ports", "at most 50 items"}},
		{"ICMP without a protocol", "", "{action: Allow, icmp: {type: 8}}", []string{".protocol", "icmp needs protocol"}},
		{"not ICMP with TCP", "", "{action: Allow, protocol: TCP, notICMP: {type: 8}}", []string{".protocol", "notICMP needs protocol"}},
		{"ICMP code alone", "", "{action: Allow, protocol: ICMP, icmp: {code: 1}}", []string{".icmp.type", "code needs type"}},
		{"ICMP type too large", "", "{action: Allow, protocol: ICMP, icmp: {type: 255}}", []string{".icmp.type", "less than or equal to 254"}},
		{"ICMP code too large", "", "{action: Allow, protocol: ICMP, icmp: {type: 1, code: 256}}", []string{".icmp.code", "less than or equal to 255"}},
		{"ICMP of IPv6", "", "{action: Allow, protocol: ICMP, ipVersion: 6}", []string{".ipVersion", "protocol ICMP is of IPv4"}},
		{"ICMPv6 of IPv4", "", "{action: Allow, notProtocol: 58, ipVersion: 4}", []string{".ipVersion", "protocol ICMPv6 is of IPv6"}},
		{"network", "", "{action: Allow, source: {nets: [10.0.0.0/8, lan]}}", []string{".source.nets[1]", "must be of type cidr"}},
		{"address as network", "", "{action: Allow, source: {nets: [10.0.0.1]}}", []string{".source.nets[0]", "must be of type cidr"}},
		{"host bits", "", "{action: Allow, destination: {notNets: [10.0.0.1/8]}}", []string{".destination.notNets[0]", "without host bits"}},
		{"not anything", "", "{action: Allow, destination: {notNets: [0.0.0.0/0]}}", []string{".destination.notNets[0]", "would match nothing"}},
		{"network twice", "", "{action: Allow, source: {nets: [10.0.0.0/8, 10.0.0.0/8]}}", []string{".source.nets[1]", "Duplicate value"}},
		{"families in a list", "", "{action: Allow, source: {nets: [10.0.0.0/8, 'fd00::/8']}}", []string{".source.nets", "of one family"}},
		{"families in a rule", "", "{action: Allow, source: {nets: [10.0.0.0/8]}, destination: {notNets: ['fd00::/8']}}", []string{".source.nets", "of one family"}},
		{"family and version", "", "{action: Allow, ipVersion: 6, destination: {nets: [10.0.0.0/8]}}", []string{".ipVersion", "must be of the rule's ipVersion"}},
		{"global source", "", "{action: Allow, source: {selector: global()}}", []string{".source.selector", "belongs into namespaceSelector"}},
		{"global not source", "", "{action: Allow, source: {notSelector: global()}}", []string{".source.notSelector", "belongs into namespaceSelector"}},
		{"global and more", "", "{action: Allow, source: {namespaceSelector: global() && has(x)}}", []string{".source.namespaceSelector", "stands alone"}},
		{"service and namespaces", "", "{action: Allow, source: {services: {name: a}, namespaceSelector: all()}}", []string{".source.namespaceSelector", "use services.namespace"}},
		{"service and accounts", "", "{action: Allow, source: {services: {name: a}, serviceAccounts: {names: [x]}}}", []string{".source.serviceAccounts", "make two rules"}},
		{"service and selector", "", "{action: Allow, source: {services: {name: a}, selector: all()}}", []string{".source.selector", "make two rules"}},
		{"service and networks", "", "{action: Allow, source: {services: {name: a}, notNets: [10.0.0.0/8]}}", []string{".source.nets", "make two rules"}},
		{"service without a name", "", "{action: Allow, source: {services: {namespace: a}}}", []string{".source.services.name", "Required value"}},
		{"HTTP denied", "", "{action: Deny, http: {methods: [GET]}}", []string{".http", "needs action Allow"}},
		{"HTTP over UDP", "", "{action: Allow, protocol: UDP, http: {methods: [GET]}}", []string{".protocol", "http needs protocol TCP"}},
		{"method twice", "", "{action: Allow, http: {methods: [GET, GET]}}", []string{".http.methods[1]", "Duplicate value"}},
		{"path of two kinds", "", "{action: Allow, http: {paths: [{exact: /a, prefix: /b}]}}", []string{".http.paths[0]", "either exact or prefix"}},
		{"empty path", "", "{action: Allow, http: {paths: [{}]}}", []string{".http.paths[0]", "either exact or prefix"}},
		{"path's form", "", "{action: Allow, http: {paths: [{exact: foo}]}}", []string{".http.paths[0].exact", "should match '^/[^?# ]*$'"}},
		{"path with a query", "", "{action: Allow, http: {paths: [{prefix: '/a?b'}]}}", []string{".http.paths[0].prefix", "should match '^/[^?# ]*$'"}},
		{"unknown field", "", "{action: Allow, source: {net: 10.0.0.0/8}}", []string{`unknown field "spec.ingress[0].source.net"`}},
	} {
		if !strings.HasPrefix(c.want[0], "unknown") {
			c.want[0] = "spec.ingress[0]" + c.want[0]
		}
		all = append(all, refusal{"rule/" + c.name, "networkpolicies", "spec: {ingress: [" + c.yaml + "]}", c.want})
	}
	all = append(all,
		refusal{"service and ports", "networkpolicies", "spec: {egress: [{action: Allow, protocol: TCP, destination: {services: {name: a}, ports: [80]}}]}", []string{"spec.egress[0].destination.ports", "bring their own ports"}},
		refusal{"rule of a global one", "globalnetworkpolicies", "spec: {egress: [{action: Allow, protocol: tcp}]}", []string{"spec.egress[0].protocol", "must be TCP, UDP"}},
		refusal{"rule of a planned one", "stagedglobalnetworkpolicies", "spec: {egress: [{action: Allow, protocol: tcp}]}", []string{"spec.egress[0].protocol", "must be TCP, UDP"}},
	)
	return all
}
