package config

import "strings"

// calicoOnly are the names of Felix's parameters in Calico 3.34 that have no effect here: fields of a FelixConfiguration,
// and, in lower case, what is only a variable (Calico's own list: felix/docs/config-params.json).
const calicoOnly = `
	allowIPIPPacketsFromWorkloads allowVXLANPacketsFromWorkloads awsSrcDstCheck bpfAttachType bpfCTLBLogFilter
	bpfConnectTimeLoadBalancing bpfConnectTimeLoadBalancingEnabled bpfConntrackLogLevel bpfConntrackMode
	bpfConntrackTimeouts bpfDSROptoutCIDRs bpfDataIfacePattern bpfDisableGROForIfaces bpfDisableUnprivileged bpfEnabled
	bpfEnforceRPF bpfExcludeCIDRsFromNAT bpfExportBufferSizeMB bpfExtToServiceConnmark bpfExternalServiceMode
	bpfForceTrackPacketsFromIfaces bpfHostConntrackBypass bpfHostNetworkedNATWithoutCTLB bpfIPFragTimeout
	bpfIPFragmentReassemblyEnabled bpfJITHardening bpfKubeProxyHealthzPort bpfKubeProxyIptablesCleanupEnabled
	bpfKubeProxyMinSyncPeriod bpfL3IfacePattern bpfLogFilters bpfLogLevel bpfMaglevMaxEndpointsPerService
	bpfMaglevMaxServices bpfMapSizeConntrack bpfMapSizeConntrackCleanupQueue bpfMapSizeConntrackScaling bpfMapSizeIPSets
	bpfMapSizeIfState bpfMapSizeNATAffinity bpfMapSizeNATBackend bpfMapSizeNATFrontend bpfMapSizePerCpuConntrack
	bpfMapSizeRoute bpfOverlayHostSourceIP bpfPSNATPorts bpfPolicyDebugEnabled bpfProfiling bpfRedirectToPeer
	bpfconntrackcleanupmode cgroupV2Path chainInsertMode dataplaneDriver dataplaneWatchdogTimeout datastoretype
	debugDisableLogDropping debugHost debugMemoryProfilePath debugPort debugSimulateCalcGraphHangAfter
	debugSimulateDataplaneApplyDelay debugSimulateDataplaneHangAfter debugbpfcgroupv2 debugcpuprofilepath
	debugpanicafter debugsimulatedatarace defaultEndpointToHostAction deviceRouteProtocol deviceRouteSourceAddress
	deviceRouteSourceAddressIPv6 disableConntrackInvalidCheck endpointReportingDelay endpointReportingEnabled
	endpointStatusPathPrefix endpointreportingdelaysecs etcdaddr etcdcafile etcdcertfile etcdendpoints etcdkeyfile
	etcdscheme externalNodesList externalnodescidrlist failsafeInboundHostPorts failsafeOutboundHostPorts featureGates
	felixhostname flowLogsCollectorDebugTrace flowLogsFlushInterval flowLogsGoldmaneServer
	flowLogsLocalReporter flowLogsPolicyEvaluationMode genericXDPEnabled goGCThreshold goMaxProcs goMemoryLimitMB
	healthTimeoutOverrides interfaceExclude interfacePrefix ipinipenabled ipipEnabled
	ipsetsRefreshInterval iptablesFilterAllowAction iptablesFilterDenyAction iptablesLockProbeInterval
	iptablesMangleAllowAction iptablesMarkMask iptablesPostWriteCheckInterval iptableslockprobeintervalmillis
	iptablespostwritecheckintervalsecs ipv4ElevatedRoutePriority ipv4NormalRoutePriority ipv6ElevatedRoutePriority
	ipv6NormalRoutePriority istioAmbientMode istioDSCPMark kubeNodePortRanges liveMigrationRouteConvergenceTime
	localSubnetL2Reachability localSubnetL2ReachabilityRefreshInterval logActionRateLimit logActionRateLimitBurst
	logDebugFilenameRegex logFilePath logPrefix logSeverityFile logSeveritySys maxIpsetSize metadataAddr metadataPort
	mtuIfacePattern netlinkTimeout netlinktimeoutsecs nftablesFilterAllowAction nftablesFilterDenyAction
	nftablesFlowTableDataIfacePattern nftablesFlowTableOffload nftablesMangleAllowAction nftablesMarkMask
	openstackRegion policySyncPathPrefix prometheusMetricsCAFile prometheusMetricsCertFile
	prometheusMetricsClientAuth prometheusMetricsKeyFile prometheusWireGuardMetricsEnabled removeExternalRoutes
	reportingInterval reportingTTL reportingintervalsecs reportingttlsecs requireMTUFile routeSource routeSyncDisabled
	routeTableRange routeTableRanges serviceLoopPrevention sidecarAccelerationEnabled typhaaddr typhacafile
	typhacertfile typhacn typhak8snamespace typhak8sservicename typhakeyfile typhareadtimeout typhaurisan
	typhawritetimeout usageReportingEnabled usageReportingInitialDelay usageReportingInterval
	usagereportinginitialdelaysecs usagereportingintervalsecs useInternalDataplaneDriver vxlanEnabled
	windowsManageFirewallRules wireguardEnabled wireguardEnabledV6 wireguardHostEncryptionEnabled wireguardInterfaceName
	wireguardInterfaceNameV6 wireguardKeepAlive wireguardListeningPort wireguardListeningPortV6 wireguardMTU
	wireguardMTUV6 wireguardRoutingRulePriority wireguardThreadingEnabled wireguardpersistentkeepalive
	workloadSourceSpoofing xdpEnabled xdpRefreshInterval`

// knownToCalico says whether Calico has a parameter of this name, in any case.
func knownToCalico(name string) bool {
	for known := range strings.FieldsSeq(calicoOnly) {
		if strings.EqualFold(known, name) {
			return true
		}
	}
	return false
}

// nearest returns the known name that a misspelt one probably means, "" when none is near.
func nearest(name string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of letters to add, remove or change to make one word of the other (Levenshtein's).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := left
			if a[i] != b[j] {
				cost = 1 + min(left, row[j], row[j+1])
			}
			left, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
