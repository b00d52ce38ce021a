// Package metrics counts what the node's agent does, and serves it to Prometheus.
//
// It owns the names, and what they mean. It promises that a scrape asks nothing of the kernel or of the API server, that
// each series but those of single BGP peers is there from the first scrape on (so that rate() and alerts see the first event), and that a name of
// Calico's has Calico's meaning, type, unit and labels, so that dashboards and alerts made for it hold. It never reports
// what the agent does not know. A restarted agent counts from zero, as Prometheus expects; process_start_time_seconds
// tells that it is another process.
//
// # Names of Calico's that are served
//
//	felix_host{host}                        1; the node's name
//	felix_active_local_endpoints            pods' interfaces on this node
//	felix_cluster_num_hosts                 nodes of the cluster
//	felix_resync_state                      1 nothing of the datastore has been read, 2 some, 3 all
//	felix_resyncs_started                   times that the datastore was read whole
//	felix_calc_graph_update_time_seconds    summary: to compute the wanted state after a change of the datastore
//	felix_int_dataplane_apply_time_seconds  summary: to bring one part of the kernel to the wanted state
//	felix_int_dataplane_failures            times that this failed and was tried again
//	felix_route_table_num_routes{table}     routes of ours in the main table, IPv4:254 and IPv6:254
//	felix_route_table_resync_seconds        summary: to list the routes
//	bgp_peers{ip_version,status}            BGP peers, by the session's state; Passive: the peer connects; Refused: it
//	                                        cannot be as it is configured
//	bgp_routes_imported{ip_version}         prefixes learned by BGP that are in use
//	bgp_route_updates_received{ip_version}  UPDATE messages of the present peers
//	go_*, process_*                         while their parameters have them switched on
//
// Those of BGP are Calico Enterprise's, and there while the agent speaks it.
//
// # Names of Calico's that are not
//
// A zero would say that there are none, where the truth is that this version does not look; a panel without data says
// that. They come with what they count:
//
//	felix_cluster_num_{policies,profiles,tiers,host_endpoints}, felix_active_local_{policies,selectors}: no policy yet
//	felix_cluster_num_workload_endpoints: an agent knows its own pods only; the sum over all nodes is the number
//	felix_{ipset,ipsets,iptables,nft}_*: no sets of addresses, no chains for policy yet
//	felix_exec_time_micros, felix_bpf_*, felix_nflog_*, felix_collector_*: nothing of the kind runs here
//	felix_calc_graph_{updates_processed,output_events}, felix_int_dataplane_{messages,*_batch_size}: parts of Felix pass
//	messages to each other; here each takes the latest state
//	felix_logs_dropped, felix_log_errors: log lines are written at once, there is no queue that could drop them
//
// What Calico has no name for is called margay_; the text before each of them in a scrape says what it is.
package metrics
